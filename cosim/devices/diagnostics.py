"""What a compiler prints on file descriptor 2, caught and led back to the author's lines.

OpenVAF writes its diagnostics there, in colour, with the places of the text that it was given;
its exception says only that it failed.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from cosim.devices.source import PreparedSource
from cosim.errors import ModelError
from cosim.processes import scratch

__all__ = ["capture_stderr", "compile_checked", "map_diagnostics"]

T = TypeVar("T")
_STACK = 1 << 30  # bytes of address space; memory only as deep as it is used
_LOCK = threading.Lock()  # file descriptor 2 belongs to the whole process
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PLACE = re.compile(r"-->\s*(?P<file>.+?):(?P<line>\d+):(?P<column>\d+)")
_TITLE = re.compile(r"^(?P<level>error|warning)(?:\[\w+\])?: (?P<text>.*)$", re.MULTILINE)


def compile_checked(source: PreparedSource, compiler: Callable[[str], list[T]]) -> list[T]:
    """``compiler(path)`` on the prepared text; what it returns, one value per module.

    Raises ModelError, its message starting with the author's file and line, when the compiler
    fails, panics, or returns another number of modules than the source has.
    """
    with scratch() as folder:
        path = Path(folder, re.sub(r"\W", "_", source.path.stem) + ".va")
        path.write_text(source.text, encoding="utf-8")
        modules, failure, printed = capture_stderr(lambda: _on_deep_stack(lambda: compiler(str(path))))
    if modules is None or failure is not None:
        raise ModelError(map_diagnostics(source, printed, failure)) from failure
    if len(modules) != len(source.modules):
        raise ModelError(
            f"{source.path}:1: the compiler found {len(modules)} modules, not {len(source.modules)}"
        )
    return modules


def _on_deep_stack(call: Callable[[], T]) -> T:
    """``call()`` in a thread with room for long sums: OpenVAF recurses, and overflow ends the process."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001  raised again below
            failed.append(error)

    size = threading.stack_size(_STACK)
    try:
        thread = threading.Thread(target=run, name="openvaf", daemon=True)
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def capture_stderr(call: Callable[[], T]) -> tuple[T | None, BaseException | None, str]:
    """Result, exception and what was written to file descriptor 2 while ``call`` ran.

    One call at a time. KeyboardInterrupt and SystemExit pass through; a Rust panic (which is no
    ``Exception``) is returned like any other failure.
    """
    result: T | None = None
    failure: BaseException | None = None
    with _LOCK, tempfile.TemporaryFile() as catcher:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = _duplicate(2)
        try:
            os.dup2(catcher.fileno(), 2)
            result = call()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  pyo3's PanicException derives from BaseException
            failure = error
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
        catcher.seek(0)
        printed = catcher.read().decode("utf-8", errors="replace")
    return result, failure, _COLOUR.sub("", printed)


def _duplicate(descriptor: int) -> int | None:
    """A copy of a file descriptor, or None where it is closed (a daemon)."""
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def map_diagnostics(source: PreparedSource, printed: str, failure: BaseException | None = None) -> str:
    """``file:line: first error``, and below it all that was printed, with the author's places."""
    titles = [match for match in _TITLE.finditer(printed) if match["level"] == "error"]
    if not titles:
        reason = str(failure).splitlines()[0] if failure is not None and str(failure) else "no reason given"
        return f"{source.path}:1: the Verilog-A compiler failed: {reason}"
    first = titles[0]
    place = _PLACE.search(printed, first.end())
    file, line = source.place(int(place["line"])) if place is not None else (str(source.path), 1)
    body = _PLACE.sub(partial(_mapped, source), printed).strip()
    return f"{file}:{line}: {first['text'].strip()}\n{_renumbered(source, body)}"


def _mapped(source: PreparedSource, match: re.Match[str]) -> str:
    file, line = source.place(int(match["line"]))
    return f"--> {file}:{line}"


def _renumbered(source: PreparedSource, body: str) -> str:
    """The line numbers in front of quoted lines, led back too, without the count of errors."""
    lines = [line for line in body.splitlines() if not line.startswith("error: could not compile")]
    return "\n".join(re.sub(r"^(\d+)(?= \|)", partial(_renumber, source), line) for line in lines).strip()


def _renumber(source: PreparedSource, match: re.Match[str]) -> str:
    return str(source.place(int(match[1]))[1]).ljust(len(match[1]))
