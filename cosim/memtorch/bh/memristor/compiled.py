"""``CompiledMemristor``: what the five models have in common, over a compiled ``cosim.Device``."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from cosim.checks import as_choice, as_flag, as_number
from cosim.devices.device import Device
from cosim.devices.held import Held, simulate_held
from cosim.errors import SpecError
from cosim.memtorch.bh.memristor.Memristor import (
    Memristor,
    Signals,
    check_time_step,
    checked_conductance,
    checked_signal,
    plot_bipolar_switching_behaviour,
    plot_hysteresis_loop,
)
from cosim.spice.transient import simulate_staircase

__all__ = ["Compiled", "CompiledMemristor", "Physics"]

READ_VOLTAGE = 0.1  # V, of the chord conductance
_ENGINES: dict[str, Callable[..., Held]] = {"torch": simulate_held, "ngspice": simulate_staircase}


class Physics(Protocol):
    """One device with its state; ``Compiled`` here, or MemTorch's own arithmetic in ``as_memtorch``."""

    @property
    def conductance(self) -> float: ...
    @property
    def state(self) -> float: ...
    def set_conductance(self, conductance: float) -> None: ...
    def current(self, voltage: float) -> float: ...
    def simulate(self, voltage: np.ndarray, dt: float) -> tuple[np.ndarray, torch.Tensor]: ...


class Compiled:
    """A ``cosim.Device`` with its state; conductances are chords at ``v_read``."""

    def __init__(self, device: Device, *, v_read: float = READ_VOLTAGE) -> None:
        self.device, self.v_read = device, v_read
        self.state: float = float(device.parameters[str(device.state_parameter)])  # type: ignore[arg-type]  # a number
        ends = [float(device.conductance(x, v_read)) for x in device.state_range]
        self.lowest, self.highest = min(ends), max(ends)

    @property
    def conductance(self) -> float:
        return float(self.device.conductance(self.state, self.v_read))

    def set_conductance(self, conductance: float) -> None:
        wanted = min(max(conductance, self.lowest), self.highest)
        self.state = float(self.device.state_for(wanted, self.v_read))

    def current(self, voltage: float) -> float:
        return float(self.device.current(voltage, self.state))

    def simulate(
        self, voltage: np.ndarray, dt: float, engine: str = "torch"
    ) -> tuple[np.ndarray, torch.Tensor]:
        """Current (A) at the start of each sample, and conductance (S) after it."""
        held = _ENGINES[engine](self.device, voltage, dt, self.state)
        self.state = float(held.state[-1])
        return held.current.numpy(), self.device.conductance(held.state[1:], self.v_read)


class CompiledMemristor(Memristor):
    """A memristor whose physics is a bundled Verilog-A model.

    ``r_off`` and ``r_on`` are the arguments; ``g`` is I/V (S) at the read voltage, 0.1 V unless the
    model has its own.
    """

    model: str  # name of the bundled Verilog-A model
    loop: tuple[float, float, float]  # duration (s), amplitude (V), frequency (Hz) of the hysteresis loop
    bipolar: tuple[float, float]  # amplitude (V), frequency (Hz)
    thresholds: tuple[str, str] | None = None  # arguments with the positive and the negative threshold
    coefficients: tuple[str, ...] = ()  # arguments that are sequences of numbers

    def __init__(self, arguments: Any, as_memtorch: bool) -> None:
        a = arguments
        for name, value in vars(a).items():
            if name == "as_memtorch":
                as_flag(value, name)
            elif name not in self.coefficients:
                as_number(value, name)
        self.time_series_resolution = check_time_step(a.time_series_resolution)
        self.r_off, self.r_on = float(a.r_off), float(a.r_on)
        ends = [0.0, 0.0] if self.thresholds is None else [getattr(a, name) for name in self.thresholds]
        self.pos_write_threshold, self.neg_write_threshold = ends
        self.physics: Physics = self.stepped(a) if as_memtorch else self._compiled(a)

    def _compiled(self, a: Any) -> Compiled:
        return Compiled(Device(self.model, **self.device_parameters(a)), v_read=self.read_voltage_of(a))

    @staticmethod
    @abc.abstractmethod
    def device_parameters(a: Any) -> dict[str, Any]:
        """Parameters of the Verilog-A model; those of ``a`` may be numbers or tensors."""

    @staticmethod
    @abc.abstractmethod
    def stepped(a: Any) -> Physics:
        """The device with MemTorch's own arithmetic."""

    @staticmethod
    def read_voltage_of(a: Any) -> float:
        """V at which the conductance is the chord."""
        return READ_VOLTAGE

    @property
    def device(self) -> Device:
        """The compiled device; SpecError for one with MemTorch's own arithmetic."""
        if not isinstance(self.physics, Compiled):
            raise SpecError(f"{type(self).__name__}(as_memtorch=True) is no compiled device")
        return self.physics.device

    @property
    def g(self) -> float:
        """Conductance (S): I/V at the read voltage."""
        return self.physics.conductance

    @g.setter
    def g(self, conductance: float) -> None:
        self.set_conductance(conductance)

    def set_conductance(self, conductance: float) -> None:
        """Bring the device to ``conductance`` (S), or as near as it can get."""
        self.physics.set_conductance(checked_conductance(conductance))

    def current(self, voltage: float) -> float:
        """Current (A) at ``voltage`` (V); the state stays."""
        return self.physics.current(as_number(voltage, "voltage"))

    def simulate(
        self,
        voltage_signal: torch.Tensor | np.ndarray,
        return_current: bool = False,
        *,
        engine: str = "torch",
    ) -> torch.Tensor | np.ndarray:
        """Apply ``voltage_signal`` (V), each sample for ``time_series_resolution`` s; the state moves.

        Shape (time,) or (time, 1). Returns the conductance (S) after each sample, a tensor (time,); with
        ``return_current`` the current (A) at the start of each sample, an array (time,). engine: "torch", or
        "ngspice", which runs the same Verilog-A.

        >>> from cosim.memtorch.bh.memristor import VTEAM
        >>> device = VTEAM(r_on=100, r_off=1000, time_series_resolution=1e-7)
        >>> conductance = device.simulate(torch.tensor([0.1, 0.1]))
        >>> float(conductance[-1]) == device.g < 1 / 100
        True
        """
        volts = checked_signal(voltage_signal).numpy()
        engine = as_choice(engine, "engine", _ENGINES)
        physics, dt = self.physics, self.time_series_resolution
        if isinstance(physics, Compiled):
            current, conductance = physics.simulate(volts, dt, engine)
        elif engine == "torch":
            current, conductance = physics.simulate(volts, dt)
        else:
            raise SpecError(f"engine={engine!r}: as_memtorch=True is MemTorch's own arithmetic, leave it out")
        return current if as_flag(return_current, "return_current") else conductance

    def plot_hysteresis_loop(
        self,
        duration: float | None = None,
        voltage_signal_amplitude: float | None = None,
        voltage_signal_frequency: float | None = None,
        log_scale: bool = False,
        return_result: bool = False,
    ) -> Signals | None:
        """Plot I over V for a sine, or return (voltage, current) if ``return_result``."""
        given = (duration, voltage_signal_amplitude, voltage_signal_frequency)
        used = [own if value is None else value for value, own in zip(given, self.loop, strict=True)]
        return plot_hysteresis_loop(self, *used, log_scale=log_scale, return_result=return_result)

    def plot_bipolar_switching_behaviour(
        self,
        voltage_signal_amplitude: float | None = None,
        voltage_signal_frequency: float | None = None,
        log_scale: bool = True,
        return_result: bool = False,
    ) -> Signals | None:
        """Plot I over V for a triangle, or return (voltage, current) if ``return_result``."""
        given = (voltage_signal_amplitude, voltage_signal_frequency)
        used = [own if value is None else value for value, own in zip(given, self.bipolar, strict=True)]
        return plot_bipolar_switching_behaviour(self, *used, log_scale=log_scale, return_result=return_result)
