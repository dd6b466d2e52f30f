"""Source -> loadable artefact: .va -> DeviceIR, and C -> shared library.

Each is compiled once and cached under a digest of everything that matters.

The cache is a folder of the user (``COSIM_CACHE`` overrides it). A file lock keeps two processes from
compiling the same text; a finished library appears under its name at once or not at all.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import platformdirs
from filelock import FileLock

from cosim.devices import ir
from cosim.devices.frontend import compile_source
from cosim.devices.source import prepare
from cosim.errors import ToolFailed, ToolNotFound

__all__ = ["build", "cache_folder", "compile_model", "compile_seconds", "compiler"]

_HEADER = Path(__file__).with_name("osdi_0_3.h")
# contraction and fast-math would make ngspice and torch disagree in the last bits
_FLAGS = ("-shared", "-fPIC", "-O2", "-std=c11", "-ffp-contract=off", "-fwrapv", "-w")
# without errno and traps, which nothing here reads, selects and calls of the C library can be vectors
_FAST_FLAGS = (*_FLAGS, "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
_TIMEOUT = 300.0  # s; a 200-line model takes 0.2 s
_SPENT: ContextVar[list[float] | None] = ContextVar("seconds of compilations", default=None)


def cache_folder() -> Path:
    """Where compiled models are kept: ``$COSIM_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("COSIM_CACHE") or platformdirs.user_cache_dir("cosim"))


@functools.cache
def compiler() -> tuple[str, str]:
    """The C compiler's path and the first line of its version; ToolNotFound if there is none."""
    name = os.environ.get("CC", "cc")
    path = shutil.which(name) or shutil.which("gcc")
    if path is None:
        raise ToolNotFound(
            f"no C compiler ({name!r} and gcc are not on PATH): apt-get install gcc libc6-dev, or set CC"
        )
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"the C compiler {path} does not answer --version: {error}") from error
    return path, done.stdout.splitlines()[0] if done.stdout else "unknown version"


def compile_model(path: Path, *, bundled: bool = False) -> ir.DeviceIR:
    """The compiled model of ``path``; the second call with the same text compiles nothing.

    bundled: read the compiled model that ships beside the source, so that openvaf-py is not needed.
    """
    shipped = path.with_suffix(".json")
    if bundled and shipped.exists():
        return _load(shipped, shipped.stat().st_mtime_ns)
    source = prepare(path)
    digest = hashlib.sha256((source.digest + _front_end()).encode()).hexdigest()
    target = cache_folder() / f"{path.stem}-{digest[:24]}.json"
    if not target.exists():
        compiled = compile_source(source)
        _write(target, ir.dump(compiled))
        return compiled
    return _load(target, target.stat().st_mtime_ns)


@functools.cache
def _front_end() -> str:
    """Digest of the code that makes a DeviceIR: another version of cosim compiles anew."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@functools.lru_cache(maxsize=64)
def _load(path: Path, changed: int) -> ir.DeviceIR:
    return ir.load(path.read_text(), path=str(path))


def _write(target: Path, text: str) -> None:
    """Write at once or not at all."""
    with _writable(target.parent):
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False) as temporary:
            temporary.write(text)
        os.replace(temporary.name, target)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ToolFailed(
            f"the cache folder {folder} cannot be written ({error}): set COSIM_CACHE to one that can"
        ) from error


@contextmanager
def compile_seconds() -> Iterator[list[float]]:
    """Collects the seconds of each compilation inside: paid once per model and machine, not for each use."""
    spent, outer = [], _SPENT.get()
    token = _SPENT.set(spent)
    try:
        yield spent
    finally:
        _SPENT.reset(token)
        if outer is not None:
            outer.extend(spent)


def build(source: str, name: str, *, fast: bool = False) -> Path:
    """Compile C ``source`` next to osdi_0_3.h; the path of ``<name>-<digest>.osdi``, with ``fast`` ``.so``.

    fast: vector code for the processor at hand, for a library that only this process loads.
    The second call with the same source, compiler, flags and processor starts no compiler.
    Raises ToolNotFound without a C compiler, ToolFailed (with the compiler's words) if it refuses.
    """
    path, version = compiler()
    header = _HEADER.read_bytes()
    flags, processor = (_FLAGS, "") if not fast else (_FAST_FLAGS, _processor(path))
    flags = (*flags, "-march=native") if processor else flags
    words = (path, version, " ".join(flags), processor)
    digest = hashlib.sha256(b"\0".join([source.encode(), header, *map(str.encode, words)])).hexdigest()[:24]
    folder = cache_folder()
    target = folder / f"{name}-{digest}{'.so' if fast else '.osdi'}"
    if target.exists():
        return target
    start = time.perf_counter()
    with _writable(folder), FileLock(str(target) + ".lock"):
        if not target.exists():
            _compile(path, source, target, flags)
    if (spent := _SPENT.get()) is not None:
        spent.append(time.perf_counter() - start)
    return target


@functools.cache
def _processor(compiler_path: str) -> str:
    """What the compiler makes of -march=native here, so that machines may share a cache; "" if nothing."""
    command = [compiler_path, "-march=native", "-###", "-E", "-x", "c", os.devnull]
    try:
        # in one folder always: clang tells where it runs
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"the C compiler {compiler_path} does not answer -###: {error}") from error
    return done.stderr if done.returncode == 0 else ""


def _compile(compiler_path: str, source: str, target: Path, flags: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        work = Path(temporary)
        (work / "osdi_0_3.h").write_bytes(_HEADER.read_bytes())
        (work / "model.c").write_text(source)
        command = [compiler_path, *flags, "-o", "model.osdi", "model.c", "-lm"]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(f"{compiler_path} did not finish within {_TIMEOUT:g} s") from error
        if done.returncode != 0:
            first = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise ToolFailed(
                f"{compiler_path} refused the generated C of {target.stem}: {first}",
                log=done.stderr,
            )
        os.replace(work / "model.osdi", target)
