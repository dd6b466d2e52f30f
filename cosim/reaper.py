"""Outlives the process that started it, ends what still works in that process's folder, and removes it.

Run by ``processes`` as ``python -I -S reaper.py PID FOLDER``. A killed process cannot clean up after
itself, and a death signal would reach the first child only. Standard library only: it starts at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time

__all__ = ["remove", "working_in"]

_POLL = 0.2  # s between looks at the parent, where the kernel has no pidfd


def working_in(folder: str) -> list[int]:
    """Processes whose working directory lies below ``folder`` (a real path); none without /proc."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdecimal():
            continue
        try:
            place = os.readlink(f"/proc/{name}/cwd")
        except OSError:  # it has ended, or belongs to someone else
            continue
        if place.startswith(folder + os.sep):
            found.append(int(name))
    return found


def remove(folder: str, *, limit: float = 10.0) -> None:
    """Kill what works below ``folder``, for ``limit`` s at most, and delete it."""
    end = time.monotonic() + limit
    while (left := working_in(folder)) and time.monotonic() < end:
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    shutil.rmtree(folder, ignore_errors=True)


def _outlive(parent: int) -> None:
    """Return when the process ``parent``, which started this one, has ended."""
    try:
        watched = [os.pidfd_open(parent)]
    except (AttributeError, OSError):
        watched = []
    while os.getppid() == parent:
        if select.select(watched, [], [], None if watched else _POLL)[0]:
            return


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # sent to everything at once, it must still do its work
    _outlive(int(sys.argv[1]))
    remove(sys.argv[2])


if __name__ == "__main__":
    _main()
