"""Folders for the programs that cosim starts, whose life and whose folders end with this process.

Every process of cosim that starts programs has one folder, held by a file lock, and a ``reaper`` that
waits for its end: however it ends, what still works in the folder is killed, and the folder goes. If
the reaper is killed too, the next process that starts a program does its work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from cosim import reaper

__all__ = ["process_folder", "scratch"]

_OURS = re.compile(r"cosim-\d+-[0-9a-f]{8}\Z")
_held: dict[Path, tuple[Path, int]] = {}  # folder around it -> ours, and the descriptor that locks it
_lock = threading.Lock()


@contextlib.contextmanager
def scratch(within: str | None = None) -> Iterator[Path]:
    """A fresh folder for one program, removed at the end; within: see ``process_folder``."""
    # what a dying program leaves in it goes with the folder around it
    with tempfile.TemporaryDirectory(
        prefix="job-", dir=process_folder(within), ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def process_folder(within: str | None = None) -> Path:
    """The folder of this process, in the system's folder for temporary files.

    within: the folder of the process that this one works for; it is used if it exists here, so that
    programs end with either.
    """
    around = Path(within if within and os.path.isdir(within) else tempfile.gettempdir()).resolve()
    with _lock:
        ours, descriptor = _held.get(around, (None, -1))
        if ours is None or not ours.is_dir():
            if descriptor >= 0:
                os.close(descriptor)
            _sweep(around)
            _held[around] = ours, _ = _open(around)
            _start_reaper(ours)
    return ours


def _open(around: Path) -> tuple[Path, int]:
    """A new folder under a lock; it gets the name that a sweep looks for only when it has the lock."""
    made = Path(tempfile.mkdtemp(prefix=".cosim-", dir=around))
    descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a file system without locks: no sweep removes it then
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    ours = made.with_name(f"cosim-{os.getpid()}-{secrets.token_hex(4)}")
    made.rename(ours)
    return ours, descriptor


def _sweep(around: Path) -> None:
    """Remove the folders of processes that have ended. The lock says so: a number may be in use again."""
    for entry in os.scandir(around):
        if not _OURS.match(entry.name):
            continue
        with contextlib.suppress(OSError):  # in use, or swept by another process at this moment
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                _remove_unless_locked(entry.path)


def _remove_unless_locked(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        reaper.remove(folder)
    finally:
        os.close(descriptor)


def _start_reaper(folder: Path) -> None:
    command = [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid()), str(folder)]
    null = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, cwd="/", stdin=null, stdout=null, stderr=null, start_new_session=True
        )
    except OSError as error:
        warnings.warn(
            f"{command[0]} cannot be started a second time ({error}): if this process is killed, the "
            f"programs that it runs stay behind, and {folder} until the next run",
            RuntimeWarning,
            stacklevel=2,
        )
    else:
        process.returncode = 0  # it is meant to run on: no ResourceWarning


def _forget() -> None:
    """A forked process has a folder of its own; a lock that it kept would outlive its parent."""
    global _lock
    _lock = threading.Lock()
    for _, descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
