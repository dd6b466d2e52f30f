"""Programming: pulse trains, and write-verify of one device in a crossbar with half-selected neighbours."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import torch

from cosim.devices.device import Device
from cosim.devices.held import simulate_held, state_rate, time_to_reach
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cells import CellView, pick
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar
from cosim.memtorch.names import also_called
from cosim.nn.cells import conductance_range

__all__ = ["gen_programming_signal", "naive_program"]

_FEW = 16  # states that are asked one by one
_NUDGE = 0.02  # of the reach of a device that is stuck at its bound


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
    counts = []
    for name, value in (("pulse_duration", pulse_duration), ("refactory_period", refactory_period)):
        count = round(value / time_series_resolution)
        if abs(count * time_series_resolution - value) > 1e-9 * max(value, time_series_resolution):
            raise SpecError(
                f"{name} is {value} s: it must be a multiple of time_series_resolution, "
                f"{time_series_resolution} s"
            )
        counts.append(count)
    volts = np.tile(np.repeat([float(voltage_level), 0.0], counts), number_of_pulses)
    return time_series_resolution * np.arange(len(volts)), volts


@also_called(timeout_adjustment="force_adjustment")
def naive_program(
    crossbar: Crossbar,
    point: tuple[int, ...],
    conductance: float,
    rel_tol: float = 0.01,
    pulse_duration: float = 1e-3,
    refactory_period: float = 0,
    pos_voltage_level: float = 1.0,
    neg_voltage_level: float = -1.0,
    timeout: float = 5,
    force_adjustment: float = 1e-3,
    force_adjustment_rel_tol: float = 1e-1,
    failure_iteration_threshold: int = 1000,
    simulate_neighbours: bool = True,
) -> CellView:
    """Bring the device at ``point`` to ``conductance`` (S) within rel_tol, by pulses and reads.

    The sign of a pulse comes from the device's own polarity. Pulses follow each other until the target is
    reached, where the last one is cut off. Devices in the same row or column see half the voltage, for as
    long. A device that its window holds at a bound is freed, if it is within force_adjustment_rel_tol of
    it, by force_adjustment (ohm; timeout_adjustment in MemTorch 1.1.0) or by 2 % of its reach, whichever is
    more. refactory_period: the models do
    not change without a voltage. timeout: s of computing, after which no more pulses are tried.

    Returns the device. Raises SpecError for a conductance out of reach, and where no pulse moves the
    device: the voltages are below its thresholds, or its limits are in the way. Warns where
    ``failure_iteration_threshold`` pulses were not enough.
    """
    cell = crossbar.devices[point]
    if not 1 / cell.r_off * (1 - 1e-6) <= conductance <= 1 / cell.r_on * (1 + 1e-6):
        low, high = 1 / cell.r_off, 1 / cell.r_on
        raise SpecError(f"conductance is {conductance} S: the device reaches {low:.6g} to {high:.6g} S")
    if neg_voltage_level >= 0 or pos_voltage_level <= 0 or refactory_period < 0:
        raise SpecError(
            f"pos_voltage_level={pos_voltage_level} V must be above 0, neg_voltage_level="
            f"{neg_voltage_level} V below, refactory_period={refactory_period} s not below"
        )
    levels = {1: pos_voltage_level, -1: neg_voltage_level}
    left, end = failure_iteration_threshold, time.monotonic() + timeout
    while left > 0 and time.monotonic() < end:
        g = cell.g
        if math.isclose(conductance, g, rel_tol=rel_tol):
            return cell
        direction = 1 if g < conductance else -1
        volts = levels[direction * cell.device.set_polarity]
        width = _time(crossbar, cell, conductance, volts, left * pulse_duration)
        left -= math.ceil(width / pulse_duration)
        if simulate_neighbours:
            _disturb(crossbar, point, 0.5 * volts, width)
        if not _pulse(crossbar, cell, volts, width):
            _free(cell, g, direction, force_adjustment, force_adjustment_rel_tol, volts)
    if math.isclose(conductance, cell.g, rel_tol=rel_tol):
        return cell
    warnings.warn(
        f"device {tuple(point)} has {cell.g:.4g} S, not within {rel_tol:.2g} of {conductance:.4g} S: "
        "use other voltages or more pulses",
        UserWarning,
        stacklevel=2,
    )
    return cell


def _time(crossbar: Crossbar, cell: CellView, conductance: float, volts: float, most: float) -> float:
    """Seconds of pulses up to the target, at most ``most``."""
    device, v_read = cell.device, crossbar.store.v_read
    start, target = (float(device.state_for(g, v_read)) for g in (cell.g, conductance))
    return min(time_to_reach(device, volts, start, target), most)


def _pulse(crossbar: Crossbar, cell: CellView, volts: float, width: float) -> bool:
    """Apply one pulse to the device; whether it moved."""
    device, v_read = cell.device, crossbar.store.v_read
    before = cell.g
    state = float(device.state_for(before, v_read))
    after = simulate_held(device, [volts], width, state).state[-1]
    cell.set_conductance(float(device.conductance(after, v_read)))
    return not math.isclose(cell.g, before, rel_tol=1e-12)


def _free(cell: CellView, g: float, direction: int, adjustment: float, near: float, volts: float) -> None:
    """Move a device that is held at a bound a little way towards its target."""
    low, high = 1 / cell.r_off, 1 / cell.r_on
    bound = low if direction > 0 else high
    if not math.isclose(g, bound, rel_tol=near):
        raise SpecError(
            f"a pulse of {volts} V does not move the device at {g:.4g} S: it is below the threshold, or the "
            "model's own limit is reached; give another pos_voltage_level or neg_voltage_level"
        )
    step = max(_NUDGE * (high - low), abs(g - 1 / (1 / g - direction * adjustment)))
    cell.set_conductance(g + direction * step)


def _disturb(crossbar: Crossbar, point: tuple[int, ...], volts: float, width: float) -> None:
    """The half-selected devices of the same row and column."""
    *lead, row, column = point
    places = [(*lead, row, j) for j in range(crossbar.columns) if j != column]
    places += [(*lead, i, column) for i in range(crossbar.rows) if i != row]
    if not places:
        return
    store = crossbar.store
    device, matrix = pick(store.device, places), store.read()
    axes = tuple(torch.tensor(axis) for axis in zip(*places, strict=True))
    low, high = conductance_range(device, store.v_read)
    before = torch.minimum(torch.maximum(matrix[axes].double(), low), high)
    after = _held_cells(device, before, volts, width, store.v_read)
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
