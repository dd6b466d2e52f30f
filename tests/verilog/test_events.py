"""Events at times of their own: where they happen, that they happen once, and that what they set stays."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cosim
from cosim.errors import ModelError, ParseError, SpecError
from tolerances import EVENT_TIME
from verilog.host import cell, current
from verilog.test_memory import device, sine

ENGINES = ["torch", "ngspice"]


def simulate(
    own: cosim.Device, monkeypatch: pytest.MonkeyPatch, engine: str, samples: int = 101, **options: Any
) -> np.ndarray:
    """The current under a sine of 1 V and 1 us; engine "many": the integrator in torch."""
    if engine == "many":
        monkeypatch.setattr("cosim.devices.dynamics._FEW", 0)
        engine = "torch"
    time, volts = sine(samples)
    trace = own.simulate(torch.tensor(volts), time=torch.tensor(time), engine=engine, **options)
    return trace.current.numpy()


def crossings(level: float, signs: tuple[int, ...]) -> list[float]:
    """When the waveform, linear between its samples, goes through ``level`` volt."""
    time, volts = sine(101)
    found = []
    for k, (one, other) in enumerate(itertools.pairwise(volts - level)):
        if one * other < 0.0 and np.sign(other - one) in signs:
            found.append(time[k] + one / (one - other) * (time[k + 1] - time[k]))
    return found


@pytest.mark.parametrize("engine", [*ENGINES, "many"])
@pytest.mark.parametrize(
    ("event", "times"),
    [
        ("cross(V(p, n) - 0.6)", crossings(0.6, (1, -1))),
        ("cross(V(p, n) - 0.6, -1, 1p, 1u)", crossings(0.6, (-1,))),
        ("above(-0.6 - V(p, n))", crossings(-0.6, (-1,))),
    ],
)
def test_crossings_are_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str, times: list[float], engine: str
):
    body = f"@({event}) begin count = count + 1; last = $abstime; end I(p, n) <+ mode ? count : last;"
    own = device(tmp_path, "parameter integer mode = 0; integer count; real last;", body)
    counted = simulate(own.replace(mode=1), monkeypatch, engine)
    time, _ = sine(101)
    assert counted.tolist() == [float((np.array(times) < t).sum()) for t in time]
    found = np.unique(simulate(own, monkeypatch, engine))[1:]
    np.testing.assert_allclose(found, times, rtol=0, atol=EVENT_TIME * 1e-8)  # of the 10 ns between samples


@pytest.mark.parametrize("engine", ENGINES)
def test_timers_are_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str):
    body = (
        "@(timer(first, 125n)) begin count = count + 1; last = $abstime; end I(p, n) <+ mode ? count : last;"
    )
    declarations = "parameter integer mode = 0; parameter real first = 33n; integer count; real last;"
    own = device(tmp_path, declarations, body)
    time, _ = sine(101)
    due = 33e-9 + 125e-9 * np.arange(8)
    counted = simulate(own.replace(mode=1), monkeypatch, engine)
    assert counted.tolist() == [float((due < t + 1e-12).sum()) for t in time]
    np.testing.assert_allclose(np.unique(simulate(own, monkeypatch, engine))[1:], due, rtol=1e-9)
    once = device(tmp_path, declarations, body.replace(", 125n", ""))
    assert simulate(once.replace(mode=1), monkeypatch, engine)[-1] == 1.0
    assert simulate(once.replace(mode=1, first=0.0), monkeypatch, engine)[0] == 1.0


SWITCHES = {
    "events": ("integer on;", "@(cross(V(p, n) - 0.6, +1)) on = 1; @(cross(V(p, n) - 0.05, -1)) on = 0;"),
    "conditions": ("integer on;", "if (V(p, n) > 0.6) on = 1; else if (V(p, n) < 0.05) on = 0;"),
    "a real": (
        "real on; parameter real yes = 1;",
        "if (on > 0.5 && V(p, n) < 0.05) on = 0; if (V(p, n) > 0.6) on = yes;",
    ),
}


@pytest.mark.parametrize(
    ("engine", "series"), [("torch", 0.0), ("torch", 2e3), ("many", 2e3), ("ngspice", 2e3)]
)
@pytest.mark.parametrize("style", SWITCHES)
def test_a_hysteretic_switch_behind_a_resistance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str, engine: str, series: float
):
    """On at 0.6 V, where the voltage behind the resistance falls to a fifth; off below 0.05 V.

    With conditions there is no solution at the point of the switch: on, the voltage is too low for it.
    """
    declarations, body = SWITCHES[style]
    own = device(tmp_path, declarations, body + "I(p, n) <+ (on > 0 ? 2e-3 : 1e-6)*V(p, n);")
    _, volts = sine(101)
    on, expected = False, []
    conductance = 1e-6
    for volt in volts:
        across = volt / (1.0 + series * conductance)
        on = True if across > 0.6 else False if across < 0.05 else on
        conductance = 2e-3 if on else 1e-6
        expected.append(volt / (1.0 / conductance + series))
    found = simulate(own, monkeypatch, engine, series=series)
    assert max(expected) > 1e-4
    # the sample that is nearest to a crossing may lie on either side of it
    assert (np.abs(found - expected) > 1e-6 * max(expected)).sum() <= 2


def test_a_switch_that_leaves_no_solution_has_no_gradient(tmp_path: Path):
    declarations, body = SWITCHES["conditions"]
    own = device(tmp_path, declarations, body + "I(p, n) <+ (on ? 2e-3 : 1e-6)*V(p, n);")
    time, volts = sine(101)
    voltage = torch.tensor(volts, requires_grad=True)
    with pytest.raises(SpecError, match="a switch of own"):
        own.simulate(voltage, time=torch.tensor(time), series=2e3)


def test_what_an_event_sets_acts_from_the_crossing_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The charge that flows after the crossing, in closed form: the instant counts, not the sample."""
    body = "@(cross(V(p, n) - 0.6, +1)) on = 1; q = idt(on*V(p, n), 0); I(p, n) <+ q;"
    own = device(tmp_path, "integer on; real q;", body)
    (start,) = crossings(0.6, (1,))
    time, volts = sine(101)
    corners = np.array([start, *time[11:51]])
    charge = np.trapezoid([0.6, *volts[11:51]], corners)
    for engine in ENGINES:
        assert simulate(own, monkeypatch, engine)[50] == pytest.approx(charge, rel=1e-4)


def test_the_last_crossing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = device(tmp_path, "", "I(p, n) <+ last_crossing(V(p, n) - 0.6, 1);")
    for engine in ENGINES:
        found = simulate(own, monkeypatch, engine)
        assert found[0] == -1.0
        assert found[-1] == pytest.approx(crossings(0.6, (1,))[0], abs=EVENT_TIME * 1e-8)


def test_above_holds_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = device(tmp_path, "integer on;", "@(above(0.5 + V(p, n))) on = on + 1; I(p, n) <+ on;")
    assert float(own.current(0.0)) == 1.0
    assert float(own.current(-0.6)) == 0.0
    for engine in ENGINES:
        found = simulate(own, monkeypatch, engine)
        assert (found[0], found[-1]) == (1.0, 2.0)


def test_bound_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file's own explicit Euler: its error is that of its own steps, whatever the samples are."""
    body = "w = w*(1 - rate*($abstime - t)); t = $abstime; $bound_step(bound); I(p, n) <+ w;"
    own = device(tmp_path, "real w = 1.0; real t; parameter real bound = 1u;", body)
    for engine in ENGINES:
        for bound in (10e-9, 5e-9):
            error = simulate(own.replace(bound=bound), monkeypatch, engine, 11)[-1] / math.exp(-2.0) - 1.0
            # (1 - rate*h)^(t/h) = exp(-rate*t - rate^2*h*t/2), and ngspice's steps are a little shorter
            assert -1.05 * 2.0 * 2e6 * bound / 2 < error < -0.7 * 2.0 * 2e6 * bound / 2


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("@(changed(V(p, n))) x = 1;", ModelError, "event changed is not known: cosim has initial_step"),
        ("@(cross()) x = 1;", ParseError, "cross takes an expression, a direction and two tolerances"),
        ("@(timer(1n)) I(p, n) <+ 1;", ModelError, "a contribution inside an event"),
    ],
)
def test_refusals(body: str, error: type, message: str):
    with pytest.raises(error, match=message):
        cell(body + "I(p, n) <+ x;", "real x;")


@pytest.mark.parametrize(
    ("analyses", "noted"), [('("tran")', True), ('("static", "tran")', False), ("", False)]
)
def test_a_start_for_some_analyses_is_told(analyses: str, noted: bool):
    """What a transient starts from is what a read sees, too."""
    ir = cell(f"@(initial_step{analyses}) x = 2m; I(p, n) <+ x*V(p, n);", "real x;")
    assert any("is the start of every analysis" in note for note in ir.notes) is noted
    assert current(ir, 0.5) == pytest.approx(1e-3, rel=1e-15)
