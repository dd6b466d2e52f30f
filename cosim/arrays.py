"""Named arrays with axes and units, the dtype policy, and the checks at the border.

Axes are written in comments as ``(*tiles, rows, columns)``. Solving is float64 unless the caller
asks otherwise; tensors keep the device and dtype that they come with, but half precision becomes
float32: it does not hold currents or states.
"""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
import torch

from cosim.errors import SpecError

__all__ = [
    "Array",
    "Conductance",
    "Currents",
    "State",
    "Voltages",
    "as_tensor",
    "check_finite",
    "check_positive",
    "check_seed",
]

Conductance: TypeAlias = torch.Tensor  # (*tiles, rows, columns) S
State: TypeAlias = torch.Tensor  # (*tiles, rows, columns) in the unit of the device's state
Voltages: TypeAlias = torch.Tensor  # (*tiles, batch, rows) V
Currents: TypeAlias = torch.Tensor  # (*tiles, batch, columns) A, positive into the sense node
Array: TypeAlias = Any  # whatever torch.as_tensor takes: number, list, numpy array, tensor


def as_tensor(value: Array, name: str, *, like: torch.Tensor | None = None) -> torch.Tensor:
    """``value`` as a floating tensor: float64, unless it is a float32 or float64 tensor already.

    Half precision becomes float32. Raises SpecError for complex numbers, and for a tensor that is
    sparse or without data.
    With ``like``, numbers and arrays go to that tensor's device (a tensor stays where it is).
    """
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise SpecError(f"{name} is complex: give real numbers")
        if value.layout is not torch.strided or value.is_meta:
            raise SpecError(f"{name} is sparse or has no data: give an ordinary tensor")
        if not value.is_floating_point():
            return value.to(torch.float64)
        return value.float() if value.element_size() < 4 else value
    try:
        array = np.require(value, np.float64, ["C", "W"])  # torch warns of memory that it may not write
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"{name} is not an array of numbers: {error}") from error
    return torch.as_tensor(array, device=None if like is None else like.device)


def check_finite(value: torch.Tensor, name: str) -> torch.Tensor:
    """Return ``value``, or raise SpecError that names the first entry that is not finite."""
    bad = ~torch.isfinite(value.detach())
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        raise SpecError(f"{name}{list(where)} is {float(value[where])}: every entry must be finite")
    return value


def check_positive(value: torch.Tensor, name: str, *, zero: bool = False) -> torch.Tensor:
    """Return ``value``, or raise SpecError that names the first entry below (or at) zero."""
    check_finite(value, name)
    bad = (value < 0) if zero else (value <= 0)
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        limit = "0 or more" if zero else "greater than 0"
        raise SpecError(f"{name}{list(where)} is {float(value[where])}: it must be {limit}")
    return value


def check_seed(seed: Any) -> int:
    """Return ``seed``, or raise SpecError: whole numbers that every generator takes.

    >>> check_seed(7)
    7
    """
    try:
        value = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < 2**63:
        raise SpecError(f"seed is {seed!r}: it must be a whole number from 0 to 2**63 - 1")
    return value
