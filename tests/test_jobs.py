"""Jobs: their folder and environment, the kill at the time limit, executors, interrupts."""

from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from pathlib import Path

import pytest

from cosim.errors import SpecError, ToolFailed, ToolNotFound
from cosim.jobs import Job, JobResult, run_job, run_jobs


def python(code: str, **fields) -> Job:
    return Job(argv=(sys.executable, "-c", code), **fields)


def alive(pid: int) -> bool:
    """Whether ``pid`` runs; a killed one may stay a zombie of the init process for a moment."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition, limit=10.0) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_job_sees_its_files_only_and_a_small_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    code = (
        "import os, sys; print(sorted(os.listdir('.'))); print(sorted(os.environ));"
        "print(os.environ['HOME'] == os.getcwd(), repr(sys.stdin.read())); open('out', 'w').write('done')"
    )
    result = run_job(python(code, files={"in": b"x"}, environment={"EXTRA": "1"}, outputs=("out", "absent")))
    names, environment, rest = result.stdout.splitlines()
    assert names == "['in']"
    # LC_CTYPE: Python itself sets it where the locale is C
    assert set(eval(environment)) - {"LC_CTYPE"} == {"EXTRA", "HOME", "LC_ALL", "PATH", "TMPDIR"}
    assert rest == "True ''"
    assert result.returncode == 0
    assert result.files == {"out": b"done"}


def test_the_folder_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_job(python("open('left', 'w')"))
    (ours,) = tmp_path.iterdir()  # of this process; tests/test_faults.py sees it go
    assert list(ours.iterdir()) == []


def test_a_bad_exit_and_a_signal_are_results():
    assert run_job(python("import sys; print('no', file=sys.stderr); sys.exit(7)")).returncode == 7
    killed = run_job(python("import os; os.kill(os.getpid(), 11)"))
    assert (killed.returncode, killed.timed_out) == (-signal.SIGSEGV, False)


def test_the_time_limit_kills_the_whole_group():
    # the child of the child holds on, ignores SIGINT and SIGTERM, and would outlive its parent
    child = "import signal,time;[signal.signal(s, signal.SIG_IGN) for s in (2, 15)];time.sleep(60)"
    code = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}]);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    start = time.monotonic()
    result = run_job(python(code, timeout=1.0))
    assert result.timed_out
    assert result.returncode == -signal.SIGKILL
    assert time.monotonic() - start < 30
    assert wait_until(lambda: not alive(int(result.stdout)))


def test_what_a_job_leaves_behind_in_its_group_is_killed():
    code = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    )
    result = run_job(python(code))
    assert not result.timed_out
    assert wait_until(lambda: not alive(int(result.stdout)))


def test_only_the_end_of_a_long_log_is_kept():
    result = run_job(python("print('x' * 3_000_000 + 'end')"))
    assert len(result.stdout) == 1_000_000
    assert result.stdout.endswith("end\n")


def test_a_missing_program_is_named():
    with pytest.raises(ToolNotFound, match="no-such-program cannot be started: No such file or directory"):
        run_job(Job(argv=("no-such-program",)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"argv": ()}, "a job needs a command line"),
        ({"argv": ("x",), "timeout": 0}, "timeout is 0: it must be a finite number, above 0"),
        ({"argv": ("x",), "timeout": float("nan")}, "timeout is nan: it must be a finite number, above 0"),
        ({"argv": ("x",), "timeout": "60"}, "timeout is '60': it must be a finite number, above 0"),
        ({"argv": ("x",), "timeout": True}, "timeout is True: it must be a finite number, above 0"),
        ({"argv": ("x",), "files": {"../x": b""}}, "job file '../x' is not a plain file name"),
        ({"argv": ("x",), "outputs": ("/etc/passwd",)}, "job file '/etc/passwd' is not a plain"),
    ],
)
def test_bad_jobs_are_named(fields, message):
    with pytest.raises(SpecError, match=message):
        Job(**fields)


def test_the_digest_follows_the_content():
    job = Job(argv=("a",), files={"f": b"1"}, environment={"k": "v"}, outputs=("o",))
    same = Job(argv=("a",), files={"f": b"1"}, environment={"k": "v"}, outputs=("o",), timeout=5.0)
    assert job.digest == same.digest
    others = [
        Job(argv=("ab",), files={"f": b"1"}, environment={"k": "v"}, outputs=("o",)),
        Job(argv=("a",), files={"f": b"2"}, environment={"k": "v"}, outputs=("o",)),
        Job(argv=("a",), files={"g": b"1"}, environment={"k": "v"}, outputs=("o",)),
        Job(argv=("a",), files={"f": b"1"}, environment={"k": "w"}, outputs=("o",)),
        Job(argv=("a",), files={"f": b"1"}, environment={"k": "v"}),
    ]
    assert len({job.digest, *(other.digest for other in others)}) == 6


def jobs_with_one_failure() -> list[Job]:
    return [python("print(0)"), Job(argv=("no-such-program",)), python("print(2)"), python("print(3)")]


@pytest.mark.parametrize(
    "make", [lambda: None, lambda: ThreadPoolExecutor(2), lambda: ProcessPoolExecutor(2)]
)
def test_one_failure_keeps_the_others_in_order(make):
    executor = make()
    seen = {}
    try:
        results = run_jobs(jobs_with_one_failure(), executor, seen.__setitem__)
    finally:
        if executor is not None:
            executor.shutdown()
    assert isinstance(results[1], ToolNotFound)
    assert [r.stdout for r in results if isinstance(r, JobResult)] == ["0\n", "2\n", "3\n"]
    assert [seen[k] for k in range(4)] == results


class Failing(Executor):
    """The second job ends in ``error``, the others in what they give."""

    def __init__(self, error: Exception) -> None:
        self.error, self.submitted = error, 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        future: Future[JobResult] = Future()
        if self.submitted == 2:
            future.set_exception(self.error)
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), r"OSError: .Errno 28. No space left; make room in .*TMPDIR"),
        (
            MemoryError(),
            "a job was not finished: MemoryError; a process may have run out of memory",
        ),
        (BrokenExecutor("gone"), "BrokenExecutor: gone; a process may have run out of memory"),
        (CancelledError(), "a job was not finished: CancelledError$"),
        (ZeroDivisionError("of another package"), "ZeroDivisionError: of another package$"),
    ],
)
def test_any_error_of_one_job_is_its_result(error, message):
    first, second, third = run_jobs([python("print(1)")] * 3, Failing(error))
    assert isinstance(first, JobResult)
    assert isinstance(third, JobResult)
    assert isinstance(second, ToolFailed)
    assert re.search(message, str(second))
    assert second.__cause__ is error


def test_a_generator_is_read_only_so_far_ahead():
    taken = []

    def jobs():
        for k in range(9):
            taken.append(k)
            yield python("pass")

    with ThreadPoolExecutor(2) as executor:
        lead = []
        run_jobs(jobs(), executor, lambda k, _: lead.append(len(taken) - len(lead)), ahead=3)
    assert len(lead) == 9
    assert max(lead) <= 3


def test_results_and_jobs_can_be_pickled():
    job = python("print(1)", files={"f": b"1"})
    assert pickle.loads(pickle.dumps(job)) == job
    result = run_job(job)
    assert pickle.loads(pickle.dumps(result)) == result


def test_an_interrupt_kills_jobs_in_threads_and_cancels_the_rest(tmp_path):
    started = [tmp_path / f"{k}" for k in range(6)]
    jobs = [
        python(f"import os, time; open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
        for path in started
    ]

    def interrupt():
        wait_until(lambda: sum(p.exists() and bool(p.read_text()) for p in started) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with ThreadPoolExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, executor)
    assert time.monotonic() - start < 30  # the with block waited for both workers: their jobs were killed
    pids = [int(path.read_text()) for path in started if path.exists()]
    assert wait_until(lambda: not any(alive(pid) for pid in pids))
    assert len(pids) < 6


def test_ctrl_c_in_a_script_ends_the_job_and_keeps_what_was_finished(tmp_path):
    slow = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys
from cosim.jobs import Job, run_jobs

jobs = [Job(argv=(sys.executable, "-c", code)) for code in ("print(1)", {slow!r})]
done = {{}}
try:
    run_jobs(jobs, None, done.__setitem__)
except KeyboardInterrupt:
    print("kept", sorted(done))
"""
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 30)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert output == "kept [0]\n"
    assert wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))
