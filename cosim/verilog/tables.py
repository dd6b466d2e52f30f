"""Data of $table_model: a file beside the model, its control string, and points in order."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from cosim.verilog.tokens import Token, parse_error, refusal

__all__ = ["Axis", "columns_of", "control", "read_table"]

_MOST_NUMBERS = 100_000
_DEGREES = {"1": "linear", "3": "cubic", "D": "closest", "I": "ignored"}


@dataclass(frozen=True, slots=True)
class Axis:
    """How one dimension is interpolated, and what happens below and above its points."""

    kind: str  # linear, cubic, closest, ignored
    low: str  # C constant, L linear, E error
    high: str


def _path_of(name: str, place: Token) -> Path:
    """The file ``name``, relative to the file that uses it, and not outside of its folder."""
    folder = Path(place.file).resolve().parent
    path = (folder / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(folder):
        raise refusal(place, f"table {name!r} lies outside the folder of the model: put it beside the model")
    if not path.is_file():
        raise refusal(place, f"there is no table {name!r} beside the model")
    return path


def control(text: str, count: int, place: Token) -> tuple[list[Axis], int]:
    """The axes of a control string, one for each column in front of the values; which column of these."""
    axes, _, selector = re.sub(r"\s", "", text).partition(";")
    parts = axes.split(",") if axes else []
    if selector and not selector.isdigit():
        raise parse_error(place, f"the control string {text!r} ends in {selector!r}: expected ;1, ;2, ...")
    found = [_axis(part, text, place) for part in parts]
    used = sum(axis.kind != "ignored" for axis in found)
    if used > count:
        raise parse_error(place, f"the control string {text!r} is for {used} inputs, {count} are given")
    # what is not said is linear, and linear beyond the ends
    return found + [Axis("linear", "L", "L")] * (count - used), int(selector or 1)


def _axis(part: str, text: str, place: Token) -> Axis:
    match = re.fullmatch(r"([123DI]?)([CLE]?)([CLE]?)", part)
    if match is None:
        raise parse_error(
            place, f"the control string {text!r} holds {part!r}: expected 1, 3, D or I, then C, L or E"
        )
    if match[1] == "2":
        raise refusal(place, "a table of degree 2 is not supported: use degree 1 or 3")
    low = match[2] or "L"
    return Axis(_DEGREES[match[1] or "1"], low, match[3] or low)


def read_table(name: str, place: Token) -> list[list[float]]:
    """The rows of a text file of numbers; its name is relative to the file that uses it."""
    path = _path_of(name, place)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise refusal(place, f"cannot read table {name!r} beside the model: {reason.lower()}") from error
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.split(r"#|//", line)[0].replace(",", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise refusal(
                place, f"table {name!r}, line {number}: {line.strip()[:40]!r} is not numbers"
            ) from error
        if len(words) != len(rows[0]):
            raise refusal(place, f"table {name!r}, line {number}: {len(words)} columns, not {len(rows[0])}")
        if not all(map(math.isfinite, rows[-1])):
            raise refusal(place, f"table {name!r}, line {number}: a number is not finite")
        if len(rows) * len(words) > _MOST_NUMBERS:
            raise refusal(place, f"table {name!r} has more than {_MOST_NUMBERS} numbers")
    if not rows:
        raise refusal(place, f"table {name!r} is empty")
    return rows


def columns_of(
    rows: list[list[float]], axes: list[Axis], selector: int, place: Token
) -> list[tuple[tuple[float, ...], float]]:
    """(coordinates, value) of each row: columns that count, and the one that is asked for."""
    width = len(axes) + selector
    if len(rows[0]) < width:
        raise refusal(place, f"the table has {len(rows[0])} columns, at least {width} are needed")
    kept = [k for k, axis in enumerate(axes) if axis.kind != "ignored"]
    return [(tuple(row[k] for k in kept), row[width - 1]) for row in rows]
