"""``Memristor``: what the five device models have in common, over a compiled ``cosim.Device``."""

from __future__ import annotations

import abc
import math
from typing import Any, Protocol

import numpy as np
import torch

from cosim.arrays import as_tensor, check_finite
from cosim.devices.device import Device
from cosim.devices.held import simulate_held
from cosim.errors import SpecError

__all__ = [
    "Compiled",
    "Memristor",
    "Physics",
    "checked_conductance",
    "plot_bipolar_switching_behaviour",
    "plot_hysteresis_loop",
]

READ_VOLTAGE = 0.1  # V, of the chord conductance

Signals = tuple[np.ndarray, np.ndarray]


class Physics(Protocol):
    """One device with its state; ``Compiled`` here, or MemTorch's own arithmetic in ``as_memtorch``."""

    @property
    def conductance(self) -> float: ...
    @property
    def state(self) -> float: ...
    def set_conductance(self, conductance: float) -> None: ...
    def current(self, voltage: float) -> float: ...
    def simulate(self, voltage: np.ndarray, dt: float) -> np.ndarray: ...


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

    def simulate(self, voltage: np.ndarray, dt: float) -> np.ndarray:
        held = simulate_held(self.device, voltage, dt, self.state)
        self.state = float(held.state[-1])
        return held.current.numpy()


class Memristor(abc.ABC):
    """A memristive device.

    Attributes: r_off and r_on, highest and lowest resistance (ohm); time_series_resolution, s per sample of
    a voltage signal. ``g`` is the conductance (S) at this moment.
    """

    model: str  # name of the bundled Verilog-A model
    loop: tuple[float, float, float]  # duration (s), amplitude (V), frequency (Hz) of the hysteresis loop
    bipolar: tuple[float, float]  # amplitude (V), frequency (Hz)
    thresholds: tuple[str, str] | None = None  # arguments with the positive and the negative threshold

    def __init__(self, arguments: Any, as_memtorch: bool) -> None:
        a = arguments
        if not (math.isfinite(a.time_series_resolution) and a.time_series_resolution > 0):
            raise SpecError(
                f"time_series_resolution is {a.time_series_resolution} s: it must be finite and above 0"
            )
        self.r_off, self.r_on = float(a.r_off), float(a.r_on)
        self.time_series_resolution = float(a.time_series_resolution)
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
        """Conductance (S): I/V at the read voltage, 0.1 V unless the model has its own."""
        return self.physics.conductance

    def get_resistance(self) -> float:
        """Resistance (ohm), 1/g."""
        return 1 / self.g

    def set_conductance(self, conductance: float) -> None:
        """Bring the device to ``conductance`` (S), or as near as it can get."""
        self.physics.set_conductance(checked_conductance(conductance))

    def current(self, voltage: float) -> float:
        """Current (A) at ``voltage`` (V); the state stays."""
        return self.physics.current(float(voltage))

    def simulate(
        self, voltage_signal: torch.Tensor | np.ndarray, return_current: bool = False
    ) -> np.ndarray | None:
        """Apply ``voltage_signal`` (V), each sample for ``time_series_resolution`` s.

        Shape (time,) or (time, 1). Returns the current (time,) in A at the start of each sample if
        ``return_current``, else None; the device keeps its new state.
        """
        volts = check_finite(as_tensor(voltage_signal, "voltage_signal"), "voltage_signal").detach()
        if volts.ndim != 1 and tuple(volts.shape[1:]) != (1,):
            raise SpecError(f"voltage_signal has shape {tuple(volts.shape)}: one device takes (time,)")
        current = self.physics.simulate(volts.double().reshape(-1).cpu().numpy(), self.time_series_resolution)
        return current if return_current else None

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
        """Plot |I| over V for a triangle, or return (voltage, current) if ``return_result``."""
        given = (voltage_signal_amplitude, voltage_signal_frequency)
        used = [own if value is None else value for value, own in zip(given, self.bipolar, strict=True)]
        return plot_bipolar_switching_behaviour(self, *used, log_scale=log_scale, return_result=return_result)


def checked_conductance(conductance: float) -> float:
    """``conductance`` (S), or SpecError: it must be finite and above 0."""
    value = float(conductance)
    if not (math.isfinite(value) and value > 0):
        raise SpecError(f"conductance is {value} S: it must be finite and above 0")
    return value


def plot_hysteresis_loop(
    memristor_model: Memristor,
    duration: float,
    voltage_signal_amplitude: float,
    voltage_signal_frequency: float,
    log_scale: bool = False,
    return_result: bool = False,
) -> Signals | None:
    """Plot I over V for a sine, or return (voltage, current) if ``return_result``; state changes."""
    dt = memristor_model.time_series_resolution
    time = np.arange(0, duration + dt, step=dt)
    volts = voltage_signal_amplitude * np.sin(2 * np.pi * voltage_signal_frequency * time)
    current = memristor_model.simulate(volts, return_current=True)
    assert current is not None
    if return_result:
        return volts, current
    _plot("Hysteresis Loop", volts, current, "symlog" if log_scale else "linear")
    return None


def plot_bipolar_switching_behaviour(
    memristor_model: Memristor,
    voltage_signal_amplitude: float,
    voltage_signal_frequency: float,
    log_scale: bool = True,
    return_result: bool = False,
) -> Signals | None:
    """Plot |I| over V for one period of a triangle, or return (voltage, current); state changes."""
    dt = memristor_model.time_series_resolution
    volts = _triangle(len(np.arange(0, 1 / voltage_signal_frequency + dt, step=dt)), voltage_signal_amplitude)
    current = memristor_model.simulate(volts, return_current=True)
    assert current is not None
    if return_result:
        return volts, current
    _plot("Bipolar Switching Behaviour (DC)", volts, np.abs(current), "log" if log_scale else "linear")
    return None


def _triangle(samples: int, amplitude: float) -> np.ndarray:
    """A triangle from 0 whose slope turns around once it has passed the amplitude."""
    volts, slope, value = np.empty(samples), amplitude / (samples / 4), 0.0
    for k in range(samples):
        volts[k] = value
        if abs(value) > amplitude:
            slope = -slope
        value += slope
    return volts


def _plot(title: str, volts: np.ndarray, current: np.ndarray, scale: str) -> None:
    import matplotlib.pyplot as plt

    plt.figure()
    plt.title(title)
    plt.xlabel("Voltage (V)")
    plt.ylabel("Current (A)")
    plt.plot(volts, current)
    plt.yscale(scale)
    plt.grid()
    plt.show()
