"""Held waveforms: one device, each voltage sample held for ``dt``, many samples solved at once.

Newton runs over a window of samples together: the equations of their steps, one after another, form a
lower triangular band matrix. Samples in which the state runs far are integrated one by one, as the time
that the state takes from here to there. So a million samples take seconds.
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
_CELLS, _ZOOMS = 48, 4  # of the time integral; 48^-4 of the way is resolved
_solve_band: Any = get_lapack_funcs("tbtrs", dtype=np.float64)
_PATH = 512  # cells of the integral over a whole way
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


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
    if not (math.isfinite(dt) and dt > 0):
        raise SpecError(f"dt is {dt!r} s: it must be a finite number greater than 0")
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
    edges = np.linspace(rate.start, end, _PATH + 1)
    width = 0.5 * (edges[1] - edges[0])
    places = (edges[:-1, None] + width * (1.0 + _NODES)).reshape(-1)
    flow, _ = rate(np.full(places.shape, float(voltage)), places)
    if not (flow * np.sign(width) > 0.0).all():
        return 0.0 if width == 0.0 else math.inf
    return float((abs(width) / np.abs(flow)).reshape(-1, len(_WEIGHTS)) @ _WEIGHTS @ np.ones(_PATH))


def _current(device: Device, volts: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    parts = zip(volts.split(_WINDOW), path.split(_WINDOW), strict=True)
    found = [device.current_and_slope(v, x)[0] for v, x in parts]
    return torch.cat(found) if found else volts.clone()


@functools.lru_cache(maxsize=16)
def _moving(device: Device) -> TorchModel:
    """The model with its state free to move; SpecError where that is not its only unknown."""
    write = device.write_parameter
    model = device.torch_model(static=False, extra={write: 1} if write else {})
    if model.internal != (device.state_node,) or model.varying != (device.state_parameter,):
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
            single = 1 if len(found) >= _SHORTEST else min(2 * single, _SHORTEST)
            window = min(_WINDOW, max(_SHORTEST, 2 * len(found)))
            if len(found) == window // 2 or done == len(volts):
                continue
            for _ in range(min(single, len(volts) - done)):
                path[done + 1] = self._one(float(volts[done]), float(path[done]))
                done += 1
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

    def _one(self, volts: float, start: float) -> float:
        """The state after one sample: the place x where the integral of 1/(dx/dt) reaches dt."""
        here, left = min(max(start, 0.0), 1.0), self._dt
        speed = self._speed(volts, np.array([here]))[0]
        if speed == 0.0:
            return here
        end = 1.0 if speed > 0.0 else 0.0
        for _ in range(_ZOOMS):
            edges = np.linspace(here, end, _CELLS + 1)
            width = 0.5 * (edges[1] - edges[0])
            places = edges[:-1, None] + width * (1.0 + _NODES)
            flow = self._speed(volts, places.reshape(-1)).reshape(places.shape) * np.sign(speed)
            with np.errstate(divide="ignore"):
                time = np.where(flow > 0.0, abs(width) / flow, np.inf) @ _WEIGHTS
            passed = np.cumsum(time)
            cell = int(np.count_nonzero(passed < left))
            if cell == _CELLS:
                return end
            left -= passed[cell - 1] if cell else 0.0
            here, end = edges[cell], edges[cell + 1]
        part = left / time[cell] if np.isfinite(time[cell]) else 0.0
        return here + part * (end - here)

    def _speed(self, volts: float, x: np.ndarray) -> np.ndarray:
        return self._rate(np.full(x.shape, volts), x)[0]


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
