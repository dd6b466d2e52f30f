"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

_LONG = 2.0  # s, after which work counts as long
_LINE = 0.1  # of the work, between two plain lines


@contextmanager
def progress_bar(what: str, shown: bool | None) -> Iterator[Callable[[float], None]]:
    """Yields what takes the finished fraction, 0 to 1.

    shown: True from the start; None on a terminal only, once the work takes two seconds; False never.
    """
    if shown is False:
        yield lambda fraction: None
        return
    if not sys.stderr.isatty():
        yield (lambda fraction: None) if shown is None else _lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    start = time.monotonic()
    task = bar.add_task(what, total=1.0)

    def report(fraction: float) -> None:
        if not bar.live.is_started and (shown or time.monotonic() - start > _LONG):
            bar.start()
        bar.update(task, completed=fraction)

    try:
        yield report
    finally:
        bar.stop()


def _lines(what: str) -> Callable[[float], None]:
    told = 0.0

    def report(fraction: float) -> None:
        nonlocal told
        if fraction >= told:
            print(f"{what}: {100 * fraction:.0f} %", file=sys.stderr, flush=True)
            told = math.inf if fraction >= 1.0 else min(fraction + _LINE, 1.0)

    return report
