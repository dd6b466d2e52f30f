"""ngspice's binary raw files: bytes -> named arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosim.errors import ParseError

__all__ = ["Plot", "parse_raw"]

_BINARY = b"Binary:\n"
_FLAGS = {"real": np.dtype(np.float64), "complex": np.dtype(np.complex128)}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One analysis of a raw file. names: lower case; values: ``(points, variables)``."""

    title: str
    name: str
    names: tuple[str, ...]
    values: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """The variable ``name``, ``(points,)``; ParseError if it is not in the file."""
        try:
            return self.values[:, self.names.index(name.lower())]
        except ValueError:
            raise ParseError(
                f"no variable {name!r} in plot {self.name!r}: it has {_some(self.names)}"
            ) from None


def parse_raw(data: bytes, *, path: str | None = None) -> tuple[Plot, ...]:
    """Every plot in the bytes of a binary raw file, in order.

    ParseError (naming ``path``) where the file is truncated, ASCII, or not a raw file.
    """
    plots = []
    position = 0
    while position < len(data):
        plot, position = _parse_plot(data, position, path)
        plots.append(plot)
    if not plots:
        raise ParseError("the raw file is empty: the simulation wrote nothing", path=path)
    return tuple(plots)


def _parse_plot(data: bytes, start: int, path: str | None) -> tuple[Plot, int]:
    end = data.find(_BINARY, start)
    if end < 0:
        kind = "ASCII values" if b"\nValues:" in data[start:] else "no line 'Binary:'"
        raise ParseError(f"not a whole binary raw file: {kind} after byte {start}", path=path)
    try:
        text = data[start:end].decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"header at byte {start} is not text: {error.reason}", path=path) from None
    fields, names = _parse_header(text, start, path)
    flags = fields.get("flags", "").lower().split()
    dtype = next((_FLAGS[flag] for flag in flags if flag in _FLAGS), None)
    if dtype is None:
        raise ParseError(f"flags {fields.get('flags')!r} say neither real nor complex", path=path)
    points, variables = (_count(fields, key, path) for key in ("no. points", "no. variables"))
    if variables != len(names):
        raise ParseError(f"{len(names)} variables are listed, {variables} announced", path=path)
    first, size = end + len(_BINARY), points * variables * dtype.itemsize
    if len(data) - first < size:
        raise ParseError(
            f"truncated: {points} points of {variables} variables need {size} bytes, "
            f"{len(data) - first} are there",
            path=path,
        )
    values = np.frombuffer(data, dtype, points * variables, first).reshape(points, variables)
    plot = Plot(title=fields.get("title", ""), name=fields.get("plotname", ""), names=names, values=values)
    return plot, first + size


def _parse_header(text: str, start: int, path: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Header fields (lower-case keys) and the names of the variables."""
    head, separator, table = text.partition("\nVariables:\n")
    if not separator:
        raise ParseError(f"no list of variables in the header at byte {start}", path=path)
    fields = {}
    for line in head.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            raise ParseError(f"header line {line[:60]!r} is not 'key: value'", path=path)
        fields[key.strip().lower()] = value.strip()
    names = []
    for number, line in enumerate(table.splitlines()):
        words = line.split()
        if len(words) < 3 or words[0] != str(number):
            raise ParseError(f"variable line {line[:60]!r} is not '{number} name type'", path=path)
        names.append(words[1].lower())
    return fields, tuple(names)


def _count(fields: dict[str, str], key: str, path: str | None) -> int:
    text = fields.get(key, "")
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise ParseError(f"header field {key!r} is {text!r}: it must be a whole number", path=path)
    return int(text)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
