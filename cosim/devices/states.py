"""The state of a device: its range and scale as numbers, and a caller's state within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cosim.arrays import into_bounds
from cosim.devices.simulated import Simulated
from cosim.errors import SpecError

__all__ = ["bound", "number", "within_range"]


def number(model: str, value: float | str, given: Mapping[str, Any], resolved: Mapping[str, Any]) -> float:
    """A number of the catalogue, which may be the name of a parameter.

    given: as the caller gave them. resolved: those and the defaults, with one number for each.
    """
    if not isinstance(value, str):
        return float(value)
    if isinstance(given.get(value), torch.Tensor):
        raise SpecError(f"parameter {value} of {model} scales the state: give it one value for all cells")
    return float(resolved[value])


def bound(
    model: str, value: float | str, given: Mapping[str, Any], resolved: Mapping[str, Any]
) -> torch.Tensor:
    """A bound of the state: a number, or per cell; arguments as of ``number``."""
    own = given.get(str(value))
    if isinstance(own, torch.Tensor):
        return own.detach().double()
    return torch.tensor(number(model, value, given, resolved), dtype=torch.float64)


def within_range(device: Simulated, cells: torch.Tensor) -> torch.Tensor:
    """``cells``, on its bound where it is outside by rounding; SpecError for what is further."""
    low, high = (bound.to(cells) for bound in device.state_bounds)
    cells, bad = into_bounds(cells, low, high)
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        found, low, high = (float(x.expand(bad.shape)[where]) for x in (cells, low, high))
        raise SpecError(
            f"state{list(where)} is {found}: {device.state_parameter} of {device.name} "
            f"goes from {low} to {high}"
        )
    return cells
