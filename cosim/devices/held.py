"""Held waveforms: one device, each voltage sample held for ``dt``, many samples solved at once.

Newton runs over a window of samples together: the equations of their steps, one after another, form a
lower triangular band matrix. Samples in which the state runs far are each integrated as the time that the
state takes from here to there, many at once where the ends do not depend on the starts. So a million
samples take seconds.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import get_lapack_funcs

from cosim.arrays import Array, as_tensor, check_finite
from cosim.checks import as_number
from cosim.devices.device import Device
from cosim.devices.print_torch import TorchModel
from cosim.errors import SpecError

__all__ = ["Held", "simulate_held", "state_rate", "time_to_reach"]

# SDIRK2 of R. Alexander, SIAM J. Numer. Anal. 14, 1006-1021, 1977: order 2, L-stable, stiffly accurate
_GAMMA = 1.0 - math.sqrt(0.5)
_CARRY = (1.0 - _GAMMA) / _GAMMA
_WINDOW = 1 << 11  # samples; few enough that a window which fails costs little
_SHORTEST = 64
_NEWTON_LIMIT = 12
_NEWTON_TOLERANCE = 1e-10  # of the state range
_GROWTH = 0.5  # of gamma*dt*df/dx; at 1 an implicit step has no unique solution
_LAYER = 1e-7  # of the state range: where a drift out of it ends
_INSIDE = 1e-12  # of the state range: no bounds of the model's own are met there
_SLACK = 0.05  # of the state range: how far outside an iterate may go
_CELLS, _ZOOMS = 8, 7  # of the time integral; 8^-7 of the way is resolved
_solve_band: Any = get_lapack_funcs("tbtrs", dtype=np.float64)
_PATH = 512  # cells of the integral over a whole way
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
# Gauss-Lobatto of 5 points: with the ends of a cell, where a limit between two nodes would be passed
_LOBATTO_NODES = np.array([-1.0, -math.sqrt(3 / 7), 0.0, math.sqrt(3 / 7), 1.0])
_LOBATTO_WEIGHTS = np.array([1 / 10, 49 / 90, 32 / 45, 49 / 90, 1 / 10])
# of a way, from its start: where a state leaves a bound at which its window is 0, time passes like the
# logarithm of the distance, which even cells would take for a rest
_NEAR = np.append(0.0, 2.0 ** np.arange(-40, 0))
_EVEN = np.linspace(0.0, 1.0, _CELLS + 1)
_SWEEPS = 4  # over samples in which the state runs far
_LONGEST = 256  # samples of a sweep
_JOINT = 1e-6  # of the state range, what the time integral resolves: a sample may start so far from the last


@dataclass(frozen=True, kw_only=True)
class Held:
    """current: (T,) A at the start of each sample. state: (T + 1,), at the start and after each sample."""

    current: torch.Tensor
    state: torch.Tensor


def simulate_held(device: Device, voltage: Array, dt: float, state: float, *, rtol: float = 1e-4) -> Held:
    """Current and state of one device while each of ``voltage`` (T,) V is applied for ``dt`` s.

    rtol: error of one step, as a part of the state range. Two halves of a waveform, one after the
    other, give what the whole gives. Raises SpecError for a device whose state is not its only internal
    unknown.

    >>> held = simulate_held(Device("vteam", x_off=3e-9), [0.1, 0.1, 0.0], 1e-7, 0.25)
    >>> [round(x, 4) for x in held.state.tolist()]
    [0.25, 0.3167, 0.3833, 0.3833]
    """
    volts = check_finite(as_tensor(voltage, "voltage"), "voltage").detach().to(torch.float64).cpu()
    if volts.ndim != 1:
        raise SpecError(f"voltage has shape {tuple(volts.shape)}: a held waveform is (time,)")
    dt = as_number(dt, "dt", above=0)
    rate = _Rate(device, float(device.check_state(state)))
    runner = _Runner(rate, dt, rtol)
    with torch.no_grad():
        path = torch.from_numpy(runner.run(volts.numpy()))
        low, high = device.state_range
        path = (low + (high - low) * path).clamp(low, high)
        current = _current(device, volts, path[:-1])
    return Held(current=current, state=path)


def state_rate(device: Device, voltage: float, state: float) -> float:
    """d(state)/dt at ``voltage`` (V), in units of the state per second.

    >>> round(state_rate(Device("vteam"), 0.1, 0.5), 1)
    666666.7
    """
    low, high = device.state_range
    rate = _Rate(device, float(device.check_state(state)))
    flow, _ = rate(np.array([float(voltage)]), np.array([rate.start]))
    return float(flow[0]) * (high - low)


def time_to_reach(device: Device, voltage: float, state: float, target: float) -> float:
    """Seconds at a constant ``voltage`` (V) until the state is ``target``; inf if it does not get there.

    >>> device = Device("vteam")
    >>> round(time_to_reach(device, 0.1, 0.25, 0.75) * 1e6, 6), time_to_reach(device, -1.0, 0.25, 0.75)
    (0.75, inf)
    """
    low, high = device.state_range
    rate = _Rate(device, float(device.check_state(state)))
    end = (float(device.check_state(target)) - low) / (high - low)
    even = np.linspace(0.0, 1.0, _PATH + 1)[1:-1]
    edges = rate.start + (end - rate.start) * np.concatenate(
        [even[0] * _NEAR, even, 1.0 - even[0] * _NEAR[::-1]]
    )
    width = 0.5 * np.diff(edges)[:, None]
    places = edges[:-1, None] + width * (1.0 + _NODES)
    flow, _ = rate(np.full(places.size, float(voltage)), places.reshape(-1))
    if not (flow * np.sign(end - rate.start) > 0.0).all():
        return 0.0 if end == rate.start else math.inf
    return float(np.sum(np.abs(width / flow.reshape(places.shape)) @ _WEIGHTS))


def _current(device: Device, volts: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    parts = zip(volts.split(_WINDOW), path.split(_WINDOW), strict=True)
    found = [device.current_and_slope(v, x)[0] for v, x in parts]
    return torch.cat(found) if found else volts.clone()


@functools.lru_cache(maxsize=16)
def _moving(device: Device) -> TorchModel:
    """The model with its state free to move; SpecError where that is not its only unknown."""
    write = device.write_parameter
    model = device.torch_model(static=False, extra={write: 1} if write else {})
    unknowns = (model.internal, model.varying, model.kept, device.driven)
    if unknowns != ((device.state_node,), (device.state_parameter,), (), ()):
        raise SpecError(
            f"{device.name} is no single device whose state is its only internal unknown: use Device.simulate"
        )
    return model


class _Rate:
    """dx/dt (1/s) and its slope, with x the state in units of its range, 0 to 1."""

    def __init__(self, device: Device, state: float) -> None:
        self._model = _moving(device)
        low, high = device.state_range
        self.start = (state - low) / (high - low)
        self._unit = (high - low) / device.state_scale
        self._parameters = {str(device.state_parameter): torch.tensor(state, dtype=torch.float64)}

    def __call__(self, volts: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v = torch.from_numpy(volts)
        inside = np.clip(x, _INSIDE, 1.0 - _INSIDE)
        node = torch.from_numpy((inside - self.start) * self._unit)
        # any time after 0: the models that this is for do not depend on time itself
        terms = self._model([v, node], self._parameters, 1.0)
        charge = terms.jacobian_react[(1, 1)]
        flow = (-torch.as_tensor(terms.resist[1]) / charge / self._unit).expand_as(v).numpy()
        slope = (-torch.as_tensor(terms.jacobian_resist.get((1, 1), 0.0)) / charge).expand_as(v).numpy()
        # a drift out of the range ends within a layer far thinner than the model's own, so it rests there
        beyond = x - inside
        out = (beyond != 0.0) & (beyond * flow > 0.0)
        layer = np.where(out, 1.0 - np.abs(beyond) / _LAYER, 1.0)
        return flow * layer, np.where(beyond == 0.0, slope, np.where(out, -np.abs(flow) / _LAYER, 0.0))


class _Runner:
    """Carries the state through a waveform, many samples at a time where it moves gently."""

    def __init__(self, rate: _Rate, dt: float, rtol: float) -> None:
        self._rate, self._dt, self._rtol = rate, dt, rtol

    def run(self, volts: np.ndarray) -> np.ndarray:
        """The state at the start and after each sample, (T + 1,)."""
        path = np.empty(len(volts) + 1)
        path[0] = self._rate.start
        done, window, single = 0, _WINDOW, 1
        while done < len(volts):
            found = self._window(volts[done : done + window], path[done])
            path[done + 1 : done + 1 + len(found)] = found
            done += len(found)
            single = 1 if len(found) >= _SHORTEST else single
            window = min(_WINDOW, max(_SHORTEST, 2 * len(found)))
            if len(found) == window // 2 or done == len(volts):
                continue
            found = self._far(volts[done : done + single], path[done])
            path[done + 1 : done + 1 + len(found)] = found
            done += len(found)
            single = min(2 * single, _LONGEST) if len(found) == single else len(found)
        return path

    def _window(self, volts: np.ndarray, start: float) -> np.ndarray:
        """The state after each of the first samples, up to one where it runs far or Newton fails."""
        v, h, x = volts.repeat(2), _GAMMA * self._dt, np.full(2 * len(volts), start)
        for _ in range(_NEWTON_LIMIT):
            flow, slope = self._rate(v, x)
            diagonal = 1.0 - h * slope
            change = _triangular(np.maximum(diagonal, 1.0 - _GROWTH), h * flow + _before(x, start) - x)
            moved = np.clip(x + change, -_SLACK, 1.0 + _SLACK)
            far = ~(np.abs(moved - x) <= _NEWTON_TOLERANCE).reshape(-1, 2).all(1)
            x = moved
            if not far.any():
                break
        bad = far | self._rough(x, start, diagonal)
        return x[1::2][: int(bad.argmax()) if bad.any() else len(bad)]

    def _rough(self, x: np.ndarray, start: float, diagonal: np.ndarray) -> np.ndarray:
        """Samples whose two orders differ by more than rtol, or that grow too fast for one solution."""
        # dt*dx/dt of the stages, taken from values: where the equation is stiff, rates lose their digits
        moved = (x - _before(x, start)).reshape(-1, 2)
        stiff = diagonal.reshape(-1, 2).min(1)
        error = _CARRY * np.abs(moved[:, 1] - moved[:, 0]) / np.maximum(stiff, 1.0)
        return (error > self._rtol) | (stiff < 1.0 - _GROWTH)

    def _far(self, volts: np.ndarray, start: float) -> np.ndarray:
        """The state after each of the first samples, one or more, however far it runs in each.

        All samples are solved at once from ``start``, then from the ends so found. A state that runs into a
        limit forgets where it came from, so two or three sweeps often join.
        """
        starts = np.full(len(volts), start)
        for _ in range(_SWEEPS):
            ends = self._sweep(volts, starts)
            joined = np.abs(ends[:-1] - starts[1:]) <= _JOINT
            good = len(ends) if joined.all() else int(joined.argmin()) + 1
            if good == len(ends):
                break
            starts[1:] = ends[:-1]
        return ends[:good]

    def _sweep(self, volts: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The state after each sample by itself: the place where the integral of 1/(dx/dt) reaches dt."""
        here, left = np.clip(starts, 0.0, 1.0), np.full(len(starts), self._dt)
        way = np.sign(self._rate(volts, here)[0])
        span = np.where(way > 0.0, 1.0 - here, -here)  # to the bound it runs towards
        every = np.arange(len(starts))
        with np.errstate(divide="ignore", invalid="ignore"):
            for zoom in range(_ZOOMS):
                edges = np.append(_NEAR, 1.0) if zoom == 0 else _EVEN
                size = np.diff(edges)
                points = edges[:-1, None] + 0.5 * size[:, None] * (1.0 + _LOBATTO_NODES)
                flow = self._flow(volts, here[:, None] + span[:, None] * points.reshape(-1)) * way[:, None]
                slowness = np.where(flow > 0.0, 0.5 * np.abs(span)[:, None] / flow, np.inf)
                time = slowness.reshape(len(here), *points.shape) @ _LOBATTO_WEIGHTS * size
                passed = np.cumsum(time, 1)
                cell = np.minimum((passed < left[:, None]).sum(1), len(size) - 1)
                left = left - np.where(cell > 0, passed[every, cell - 1], 0.0)
                here, span = here + edges[cell] * span, size[cell] * span
            return here + span * np.fmin(left / time[every, cell], 1.0)

    def _flow(self, volts: np.ndarray, places: np.ndarray) -> np.ndarray:
        """dx/dt at places (samples, points)."""
        each = np.broadcast_to(volts[:, None], places.shape).ravel()
        return self._rate(each, places.ravel())[0].reshape(places.shape)


def _before(x: np.ndarray, start: float) -> np.ndarray:
    """What the stages start from: both stages of each step, from the stages before them."""
    end = np.concatenate([[start], x[1:-1:2]])
    return np.stack([end, end + _CARRY * (x[0::2] - end)], 1).reshape(-1)


def _triangular(diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve the Newton equations: unknowns 2k and 2k + 1 are the two stages of step k."""
    band = np.zeros((3, len(right)))
    band[0] = diagonal
    band[1, 0::2] = -_CARRY  # second stage on the first
    band[1, 1:-1:2] = -1.0  # first stage on the step before
    band[2, 1:-2:2] = _CARRY - 1.0  # second stage on the step before
    solution, _ = _solve_band(band, right[:, None], uplo="L")
    return solution[:, 0]
