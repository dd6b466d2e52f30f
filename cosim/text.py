"""Text output: the Emitter, the number formatter, and the check of names and comments."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cosim.checks import shown
from cosim.errors import SpecError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Emitter",
    "check_identifier",
    "format_comment",
    "format_number",
    "format_table",
    "plain",
    "quote_c",
]

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


def format_number(value: float) -> str:
    """The shortest decimal that reads back as the same float64, never with an SI suffix.

    SPICE reads ``1M`` as milli, so an exponent is always written as ``e``.

    >>> format_number(1e6), format_number(0.1), format_number(5)
    ('1e+06', '0.1', '5.0')
    """
    number = float(value)
    if not math.isfinite(number):
        raise SpecError(f"{value!r} cannot be written to a file: use a finite number")
    text = repr(number)
    if "e" not in text and (abs(number) >= 1e6):
        mantissa, exponent = f"{number:.17e}".split("e")
        for digits in range(18):
            short = f"{number:.{digits}e}"
            if float(short) == number:
                return short
        return f"{mantissa}e{exponent}"
    return text


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: arrays as lists, None for a number that is not finite.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_table(table: Table) -> str:
    """A rich table as plain text, at most 110 characters wide."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=110).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def check_identifier(name: str, what: str = "name") -> str:
    """Return ``name`` if it matches ``[A-Za-z][A-Za-z0-9_]*``, else raise SpecError.

    >>> check_identifier("x_init")
    'x_init'
    """
    if not isinstance(name, str) or not _IDENTIFIER.match(name):
        raise SpecError(
            f"{what} {shown(name)} is not an identifier: use a letter followed by letters, digits or _"
        )
    return name


def quote_c(text: str) -> str:
    """A string literal of C: UTF-8, and in octal what is not a plain character there.

    >>> print(quote_c('50 "Ω"'))
    "50 \\042\\316\\251\\042"
    """
    ordinary = set(range(32, 127)) - set(b'"?\\')
    return '"' + "".join(chr(b) if b in ordinary else f"\\{b:03o}" for b in text.encode()) + '"'


def format_comment(text: str) -> str:
    """One comment line's text: no line break, no leading ``#`` (ngspice runs ``*#`` lines).

    >>> format_comment("# two\\nlines")
    'two lines'
    """
    return " ".join(text.split()).lstrip("#").lstrip()


class Emitter:
    """Collects indented lines of text; the one way cosim writes source code and decks.

    >>> out = Emitter()
    >>> out.line("int main(void)")
    >>> with out.block("{", "}"):
    ...     out.line("return 0;")
    >>> print(out.text(), end="")
    int main(void)
    {
      return 0;
    }
    """

    def __init__(self, indent: str = "  ") -> None:
        self._lines: list[str] = []
        self._indent = indent
        self._depth = 0

    def line(self, text: str = "") -> None:
        self._lines.append(f"{self._indent * self._depth}{text}" if text else "")

    @contextmanager
    def block(self, opening: str, closing: str | None = None) -> Iterator[None]:
        self.line(opening)
        self._depth += 1
        yield
        self._depth -= 1
        if closing is not None:
            self.line(closing)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
