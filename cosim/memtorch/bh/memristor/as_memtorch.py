"""MemTorch 1.1.6's own arithmetic of the five models, for results that must not change.

Each device takes one step per sample, with the current as MemTorch reports it. What is known to be
wrong in it is said in docs/memtorch.md; nothing outside ``as_memtorch=True`` uses this module.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["DataDriven", "DataDriven2021", "LinearIonDrift", "StanfordPKU", "Vteam"]

_CHARGE, _BOLTZMANN = 1.6e-19, 1.3806503e-23  # as MemTorch has them


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


class _Stepped(abc.ABC):
    """A device that is stepped sample by sample; ``conductance`` is MemTorch's attribute g."""

    def __init__(self, r_on: float, r_off: float) -> None:
        self.r_on, self.r_off = r_on, r_off
        self.conductance = 1 / r_on
        self.state = 0.0

    def _bounded(self, conductance: float) -> float:
        return _clip(conductance, 1 / self.r_off, 1 / self.r_on)

    @abc.abstractmethod
    def step(self, voltage: float, dt: float) -> float:
        """Advance one sample; the current that it reports."""

    def simulate(self, voltage: np.ndarray, dt: float) -> tuple[np.ndarray, torch.Tensor]:
        """Current (A) that each sample reports, and conductance (S) after it."""
        found = [(self.step(v, dt), self.conductance) for v in voltage.tolist()]
        current, conductance = np.array(found, float).reshape(-1, 2).T
        return current, torch.from_numpy(conductance.copy())


class LinearIonDrift(_Stepped):
    """Its Joglekar window is (2 - 2x)^2p, and x is turned around by ``set_conductance``."""

    def __init__(
        self, r_on: float, r_off: float, u_v: float, d: float, positive: float, negative: float, p: int
    ) -> None:
        super().__init__(r_on, r_off)
        self.mobility, self.positive, self.negative, self.p = u_v * r_on / d**2, positive, negative, p

    def current(self, voltage: float) -> float:
        return voltage / (self.r_on * self.state + self.r_off * (1 - self.state))

    def step(self, voltage: float, dt: float) -> float:
        current = self.current(voltage)
        if voltage >= self.positive or voltage <= self.negative:
            window = (2 - 2 * self.state) ** (2 * self.p)
            self.state = _clip(self.state + dt * self.mobility * current * window, 0.0, 1.0)
        self.conductance = self._bounded(1 / (self.r_on * self.state + self.r_off * (1 - self.state)))
        return current

    def set_conductance(self, conductance: float) -> None:
        self.conductance = self._bounded(conductance)
        self.state = (1 / self.conductance - self.r_on) / (self.r_off - self.r_on)


class Vteam(_Stepped):
    """Explicit Euler, with the current from the state after the step; x_on and x_off are not used."""

    def __init__(
        self,
        r_on: float,
        r_off: float,
        d: float,
        k: tuple[float, float],
        alpha: tuple[float, float],
        v: tuple[float, float],
    ) -> None:
        super().__init__(r_on, r_off)
        self.d, self.k, self.alpha, self.v = d, k, alpha, v  # pairs: (on, off)

    def current(self, voltage: float) -> float:
        x = self.state / self.d
        return voltage / (self.r_off * x + self.r_on * (1 - x))

    def step(self, voltage: float, dt: float) -> float:
        rate = 0.0
        if voltage >= self.v[1]:
            rate = self.k[1] * (voltage / self.v[1] - 1) ** self.alpha[1]
        elif voltage <= self.v[0]:
            rate = self.k[0] * (voltage / self.v[0] - 1) ** self.alpha[0]
        self.state = _clip(self.state + dt * rate, 0.0, self.d)
        current = self.current(voltage)
        if voltage != 0:
            self.conductance = current / voltage
        return current

    def set_conductance(self, conductance: float) -> None:
        self.conductance = self._bounded(conductance)
        self.state = self.d * (1 / self.conductance - self.r_on) / (self.r_off - self.r_on)


class _Resistive(_Stepped):
    """State g = 1/R, current a g sinh(b v) from before the step, R clipped to r_on, r_off."""

    def __init__(self, r_on: float, r_off: float, a: tuple[float, float], b: tuple[float, float]) -> None:
        super().__init__(r_on, r_off)
        self.a, self.b = a, b  # pairs: (v > 0, otherwise)

    def current(self, voltage: float) -> float:
        side = 0 if voltage > 0 else 1
        return self.a[side] * self.conductance * math.sinh(self.b[side] * voltage)

    def set_conductance(self, conductance: float) -> None:
        self.conductance = self.state = self._bounded(conductance)

    def step(self, voltage: float, dt: float) -> float:
        current = self.current(voltage)
        if voltage != 0:
            self.conductance = self.state = 1 / self._after(voltage, 1 / self.conductance, dt)
        return current

    @abc.abstractmethod
    def _after(self, voltage: float, resistance: float, dt: float) -> float: ...


class DataDriven(_Resistive):
    """The exponential rate of 2018, in closed form; activity is tested on the resistance afterwards."""

    def __init__(
        self,
        r_on: float,
        r_off: float,
        rate: tuple[float, float],
        t: tuple[float, float],
        k: tuple[float, float],
        limits: tuple[Sequence[float], Sequence[float]],
        eta: int,
        a: tuple[float, float],
        b: tuple[float, float],
    ) -> None:
        super().__init__(r_on, r_off, a, b)
        self.rate, self.t, self.k, self.limits, self.eta = rate, t, k, limits, eta

    def _after(self, voltage: float, resistance: float, dt: float) -> float:
        side = 0 if voltage > 0 else 1
        rate = self.rate[side] * (math.exp(self.t[side] * abs(voltage)) - 1)
        limit = sum(c * voltage**n for n, c in enumerate(self.limits[side]))
        k, slope = self.k[side], self.eta * self.k[side]
        if voltage > 0:
            top = math.exp(slope * limit)
            after = math.log(top + math.exp(-slope * rate * dt) * (math.exp(slope * resistance) - top)) / k
            still = after > self.eta * limit
        else:
            grown = slope * rate * dt
            bottom = math.exp(-slope * limit) * (math.exp(grown) - 1)
            after = -math.log(math.exp(-slope * resistance + grown) - bottom) / k
            still = after < self.eta * limit
        return resistance if still else _clip(after, self.r_on, self.r_off)


class DataDriven2021(_Resistive):
    """The quadratic rate of 2021, in closed form, with MemTorch's guards."""

    def __init__(
        self,
        r_on: float,
        r_off: float,
        rate: tuple[float, float],
        t: tuple[float, float],
        limits: tuple[Sequence[float], Sequence[float]],
        a: tuple[float, float],
        b: tuple[float, float],
    ) -> None:
        super().__init__(r_on, r_off, a, b)
        self.rate, self.t, self.limits = rate, t, limits

    def _after(self, voltage: float, resistance: float, dt: float) -> float:
        side = 0 if voltage > 0 else 1
        rate = self.rate[side] * (math.exp(abs(voltage) / self.t[side]) - 1)
        limit = self.limits[side][0] + self.limits[side][1] * voltage
        way = rate * (limit - resistance) * dt
        after = (resistance + way * limit) / (1 + way)
        still = after < limit if side == 0 else after > limit
        return resistance if still else _clip(after, self.r_on, self.r_off)


class StanfordPKU(_Stepped):
    """Temperature from the current of the sample before; g is that current over this voltage.

    ``g`` of MemTorch is stale after ``set_conductance``. Noise comes from numpy's global generator.
    """

    def __init__(self, r_on: float, r_off: float, gap: float, read_voltage: float, values: dict[str, float]):
        super().__init__(r_on, r_off)
        self.p, self.read_voltage = values, read_voltage
        self.low, self.high = self._gap(r_on), self._gap(r_off)
        self.state = _clip(gap, self.low, self.high)
        self._before = 0.0

    def _gap(self, resistance: float) -> float:
        p, v = self.p, self.read_voltage
        return p["g_0"] * math.log(p["I_0"] * math.sinh(v / p["V_0"]) * resistance / v)

    def current(self, voltage: float) -> float:
        p = self.p
        return p["I_0"] * math.exp(-self.state / p["g_0"]) * math.sinh(voltage / p["V_0"])

    def rate(self, voltage: float, current: float) -> float:
        """d(gap)/dt with the temperature that ``current`` gives."""
        p = self.p
        temperature = p["T_init"] + abs(voltage * current * p["R_th"])
        gamma = p["gamma_init"] - p["beta"] * (self.state / 1e-9) ** 3
        if gamma * abs(voltage) / p["t_ox"] < p["F_min"]:
            gamma = 0.0
        heat = _BOLTZMANN * temperature
        field = gamma * p["a_0"] * _CHARGE * voltage / (p["t_ox"] * heat)
        moved = -p["vel_0"] * math.exp(-_CHARGE * p["E_a"] / heat) * math.sinh(field)
        if not p["model_switch"]:
            return moved
        spread = p["delta_g_init"] / (1 + math.exp((p["T_crit"] - temperature) / p["T_smth"]))
        return moved + float(np.random.normal()) * spread

    def simulate(self, voltage: np.ndarray, dt: float) -> tuple[np.ndarray, torch.Tensor]:
        self._before = 0.0
        return super().simulate(voltage, dt)

    def step(self, voltage: float, dt: float) -> float:
        self.state = _clip(self.state + dt * self.rate(voltage, self._before), self.low, self.high)
        if voltage != 0:
            self.conductance = self._before / voltage
        self._before = self.current(voltage)
        return self._before

    def set_conductance(self, conductance: float) -> None:
        self.state = _clip(self._gap(1 / self._bounded(conductance)), self.low, self.high)
