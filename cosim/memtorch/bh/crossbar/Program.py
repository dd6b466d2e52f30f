"""Programming: pulse trains, and write-verify of one device in a crossbar with half-selected neighbours."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np
import torch

from cosim.arrays import into_bounds
from cosim.checks import as_flag, as_integer, as_number
from cosim.devices.device import Device
from cosim.devices.held import simulate_held, state_rate, time_to_reach
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cells import CellView, Store, pick
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar
from cosim.memtorch.bh.memristor.Memristor import check_time_step
from cosim.memtorch.names import also_called
from cosim.nn.cells import conductance_range

__all__ = ["gen_programming_signal", "naive_program"]

_FEW = 16  # states that are asked one by one
_STILL = 1e-6  # of a conductance: less is no movement
_MOST_PULSES = 1 << 24
_OF_A_NETWORK = torch.zeros((), dtype=torch.float32)  # targets come as floats, out of weights like this


def gen_programming_signal(
    number_of_pulses: int,
    pulse_duration: float,
    refactory_period: float,
    voltage_level: float,
    time_series_resolution: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Time (s) and voltage (V) of a train of pulses, each followed by a pause.

    Raises SpecError where pulse or pause is no multiple of the resolution.

    >>> time, volts = gen_programming_signal(2, 2e-3, 1e-3, 1.5, 1e-3)
    >>> volts.tolist()
    [1.5, 1.5, 0.0, 1.5, 1.5, 0.0]
    """
    dt = check_time_step(time_series_resolution)
    counts = []
    for name, value in (("pulse_duration", pulse_duration), ("refactory_period", refactory_period)):
        seconds = as_number(value, name)
        count = round(seconds / dt)
        if seconds < 0 or abs(count * dt - seconds) > 1e-9 * max(seconds, dt):
            raise SpecError(f"{name} is {seconds} s: it must be a multiple of time_series_resolution, {dt} s")
        counts.append(count)
    pulses = as_integer(number_of_pulses, "number_of_pulses", at_least=0, at_most=_MOST_PULSES)
    volts = np.tile(np.repeat([as_number(voltage_level, "voltage_level"), 0.0], counts), pulses)
    return dt * np.arange(len(volts)), volts


@also_called(force_adjustment="timeout_adjustment")
def naive_program(
    crossbar: Crossbar,
    point: tuple[int, ...],
    conductance: float,
    rel_tol: float = 0.01,
    pulse_duration: float = 1e-3,
    refactory_period: float = 0,
    pos_voltage_level: float = 1.0,
    neg_voltage_level: float = -1.0,
    simulate_neighbours: bool = True,
    timeout: float = 10,
    timeout_adjustment: float = 1e-9,
    *,
    force_adjustment_rel_tol: float = 1e-1,
    failure_iteration_threshold: int = 1000,
) -> CellView:
    """Bring the device at ``point`` to ``conductance`` (S) within rel_tol, by pulses and reads.

    The sign of a pulse comes from the device's own polarity. Pulses follow each other until the target is
    reached, where the last one is cut off. Devices in the same row or column see half the voltage, for as
    long. A device that its window holds at a bound is freed, if it is within force_adjustment_rel_tol of
    it, by timeout_adjustment (ohm; force_adjustment in MemTorch 1.1.6), and by ten times as much each time
    that it still does not move. A class in Python gets whole pulses, with refactory_period (s) after each;
    the models do not change without a voltage. timeout: s of computing, after which no more pulses are tried.

    Returns the device. Raises SpecError for a conductance out of reach, and where no pulse moves the
    device: the voltages are below its thresholds, or its limits are in the way. Warns where
    ``failure_iteration_threshold`` pulses were not enough.
    """
    cell, conductance = _wanted(crossbar, point, conductance)
    levels = _levels(pos_voltage_level, neg_voltage_level)
    _check_positive(rel_tol=rel_tol, pulse_duration=pulse_duration, timeout=timeout)
    _check_positive(timeout_adjustment=timeout_adjustment, force_adjustment_rel_tol=force_adjustment_rel_tol)
    pulse = _Pulse(crossbar, tuple(point), cell, pulse_duration, refactory_period)
    left = as_integer(failure_iteration_threshold, "failure_iteration_threshold", at_least=1, at_most=10**9)
    end, step = time.monotonic() + timeout, timeout_adjustment
    while left > 0 and time.monotonic() < end:
        g = cell.g
        if math.isclose(conductance, g, rel_tol=rel_tol):
            return cell
        direction = 1 if g < conductance else -1
        volts = levels[direction * pulse.polarity]
        width = pulse.width(volts, conductance, left)
        if pulse.apply(volts, width):
            left -= math.ceil(width / pulse_duration)
            if as_flag(simulate_neighbours, "simulate_neighbours"):
                pulse.disturb(0.5 * volts, width)
        else:
            _free(cell, direction, step, force_adjustment_rel_tol, volts)
            left, step = left - 1, 10 * step
    if math.isclose(conductance, cell.g, rel_tol=rel_tol):
        return cell
    warnings.warn(
        f"device {tuple(point)} has {cell.g:.4g} S, not within {rel_tol:.2g} of {conductance:.4g} S: "
        "use other voltages or more pulses",
        UserWarning,
        stacklevel=2,
    )
    return cell


def _wanted(crossbar: Any, point: Any, conductance: Any) -> tuple[CellView, float]:
    """The device at ``point`` and what it shall have (S); SpecError where it cannot."""
    if not isinstance(crossbar, Crossbar):
        raise SpecError(f"crossbar is {crossbar!r}: give a memtorch.bh.crossbar.Crossbar")
    cell, target = crossbar.device(point), as_number(conductance, "conductance")
    ends = torch.tensor([1 / cell.r_off, 1 / cell.r_on], dtype=torch.float64)
    reached, bad = into_bounds(torch.as_tensor(target, dtype=torch.float64), *ends, like=_OF_A_NETWORK)
    if bool(bad):
        low, high = ends.tolist()
        raise SpecError(f"conductance is {target} S: the device reaches {low:.6g} to {high:.6g} S")
    return cell, float(reached)


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        as_number(value, name, above=0)


def _levels(positive: Any, negative: Any) -> dict[int, float]:
    up = as_number(positive, "pos_voltage_level (V)", above=0)
    return {1: up, -1: as_number(negative, "neg_voltage_level (V)", below=0)}


class _Pulse:
    """Pulses on one device of a crossbar and on its half-selected neighbours."""

    def __init__(
        self, crossbar: Crossbar, point: tuple[int, ...], cell: CellView, duration: float, pause: float
    ) -> None:
        self.crossbar, self.point, self.cell = crossbar, point, cell
        self.duration, self.pause = duration, as_number(pause, "refactory_period (s)", at_least=0)
        self.model = crossbar.store.model
        self.polarity = cell.device.set_polarity if self.model.dynamic else self.model.model.set_polarity

    def width(self, volts: float, conductance: float, most: int) -> float:
        """Seconds of pulses up to the target, at most so many pulses; one for a class in Python."""
        if not self.model.dynamic:
            return self.duration
        device, v_read = self.cell.device, self.model.v_read
        start, target = (float(device.state_for(g, v_read)) for g in (self._reachable(), conductance))
        return min(time_to_reach(device, volts, start, target), most * self.duration)

    def _reachable(self) -> float:
        return min(max(self.cell.g, 1 / self.cell.r_off), 1 / self.cell.r_on)

    def apply(self, volts: float, width: float) -> bool:
        """One pulse on the device; whether it moved."""
        before = self.cell.g
        if self.model.dynamic:
            device, v_read = self.cell.device, self.model.v_read
            state = float(device.state_for(self._reachable(), v_read))
            after = simulate_held(device, [volts], width, state).state[-1]
            self.cell.set_conductance(float(device.conductance(after, v_read)))
        else:
            self.cell.simulate(self._train(volts))
        return not math.isclose(self.cell.g, before, rel_tol=_STILL)

    def _train(self, volts: float) -> np.ndarray:
        return gen_programming_signal(1, self.duration, self.pause, volts, self.model.dt)[1]

    def disturb(self, volts: float, width: float) -> None:
        """The half-selected devices of the same row and column."""
        *lead, row, column = self.point
        places = [(*lead, row, j) for j in range(self.crossbar.columns) if j != column]
        places += [(*lead, i, column) for i in range(self.crossbar.rows) if i != row]
        if self.model.dynamic:
            if places:
                _disturb(self.crossbar.store, places, volts, width)
            return
        train = self._train(volts)
        for place in places:
            self.crossbar.device(place).simulate(train)


def _free(cell: CellView, direction: int, ohm: float, near: float, volts: float) -> None:
    """Move a device that is held at a bound a little way towards its target."""
    g, low, high = cell.g, 1 / cell.r_off, 1 / cell.r_on
    bound = low if direction > 0 else high
    if not math.isclose(g, bound, rel_tol=near):
        raise SpecError(
            f"a pulse of {volts} V does not move the device at {g:.4g} S: it is below the threshold, or the "
            "model's own limit is reached; give another pos_voltage_level or neg_voltage_level"
        )
    cell.set_conductance(1 / max(1 / g - direction * ohm, cell.r_on))


def _disturb(store: Store, places: list[tuple[int, ...]], volts: float, width: float) -> None:
    """``volts`` on devices of a compiled model for ``width`` s."""
    device, matrix = pick(store.device, places), store.read()
    axes = tuple(torch.tensor(axis) for axis in zip(*places, strict=True))
    v_read = store.model.v_read
    low, high = conductance_range(device, v_read)
    before = torch.minimum(torch.maximum(matrix[axes].double(), low), high)
    after = _held_cells(device, before, volts, width, v_read)
    if after is not None:
        matrix[axes] = after.to(matrix)
        store.write(matrix)


def _held_cells(
    device: Device, conductance: torch.Tensor, volts: float, width: float, v_read: float
) -> torch.Tensor | None:
    """Conductances after ``volts`` for ``width``; None if nothing moved."""
    state = device.state_for(conductance, v_read)
    if _at_rest(device, state, volts, width):
        return None
    end = device.simulate([volts, volts], width, state=state).state[-1]
    low, high = device.state_range
    if float((end - state).abs().max()) < 1e-12 * (high - low):
        return None
    return device.conductance(end.clamp(low, high), v_read)


def _at_rest(device: Device, state: torch.Tensor, volts: float, width: float) -> bool:
    """True where all devices are alike, in few states, and none of them moves."""
    if any(isinstance(value, torch.Tensor) and value.ndim for value in device.given.values()):
        return False
    states = state.unique()
    low, high = device.state_range
    allowed = 1e-12 * (high - low)
    return len(states) <= _FEW and all(
        abs(state_rate(device, volts, float(x))) * width < allowed for x in states
    )
