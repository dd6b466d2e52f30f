"""Kills, broken pools and full disks, for real: nothing runs on, nothing is left behind or lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cosim.reaper import working_in

SOLVES = """
from cosim.spice.deck import Current, Deck, Resistor, Sweep, VoltageSource
from cosim.spice.ngspice import run_deck

elements = [VoltageSource(name="V1", p="a", n="0", volt=1.0), Resistor(name="R1", p="a", n="0", ohm=1.0)]
sweep = Sweep(source="V1", start=0.0, stop=1e9, step=1.0)
run_deck(Deck(title="slow", elements=tuple(elements), analyses=(sweep,), saves=(Current(source="V1"),)))
"""
SOLVES_IN_A_WORKER = """
import sys
from concurrent.futures import ProcessPoolExecutor
from cosim.jobs import Job, run_jobs

with ProcessPoolExecutor(1) as executor:
    job = Job(argv=("sh", "-c", "sleep 600; true"))
    print(executor.submit(__import__("os").getpid).result(), flush=True)
    run_jobs([job], executor)
"""
COMPILES = "from cosim.devices.build import build; build('int answer(void) { return 42; }', 'answer')"
LIMIT = 120.0  # s, for what takes one or two on a quiet machine
STARTS = "from cosim.processes import process_folder; process_folder()"


def wait_for(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Until ``condition()`` holds; a failure after ``limit`` s."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def command_of(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return [""]


def working(folder: Path, program: str) -> list[int]:
    """Processes of ``program`` that work below ``folder``."""
    found = working_in(str(folder.resolve()))
    return [process for process in found if program in map(os.path.basename, command_of(process)[:2])]


def reapers(folder: Path) -> list[int]:
    """Processes that wait to remove a folder below ``folder``."""
    numbers = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    commands = {number: " ".join(command_of(number)) for number in numbers}
    return [number for number, words in commands.items() if "reaper.py" in words and str(folder) in words]


@contextmanager
def python(code: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs ``code`` with its temporary files in ``folder``; it is dead afterwards."""
    variables = {**os.environ, "TMPDIR": str(folder), **environment}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))  # SIGQUIT writes none
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for temporary files, in which nothing works in the end."""
    folder = (tmp_path / "temporary").resolve()
    folder.mkdir()
    yield folder
    for process in (*working_in(str(folder)), *reapers(folder)):
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_ngspice_and_its_folder_go_with_a_python_that_is_killed(temporary: Path, number: signal.Signals):
    with python(SOLVES, temporary) as process:
        wait_for(lambda: working(temporary, "ngspice"))
        process.send_signal(number)
        assert process.wait(LIMIT) == -number
        wait_for(lambda: not list(temporary.iterdir()))
        assert not working_in(str(temporary))
        wait_for(lambda: not reapers(temporary))


def test_the_next_start_ends_what_a_killed_reaper_could_not(temporary: Path):
    with python(SOLVES, temporary) as process:
        wait_for(lambda: working(temporary, "ngspice") and reapers(temporary))
        (left,) = temporary.iterdir()
        for reaper in reapers(temporary):
            os.kill(reaper, signal.SIGKILL)
        with python(STARTS, temporary) as other:  # while the first lives, its folder stays
            assert other.wait(LIMIT) == 0
        assert working(left, "ngspice")
        process.kill()
        process.wait(LIMIT)
        assert working(left, "ngspice")  # nobody is there to end it
        with python(STARTS, temporary) as other:
            assert other.wait(LIMIT) == 0
        assert not working_in(str(temporary))
        wait_for(lambda: not list(temporary.iterdir()))


@pytest.mark.parametrize("victim", ["worker", "main"])
def test_a_job_ends_with_the_worker_that_runs_it_and_with_the_process_that_wants_it(
    temporary: Path, victim: str
):
    with python(SOLVES_IN_A_WORKER, temporary) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            wait_for(lambda: working(temporary, "sh"))
            os.kill(process.pid if victim == "main" else worker, signal.SIGKILL)
            wait_for(lambda: not working_in(str(temporary)))
            process.wait(LIMIT)
            wait_for(lambda: not list(temporary.iterdir()))
        finally:
            if victim == "main":  # concurrent.futures leaves its workers waiting
                os.kill(worker, signal.SIGKILL)


def test_a_fork_has_a_folder_of_its_own(temporary: Path):
    code = """
import os
from cosim.processes import process_folder

mine = process_folder()
child = os.fork()
if not child:
    os._exit(0 if process_folder() != mine and process_folder().is_dir() else 1)
_, status = os.waitpid(child, 0)
assert status == 0 and mine.is_dir()
"""
    with python(code, temporary) as process:
        assert process.wait(LIMIT) == 0
    wait_for(lambda: not list(temporary.iterdir()))


def test_only_our_own_stale_folders_are_swept(temporary: Path):
    kept = [temporary / name for name in ("cosim-1-abc", "cosim-report", "other")]
    for folder in kept:
        folder.mkdir()
    (temporary / "cosim-1-0123abcd").mkdir()
    link = temporary / "cosim-2-0123abcd"
    link.symlink_to(kept[2])
    (kept[2] / "file").touch()
    with python(STARTS, temporary) as process:
        assert process.wait(LIMIT) == 0
    wait_for(lambda: not reapers(temporary))
    assert sorted(temporary.iterdir()) == sorted([*kept, link])
    assert (kept[2] / "file").exists()


def test_an_engine_without_memory_says_what_helps(temporary: Path):
    """The address space may grow by 1 GiB, and a copy of the vectors, a view of 256 bytes, takes 12."""
    code = """
import resource
from pathlib import Path

import torch

import cosim
import cosim.errors

tile = cosim.Tile(cosim.Device("vteam"), state=torch.full((64, 64), 0.5), wires=cosim.Wires(row=2.0))
vectors = torch.full((1, 64), 0.1).expand(50_000_000, 64)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
for engine in ("ideal", "linear", "newton"):
    try:
        cosim.solve(tile, vectors, engine=engine)
    except cosim.errors.OutOfMemory as error:
        print(error)
"""
    with python(code, temporary) as process:
        words, _ = process.communicate(timeout=LIMIT)
    more, fewer = "needs more memory than there is:", "give it fewer vectors or tiles at a time"
    assert words.splitlines() == [
        f"engine 'ideal' {more} {fewer}",
        f"engine 'linear' {more} lower memory=, or {fewer}",
        f"engine 'newton' {more} lower memory=, or {fewer}",
    ]


def test_the_compiler_goes_with_a_python_that_is_killed(temporary: Path, tmp_path: Path):
    """A stand-in for the C compiler that starts a second program, as gcc does, and takes minutes."""
    compiler = tmp_path / "cc"
    head = '#!/bin/sh\ncase "$1" in --version) echo "stand-in 1.0"; exit;; esac\n'
    compiler.write_text(head + "touch started; sleep 600\n")
    compiler.chmod(0o755)
    cache = tmp_path / "cache"
    with python(COMPILES, temporary, CC=str(compiler), COSIM_CACHE=str(cache)) as process:
        wait_for(lambda: list(temporary.rglob("started")) and working(temporary, "sleep"))
        process.kill()
        process.wait(LIMIT)
        wait_for(lambda: not list(temporary.iterdir()))
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]
    compiler.write_text(head + 'exec cc "$@"\n')
    with python(COMPILES, temporary, CC=str(compiler), COSIM_CACHE=str(cache)) as process:
        assert process.wait(LIMIT) == 0
    (library,) = cache.iterdir()  # the lock that the killed one held is no longer there
    assert library.suffix == ".osdi"
