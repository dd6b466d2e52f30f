"""The border: what a caller gave, as the type that the code means, or a SpecError that names it.

One line at the start of a public function: ``samples = as_integer(samples, "samples", at_least=1)``.
Arrays have theirs in ``cosim.arrays``.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cosim.errors import SpecError

__all__ = [
    "as_callable",
    "as_choice",
    "as_choices",
    "as_flag",
    "as_instance",
    "as_integer",
    "as_interval",
    "as_items",
    "as_number",
    "as_path",
    "as_seed",
    "as_shape",
    "shown",
]

T = TypeVar("T")
_BEYOND = 2**63  # no size and no count of an array reaches it
_SHOWN = 60  # characters of a value that a message repeats


def as_integer(value: Any, name: str, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """A whole number of 64 bits: an int, or an array without axes that holds one; a bool is none.

    >>> as_integer(8, "bits", at_least=2, at_most=24)
    8
    """
    found = _scalar(value)
    if isinstance(found, numbers.Integral) and not isinstance(found, bool):
        number = int(found)
        if at_most is None and number >= _BEYOND:
            at_most = _BEYOND - 1
        if (at_least is None or number >= at_least) and (at_most is None or number <= at_most):
            return number
    raise _wrong(value, name, "a whole number" + _limits(at_least=at_least, at_most=at_most))


def as_number(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    nonzero: bool = False,
    infinite: bool = False,
) -> float:
    """A real number inside its range, finite unless ``infinite``; NaN never is one.

    >>> as_number(3, "period", above=0)
    3.0
    """
    found = _scalar(value)
    number = math.nan
    if isinstance(found, numbers.Real) and not isinstance(found, bool):
        with contextlib.suppress(OverflowError):  # of an integer beyond every float
            number = float(found)
    within = (
        not math.isnan(number)
        and (infinite or math.isfinite(number))
        and (number != 0 or not nonzero)
        and (above is None or number > above)
        and (at_least is None or number >= at_least)
        and (below is None or number < below)
        and (at_most is None or number <= at_most)
    )
    if within:
        return number
    kind = ("a number" if infinite else "a finite number") + (", not 0" if nonzero else "")
    limits = _limits(above=above, at_least=at_least, below=below, at_most=at_most)
    raise _wrong(value, name, kind + limits)


def as_flag(value: Any, name: str) -> bool:
    """True or False; 0, 1 and texts are neither.

    >>> as_flag(True, "throw")
    True
    """
    flag = _scalar(value)
    if isinstance(flag, bool):
        return flag
    raise _wrong(value, name, "True or False")


def as_choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of the texts ``choices``.

    >>> as_choice("row", "per", ("layer", "column"))
    Traceback (most recent call last):
    cosim.errors.SpecError: per is 'row': choose from layer, column
    """
    known = list(choices)
    if isinstance(value, str) and value in known:
        return str(value)
    raise SpecError(f"{name} is {shown(value)}: choose from {', '.join(known)}")


def as_choices(value: Any, name: str, choices: Iterable[str]) -> tuple[str, ...]:
    """Some of the texts ``choices``, as a tuple, each once; one text alone is not a sequence of them."""
    known = list(choices)
    items = as_items(value, name, f"a sequence, such as ({known[0]!r},)")
    return tuple(dict.fromkeys(as_choice(item, f"an entry of {name}", known) for item in items))


def as_path(value: Any, name: str) -> Path:
    """A path: a text or a path object, not empty, without NUL characters.

    >>> as_path("out/tile", "folder").name
    'tile'
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if isinstance(text, str) and text and "\0" not in text and _names_a_file(text):
        return Path(text)
    raise _wrong(value, name, "the path of a file or folder")


def as_seed(value: Any, name: str = "seed") -> int:
    """A seed that every generator takes.

    >>> as_seed(7)
    7
    """
    return as_integer(value, name, at_least=0, at_most=2**63 - 1)


def as_shape(value: Any, name: str, axes: Sequence[str]) -> tuple[int, ...]:
    """One size of 1 or more for each of ``axes``; a first name that starts with ``*`` stands for any number.

    >>> as_shape([16, 16], "tile_shape", ("rows", "columns"))
    (16, 16)
    """
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    sizes = tuple(value) if listed else ()
    least = len([axis for axis in axes if not axis.startswith("*")])
    fits = listed and (len(sizes) >= least if len(axes) > least else len(sizes) == least)
    try:
        if fits:
            return tuple(as_integer(size, name, at_least=1) for size in sizes)
    except SpecError:
        pass
    raise _wrong(value, name, f"({', '.join(axes)}), whole numbers of 1 or more")


def as_interval(value: Any, name: str, *, above: float | None = None) -> tuple[float, float]:
    """Two finite numbers, low below high.

    >>> as_interval((0, 1), "state_range")
    (0.0, 1.0)
    """
    try:
        low, high = value
        low, high = as_number(low, name, above=above), as_number(high, name, above=above)
        if low < high:
            return low, high
    except (TypeError, ValueError, RuntimeError):  # not a pair, or SpecError
        pass
    raise _wrong(value, name, f"two finite numbers{_limits(above=above)}, low below high")


def as_items(value: Any, name: str, remedy: str) -> tuple[Any, ...]:
    """What a list, a tuple or another iterable holds; a text is none. ``remedy`` says what to give.

    >>> as_items([1, 2], "layers", "types of layers")
    (1, 2)
    """
    try:
        if not isinstance(value, str | bytes):
            return tuple(value)
    except (TypeError, RuntimeError):  # also of what only looks iterable, as an array without axes
        pass
    raise SpecError(f"{name} is {shown(value)}: give {remedy}")


def as_instance(value: Any, name: str, kind: type[T], remedy: str) -> T:
    """An object of the class ``kind``; ``remedy`` says how to make one."""
    if isinstance(value, kind):
        return value
    raise SpecError(f"{name} is {shown(value)}: give {remedy}")


def as_callable(value: Any, name: str, remedy: str) -> Callable[..., Any]:
    """A function, or what can be called like one; ``remedy`` says what it takes and returns."""
    if callable(value):
        return value
    raise SpecError(f"{name} is {shown(value)}: give {remedy}")


def shown(value: Any) -> str:
    """``value`` as a message repeats it: short, on one line; an array by its shape.

    >>> shown("x"), shown(list(range(100)))
    ("'x'", '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...')
    """
    try:
        shape = getattr(value, "shape", ())
        if isinstance(shape, tuple) and shape:
            return f"{type(value).__name__} of shape {tuple(shape)}"
        text = " ".join(repr(value).split())
    except (RuntimeError, ValueError):  # a nested tensor has no shape, a huge integer no decimal text
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _names_a_file(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # half of a character
        return False
    return True


def _scalar(value: Any) -> Any:
    """What an array without axes holds, unless that would lose a gradient; anything else as it is."""
    try:
        if getattr(value, "shape", None) == () and not getattr(value, "requires_grad", False):
            return value.item()
    except (AttributeError, RuntimeError):  # nested tensors have no shape, others no data
        pass
    return value


def _wrong(value: Any, name: str, expected: str) -> SpecError:
    return SpecError(f"{name} is {shown(value)}: it must be {expected}")


def _limits(**limits: float | None) -> str:
    """The limits that are given, to be put after the noun: at_least=2 -> ", at least 2"."""
    given = [f"{name.replace('_', ' ')} {limit}" for name, limit in limits.items() if limit is not None]
    return f", {' and '.join(given)}" if given else ""
