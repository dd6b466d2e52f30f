"""``CellModel``: what a crossbar makes of a memristor class and its arguments."""

from __future__ import annotations

import abc
import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from cosim.devices.device import Device
from cosim.devices.held import simulate_held
from cosim.errors import SpecError
from cosim.memtorch.bh.memristor.compiled import READ_VOLTAGE, CompiledMemristor
from cosim.memtorch.bh.memristor.Memristor import Memristor, check_time_step, checked_signal, currents_under
from cosim.memtorch.bh.StochasticParameter import Dict2Obj, Sampler, check_order, draw_resistances
from cosim.nn.cells import STUCK_LOW, Cells
from cosim.nn.effects import Effect

__all__ = ["CellModel", "PythonCells", "cell_model"]

_MEAN_DRAWS = 4096  # pairs of resistances whose lower and higher are averaged
_NOMINAL_RATIO = 1.001  # r_off/r_on that weights are mapped to where the cells have 1


def cell_model(model: type[Memristor], params: Mapping[str, Any] | None) -> CellModel:
    """The cells that ``model(**params)`` describes; SpecError for an argument that it does not have."""
    if not (isinstance(model, type) and issubclass(model, Memristor)):
        raise SpecError(f"memristor_model is {model!r}: give a class of memtorch.bh.memristor, or your own")
    if not isinstance(params, Mapping | None):
        raise SpecError(f"memristor_model_params is {params!r}: give a dictionary")
    parameters = inspect.signature(model).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    for name in params or {}:
        if name not in known and len(known) == len(parameters):
            raise SpecError(f"{model.__name__} has no argument {name!r}; it has: {', '.join(known)}")
    values = {**known, **(params or {})}
    if issubclass(model, CompiledMemristor):
        return CompiledCells(model, values)
    missing = [n for n, value in values.items() if value is inspect.Parameter.empty]
    if missing:
        raise SpecError(f"{model.__name__} needs {', '.join(missing)}: give memristor_model_params")
    return PythonCells(model, values)


class CellModel(abc.ABC):
    """A memristor class with its arguments, each a number or a ``Sampler``.

    dt: s per sample of a voltage signal. v_read: V at which the conductance is the chord.
    """

    dt: float
    v_read: float

    def __init__(self, model: type[Memristor], arguments: Mapping[str, Any]) -> None:
        self.model, self.arguments = model, dict(arguments)

    @property
    def varies(self) -> bool:
        """True where every cell has parameters of its own."""
        return any(isinstance(v, Sampler) for v in self.arguments.values())

    @abc.abstractmethod
    def nominal(self) -> Device:
        """The device in which every ``StochasticParameter`` has its mean."""

    @abc.abstractmethod
    def drawn(self, shape: tuple[int, ...]) -> Device:
        """The device with every ``StochasticParameter`` drawn once per cell."""

    @abc.abstractmethod
    def simulate(
        self, device: Device, conductance: float, voltage_signal: Any, return_current: bool
    ) -> tuple[Any, float]:
        """What ``Memristor.simulate`` returns for one cell, and its conductance (S) at the end.

        device: with the parameters of the cell; conductance: at first.
        """

    @property
    def dynamic(self) -> bool:
        """True where the device itself moves, and not only a class in Python."""
        return True

    def check_curve(self) -> None:
        """SpecError where cells do not have the I-V curve of the device."""
        return

    @property
    def equal_ends(self) -> float | None:
        """r_on and r_off (ohm) where they are one number, so that no cell can hold a weight; else None."""
        return None

    def effects(self) -> tuple[Effect, ...]:
        """What the cells are not alike in, or not able to do; warns of the latter."""
        if self.equal_ends is not None:
            warnings.warn(
                f"r_on and r_off are equal, {self.equal_ends:g} ohm: no cell can be switched, so layers hold "
                "no weight and give their bias",
                UserWarning,
                stacklevel=3,
            )
            return (Unswitchable(),)
        return (Spread(self),) if self.varies else ()

    def _means(self) -> dict[str, Any]:
        return {name: v.mean if isinstance(v, Sampler) else v for name, v in self.arguments.items()}


class CompiledCells(CellModel):
    """Cells of one of the five models: the compiled device itself."""

    model: type[CompiledMemristor]

    def __init__(self, model: type[CompiledMemristor], arguments: Mapping[str, Any]) -> None:
        super().__init__(model, arguments)
        if arguments.get("as_memtorch"):
            raise SpecError(
                "as_memtorch=True is for single devices: crossbars compute with the compiled model"
            )
        check_order(arguments["r_on"], arguments["r_off"])
        dt = arguments["time_series_resolution"]
        self.dt = check_time_step(dt.mean if isinstance(dt, Sampler) else dt)
        self.v_read = model.read_voltage_of(Dict2Obj(arguments))

    @property
    def equal_ends(self) -> float | None:
        ends = (self.arguments["r_on"], self.arguments["r_off"])
        low, high = (end.constant if isinstance(end, Sampler) else float(end) for end in ends)
        return high if low is not None and high is not None and math.isclose(low, high) else None

    def nominal(self) -> Device:
        """Where r_on and r_off have one mean, they are those of the lower and the higher of two draws.

        Where both are one number, weights are mapped as if r_on were a little lower (see ``Unswitchable``).
        """
        means = self._means()
        low, high = sorted((float(means["r_on"]), float(means["r_off"])))
        if self.equal_ends is not None:
            low = high / _NOMINAL_RATIO
        elif math.isclose(low, high):
            drawn = draw_resistances(self.arguments["r_on"], self.arguments["r_off"], (_MEAN_DRAWS,))
            low, high = (float(part.mean()) for part in drawn)
        means |= {"r_on": low, "r_off": high}
        return Device(self.model.model, **self.model.device_parameters(Dict2Obj(means)))

    def drawn(self, shape: tuple[int, ...]) -> Device:
        nominal, values = self.nominal(), self.arguments
        if not self.varies:
            return nominal
        drawn = {name: v.draw(shape) if isinstance(v, Sampler) else v for name, v in values.items()}
        drawn["r_on"], drawn["r_off"] = draw_resistances(values["r_on"], values["r_off"], shape)
        cells = self.model.device_parameters(Dict2Obj(drawn))
        own = {
            name: value
            for name, value in cells.items()
            if name != nominal.state_parameter and isinstance(value, torch.Tensor) and value.ndim
        }
        if not own:
            return nominal
        # r_init, say, must lie inside the bounds of every cell: the middle of the overlap may not exist
        return _within(nominal, own)

    def simulate(
        self, device: Device, conductance: float, voltage_signal: Any, return_current: bool
    ) -> tuple[Any, float]:
        state = float(device.state_for(conductance, self.v_read))
        held = simulate_held(device, checked_signal(voltage_signal), self.dt, state)
        end = float(device.conductance(held.state[-1], self.v_read))
        if return_current:
            return held.current.numpy(), end
        return device.conductance(held.state[1:], self.v_read), end


class PythonCells(CellModel):
    """Cells of a class in Python: linear between its r_on and r_off, moved by its ``simulate``."""

    v_read = READ_VOLTAGE

    def __init__(self, model: type[Memristor], arguments: Mapping[str, Any]) -> None:
        super().__init__(model, arguments)
        self._one = model(**self._means())
        self.dt = self._one.time_series_resolution

    @property
    def dynamic(self) -> bool:
        return False

    def check_curve(self) -> None:
        if self.model.current is not Memristor.current:
            raise SpecError(
                f"{self.model.__name__} is a class in Python with a current() of its own, but its cells in "
                "a crossbar are linear: for other curves write the device in Verilog-A (cosim.Device)"
            )

    def nominal(self) -> Device:
        return _linear(self._one.r_on, self._one.r_off)

    def drawn(self, shape: tuple[int, ...]) -> Device:
        if not self.varies:
            return self.nominal()
        ones = [self.model(**self.arguments) for _ in range(math.prod(shape))]
        ends = torch.tensor([(one.r_on, one.r_off) for one in ones], dtype=torch.float64)
        return _linear(ends[:, 0].reshape(shape), ends[:, 1].reshape(shape))

    def simulate(
        self, device: Device, conductance: float, voltage_signal: Any, return_current: bool
    ) -> tuple[Any, float]:
        ends = {name: float(device.parameters[name]) for name in ("r_on", "r_off")}  # type: ignore[arg-type]
        own = {name: value for name, value in ends.items() if name in self.arguments}
        one = self.model(**{**self._means(), **own})
        one.r_on, one.r_off = ends["r_on"], ends["r_off"]
        one.set_conductance(conductance)
        signal = checked_signal(voltage_signal)
        found = currents_under(one, signal.numpy()) if return_current else one.simulate(signal)
        return found, one.g


def _linear(r_on: Any, r_off: Any) -> Device:
    """Linear cells between two resistances (ohm): VTEAM at rest, whose I-V is a straight line."""
    return Device("vteam", r_on=r_on, r_off=r_off, x_init=0.0)


def _within(nominal: Device, own: Mapping[str, torch.Tensor]) -> Device:
    """``nominal`` with per-cell parameters; its own state parameter per cell too, at the lower bound."""
    state = str(nominal.state_parameter)
    bounds = {"r_init": "r_min", "gap_init": "g_min"}
    start = {state: own[bounds[state]]} if bounds.get(state) in own else {}
    return nominal.replace(**own, **start)


class Spread(Effect):
    """Device to device: the parameters of a memristor model drawn once per cell."""

    def __init__(self, model: CellModel) -> None:
        self.model = model

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        """The generator is not used: a ``StochasticParameter`` draws from torch's default one."""
        return cells.with_device(self.model.drawn(cells.shape))


class Unswitchable(Effect):
    """Cells with r_on = r_off: whatever is written, and whichever fail, all conduct 1/r_off."""

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        everywhere = torch.ones(cells.shape, dtype=torch.bool, device=cells.conductance.device)
        return replace(cells, high=cells.low).stick(everywhere, STUCK_LOW)
