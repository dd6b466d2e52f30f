"""The devices of one crossbar as tensors: drawn from a memristor model, read and written as a matrix."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from cosim.devices.device import Device
from cosim.devices.held import simulate_held
from cosim.errors import SpecError
from cosim.memtorch.bh.memristor.Memristor import Memristor, checked_conductance
from cosim.memtorch.bh.StochasticParameter import Dict2Obj, Sampler, check_order, draw_resistances
from cosim.nn.cells import STUCK_LOW, Cells, conductance_range
from cosim.nn.effects import Effect

__all__ = ["CellView", "OwnCells", "Spread", "Store", "arguments_of", "nominal_device", "spreads"]

_MEAN_DRAWS = 4096  # pairs of resistances whose lower and higher are averaged
_NOMINAL_RATIO = 1.001  # r_off/r_on that weights are mapped to where the cells have 1


class Store(Protocol):
    """Cells ``(*groups, rows, columns)`` of one crossbar."""

    v_read: float
    dt: float

    @property
    def device(self) -> Device: ...
    def read(self) -> torch.Tensor: ...
    def write(self, conductance: torch.Tensor) -> None: ...


def arguments_of(model: type[Memristor], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of ``model(**params)`` with its defaults; SpecError for one that it does not have."""
    params = params or {}
    if not (isinstance(model, type) and issubclass(model, Memristor)):
        raise SpecError(f"memristor_model is {model!r}: give a class of memtorch.bh.memristor")
    known = {n: p.default for n, p in inspect.signature(model).parameters.items()}
    for name in params:
        if name not in known:
            raise SpecError(f"{model.__name__} has no argument {name!r}; it has: {', '.join(known)}")
    if params.get("as_memtorch"):
        raise SpecError("as_memtorch=True is for single devices: crossbars compute with the compiled model")
    values = {**known, **params}
    check_order(values["r_on"], values["r_off"])
    return values


def nominal_device(model: type[Memristor], params: Mapping[str, Any] | None) -> Device:
    """The device in which every ``StochasticParameter`` has its mean.

    Where r_on and r_off have the same mean, r_on is that of the lower of two draws, r_off that of the higher.
    Where both are one number, weights are mapped as if r_on were a little lower (see ``Unswitchable``).
    """
    values = arguments_of(model, params)
    means = {name: v.mean if isinstance(v, Sampler) else v for name, v in values.items()}
    low, high = sorted((float(means["r_on"]), float(means["r_off"])))
    if unswitchable(values):
        low = high / _NOMINAL_RATIO
    elif math.isclose(low, high):
        drawn = draw_resistances(values["r_on"], values["r_off"], (_MEAN_DRAWS,))
        low, high = (float(part.mean()) for part in drawn)
    means |= {"r_on": low, "r_off": high}
    return Device(model.model, **model.device_parameters(Dict2Obj(means)))


def drawn_device(model: type[Memristor], params: Mapping[str, Any] | None, shape: tuple[int, ...]) -> Device:
    """The device with every ``StochasticParameter`` drawn once per cell."""
    values = arguments_of(model, params)
    nominal = nominal_device(model, params)
    if not any(isinstance(v, Sampler) for v in values.values()):
        return nominal
    drawn = {name: v.draw(shape) if isinstance(v, Sampler) else v for name, v in values.items()}
    drawn["r_on"], drawn["r_off"] = draw_resistances(values["r_on"], values["r_off"], shape)
    cells = model.device_parameters(Dict2Obj(drawn))
    own = {
        name: value
        for name, value in cells.items()
        if name != nominal.state_parameter and isinstance(value, torch.Tensor) and value.ndim
    }
    if not own:
        return nominal
    # r_init, say, must lie inside the bounds of every cell: the middle of the overlap may not exist
    return _within(nominal, own)


def _within(nominal: Device, own: Mapping[str, torch.Tensor]) -> Device:
    """``nominal`` with per-cell parameters; its own state parameter per cell too, at the lower bound."""
    state = str(nominal.state_parameter)
    bounds = {"r_init": "r_min", "gap_init": "g_min"}
    start = {state: own[bounds[state]]} if bounds.get(state) in own else {}
    return nominal.replace(**own, **start)


class Spread(Effect):
    """Device to device: the parameters of a memristor model drawn once per cell."""

    def __init__(self, model: type[Memristor], params: Mapping[str, Any] | None) -> None:
        self.model, self.params = model, dict(params or {})

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        """The generator is not used: a ``StochasticParameter`` draws from torch's default one."""
        return cells.with_device(drawn_device(self.model, self.params, cells.shape))


class Unswitchable(Effect):
    """Cells with r_on = r_off: whatever is written, and whichever fail, all conduct 1/r_off."""

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        everywhere = torch.ones(cells.shape, dtype=torch.bool, device=cells.conductance.device)
        return replace(cells, high=cells.low).stick(everywhere, STUCK_LOW)


def unswitchable(values: Mapping[str, Any]) -> bool:
    """True where r_on and r_off are the same number, so that no cell can hold a weight."""
    ends = (values["r_on"], values["r_off"])
    low, high = (end.constant if isinstance(end, Sampler) else float(end) for end in ends)
    return low is not None and high is not None and math.isclose(low, high)


def spreads(model: type[Memristor], params: Mapping[str, Any] | None) -> tuple[Effect, ...]:
    """What cells of this model are not alike in, or not able to do; warns of the latter."""
    values = arguments_of(model, params)
    if unswitchable(values):
        warnings.warn(
            f"r_on and r_off are equal, {values['r_off']} ohm: no cell can be switched, so layers hold no "
            "weight and give their bias",
            UserWarning,
            stacklevel=3,
        )
        return (Unswitchable(),)
    return (Spread(model, params),) if any(isinstance(v, Sampler) for v in values.values()) else ()


class OwnCells:
    """Cells of a crossbar that belongs to no layer; new ones are at their highest conductance."""

    def __init__(
        self, model: type[Memristor], params: Mapping[str, Any] | None, shape: tuple[int, int]
    ) -> None:
        arguments = Dict2Obj(arguments_of(model, params))
        if unswitchable(vars(arguments)):
            raise SpecError(f"r_on and r_off are equal, {arguments.r_off} ohm: give them more distance")
        self.v_read, self.dt = model.read_voltage_of(arguments), float(arguments.time_series_resolution)
        self.device = drawn_device(model, params, shape)
        ends = conductance_range(self.device, self.v_read)
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
        return self._store.dt

    @property
    def device(self) -> Device:
        """The compiled device with the parameters of this cell."""
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

    def simulate(self, voltage_signal: Any, return_current: bool = False) -> np.ndarray | None:
        """As ``Memristor.simulate``."""
        v_read, device = self._store.v_read, self.device
        reachable = min(max(self.g, 1 / self.r_off), 1 / self.r_on)
        volts = torch.as_tensor(voltage_signal, dtype=torch.float64).reshape(-1)
        held = simulate_held(device, volts, self._store.dt, float(device.state_for(reachable, v_read)))
        self.set_conductance(float(device.conductance(held.state[-1], v_read)))
        return held.current.numpy() if return_current else None

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
