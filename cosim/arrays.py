"""Named arrays with axes and units, the dtype policy, and the checks at the border.

Axes are written in comments as ``(*tiles, rows, columns)``. Solving is float64 unless the caller
asks otherwise; tensors keep the device and dtype that they come with, but half precision becomes
float32: it does not hold currents or states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch

from cosim.checks import as_number, shown
from cosim.errors import OutOfMemory, SpecError

__all__ = [
    "Array",
    "Conductance",
    "Currents",
    "State",
    "Voltages",
    "as_read_voltage",
    "as_tensor",
    "check_broadcast",
    "check_finite",
    "check_positive",
    "into_bounds",
    "out_of_memory",
    "own",
    "rounding",
]

Conductance: TypeAlias = torch.Tensor  # (*tiles, rows, columns) S
State: TypeAlias = torch.Tensor  # (*tiles, rows, columns) in the unit of the device's state
Voltages: TypeAlias = torch.Tensor  # (*tiles, batch, rows) V
Currents: TypeAlias = torch.Tensor  # (*tiles, batch, columns) A, positive into the sense node
Array: TypeAlias = Any  # whatever torch.as_tensor takes: number, list, numpy array, tensor

# what torch says on a CPU, on a GPU, and of a size beyond any memory; it has no type for the first and last
_OUT_OF_MEMORY = ("allocate memory", "out of memory", "calculation overflowed", "multiplication overflow")


def as_tensor(value: Array, name: str, *, like: torch.Tensor | None = None) -> torch.Tensor:
    """``value`` as a floating tensor: float64, unless it is a float32 or float64 tensor already.

    Half precision becomes float32. With ``like``, numbers and arrays go to that tensor's device (a tensor
    stays where it is). Raises SpecError for what is not an ordinary array of real numbers: complex,
    texts, dates, masked entries; a tensor that is sparse, nested, quantised or without data.
    """
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise SpecError(f"{name} is complex: give real numbers")
        if value.is_nested or value.is_quantized:
            raise SpecError(f"{name} is nested or quantised: give an ordinary tensor")
        if value.layout is not torch.strided or value.is_meta:
            raise SpecError(f"{name} is sparse or has no data: give an ordinary tensor")
        value = value.resolve_neg()  # torch.imag(z.conj()) keeps its sign beside its numbers
        if not value.is_floating_point():
            return value.to(torch.float64)
        return value.float() if value.element_size() < 4 else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"{name} is not an array of numbers: {error}") from error
    if np.ma.is_masked(value):
        raise SpecError(f"{name} has masked entries: give a number for each, such as with .filled(0.0)")
    if array.dtype.kind == "c":
        raise SpecError(f"{name} is complex: give real numbers")
    if array.dtype.kind not in "biuf":
        held = f" of {array.dtype}" if isinstance(value, np.ndarray) else ""
        raise SpecError(f"{name} is {shown(value)}{held}: give numbers, as a list, an array or a tensor")
    array = np.require(array, np.float64, ["C", "W"])  # torch warns of memory that it may not write
    return torch.as_tensor(array, device=None if like is None else like.device)


def as_read_voltage(value: Any) -> float:
    """V at which a conductance is meant: not 0.

    >>> as_read_voltage(0.1)
    0.1
    """
    found = as_number(value, "v_read")
    if found == 0:
        raise SpecError(f"v_read is {found} V: it must be finite and not 0")
    return found


@contextmanager
def out_of_memory(doing: str, *, remedy: str = "take smaller arrays, or fewer at a time") -> Iterator[None]:
    """Turn what torch and numpy raise where memory runs out into OutOfMemory: what was done, what helps.

    >>> with out_of_memory("solving"):
    ...     torch.empty(2**60)
    Traceback (most recent call last):
    cosim.errors.OutOfMemory: solving needs more memory than there is: take smaller arrays, or fewer at a time
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not (
            isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)
        ):
            raise
        raise OutOfMemory(f"{doing} needs more memory than there is: {remedy}") from error


def check_broadcast(what: str, arrays: Mapping[str, torch.Tensor]) -> torch.Size:
    """The shape that the named arrays broadcast to; SpecError that lists them if they do not.

    >>> check_broadcast("cells", {"voltage": torch.zeros(3), "state": torch.zeros(2, 1)})
    torch.Size([2, 3])
    """
    shapes = {name: tuple(value.shape) for name, value in arrays.items()}
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError as error:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
        raise SpecError(f"{what} that do not broadcast: {listed}") from error


def check_finite(value: torch.Tensor, name: str) -> torch.Tensor:
    """Return ``value``, or raise SpecError that names the first entry that is not finite."""
    bad = ~torch.isfinite(value.detach())
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise SpecError(f"{name}{list(where)} is {float(value[where].detach())}: every entry must be finite")
    return value


def check_positive(value: torch.Tensor, name: str, *, zero: bool = False) -> torch.Tensor:
    """Return ``value``, or raise SpecError that names the first entry below (or at) zero."""
    check_finite(value, name)
    bad = (value < 0) if zero else (value <= 0)
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        limit = "0 or more" if zero else "greater than 0"
        raise SpecError(f"{name}{list(where)} is {float(value[where].detach())}: it must be {limit}")
    return value


def own(value: torch.Tensor) -> torch.Tensor:
    """A copy with the same graph, so that later changes of the caller's array do not come in unchecked.

    A leaf that asks for a gradient stays itself: an optimiser moves it in place, and what holds it follows.
    """
    return value if value.is_leaf and value.requires_grad else value.clone()


def rounding(value: torch.Tensor) -> float:
    """How far, relative, ``value`` may lie beyond a bound that was rounded otherwise, as 1/r_on is."""
    return max(1e-9, 8 * torch.finfo(value.dtype).eps)


def into_bounds(
    value: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, like: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``value`` with what lies beyond a bound by rounding put on it, and True where it lies further out.

    The one tolerance of every check of a bound: ``rounding`` of ``value`` (or of ``like``, where that is
    what the caller gave), relative to the bound, or to the other one where a bound is 0.

    >>> low, high = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> into_bounds(torch.tensor([-1e-12, 0.5, 1.1], dtype=torch.float64), low, high)[0].tolist()
    [0.0, 0.5, 1.1]
    """
    low, high = low.to(value), high.to(value)
    outside = (value < low) | (value > high)
    if not bool(outside.any()):
        return value, outside
    slack = rounding(value if like is None else like)
    least = low - slack * torch.where(low == 0, high, low).abs()
    most = high + slack * torch.where(high == 0, low, high).abs()
    bad = (value < least) | (value > most)
    moved = torch.where(outside & ~bad, torch.minimum(torch.maximum(value, low), high), value).detach()
    return moved + (value - value.detach()), bad  # the gradient passes
