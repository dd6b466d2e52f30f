"""One run of a program as a value: files, command line, time limit; run here or on any executor.

A job sees a fresh empty folder, an environment of a few variables, and no input. Its whole process
group is killed at the time limit or when the caller is interrupted, and the folder is removed; so it
is when this process itself is killed (``processes``).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosim.checks import as_instance, as_integer, as_number
from cosim.errors import CosimError, SpecError, ToolFailed, ToolNotFound
from cosim.processes import process_folder, scratch

__all__ = [
    "Job",
    "JobResult",
    "as_executor",
    "as_timeout",
    "as_workers",
    "cores",
    "run_job",
    "run_jobs",
    "workers_pool",
]

_LOG_BYTES = 1_000_000  # of stdout and of stderr that are kept: the end of each
_LONGEST = 1e9  # s; a timer takes no more


@dataclass(frozen=True, kw_only=True)
class Job:
    """A program to run. files: name -> bytes, written into its working folder before it starts.

    environment: variables beside PATH, HOME and TMPDIR (the folder) and LC_ALL. outputs: names of
    files to bring back. timeout: seconds until the process group is killed.
    """

    argv: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if not self.argv:
            raise SpecError("a job needs a command line")
        as_timeout(self.timeout)
        for name in (*self.files, *self.outputs):
            if not name or name in (".", "..") or os.sep in name or "\0" in name:
                raise SpecError(f"job file {name!r} is not a plain file name")

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the result (not the time limit)."""
        sha = hashlib.sha256()
        parts = [*self.argv, *(f"{k}={v}" for k, v in sorted(self.environment.items())), *self.outputs]
        for part in (part.encode() for part in parts):
            sha.update(len(part).to_bytes(8, "little") + part)
        for name, content in sorted(self.files.items()):
            sha.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job left. returncode: negative for the signal that killed it; files: outputs found."""

    returncode: int
    stdout: str
    stderr: str
    files: Mapping[str, bytes]
    seconds: float
    timed_out: bool = False


class _Running:
    """The processes of jobs in other threads, so that an interrupt can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextlib.contextmanager
    def entered(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._lock:
            self._processes.add(process)
            stopped = self._stopped
        if stopped:
            _kill(process)
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._processes:
                _kill(process)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # start_new_session made it the leader of a group


def as_timeout(timeout: Any) -> float:
    """A time limit, s."""
    return as_number(timeout, "timeout", above=0, below=_LONGEST)


def as_workers(workers: Any) -> int | None:
    """A number of processes at a time, 1 or more; or None."""
    return None if workers is None else as_integer(workers, "workers", at_least=1)


def as_executor(executor: Any) -> Executor | None:
    """An executor of ``concurrent.futures`` or of a package that follows it; or None."""
    if executor is None:
        return None
    return as_instance(executor, "executor", Executor, "None, or for instance a ThreadPoolExecutor(4)")


@contextlib.contextmanager
def workers_pool(workers: int | None, executor: Executor | None) -> Iterator[Executor | None]:
    """What runs the jobs: ``executor``, or a pool of threads that each watch one program, or None.

    SpecError for values of the wrong kind, or for both.
    """
    as_executor(executor)
    if as_workers(workers) is None:
        yield executor
    elif executor is not None:
        raise SpecError(f"workers is {workers} and there is an executor, too: give one of them")
    else:
        with ThreadPoolExecutor(workers) as pool:
            yield pool


def run_job(job: Job, running: _Running | None = None, within: str | None = None) -> JobResult:
    """Run ``job`` and wait for it. A bad exit code is in the result, not an error.

    within: see ``processes.process_folder``. ToolNotFound if the program cannot be started, OSError
    if its files cannot be written.
    """
    with scratch(within) as folder:
        work, log = folder / "work", folder / "log"
        work.mkdir()
        log.mkdir()
        for file, content in job.files.items():
            (work / file).write_bytes(content)
        start = time.monotonic()
        with (log / "stdout").open("wb") as stdout, (log / "stderr").open("wb") as stderr:
            returncode, timed_out = _run(job, work, stdout, stderr, running)
        seconds = time.monotonic() - start
        files = {file: (work / file).read_bytes() for file in job.outputs if (work / file).is_file()}
        return JobResult(
            returncode=returncode,
            stdout=_tail(log / "stdout"),
            stderr=_tail(log / "stderr"),
            files=files,
            seconds=seconds,
            timed_out=timed_out,
        )


def _run(job: Job, work: Path, stdout, stderr, running: _Running | None) -> tuple[int, bool]:
    """Exit code, and whether the time limit ended it."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    environment |= {"HOME": str(work), "TMPDIR": str(work), **job.environment}
    try:
        process = subprocess.Popen(
            job.argv,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ToolNotFound(f"{job.argv[0]} cannot be started: {error.strerror}") from error
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill(process)

    # a timer and a blocking wait: subprocess' own time-out polls, 50 ms late for a job of 10 ms
    timer = threading.Timer(job.timeout, expire)
    timer.daemon = True
    timer.start()
    try:
        with (running or _Running()).entered(process):
            process.wait()
    finally:
        timer.cancel()
        _kill(process)  # and whatever it left behind in its group
        process.wait()
    return process.returncode, expired.is_set()


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def run_jobs(
    jobs: Iterable[Job],
    executor: Executor | None = None,
    progress: Callable[[int, JobResult | CosimError], None] | None = None,
    *,
    ahead: int = 64,
) -> list[JobResult | CosimError]:
    """Run every job; the result of each, or the error that stopped it, in the order of ``jobs``.

    executor: any ``concurrent.futures.Executor``; None runs one after the other. One that breaks is
    given no more jobs: those that are left get its error. ``jobs`` may be a generator: it is read only
    ``ahead`` jobs before the oldest that still runs. progress: called here with (number of the job, its
    result) as each ends, so nothing finished is lost when Ctrl-C ends the rest: waiting jobs are
    cancelled, running ones killed, KeyboardInterrupt is raised.
    """
    results: dict[int, JobResult | CosimError] = {}
    for index, result in _finished(jobs, executor, ahead):
        results[index] = result
        if progress is not None:
            progress(index, result)
    return [results[index] for index in range(len(results))]


def _finished(
    jobs: Iterable[Job], executor: Executor | None, ahead: int
) -> Iterator[tuple[int, JobResult | CosimError]]:
    if executor is None:
        for index, job in enumerate(jobs):
            yield index, _outcome(functools.partial(run_job, job))
        return
    running = _Running()
    # only threads share memory with us; a worker process gets Ctrl-C itself, but not our death
    shared = (running,) if isinstance(executor, ThreadPoolExecutor) else (None, str(process_folder()))
    waiting: dict[Future[JobResult], int] = {}
    broken: CosimError | None = None
    try:
        for index, job in enumerate(jobs):
            future = broken or _submitted(executor, job, *shared)
            if isinstance(future, CosimError):
                broken = future
                yield index, broken
                continue
            waiting[future] = index
            if len(waiting) >= ahead:
                yield from _collect(waiting)
        while waiting:
            yield from _collect(waiting)
    finally:
        for future in waiting:
            future.cancel()
        running.stop()


def _submitted(executor: Executor, job: Job, *shared: Any) -> Future[JobResult] | CosimError:
    """The future of ``job``; the error of an executor that takes no more: broken, closed, out of threads."""
    try:
        return executor.submit(run_job, job, *shared)
    except Exception as error:  # noqa: BLE001  executors of other packages have errors of their own
        return _reason(error)


def _collect(waiting: dict[Future[JobResult], int]) -> Iterator[tuple[int, JobResult | CosimError]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        yield waiting.pop(future), _outcome(future.result)


def _outcome(call: Callable[[], JobResult]) -> JobResult | CosimError:
    try:
        return call()
    except CosimError as error:
        return error
    except Exception as error:  # noqa: BLE001  a broken pool or host must not lose the other jobs
        return _reason(error)


def _reason(error: Exception) -> ToolFailed:
    """Why a job was not run or not finished, and what helps."""
    remedy = ""
    if isinstance(error, BrokenExecutor | MemoryError):
        remedy = "; a process may have run out of memory: use fewer workers, or a smaller chunk"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = f"; make room in {tempfile.gettempdir()}, or set TMPDIR to a folder with more"
    failed = ToolFailed(f"a job was not finished: {type(error).__name__}: {error}".rstrip(": ") + remedy)
    failed.__cause__ = error
    return failed
