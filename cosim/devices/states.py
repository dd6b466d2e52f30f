"""The state of a device: its range and scale as numbers, and a caller's state within them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cosim.arrays import into_bounds
from cosim.devices.hold import START
from cosim.devices.simulated import Simulated
from cosim.errors import SpecError

__all__ = ["bounds", "number", "state_name", "within_range"]


def number(model: str, value: float | str, given: Mapping[str, Any], resolved: Mapping[str, Any]) -> float:
    """A number of the catalogue, which may be the name of a parameter.

    given: as the caller gave them. resolved: those and the defaults, with one number for each.
    """
    if not isinstance(value, str):
        return float(value)
    if isinstance(given.get(value), torch.Tensor):
        raise SpecError(f"parameter {value} of {model} scales the state: give it one value for all cells")
    return float(resolved[value])


def bounds(
    device: Simulated, ends: tuple[float | str, float | str] | None, resolved: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest state: numbers, or per cell; ``ends`` and ``resolved`` as of ``number``."""
    if ends is None:
        raise SpecError(
            f"the range of the state of {device.name}, {state_name(device)}, is not known: give "
            "Device(..., state_range=(low, high))"
        )
    low, high = (_bound(device, end, resolved) for end in ends)
    if not bool((low < high).all()):
        worst = f"{float(low.max())} to {float(high.min())}"
        raise SpecError(f"the state range of {device.name} is {worst}: low must be below high")
    return low, high


def _bound(device: Simulated, value: float | str, resolved: Mapping[str, Any]) -> torch.Tensor:
    own = device.given.get(str(value))
    if isinstance(own, torch.Tensor):
        return own.detach().double()
    return torch.tensor(number(device.name, value, device.given, resolved), dtype=torch.float64)


def state_name(device: Simulated) -> str:
    """What sets the state: a parameter, or its node where the model has none."""
    return f"V({device.state_node})" if device.state_parameter == START else str(device.state_parameter)


def within_range(device: Simulated, cells: torch.Tensor) -> torch.Tensor:
    """``cells``, on its bound where it is outside by rounding; SpecError for what is further."""
    if not device.bounded:
        return cells
    low, high = (bound.to(cells) for bound in device.state_bounds)
    cells, bad = into_bounds(cells, low, high)
    if bool(bad.any()):
        where = tuple(int(i) for i in bad.nonzero()[0])
        found, low, high = (float(x.expand(bad.shape)[where]) for x in (cells, low, high))
        raise SpecError(
            f"state{list(where)} is {found}: {state_name(device)} of {device.name} goes from {low} to {high}"
        )
    return cells
