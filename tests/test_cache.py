"""The cache: damaged files are made anew and never run, a stuck lock is told, and the size has a limit."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import cosim
from cosim import cache, cli
from cosim.devices import build as build_module
from cosim.errors import SpecError, ToolFailed
from cosim.files import check_writable, write_whole

VA = Path(__file__).parent / "data" / "va"
KEY = 24 * "a"
DAMAGE = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "one byte changed": lambda path: flip(path),
    "a folder in its place": lambda path: (path.unlink(), path.mkdir(), (path / "file").touch()),
    "a pipe in its place": lambda path: (path.unlink(), os.mkfifo(path)),
    "junk": lambda path: path.write_text("{}"),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("/nowhere")),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("COSIM_CACHE", str(path))
    build_module._load.cache_clear()
    return path


def files(folder: Path, suffix: str = "") -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(folder: Path, damage: str):
    """The model, its library for ngspice and the code of newton; none is believed, loaded or fatal."""
    path = VA / "series.va"
    wanted = cosim.Device(path, rs=100.0).current(0.1)
    library_file = cosim.Device(path).osdi()
    (model,) = files(folder, ".json")
    before = {file: file.read_bytes() for file in (model, library_file)}
    for file in before:
        DAMAGE[damage](file)
    build_module._load.cache_clear()
    device = cosim.Device(path, rs=100.0)
    assert torch.equal(device.current(0.1), wanted)
    assert device.osdi() == library_file
    assert {file: file.read_bytes() for file in files(folder)} == before


def test_cut_code_of_newton_is_not_loaded(folder: Path):
    """A library that is cut ends Python itself with SIGBUS when it is loaded."""
    script = (
        "import cosim; device = cosim.Device('vteam');"
        "print(cosim.solve(cosim.Tile(device, state=[[0.5]], wires=cosim.Wires(row=2.0)), [0.1]).stats)"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    subprocess.run(command, check=True, capture_output=True)
    (code,) = files(folder, ".so")
    whole = code.read_bytes()
    code.write_bytes(whole[: len(whole) // 2])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.read_bytes() for file in files(folder, ".so")] == [whole]


def test_a_changed_number_in_a_model_is_found(folder: Path):
    device = cosim.Device(VA / "series.va")
    (model,) = files(folder, ".json")
    text = model.read_text()
    place = re.search(r"[1-9]\.\d", text).start()
    model.write_text(text[:place] + str(10 - int(text[place])) + text[place + 1 :])
    build_module._load.cache_clear()
    assert cosim.Device(VA / "series.va").ir == device.ir
    assert model.read_text() == text


# --- locks ------------------------------------------------------------------------------------------


def test_a_lock_that_a_stopped_process_holds_is_told_and_passed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    script = f"""
import time
from cosim.cache import fetch

def make():
    print("making", flush=True)
    time.sleep(600)

fetch("slow", {KEY!r}, ".osdi", make)
"""
    monkeypatch.setattr(cache, "_PATIENCE", 0.1)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "making\n"
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            path = cache.fetch("slow", KEY, ".osdi", lambda: b"made here")
        finally:
            process.kill()
    assert path.read_bytes() == b"made here"
    lock = folder / f"slow-{KEY}.osdi.lock"
    assert capsys.readouterr().err == (
        f"cosim: {lock} has been locked for 0.1 s by process {process.pid}, which is stopped: "
        "not waiting any longer\n"
    )
    assert cache.fetch("slow", KEY, ".osdi", lambda: b"") == path


def test_a_second_process_waits_and_makes_nothing(folder: Path):
    script = f"""
import time
from cosim.cache import fetch

def make():
    print("making", flush=True)
    time.sleep(0.3)
    return b"made there"

fetch("slow", {KEY!r}, ".osdi", make)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "making\n"
        path = cache.fetch("slow", KEY, ".osdi", lambda: pytest.fail("made twice"))
    assert path.read_bytes() == b"made there"
    assert files(folder) == [path]  # the lock is gone


def test_a_folder_in_place_of_the_lock_does_no_harm(folder: Path):
    (folder / f"name-{KEY}.osdi.lock").mkdir(parents=True)
    assert cache.fetch("name", KEY, ".osdi", lambda: b"content").read_bytes() == b"content"


# --- a full disk ------------------------------------------------------------------------------------


@pytest.fixture
def no_large_files():
    """This process can write no file above 4 KiB, as where the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_in_the_cache(folder: Path, no_large_files: None):
    with pytest.raises(
        ToolFailed, match=r"the cache folder .*cache cannot be written .*File too large.*: set"
    ):
        cache.fetch("name", KEY, ".osdi", lambda: bytes(5000))
    assert files(folder) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, no_large_files: None):
    path = tmp_path / "file"
    write_whole(path, b"first")
    with pytest.raises(OSError, match="File too large"):
        write_whole(path, bytes(5000))
    assert path.read_bytes() == b"first"
    assert files(tmp_path) == [path]


def test_a_netlist_that_does_not_fit_is_told_and_leaves_no_part_of_a_file(tmp_path: Path):
    tile = cosim.Tile(cosim.Device("vteam"), state=torch.full((2, 2), 0.5))
    cosim.write_netlist(tile, tmp_path / "first")  # the library is compiled while there is room
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(SpecError, match=r"device.osdi cannot be written \(File too large\): make room"):
            cosim.write_netlist(tile, tmp_path / "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path / "second") == []


def test_a_compiler_without_space_is_an_error_of_the_tool(folder: Path, no_large_files: None):
    with pytest.raises(ToolFailed, match=r"a job was not finished: OSError: .*File too large; make room in"):
        build_module.build(f"/* {'x' * 5000} */ int f(void) {{ return 1; }}", "large")
    assert files(folder) == []


def test_a_folder_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "out" / "bench.json").mkdir(parents=True)
    with pytest.raises(SpecError, match=r"bench.json cannot be written \(Is a directory\): name another"):
        check_writable(tmp_path / "out", "bench.json")
    assert check_writable(tmp_path / "new" / "out", "bench.json").is_dir()
    assert files(tmp_path / "new" / "out") == []


def test_no_space_left_is_found_before_the_work(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(SpecError, match=r"cannot be written \(File too large\): name another folder"):
            check_writable(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- its size, and the command ----------------------------------------------------------------------


def fill(folder: Path, count: int) -> list[Path]:
    """Files of 1000 bytes, each used an hour after the one before, the last an hour ago."""
    paths = [cache.fetch("m", f"{k:024x}", ".osdi", lambda: bytes(1000)) for k in range(count)]
    for k, path in enumerate(paths):
        os.utime(path, (time.time() - 3600 * (count - k),) * 2)
    return paths


def test_beyond_the_limit_the_least_recently_used_go(folder: Path, monkeypatch: pytest.MonkeyPatch):
    paths = fill(folder, 5)
    assert cache.fetch("m", f"{1:024x}", ".osdi", lambda: b"") == paths[1]  # used now
    (folder / "notes.txt").write_text("mine" * 1000)
    monkeypatch.setenv("COSIM_CACHE_LIMIT", "4000")
    added = cache.fetch("m", KEY, ".osdi", lambda: bytes(1000))
    assert files(folder, ".osdi") == sorted([paths[1], paths[3], paths[4], added])
    monkeypatch.setenv("COSIM_CACHE_LIMIT", "0")  # what was just used stays all the same
    last = cache.fetch("m", 24 * "b", ".osdi", lambda: bytes(1000))
    assert files(folder) == sorted([paths[1], added, last, folder / "notes.txt"])


@pytest.mark.parametrize(
    ("text", "limit"), [("1000", 1000), ("2k", 2048), ("1.5M", 3 << 19), ("1GiB", 1 << 30), ("", 512 << 20)]
)
def test_the_limit_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, limit: int):
    monkeypatch.setenv("COSIM_CACHE_LIMIT", text)
    assert cache.look().limit == limit


@pytest.mark.parametrize("text", ["much", "-1", "1e9x", "nan"])
def test_a_limit_that_is_none_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("COSIM_CACHE_LIMIT", text)
    with pytest.raises(SpecError, match=f"COSIM_CACHE_LIMIT is '{text}': give a number of bytes"):
        cache.fetch("m", KEY, ".osdi", lambda: b"")


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


def test_the_command_shows_and_clears(folder: Path, capsys: pytest.CaptureFixture[str]):
    fill(folder, 3)
    (folder / f"old-{KEY}.so").write_bytes(bytes(24))  # as earlier versions named them
    (folder / f"old-{KEY}.so.lock").touch()
    (folder / "notes.txt").write_text("mine")
    assert run("cache") == 0
    assert capsys.readouterr().out == (
        f"{folder}: 2.953 KiB of 512 MiB in 5 files\n"
        "  libraries for ngspice: 3, 2.93 KiB\n  code of newton: 1, 24 bytes\n  leftovers: 1, 0 bytes\n"
    )
    assert run("cache", "--clear", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == str(folder)
    assert (document["files"], document["bytes"], document["limit"]) == (0, 0, 512 << 20)
    assert files(folder) == [folder / "notes.txt"]
    shutil.rmtree(folder)
    assert run("cache", "--clear") == 0  # nothing there is no error
