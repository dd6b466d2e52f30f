"""The five bundled models in plain numpy, written from their equations: the oracle of the .va files.

Each class has ``current(v, state)`` in A and ``rate(v, state)`` in units of the state per second, inside
the limits of the state and with hard thresholds (no smooth steps, no restoring terms, no caps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

Floats = np.ndarray | float


class Model(Protocol):
    def current(self, v: Floats, state: Floats) -> Floats: ...

    def rate(self, v: Floats, state: Floats) -> Floats: ...


def window(kind: str, x: Floats, rising: Floats, p: float = 1.0, j: float = 1.0) -> Floats:
    """Window at x in [0, 1]; ``rising`` is true where x grows (only Biolek's depends on it)."""
    if kind == "none":
        return np.ones_like(x)
    if kind == "joglekar":
        return 1 - np.abs(2 * x - 1) ** (2 * p)
    if kind == "biolek":
        return np.where(rising, 1 - np.abs(x) ** (2 * p), 1 - np.abs(x - 1) ** (2 * p))
    if kind == "prodromakis":
        return j * (1 - ((x - 0.5) ** 2 + 0.75) ** p)
    raise ValueError(kind)


@dataclass(frozen=True, kw_only=True)
class Vteam:
    """State x = (w - x_on)/(x_off - x_on); computed in w, as the paper writes it."""

    iv: str = "linear"
    r_on: float = 50.0
    r_off: float = 1000.0
    x_on: float = 0.0
    x_off: float = 3e-9
    k_on: float = -10.0
    k_off: float = 5e-4
    alpha_on: float = 3.0
    alpha_off: float = 1.0
    v_on: float = -0.2
    v_off: float = 0.02
    window: str = "none"
    p: float = 1.0
    j: float = 1.0
    a_on: float = 0.0
    a_off: float = 3e-9
    w_c: float = 1e-10

    def current(self, v: Floats, state: Floats) -> Floats:
        if self.iv == "linear":
            return v / (self.r_on + (self.r_off - self.r_on) * state)
        return np.exp(-np.log(self.r_off / self.r_on) * state) / self.r_on * v

    def rate(self, v: Floats, state: Floats) -> Floats:
        v, x = np.broadcast_arrays(np.asarray(v, float), np.asarray(state, float))
        w = self.x_on + (self.x_off - self.x_on) * x
        if self.window == "kvatinsky":
            f_off = np.exp(-np.exp((w - self.a_off) / self.w_c))
            f_on = np.exp(-np.exp((self.a_on - w) / self.w_c))
        else:
            f_off = window(self.window, x, True, self.p, self.j)
            f_on = window(self.window, x, False, self.p, self.j)
        with np.errstate(invalid="ignore"):
            off = self.k_off * (v / self.v_off - 1) ** self.alpha_off * f_off
            on = self.k_on * (v / self.v_on - 1) ** self.alpha_on * f_on
        dw_dt = np.where(v > self.v_off, off, np.where(v < self.v_on, on, 0.0))
        return dw_dt / (self.x_off - self.x_on)


@dataclass(frozen=True, kw_only=True)
class LinearIonDrift:
    """State x = 1 is ON."""

    r_on: float = 100.0
    r_off: float = 16e3
    u_v: float = 1e-14
    d: float = 10e-9
    v_pos: float = 0.55
    v_neg: float = -0.55
    window: str = "joglekar"
    p: float = 1.0
    j: float = 1.0

    def current(self, v: Floats, state: Floats) -> Floats:
        return v / (self.r_on * state + self.r_off * (1 - state))

    def rate(self, v: Floats, state: Floats) -> Floats:
        v, x = np.broadcast_arrays(np.asarray(v, float), np.asarray(state, float))
        i = self.current(v, x)
        f = window(self.window, x, i > 0, self.p, self.j)
        active = (v > self.v_pos) | (v < self.v_neg)
        return np.where(active, self.u_v * self.r_on / self.d**2 * i * f, 0.0)


@dataclass(frozen=True, kw_only=True)
class DataDriven:
    """State R in ohm; limits r_p and r_n are polynomials in v, lowest order first."""

    a_p: float = 0.24
    a_n: float = 0.24
    b_p: float = 2.81
    b_n: float = 2.81
    eta: int = 1
    rate_p: float = 743.47
    rate_n: float = -68012.28374
    t_p: float = 6.51
    t_n: float = 0.31645
    k_p: float = 5.11e-4
    k_n: float = 1.17e-3
    r_p: tuple[float, ...] = (16719.0, 0.0)
    r_n: tuple[float, ...] = (29304.82557, 23692.77225)

    def current(self, v: Floats, state: Floats) -> Floats:
        v = np.asarray(v, float)
        positive = self.a_p / state * np.sinh(self.b_p * v)
        negative = self.a_n / state * np.sinh(self.b_n * v)
        return np.where(v > 0, positive, negative)

    def speed(self, v: Floats) -> Floats:
        """s(v) in ohm/s."""
        v = np.asarray(v, float)
        positive = self.rate_p * np.expm1(self.t_p * np.abs(v))
        return np.where(v > 0, positive, self.rate_n * np.expm1(self.t_n * np.abs(v)))

    def rate(self, v: Floats, state: Floats) -> Floats:
        v, r = np.broadcast_arrays(np.asarray(v, float), np.asarray(state, float))
        to_p = self.eta * (np.polynomial.Polynomial(self.r_p)(v) - r)
        to_n = self.eta * (r - np.polynomial.Polynomial(self.r_n)(v))
        positive = np.where(to_p > 0, np.expm1(self.k_p * to_p), 0.0)
        negative = np.where(to_n > 0, np.expm1(self.k_n * to_n), 0.0)
        return self.speed(v) * np.where(v > 0, positive, negative)

    def pulse(self, v: float, r0: float, time: float) -> float:
        """R after ``time`` at constant v (eta = 1), closed form."""
        s = float(self.speed(v))
        if v > 0:
            limit = float(np.polynomial.Polynomial(self.r_p)(v))
            decay = np.log1p(np.expm1(self.k_p * (r0 - limit)) * np.exp(-self.k_p * s * time))
            return r0 if r0 >= limit else limit + decay / self.k_p
        limit = float(np.polynomial.Polynomial(self.r_n)(v))
        decay = np.log1p(np.expm1(-self.k_n * (r0 - limit)) * np.exp(self.k_n * s * time))
        return r0 if r0 <= limit else limit - decay / self.k_n


@dataclass(frozen=True, kw_only=True)
class DataDriven2021:
    """State R in ohm; the rate is quadratic in the distance to the limit."""

    a_p: float = 0.32046175
    a_n: float = 0.32046175
    b_p: float = 2.71689828
    b_n: float = 2.71689828
    eta: int = -1
    rate_p: float = 600.10075
    rate_n: float = -34.5988399
    t_p: float = -0.0212028
    t_n: float = -0.05343997
    r_p: tuple[float, float] = (2699.2336, -672.930205)
    r_n: tuple[float, float] = (649.413746, -1474.32358)

    def current(self, v: Floats, state: Floats) -> Floats:
        v = np.asarray(v, float)
        positive = self.a_p / state * np.sinh(self.b_p * v)
        negative = self.a_n / state * np.sinh(self.b_n * v)
        return np.where(v > 0, positive, negative)

    def limit(self, v: Floats) -> Floats:
        v = np.asarray(v, float)
        return np.where(v > 0, self.r_p[0] + self.r_p[1] * v, self.r_n[0] + self.r_n[1] * v)

    def speed(self, v: Floats) -> Floats:
        """s(v) in 1/(ohm s)."""
        v = np.asarray(v, float)
        positive = self.rate_p * np.expm1(np.abs(v) / self.t_p)
        return np.where(v > 0, positive, self.rate_n * np.expm1(np.abs(v) / self.t_n))

    def rate(self, v: Floats, state: Floats) -> Floats:
        v, r = np.broadcast_arrays(np.asarray(v, float), np.asarray(state, float))
        distance = self.limit(v) - r
        open_guard = np.where(v > 0, self.eta * distance > 0, self.eta * distance < 0)
        return np.where(open_guard, self.speed(v) * distance**2, 0.0)

    def pulse(self, v: float, r0: float, time: float) -> float:
        """R after ``time`` at constant v, closed form of dR/dt = s (r - R)^2."""
        s, limit = float(self.speed(v)), float(self.limit(v))
        if float(self.rate(v, r0)) == 0.0:
            return r0
        u0 = limit - r0
        return limit - u0 / (1 + s * u0 * time)


@dataclass(frozen=True, kw_only=True)
class StanfordPku:
    """State: the gap in m; the threshold field is a hard switch."""

    g0: float = 0.25e-9
    v0: float = 0.25
    i0: float = 1e-3
    vel0: float = 10.0
    beta: float = 0.8
    gamma0: float = 16.0
    ea: float = 0.6
    a0: float = 0.25e-9
    t0: float = 298.0
    f_min: float = 1.4e9
    t_ox: float = 12e-9
    g_min: float = 0.2e-9
    g_max: float = 1.7e-9
    r_th: float = 2100.0

    def current(self, v: Floats, state: Floats) -> Floats:
        return self.i0 * np.exp(-np.asarray(state) / self.g0) * np.sinh(np.asarray(v) / self.v0)

    def gamma(self, state: Floats) -> Floats:
        return self.gamma0 - self.beta * (np.asarray(state) / 1e-9) ** 3

    def rate(self, v: Floats, state: Floats) -> Floats:
        v, g = np.broadcast_arrays(np.asarray(v, float), np.asarray(state, float))
        q, k_b = 1.602176634e-19, 1.380649e-23
        thermal = k_b * (self.t0 + np.abs(v * self.current(v, g)) * self.r_th)
        gamma = np.where(self.gamma(g) * np.abs(v) / self.t_ox < self.f_min, 0.0, self.gamma(g))
        hop = np.sinh(gamma * self.a0 * q * v / (self.t_ox * thermal))
        return -self.vel0 * np.exp(-q * self.ea / thermal) * hop

    def threshold(self, state: float) -> float:
        """|v| at which a gap of ``state`` begins to move."""
        return self.f_min * self.t_ox / float(self.gamma(state))

    def sliding_gap(self, v: float) -> float:
        """Gap that a slow RESET at |v| ends at: gamma(g) |v|/t_ox = f_min."""
        root = brentq(lambda g: self.threshold(g) - abs(v), self.g_min, self.g_max, xtol=1e-20)
        return float(root)  # type: ignore[arg-type]  # a float without full_output


def vteam_sine(model: Vteam, amplitude: float, frequency: float, x0: float, time: float) -> float:
    """x(time) of a windowless VTEAM under a sine: the rate depends on v only, so x is a clamped integral.

    Within one half period x moves one way, so clamping its end is exact.
    """
    x, half = x0, 0.5 / frequency
    nodes, weights = np.polynomial.legendre.leggauss(200)
    start = 0.0
    while start < time - 1e-18:
        end = min(start + half, time)
        sign = 1 if round(start / half) % 2 == 0 else -1
        level = model.v_off if sign > 0 else -model.v_on
        wait = np.arcsin(level / amplitude) / (2 * np.pi * frequency)
        low, high = start + wait, min(end, start + half - wait)
        if high > low:
            t = 0.5 * (high - low) * nodes + 0.5 * (high + low)
            rate = model.rate(amplitude * np.sin(2 * np.pi * frequency * t), 0.5)
            x = min(max(x + 0.5 * (high - low) * float(weights @ rate), 0.0), 1.0)
        start = start + half
    return x


def trajectory(
    model: Model,
    voltage: Callable[[float], float],
    state0: float,
    times: np.ndarray,
    *,
    scale: float = 1.0,
) -> np.ndarray:
    """State at ``times`` under ``voltage(t)`` by scipy's LSODA, for paths that stay inside the limits."""
    done = solve_ivp(
        lambda t, y: [float(model.rate(voltage(t), y[0] * scale)) / scale],
        (float(times[0]), float(times[-1])),
        [state0 / scale],
        method="LSODA",
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    )
    if not done.success:
        raise RuntimeError(done.message)
    return done.y[0] * scale
