"""``Memristor``: what every device has, to be derived from; and plots of any device."""

from __future__ import annotations

import abc
import inspect
from typing import Any

import numpy as np
import torch

from cosim.arrays import Array, as_tensor, check_finite
from cosim.checks import as_number
from cosim.errors import SpecError

__all__ = [
    "Memristor",
    "Signals",
    "check_time_step",
    "checked_conductance",
    "checked_signal",
    "currents_under",
    "plot_bipolar_switching_behaviour",
    "plot_hysteresis_loop",
]

_LINEAR_SHARE = 1e-3  # of the median current: below it a symmetric logarithmic axis is linear
_DEEPEST = 1e-12  # of the largest current
_MOST_SAMPLES = 1 << 30  # 8 GB of voltages

Signals = tuple[np.ndarray, np.ndarray]


class Memristor(abc.ABC):
    """A memristive device: derive from it, and give ``simulate``.

    r_off, r_on: highest and lowest resistance (ohm). time_series_resolution: s per sample of a voltage
    signal. pos_write_threshold, neg_write_threshold: V. ``g`` is the conductance (S) at this moment, at
    first 1/r_on. ``set_conductance`` and ``current`` may be replaced: they clip to the reach, and are
    linear. set_polarity: sign of the voltage that lowers the resistance.

    A crossbar of such a class has linear cells between r_on and r_off; a device in it is simulated by
    the class, from its conductance.

    >>> class Ramp(Memristor):
    ...     def simulate(self, voltage_signal, return_current=False):
    ...         before = self.g
    ...         for volt in voltage_signal:
    ...             self.set_conductance(self.g * (1 + 0.1 * float(volt)))
    ...         return before * voltage_signal if return_current else None
    >>> device = Ramp(16e3, 100, 1e-4)
    >>> device.simulate(torch.tensor([-1.0]))
    >>> round(device.get_resistance(), 6)
    111.111111
    """

    set_polarity: int = 1

    def __init__(
        self,
        r_off: float,
        r_on: float,
        time_series_resolution: float,
        pos_write_threshold: float = 0,
        neg_write_threshold: float = 0,
    ) -> None:
        if callable(r_off) or callable(r_on):
            raise SpecError(f"r_off is {r_off}, r_on is {r_on}: draw first, with unpack_parameters(locals())")
        self.r_off, self.r_on = (as_number(v, n) for v, n in ((r_off, "r_off"), (r_on, "r_on")))
        if not 0 < self.r_on < self.r_off:
            raise SpecError(
                f"r_on is {self.r_on} ohm and r_off is {self.r_off} ohm: r_off must be above r_on, "
                "both above 0"
            )
        self.time_series_resolution = check_time_step(time_series_resolution)
        self.pos_write_threshold = as_number(pos_write_threshold, "pos_write_threshold")
        self.neg_write_threshold = as_number(neg_write_threshold, "neg_write_threshold")
        self._conductance = 1 / self.r_on

    @abc.abstractmethod
    def simulate(self, voltage_signal: torch.Tensor, return_current: bool = False) -> Any:
        """Apply ``voltage_signal`` (V), a sample every ``time_series_resolution`` s; the state moves.

        Returns the conductance (S) after each sample, or the current (A) if ``return_current``.
        """

    @property
    def g(self) -> float:
        """Conductance (S) at this moment."""
        return self._conductance

    @g.setter
    def g(self, conductance: float) -> None:
        self._conductance = checked_conductance(conductance)

    def get_resistance(self) -> float:
        """Resistance (ohm), 1/g."""
        return 1 / self.g

    def set_conductance(self, conductance: float) -> None:
        """Bring the device to ``conductance`` (S), or as near as it can get."""
        self.g = min(max(checked_conductance(conductance), 1 / self.r_off), 1 / self.r_on)

    def current(self, voltage: float) -> float:
        """Current (A) at ``voltage`` (V); the state stays."""
        return as_number(voltage, "voltage") * self.g

    @staticmethod
    def plot_hysteresis_loop(
        memristor: Memristor,
        duration: float,
        voltage_signal_amplitude: float,
        voltage_signal_frequency: float,
        log_scale: bool = False,
        return_result: bool = False,
    ) -> Signals | None:
        """``plot_hysteresis_loop`` of the module; a derived class gives it ``self``."""
        signal = (duration, voltage_signal_amplitude, voltage_signal_frequency)
        return plot_hysteresis_loop(memristor, *signal, log_scale, return_result)

    @staticmethod
    def plot_bipolar_switching_behaviour(
        memristor: Memristor,
        voltage_signal_amplitude: float,
        voltage_signal_frequency: float,
        log_scale: bool = True,
        return_result: bool = False,
    ) -> Signals | None:
        """``plot_bipolar_switching_behaviour`` of the module; a derived class gives it ``self``."""
        signal = (voltage_signal_amplitude, voltage_signal_frequency)
        return plot_bipolar_switching_behaviour(memristor, *signal, log_scale, return_result)


def checked_conductance(conductance: float) -> float:
    """``conductance`` (S), or SpecError: it must be finite and above 0."""
    return as_number(conductance, "conductance (S)", above=0)


def check_time_step(seconds: float) -> float:
    """``time_series_resolution`` (s), or SpecError: it must be finite and above 0."""
    return as_number(seconds, "time_series_resolution (s)", above=0)


def checked_signal(voltage_signal: Array) -> torch.Tensor:
    """A voltage signal (V) of one device, (time,) or (time, 1), as (time,) in float64 on the CPU."""
    volts = check_finite(as_tensor(voltage_signal, "voltage_signal"), "voltage_signal").detach()
    if volts.ndim != 1 and tuple(volts.shape[1:]) != (1,):
        raise SpecError(f"voltage_signal has shape {tuple(volts.shape)}: one device takes (time,)")
    return volts.double().reshape(-1).cpu()


def currents_under(memristor: Memristor, volts: np.ndarray) -> np.ndarray:
    """Current (A) of a device at each sample; its own class may give conductances only."""
    signal = torch.from_numpy(volts)
    if "return_current" in inspect.signature(memristor.simulate).parameters:
        found, factor = memristor.simulate(signal, return_current=True), 1.0
    else:
        found, factor = memristor.simulate(signal), volts
    if found is None:
        raise SpecError(f"{type(memristor).__name__}.simulate returned None: it must return its result")
    current = as_tensor(found, f"{type(memristor).__name__}.simulate()").double().reshape(-1).cpu().numpy()
    if current.shape != volts.shape:
        raise SpecError(
            f"{type(memristor).__name__}.simulate returned {len(current)} values for {len(volts)} samples"
        )
    return current * factor


def plot_hysteresis_loop(
    memristor_model: Memristor,
    duration: float,
    voltage_signal_amplitude: float,
    voltage_signal_frequency: float,
    log_scale: bool = False,
    return_result: bool = False,
) -> Signals | None:
    """Plot I over V for a sine, or return (voltage, current) if ``return_result``; state changes.

    duration (s), voltage_signal_amplitude (V), voltage_signal_frequency (Hz). log_scale: currents on a
    symmetric logarithmic axis.
    """
    dt = _sampled(memristor_model, duration=duration, frequency=voltage_signal_frequency)
    amplitude = as_number(voltage_signal_amplitude, "voltage_signal_amplitude")
    time = np.arange(0, duration + dt, step=dt)
    volts = amplitude * np.sin(2 * np.pi * voltage_signal_frequency * time)
    return _shown("Hysteresis Loop", memristor_model, volts, log_scale, return_result)


def plot_bipolar_switching_behaviour(
    memristor_model: Memristor,
    voltage_signal_amplitude: float,
    voltage_signal_frequency: float,
    log_scale: bool = True,
    return_result: bool = False,
) -> Signals | None:
    """Plot I over V for one period of a triangle, or return (voltage, current); state changes.

    The arguments are those of ``plot_hysteresis_loop``.
    """
    dt = _sampled(memristor_model, frequency=voltage_signal_frequency)
    amplitude = as_number(voltage_signal_amplitude, "voltage_signal_amplitude")
    volts = _triangle(len(np.arange(0, 1 / voltage_signal_frequency + dt, step=dt)), amplitude)
    return _shown("Bipolar Switching Behaviour (DC)", memristor_model, volts, log_scale, return_result)


def _sampled(memristor: Memristor, *, frequency: float, duration: float | None = None) -> float:
    """Seconds between samples of a plot; SpecError for what cannot be sampled."""
    if not isinstance(memristor, Memristor):
        raise SpecError(f"memristor is {memristor!r}: give a device, such as memtorch.bh.memristor.VTEAM()")
    period = 1 / as_number(frequency, "voltage_signal_frequency (Hz)", above=0)
    span = period if duration is None else as_number(duration, "duration (s)", above=0)
    dt = memristor.time_series_resolution
    if span / dt > _MOST_SAMPLES:
        raise SpecError(f"{span:g} s every {dt:g} s are {span / dt:.1g} samples: give a shorter signal")
    return dt


def _triangle(samples: int, amplitude: float) -> np.ndarray:
    """A triangle from 0 whose slope turns around once it has passed the amplitude."""
    volts, slope, value = np.empty(samples), amplitude / (samples / 4), 0.0
    for k in range(samples):
        volts[k] = value
        if abs(value) > abs(amplitude):
            slope = -slope
        value += slope
    return volts


def _shown(
    title: str, memristor: Memristor, volts: np.ndarray, log_scale: bool, return_result: bool
) -> Signals | None:
    current = currents_under(memristor, volts)
    if return_result:
        return volts, current
    import matplotlib.pyplot as plt

    plt.figure()
    plt.title(title)
    plt.xlabel("Voltage (V)")
    plt.ylabel("Current (A)")
    plt.plot(volts, current)
    if log_scale:
        plt.yscale("symlog", linthresh=_linear_below(current))
    plt.grid()
    plt.show()
    return None


def _linear_below(current: np.ndarray) -> float:
    """Where a symmetric logarithmic axis turns linear: far below the currents, but above their noise."""
    sizes = np.abs(current[current != 0])
    if not len(sizes):
        return 1.0
    return max(_LINEAR_SHARE * float(np.median(sizes)), _DEEPEST * float(sizes.max()))
