"""Models in the styles that people write: one cycle of a sine against the equations, integrated apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import cosim
from cosim.errors import CosimError
from tolerances import STYLES_REFINED, STYLES_SHORT

_FILES = Path(__file__).parent / "styles"
Rate = Callable[[np.ndarray, float], list[float]]
Current = Callable[[np.ndarray, float], float]


def drift(window: Callable[[float, float], float]) -> tuple[Rate, Current, list[float]]:
    """Linear ion drift with a window f(x, i)."""

    def current(x: np.ndarray, v: float) -> float:
        return v / (100 * x[0] + 16e3 * (1 - x[0]))

    return lambda x, v: [1e4 * current(x, v) * window(x[0], current(x, v))], current, [0.3]


def _through(k: float, rs: float) -> tuple[Rate, Current, list[float]]:
    """A switch of 1e-6 S + 1e-3 S*x behind rs."""

    def current(x: np.ndarray, v: float) -> float:
        return v / (rs + 1 / (1e-6 + 1e-3 * x[0]))

    return lambda x, v: [k * (v - rs * current(x, v)) * x[0] * (1 - x[0])], current, [0.3]


def _vteam(x: np.ndarray, v: float) -> list[float]:
    if v > 0.5:
        return [8 * (v / 0.5 - 1) ** 3 * np.exp(-np.exp((x[0] - 0.9) / 0.1))]
    return [-8 * (-v / 0.5 - 1) ** 3 * np.exp(-np.exp((0.1 - x[0]) / 0.1)) if v < -0.5 else 0.0]


def _team_current(x: np.ndarray, v: float) -> float:
    return v / (5e3 + 15e3 * x[0])


def _team(x: np.ndarray, v: float) -> list[float]:
    i = _team_current(x, v) / 2e-5
    if i >= 1:
        return [0.3 * (i - 1) ** 2 * np.exp(-np.exp((x[0] - 0.8) / 0.1))]
    return [-0.3 * (-i - 1) ** 2 * np.exp(-np.exp((0.2 - x[0]) / 0.1)) if i <= -1 else 0.0]


def _yakopcic(x: np.ndarray, v: float) -> list[float]:
    w = x[0]
    g = 8 * (np.exp(v) - np.exp(0.3)) if v > 0.3 else -8 * (np.exp(-v) - np.exp(0.3)) if v < -0.3 else 0.0
    f = 1.0
    if v >= 0 and w >= 0.3:
        f = np.exp(-(w - 0.3)) * ((0.3 - w) / 0.7 + 1)
    if v < 0 and w <= 0.5:
        f = np.exp(5 * (w - 0.5)) * w / 0.5
    return [g * f]


def _gap_current(x: np.ndarray, v: float) -> float:
    return 1e-4 * np.exp(-x[0] / 0.25) * np.sinh(v / 0.4)


def _ftj(x: np.ndarray, v: float) -> list[float]:
    weights = (0.5, 0.3, 0.2)
    rate = sum(w * np.exp(-1.5 * (1 + 0.2 * k) / (abs(v) + 1e-3)) / 1e-2 for k, w in enumerate(weights))
    return [rate * (1 - x[0]) if v > 0 else -rate * x[0]]


def _pcm_current(x: np.ndarray, v: float) -> float:
    return v / (1e5 * 0.05 ** x[0])


def _pcm(x: np.ndarray, v: float) -> list[float]:
    heat = (v * _pcm_current(x, v) - x[1] / 1e6) / 1e-8
    return [20 * (1 - x[0]) * np.exp(-(((x[1] - 40) / 10) ** 2)), heat]


def _vo2_current(x: np.ndarray, v: float) -> float:
    return v * (1e-4 + 9e-4 / (1 + np.exp(-(x[0] - 40) / 8)))


def _mtj_current(x: np.ndarray, v: float) -> float:
    return v * (3.75e-4 + 1.25e-4 * np.cos(x[0]))


def _mtj(x: np.ndarray, v: float) -> list[float]:
    return [-(2 * np.cos(x[0]) + 4e4 * _mtj_current(x, v)) * np.sin(x[0])]


STRUKOV = drift(lambda x, i: x - x * x)
# name: rate of the states, current, states at the start
TRUTH: dict[str, tuple[Rate, Current, list[float]]] = {
    "drift_euler_abstime": drift(lambda x, i: 1 - (2 * x - 1) ** 4),
    "drift_idt": drift(lambda x, i: 1 - (x - (i < 0)) ** 4),
    "drift_ddt_node": drift(lambda x, i: 1 - ((x - 0.5) ** 2 + 0.75) ** 3),
    "drift_third_port": STRUKOV,
    "drift_port_state": STRUKOV,
    "drift_ic_if": STRUKOV,
    "drift_windows": STRUKOV,
    "drift_natures": STRUKOV,
    "drift_initial_static": STRUKOV,
    "drift_charge_flux": (
        lambda x, v: [v],
        lambda x, v: v * (6e-5 + 9.4e-4 * 0.5 * (1 + np.tanh((x[0] - 0.1) / 0.05))),
        [0.0],
    ),
    "vteam_ddt": (_vteam, lambda x, v: v * np.exp(-np.log(100) * x[0]) / 1e3, [0.5]),
    "team_euler": (_team, _team_current, [0.5]),
    "yakopcic_port": (_yakopcic, lambda x, v: 1.7e-4 * x[0] * np.sinh(0.5 * v), [0.11]),
    "gap_noise": (lambda x, v: [-0.5 * np.sinh(v)], _gap_current, [1.0]),
    "ftj_domain": (_ftj, lambda x, v: (1e-6 + 9e-6 * x[0]) * v * (1 + v * v), [0.5]),
    "pcm_crystal": (_pcm, _pcm_current, [0.2, 0.0]),
    "vo2_thermal": (
        lambda x, v: [(v * _vo2_current(x, v) - x[0] / 5e4) / 5e-7],
        _vo2_current,
        [0.0],
    ),
    "mtj_llg": (_mtj, _mtj_current, [0.4]),
    "comma_ranges": (
        lambda x, v: [4 * v * (1 - x[0]) if v > 0 else 3 * v * x[0]],
        lambda x, v: v * (x[0] / 1e3 + (1 - x[0]) / 50e3),
        [0.2],
    ),
    "lookup_table": (
        lambda x, v: [1.5 * v * x[0] * (1 - x[0])],
        lambda x, v: v * float(np.interp(x[0], [0, 0.3, 0.6, 1.0], [1e-6, 2e-6, 6e-6, 20e-6])),
        [0.3],
    ),
    "volatile_ddt": (
        lambda x, v: [-x[0] / 0.1 + 60 * max(abs(v) - 0.5, 0.0) ** 2 * (1 - x[0])],
        lambda x, v: v * (1e-6 + 9.9e-5 * x[0]),
        [0.0],
    ),
    "capacitive_cell": _through(3.0, 200.0),
    "two_modules": _through(2.0, 150.0),
}
# name: the current of each sample, where the state is a flag of the model
FLAGS: dict[str, tuple[float, float, float, float]] = {  # on above, off below (V, of |v|), S on, S off
    "selector_flag": (0.7, 0.2, 1e-3, 1e-6),
    "selector_cross": (0.7, 0.2, 1e-3, 1e-6),
}
# Euler's method of the file: its own error, proportional to the sample, needs finer ones
OWN_EULER = frozenset({"drift_euler_abstime", "drift_initial_static", "team_euler", "gap_noise"})
REFUSED = {
    "yakopcic_capacitor": "a contribution inside an event: set a variable there, contribute outside",
    "pcm_heater": r"ports te, be, h.*terminals=\(",
    "ecram_gate": r"ports s, d, g.*terminals=\(",
    "fefet_history": r"ports d, g, s.*terminals=\(",
}


def sine(samples: int) -> tuple[np.ndarray, np.ndarray]:
    time = np.linspace(0.0, 1.0, samples)
    return time, np.sin(2 * np.pi * time)


def truth(name: str, time: np.ndarray, volts: np.ndarray) -> np.ndarray:
    """The current at the samples: voltage linear between them, states by LSODA at 1e-9."""
    rate, current, start = TRUTH[name]
    step = float(time[1])
    path = solve_ivp(
        lambda t, x: rate(x, float(np.interp(t, time, volts))),
        (0.0, float(time[-1])),
        start,
        t_eval=time,
        method="LSODA",
        rtol=1e-9,
        atol=1e-11,
        max_step=step,
    )
    assert path.success
    return np.array([current(x, float(v)) for x, v in zip(path.y.T, volts, strict=True)])


def compare(name: str, samples: int, tolerance: float) -> None:
    device = cosim.Device(_FILES / f"{name}.va")  # no options, as a newcomer does
    time, volts = sine(samples)
    expected = truth(name, time, volts)
    most = np.abs(expected).max()
    for engine in ("torch", "ngspice"):
        found = device.simulate(volts, time=time, engine=engine).current.numpy()
        np.testing.assert_allclose(found, expected, atol=tolerance * most, rtol=0, err_msg=engine)


@pytest.mark.parametrize("name", TRUTH)
def test_loop(name: str):
    compare(name, 201, STYLES_SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTH)
def test_refined_loop(name: str):
    compare(name, 8001 if name in OWN_EULER else 2001, STYLES_REFINED)


@pytest.mark.parametrize("name", FLAGS)
def test_switch(name: str):
    on_above, off_below, high, low = FLAGS[name]
    time, volts = sine(201)
    on, expected = False, []
    for v in np.abs(volts):
        on = v > on_above or (on and v >= off_below)
        expected.append(high if on else low)
    device = cosim.Device(_FILES / f"{name}.va")
    for engine in ("torch", "ngspice"):
        found = device.simulate(volts, time=time, engine=engine).current.numpy()
        np.testing.assert_allclose(found, expected * volts, atol=STYLES_SHORT * high, err_msg=engine)


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_remedy(name: str):
    with pytest.raises(CosimError, match=REFUSED[name]):
        cosim.Device(_FILES / f"{name}.va")


def test_a_start_by_several_parameters_is_the_files_own():
    device = cosim.Device(_FILES / "gap_spread.va", sigma=0.0)
    expected = 1e-4 * np.exp(-1.0 / 0.25) * np.sinh(0.5 / 0.4)
    assert float(device.current(0.5)) == pytest.approx(expected, rel=1e-9)
    spread = device.replace(sigma=0.05)
    cells = spread.replace(random_instance=torch.arange(4.0, dtype=torch.float64)).current(0.5)
    assert len(set(cells.tolist())) == 4
    assert all(abs(np.log(float(each) / expected)) < 1.0 for each in cells)  # 5 sigma: 0.05*5/0.25


def test_a_state_that_a_current_moves_is_found():
    device = cosim.Device(_FILES / "drift_third_port.va")
    assert device.state_parameter == "xinit"
