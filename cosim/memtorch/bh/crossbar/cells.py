"""The devices of one crossbar as tensors, read and written as a matrix, and the view of one of them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cell_model import CellModel
from cosim.memtorch.bh.memristor.Memristor import checked_conductance
from cosim.nn.cells import conductance_range

__all__ = ["CellView", "OwnCells", "Store", "pick"]


class Store(Protocol):
    """Cells ``(*groups, rows, columns)`` of one crossbar."""

    model: CellModel

    @property
    def device(self) -> Device: ...
    def read(self) -> torch.Tensor: ...
    def write(self, conductance: torch.Tensor) -> None: ...


class OwnCells:
    """Cells of a crossbar that belongs to no layer; new ones are at their highest conductance."""

    def __init__(self, model: CellModel, shape: tuple[int, int], *, spread: bool = True) -> None:
        if model.equal_ends is not None:
            raise SpecError(f"r_on and r_off are equal, {model.equal_ends:g} ohm: give them more distance")
        self.model = model
        self.device = model.drawn(shape) if spread else model.nominal()
        ends = conductance_range(self.device, model.v_read)
        self._low, self._high = (end.expand(shape) for end in ends)
        self._conductance = self._high.clone()

    def read(self) -> torch.Tensor:
        return self._conductance.clone()

    def write(self, conductance: torch.Tensor) -> None:
        wanted = conductance.detach().to(self._low)
        self._conductance = torch.minimum(torch.maximum(wanted, self._low), self._high)


class CellView:
    """One device of a crossbar; what is done to it is done to the crossbar.

    r_on, r_off: lowest and highest resistance (ohm) that this device can have. Only ``g`` can be assigned.
    """

    _store: Store
    _place: tuple[int, ...]
    r_on: float
    r_off: float

    def __init__(self, store: Store, place: tuple[int, ...], reach: tuple[float, float]) -> None:
        own = {"_store": store, "_place": place, "r_off": 1 / reach[0], "r_on": 1 / reach[1]}
        self.__dict__.update(own)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "g":
            raise SpecError(
                f"{name} of a device in a crossbar cannot be assigned: set g, or give memristor_model_params "
                "(with a StochasticParameter every device has its own)"
            )
        super().__setattr__(name, value)

    @property
    def time_series_resolution(self) -> float:
        return self._store.model.dt

    @property
    def device(self) -> Device:
        """The compiled device with the parameters of this cell; SpecError where it is a class in Python."""
        if not self._store.model.dynamic:
            raise SpecError(
                f"{self._store.model.model.__name__} is a class in Python: use simulate() of the view"
            )
        return pick(self._store.device, [self._place])

    @property
    def g(self) -> float:
        """Conductance (S)."""
        return float(self._store.read()[self._place])

    @g.setter
    def g(self, conductance: float) -> None:
        self.set_conductance(conductance)

    def get_resistance(self) -> float:
        return 1 / self.g

    def set_conductance(self, conductance: float) -> None:
        """Conductance (S), clipped to what this device can have."""
        matrix = self._store.read()
        matrix[self._place] = checked_conductance(conductance)
        self._store.write(matrix)

    def simulate(self, voltage_signal: Any, return_current: bool = False) -> torch.Tensor | np.ndarray:
        """As ``CompiledMemristor.simulate``; by the class itself where that is one in Python."""
        reachable = min(max(self.g, 1 / self.r_off), 1 / self.r_on)
        own = pick(self._store.device, [self._place])
        found, end = self._store.model.simulate(own, reachable, voltage_signal, return_current)
        self.set_conductance(end)
        return found

    def __repr__(self) -> str:
        return f"CellView(g={self.g:.4g}, r_on={self.r_on:.4g}, r_off={self.r_off:.4g})"


def pick(device: Device, places: list[tuple[int, ...]]) -> Device:
    """The device with the per-cell parameters of these places: numbers for one, tensors (n,) for more."""
    axes = tuple(torch.tensor(axis) for axis in zip(*places, strict=True))
    own = {}
    for name, value in device.given.items():
        if isinstance(value, torch.Tensor) and value.ndim:
            chosen = value[axes]
            own[name] = float(chosen) if len(places) == 1 else chosen
    return device.replace(**own) if own else device
