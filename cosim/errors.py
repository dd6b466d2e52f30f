"""Every error that cosim raises, in one tree.

    CosimError
    ├── SpecError        a value, shape, name or option that the caller can mend
    ├── ModelError       a Verilog-A model that is refused, or used outside its meaning
    ├── ToolError        a program outside Python
    │   ├── ToolNotFound     it is not installed, or too old
    │   └── ToolFailed       it ran and failed, hung, was killed, or answered nonsense
    ├── ParseError       a file that is not what it claims to be (file and line in the message)
    ├── SolveError       a solve that did not converge; finished vectors are on ``.solution``
    └── OutOfMemory      what was asked for does not fit into memory

What a result does not show by itself, but is no error, is a ``CosimWarning``.

Each message names the value, what was expected, and the remedy. The command line maps each
branch to one exit code (``exit_code``).
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CosimError",
    "CosimWarning",
    "ModelError",
    "OutOfMemory",
    "ParseError",
    "SolveError",
    "SpecError",
    "ToolError",
    "ToolFailed",
    "ToolNotFound",
]


class CosimError(Exception):
    """Root of every error that cosim raises on purpose."""

    exit_code = 1


class SpecError(CosimError, ValueError):
    """A value, shape, name or option given by the caller is not usable."""

    exit_code = 2


class ModelError(CosimError):
    """A Verilog-A model is refused, or used outside its meaning."""

    exit_code = 3


class ToolError(CosimError):
    """A program outside Python is at fault."""

    exit_code = 4


class ToolNotFound(ToolError):
    """A program is missing or too old; the message holds the command that installs it."""


class ToolFailed(ToolError):
    """A program ran and failed, hung, was killed, or answered nonsense.

    ``log`` holds what it printed.
    """

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class ParseError(CosimError):
    """A file is not what it claims to be. ``path`` and ``line`` say where, if known."""

    exit_code = 5

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        where = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(where + message)
        self.path = path
        self.line = line


class SolveError(CosimError):
    """A solve did not converge. ``solution`` holds every vector that did, when there is one."""

    exit_code = 6

    def __init__(self, message: str, *, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution


class OutOfMemory(CosimError, MemoryError):
    """What was asked for does not fit into the memory of this machine or of its GPU."""

    exit_code = 7


class CosimWarning(UserWarning):
    """What a result does not show by itself: a layer left digital, currents beyond a converter's range."""
