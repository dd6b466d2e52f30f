"""The cells of one weight matrix before they are cut into tiles: what non-idealities act on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cosim.arrays import Conductance
from cosim.errors import SpecError

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["FREE", "STUCK_HIGH", "STUCK_LOW", "Cells", "choose", "conductance_range"]

FREE, STUCK_LOW, STUCK_HIGH = 0, 1, 2  # values of Cells.stuck


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Cells ``(groups, rows, columns)``, each with what it can reach; every change makes a new value.

    conductance: S, chord at ``v_read``; a stuck cell ignores it. low, high: S, what each cell can
    reach (one number, or per cell). stuck: ``(groups, rows, columns)`` of FREE, STUCK_LOW,
    STUCK_HIGH, or None. read_noise: relative standard deviation of each cell at each read.
    tile_shape: rows and used columns of one tile.
    """

    device: Device
    conductance: Conductance
    low: torch.Tensor
    high: torch.Tensor
    v_read: float
    tile_shape: tuple[int, int]
    stuck: torch.Tensor | None = None
    read_noise: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """``(groups, rows, columns)``."""
        return tuple(self.conductance.shape)

    @property
    def actual(self) -> Conductance:
        """What each cell conducts: inside its own reach, and at a bound where it is stuck."""
        found = self.conductance
        if bool(((found < self.low) | (found > self.high)).any()):  # else no copy
            # not minimum and maximum: they halve the gradient of a cell that is at its bound
            found = found.clamp(self.low, self.high)
        if self.stuck is None:
            return found
        found = torch.where(self.stuck == STUCK_LOW, self.low, found)
        return torch.where(self.stuck == STUCK_HIGH, self.high, found)

    def write(self, conductance: Conductance) -> Cells:
        """The same cells at another conductance (S)."""
        return replace(self, conductance=conductance)

    def stick(self, where: torch.Tensor, value: int) -> Cells:
        """The cells where ``where`` is true stuck at ``value``."""
        stuck = torch.zeros_like(where, dtype=torch.int8) if self.stuck is None else self.stuck
        return replace(self, stuck=torch.where(where, value, stuck).to(torch.int8))

    def with_device(self, device: Device) -> Cells:
        """The same written conductances in cells of another device; their reach follows."""
        low, high = conductance_range(device, self.v_read)
        return replace(self, device=device, low=low.to(self.low), high=high.to(self.high))


def conductance_range(device: Device, v_read: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest chord conductance (S): numbers, or per cell where parameters are."""
    ends = [device.conductance(state, v_read=v_read) for state in device.state_bounds]
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    if not bool((low > 0).all()):
        raise SpecError(f"{device.name} does not conduct in one of its end states: it cannot hold weights")
    return low, high


def choose(shape: tuple[int, ...], count: int, generator: torch.Generator) -> torch.Tensor:
    """Places of an array in random order: ``(count,)`` flat indices without repetition."""
    total = 1
    for size in shape:
        total *= size
    return torch.randperm(total, generator=generator, device=generator.device)[:count]
