"""What drives a device: a time axis, series resistance and compliance, in both engines; gradients."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from cosim import Device
from cosim.devices import dynamics
from cosim.errors import SpecError
from cosim.progress import progress_bar
from tolerances import (
    DRIVEN,
    LIMITED,
    RECOMPUTED,
    ROUNDING,
    TRAJECTORY_DIFFERENCE,
    TRAJECTORY_GRADIENT,
)

ENGINES = ("torch", "ngspice")
G_OFF, G_ON, FAST, TAU = 1e-6, 1e-3, 2e6, 1e-6


@pytest.fixture(scope="module")
def relaxing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dx/dt = k |V| (1 - x) - x/tau, I = (g_off + (g_on - g_off) x) V."""
    path = tmp_path_factory.mktemp("drive") / "relaxing.va"
    path.write_text(
        """`include "disciplines.vams"
        module relaxing(p, n);
            inout p, n; electrical p, n, y;
            parameter real x0 = 0.5 from [0:1];
            parameter real k = 2e6;
            real x;
            analog begin
                x = x0 + V(y);
                I(p, n) <+ (1e-6 + (1e-3 - 1e-6)*x)*V(p, n);
                I(y) <+ ddt(1e-9*V(y)) - 1e-9*(k*abs(V(p, n))*(1.0 - x) - x/1e-6);
            end
        endmodule"""
    )
    return path


def device(path: Path, **more: object) -> Device:
    return Device(path, state="x0", state_range=(0, 1), state_node="y", **more)  # type: ignore[arg-type]  # values


def conductance(x: np.ndarray) -> np.ndarray:
    return G_OFF + (G_ON - G_OFF) * x


def inside(
    x: float, source: float, ohm: float = 0.0, low: float = -math.inf, high: float = math.inf
) -> float:
    """Voltage of the device behind the resistance and limits."""
    g = float(conductance(np.array(x)))
    current = source / (ohm + 1 / g)
    return min(max(current, low), high) / g


def path_of(times: np.ndarray, volts: np.ndarray, start: float, **drive: float) -> np.ndarray:
    def rate(t: float, x: np.ndarray) -> list[float]:
        v = inside(float(x[0]), float(np.interp(t, times, volts)), **drive)
        return [FAST * abs(v) * (1 - x[0]) - x[0] / TAU]

    step = float(np.diff(times).max()) / 20
    done = solve_ivp(rate, (0, times[-1]), [start], t_eval=times, rtol=1e-9, atol=1e-11, max_step=step)
    return done.y[0]


UNEVEN = np.array([0.0, 1e-9, 2e-7, 2.5e-7, 1e-6, 1.001e-6, 2e-6])
PULSE = np.array([0.0, 1.0, 1.0, 0.3, 0.6, -0.4, -0.4])
DRIVES = {
    "direct": {},
    "series": {"series": 700.0},
    "compliance": {"series": 300.0, "compliance": (-1e-4, 3e-4)},
    "one side": {"series": 1000.0, "compliance": (-math.inf, 2.5e-4)},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DRIVES)
def test_a_waveform_with_its_own_times(relaxing: Path, name: str, engine: str) -> None:
    drive = DRIVES[name]
    limit = drive.get("compliance", math.inf)
    low, high = limit if isinstance(limit, tuple) else (-limit, limit)
    told = {"ohm": drive.get("series", 0.0), "low": low, "high": high}
    step = {"max_step": 1e-9} if engine == "ngspice" else {}
    trace = device(relaxing).simulate(PULSE, time=UNEVEN, state=0.3, engine=engine, **drive, **step)
    x = path_of(UNEVEN, PULSE, 0.3, **told)
    volts = np.array([inside(a, v, **told) for a, v in zip(x, PULSE, strict=True)])
    assert trace.time.tolist() == UNEVEN.tolist()
    assert trace.voltage.tolist() == PULSE.tolist()
    assert trace.state.numpy() == pytest.approx(x, abs=DRIVEN)
    assert trace.device_voltage.numpy() == pytest.approx(volts, abs=DRIVEN)
    assert trace.current.numpy() == pytest.approx(conductance(x) * volts, abs=DRIVEN * G_ON)
    if high < math.inf:
        assert float(trace.current.max()) == pytest.approx(high, rel=LIMITED)  # it did limit
        assert float(trace.current.max()) <= high * (1 + ROUNDING)


@pytest.mark.parametrize("engine", ENGINES)
def test_compliance_of_a_diode(tmp_path: Path, engine: str) -> None:
    """Without the limit 1 V would drive e^40 times the saturation current."""
    path = tmp_path / "steep.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule steep(p, n); inout p, n; electrical p, n; '
        "analog I(p, n) <+ 1e-12*(exp(V(p, n)/0.025) - 1.0); endmodule"
    )
    volts = np.array([0.0, 0.3, 1.0, 0.4, -1.0])
    trace = Device(path).simulate(volts, 1e-6, engine=engine, compliance=1e-3, series=50.0)

    def current(v: float) -> float:
        def drop(u: float) -> float:
            return v - u - 50.0 * 1e-12 * math.expm1(u / 0.025)

        return min((v - float(np.asarray(brentq(drop, -2.0, 2.0, xtol=1e-15)))) / 50.0, 1e-3)

    wanted = [current(v) for v in volts]
    assert trace.current.numpy() == pytest.approx(wanted, rel=LIMITED, abs=1e-11)
    assert max(wanted) == 1e-3


def test_even_times_are_dt(relaxing: Path) -> None:
    one = device(relaxing).simulate(PULSE, 1e-7, state=0.3)
    two = device(relaxing).simulate(PULSE, time=1e-7 * np.arange(7), state=0.3)
    assert two.state.numpy() == pytest.approx(one.state.numpy(), abs=ROUNDING)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dt": None}, r"give exactly one of dt= .* and time="),
        ({"time": [0, 1]}, r"give exactly one of dt= .* and time="),
        ({"dt": None, "time": [0.0, 1.0]}, r"time has shape \(2,\): the waveform has 3 samples"),
        ({"dt": None, "time": [1.0, 2.0, 3.0]}, r"time\[0\] is 1.0 s: a waveform starts at 0 s"),
        ({"dt": None, "time": [0.0, 2.0, 2.0]}, r"time\[2\] is 2.0 s, not after 2.0 s: times must rise"),
        ({"series": -1.0}, r"series is -1.0"),
        ({"series": math.inf}, r"series is inf"),
        ({"compliance": 1e-3}, r"compliance is 0.001 A without a resistance: give series= too"),
        ({"compliance": 0.0}, r"compliance is 0.0 A: give a number above 0 for both signs, or \(low, high\)"),
        ({"compliance": (1e-3, 2e-3)}, r"compliance is \(0.001, 0.002\) A"),
        ({"compliance": (-1e-3, 0.0, 1e-3)}, r"compliance is .* A"),
    ],
)
def test_bad_drives(relaxing: Path, change: dict, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        device(relaxing).simulate(**{"voltage": [0.0, 1.0, 0.0], "dt": 1e-6, "state": 0.5, **change})


# --- the integrator in C ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRIVES)
def test_the_compiled_integrator_is_the_one_in_torch(
    relaxing: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = torch.tensor([1e6, 2e6, 4e6], dtype=torch.float64)
    wave, start = np.sin(np.linspace(0, 6, 12)), [0.1, 0.5, 0.9]
    found = device(relaxing, k=k).simulate(wave, 2e-7, state=start, **DRIVES[name])
    monkeypatch.setattr(dynamics, "_FEW", 0)
    wanted = device(relaxing, k=k).simulate(wave, 2e-7, state=start, **DRIVES[name])
    assert found.stats["steps"] == wanted.stats["steps"]
    assert found.stats["rejected"] == wanted.stats["rejected"]
    for part, size in (("current", G_ON), ("state", 1.0), ("device_voltage", 1.0)):
        np.testing.assert_allclose(
            getattr(found, part), getattr(wanted, part), rtol=0, atol=RECOMPUTED * size
        )


def test_without_a_compiler_torch_integrates(relaxing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = device(relaxing).simulate([0.0, 1.0, 0.5], 2e-7, state=0.5)
    monkeypatch.setattr(dynamics, "transient_library", lambda loop: None)
    found = device(relaxing).simulate([0.0, 1.0, 0.5], 2e-7, state=0.5)
    np.testing.assert_allclose(found.state, wanted.state, rtol=RECOMPUTED)


def test_it_can_be_interrupted(relaxing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives between the calls of the C code, and ends the run."""
    told = []

    class Stop:
        def __enter__(self) -> object:
            return self.report

        def __exit__(self, *error: object) -> None:
            pass

        def report(self, fraction: float) -> None:
            told.append(fraction)
            raise KeyboardInterrupt

    monkeypatch.setattr(dynamics, "progress_bar", lambda what, shown: Stop())
    with pytest.raises(KeyboardInterrupt):
        device(relaxing).simulate(np.sin(np.arange(30_000.0)), 1e-7, state=0.5)
    assert 0.0 < told[0] < 1.0


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("integrating", True) as report:
        report(0.5)
    assert "integrating" in screen.getvalue()
    shown = len(screen.getvalue())
    with progress_bar("integrating", None) as report:  # not long yet
        report(0.5)
    with progress_bar("integrating", False) as report:
        report(0.5)
    assert len(screen.getvalue()) == shown


# --- gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["direct", "compliance"])
def test_gradients_through_the_trajectory(relaxing: Path, name: str) -> None:
    """Voltage, state and a parameter, against central differences of the same run at tight tolerances."""
    wave = torch.tensor([0.1, 0.5, 0.9, 0.2], dtype=torch.float64, requires_grad=True)
    state = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    k = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)

    def run(wave: torch.Tensor, state: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        told = {"rtol": 1e-8, "atol": 1e-8, **DRIVES[name]}
        trace = device(relaxing, k=1e6 * k).simulate(wave, 2e-7, state=state, **told)
        parts = torch.stack([trace.state, 1e3 * trace.current, trace.device_voltage])
        return (
            parts * torch.linspace(0.5, 1.5, parts.numel(), dtype=torch.float64).reshape(parts.shape)
        ).sum()

    inputs = (wave, state, k)
    found = torch.autograd.grad(run(*inputs), inputs)
    for which, slopes in enumerate(found):
        for entry in range(slopes.numel()):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [value.detach().clone() for value in inputs]
                moved[which][entry] += step
                ends.append(float(run(*moved)))
            assert float(slopes[entry]) == pytest.approx(
                (ends[0] - ends[1]) / 2e-4, abs=TRAJECTORY_DIFFERENCE
            )


def test_the_gradient_of_a_closed_form(relaxing: Path) -> None:
    """At 0 V x = x0 exp(-t/tau), so dx/dx0 = exp(-t/tau)."""
    start = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    trace = device(relaxing).simulate([0.0] * 5, 5e-7, state=start)
    (slope,) = torch.autograd.grad(trace.state[-1], start)
    assert float(slope) == pytest.approx(math.exp(-2.0), abs=TRAJECTORY_GRADIENT)
    assert float(trace.state[-1].detach()) == pytest.approx(0.7 * math.exp(-2.0), abs=DRIVEN)


def test_no_gradient_costs_nothing_and_ngspice_has_none(relaxing: Path) -> None:
    assert not device(relaxing).simulate([0.0, 1.0], 1e-7, state=0.5).state.requires_grad
    wave = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(SpecError, match="voltage asks for a gradient, which ngspice does not have"):
        device(relaxing).simulate(wave, 1e-7, state=0.5, engine="ngspice")
    with torch.no_grad():
        device(relaxing).simulate(wave, 1e-7, state=0.5, engine="ngspice")
