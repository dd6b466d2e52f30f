"""Source -> loadable artefact: .va -> DeviceIR, and C -> shared library.

Each is compiled once and kept in ``cosim.cache`` under a digest of everything that matters.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cosim.cache import fetch
from cosim.devices import ir
from cosim.errors import CosimError, ToolFailed, ToolNotFound
from cosim.jobs import Job, run_jobs
from cosim.verilog.compile import compile_tokens, compile_verilog, source_digest
from cosim.verilog.preprocess import preprocess

__all__ = ["build", "compile_model", "compile_seconds", "compiler"]

_HEADER = Path(__file__).with_name("osdi.h")
# contraction and fast-math would make ngspice and torch disagree in the last bits
_FLAGS = ("-shared", "-fPIC", "-O2", "-std=c11", "-ffp-contract=off", "-fwrapv", "-w")
# without errno and traps, which nothing here reads, selects and calls of the C library can be vectors
_FAST_FLAGS = (*_FLAGS, "-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
_TIMEOUT = 300.0  # s; a 200-line model takes 0.2 s
_SPENT: ContextVar[list[float] | None] = ContextVar("seconds of compilations", default=None)


@functools.cache
def compiler() -> tuple[str, str]:
    """The C compiler's path and the first line of its version; ToolNotFound if there is none."""
    name = os.environ.get("CC", "cc")
    path = shutil.which(name) or shutil.which("gcc")
    if path is None:
        raise ToolNotFound(
            f"no C compiler ({name!r} and gcc are not on PATH): apt-get install gcc libc6-dev, or set CC"
        )
    (result,) = run_jobs([Job(argv=(path, "--version"), environment=_environment(), timeout=30.0)])
    if isinstance(result, CosimError) or result.timed_out:
        why = result if isinstance(result, CosimError) else "30 s have passed"
        raise ToolFailed(f"the C compiler {path} does not answer --version: {why}")
    return path, result.stdout.splitlines()[0] if result.stdout else "unknown version"


def compile_model(path: Path, *, bundled: bool = False) -> ir.DeviceIR:
    """The compiled model of ``path``; the second call with the same text compiles nothing.

    bundled: a file of the package. It does not change while the process runs, needs no folder that can
    be written, and compiles in the time that the cache would take to find it.
    """
    if bundled:
        return _compile_bundled(path)
    tokens = preprocess(path)
    # the places too: what the compiled model notes names them
    places = "\n".join(f"{token.file}:{token.line}" for token in tokens)
    words = (source_digest(tokens), places, _front_end())
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()
    kept = fetch(path.stem, digest[:24], ".json", lambda: ir.dump(compile_tokens(path, tokens)).encode())
    return _load(kept)  # its name changes with its content


@functools.cache
def _compile_bundled(path: Path) -> ir.DeviceIR:
    return compile_verilog(path)


@functools.cache
def _front_end() -> str:
    """Digest of the code that makes a DeviceIR: another version of cosim compiles anew."""
    package = Path(__file__).parents[1]
    files = sorted(path for folder in ("devices", "verilog") for path in (package / folder).glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@functools.lru_cache(maxsize=64)
def _load(path: Path) -> ir.DeviceIR:
    return ir.load(path.read_text(), path=str(path))


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
    """Compile C ``source`` next to osdi.h; the path of ``<name>-<digest>.osdi``, with ``fast`` ``.so``.

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

    def make() -> bytes:
        start = time.perf_counter()
        made = _compile(path, source, name, flags)
        if (spent := _SPENT.get()) is not None:
            spent.append(time.perf_counter() - start)
        return made

    return fetch(name, digest, ".so" if fast else ".osdi", make)


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


def _compile(compiler_path: str, source: str, name: str, flags: Sequence[str]) -> bytes:
    job = Job(
        argv=(compiler_path, *flags, "-o", "model.osdi", "model.c", "-lm"),
        files={"osdi.h": _HEADER.read_bytes(), "model.c": source.encode()},
        environment=_environment(),
        outputs=("model.osdi",),
        timeout=_TIMEOUT,
    )
    (result,) = run_jobs([job])
    if isinstance(result, CosimError):
        raise result
    if result.timed_out:
        raise ToolFailed(f"{compiler_path} did not finish within {_TIMEOUT:g} s")
    if result.returncode != 0 or "model.osdi" not in result.files:
        first = (result.stderr.strip().splitlines() or ["no message"])[0]
        raise ToolFailed(
            f"{compiler_path} refused the generated C of {name}: {first}",
            log=result.stderr,
        )
    return result.files["model.osdi"]


def _environment() -> dict[str, str]:
    """A compiler may need more of the caller's variables than a simulator; its files stay in the job."""
    return {name: text for name, text in os.environ.items() if name not in ("TMPDIR", "LC_ALL")}
