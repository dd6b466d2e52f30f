"""Operators that remember the last accepted point: against closed forms, point by point and in ngspice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

import cosim
from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.devices.ir import DeviceIR
from cosim.errors import CosimError
from tolerances import CLOSED_FORM, FILTER_STEP, FINITE_DIFFERENCE, OPERATOR_STEP
from verilog.host import at, cell
from verilog.simulator import plot


def run(ir: DeviceIR, points: Iterable[tuple[float, float]]) -> list[float]:
    """The current at (time, voltage) after (time, voltage), the first one at rest; each is accepted."""
    setup, kept, found = run_setup(ir, {}), {}, []
    for k, (time, volt) in enumerate(points):
        conditions = Conditions(abstime=time, starting=k == 0, integrating=k > 0, kept=kept)
        evaluate(ir, setup, [volt + 1.0, 0.0], {}, conditions)  # of a rejected step: nothing stays
        point = evaluate(ir, setup, [volt, 0.0], {}, conditions)
        kept = point.kept
        found.append(float(point.resist[0]))
    return found


def test_slew_follows_no_faster_than_its_rates():
    ir = cell("I(p, n) <+ slew(V(p, n), 2, -1);")
    points = [(0.0, 1.0), (0.5, 1.5), (1.0, 9.0), (2.0, 9.0), (6.0, 9.0), (6.5, 0.0), (20.0, 0.25)]
    assert run(ir, points) == pytest.approx([1.0, 1.5, 2.5, 4.5, 9.0, 8.5, 0.25], rel=CLOSED_FORM)
    free = evaluate(ir, run_setup(ir, {}), [0.1, 0.0], {}, Conditions(starting=False, abstime=1.0))
    held = evaluate(ir, run_setup(ir, {}), [5.0, 0.0], {}, Conditions(starting=False, abstime=1.0))
    assert (free.jacobian_resist[0, 0], held.jacobian_resist[0, 0]) == (1.0, 0.0)
    assert run(cell("I(p, n) <+ slew(V(p, n), 2);"), [(0.0, 0.0), (1.0, -5.0)])[1] == pytest.approx(-2.0)


def test_transition_draws_straight_edges_behind_a_delay():
    ir = cell("I(p, n) <+ transition(V(p, n), 1, 4, 2);")
    points = [(0.0, 0.0), (1.0, 8.0), (2.0, 8.0), (3.0, 8.0), (4.0, 8.0), (6.0, 8.0), (7.0, 8.0)]
    assert run(ir, points) == pytest.approx([0.0, 0.0, 0.0, 2.0, 4.0, 8.0, 8.0], rel=CLOSED_FORM)
    # falling in half the time, from where the edge is interrupted
    points = [(0.0, 0.0), (1.0, 8.0), (4.0, 8.0), (5.0, 0.0), (6.0, 0.0), (7.0, 0.0), (8.0, 0.0)]
    assert run(ir, points) == pytest.approx([0.0, 0.0, 4.0, 6.0, 6.0, 3.0, 0.0], rel=CLOSED_FORM)
    assert run(cell("I(p, n) <+ transition(V(p, n));"), [(0.0, 1.0), (1.0, 2.0), (1.1, 2.0)]) == [
        1.0,
        1.0,
        2.0,
    ]


def test_last_crossing_is_the_time_on_the_straight_line():
    points = [(0.0, -1.0), (1.0, 1.0), (2.0, 3.0), (3.0, -1.0), (4.0, -2.0), (8.0, 2.0)]
    both = run(cell("I(p, n) <+ last_crossing(V(p, n));"), points)
    assert both == pytest.approx([-1.0, 0.5, 0.5, 2.75, 2.75, 6.0], rel=CLOSED_FORM)
    rising = run(cell("I(p, n) <+ last_crossing(V(p, n), +1);"), points)
    assert rising == pytest.approx([-1.0, 0.5, 0.5, 0.5, 0.5, 6.0], rel=CLOSED_FORM)
    falling = run(cell("I(p, n) <+ last_crossing(V(p, n), -1);"), points)
    assert falling == pytest.approx([-1.0, -1.0, -1.0, 2.75, 2.75, 2.75], rel=CLOSED_FORM)
    ir = cell("I(p, n) <+ last_crossing(V(p, n));")
    slopes = []
    for volt in (1.0 - 1e-6, 1.0, 1.0 + 1e-6):
        conditions = Conditions(abstime=1.0, starting=False, kept={"$input1": -1.0})
        slopes.append(evaluate(ir, run_setup(ir, {}), [volt, 0.0], {}, conditions))
    difference = (slopes[2].resist[0] - slopes[0].resist[0]) / 2e-6
    assert slopes[1].jacobian_resist[0, 0] == pytest.approx(difference, rel=FINITE_DIFFERENCE)


DRIVES = {
    # V(out) over 10 us, with pulses of 1 V, 2 us of 4 us, behind edges of 1 ns
    "slew(V(p), 2M, -1M)": lambda t: np.minimum(np.minimum(t % 4 * 2, 1), np.maximum(0, 3 - t % 4)),
    "transition(V(p) > 0.5 ? 1.0 : 0.0, 0.1u, 1u, 0.5u)": lambda t: np.where(
        t % 4 < 2, np.clip(t % 4 - 0.1, 0, 1), np.clip(1 - (t % 4 - 2.1) / 0.5, 0, 1)
    ),
    "1M*idt(V(p), 0.25u, V(p) < 0.5)": lambda t: np.where(t % 4 < 2, 0.25 + t % 4, 0.25),
    "1M*idt(1.0, 0, V(p) > 0.5)": lambda t: np.where(t % 4 < 2, 0.0, t % 4 - 2),
}  # fmt: skip


@pytest.mark.parametrize("expression", DRIVES)
def test_operators_in_ngspice_follow_their_closed_form(expression: str):
    ir = cell(f"V(n) <+ {expression};")
    deck = "v1 p 0 pulse(0 1 0 1n 1n 2u 4u)\nn1 p out dev\n"
    found = plot(ir, deck, "tran 5n 10u 0 5n")
    time = found["time"] * 1e6
    truth = DRIVES[expression](time)
    away = np.minimum(time % 2, 2 - time % 2) > 0.03  # us: from an edge of the source
    assert np.abs(found["v(out)"] - truth)[away].max() < OPERATOR_STEP


def test_filter_and_slew_in_torch(tmp_path: Path):
    time = np.linspace(0, 10e-6, 501)
    volts = np.sin(4e5 * np.pi * time)
    found = {}
    for name, expression in (
        ("filter", "laplace_nd(V(p, n), '{1}, '{1, 1u})"),
        ("slew", "slew(V(p, n), 0.5M, -0.5M)"),
    ):
        path = tmp_path / f"{name}.va"
        path.write_text(
            f"module m(p, n); inout p, n; electrical p, n; analog I(p, n) <+ 1m*{expression};\nendmodule\n"
        )
        trace = cosim.Device(path).simulate(torch.tensor(volts), time=torch.tensor(time))
        found[name] = trace.current.numpy() * 1e3
    even = np.linspace(0, 10e-6, 20_001)
    truth = signal.lsim(((1.0,), (1e-6, 1.0)), np.sin(4e5 * np.pi * even), even)[1][::40]
    assert np.abs(found["filter"] - truth).max() < FILTER_STEP
    limited, most = [0.0], 0.5e6 * (time[1] - time[0])
    for volt in volts[1:]:
        limited.append(min(max(volt, limited[-1] - most), limited[-1] + most))
    assert np.allclose(found["slew"], limited, rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(
    "expression", ["slew(V(p, n), 1, -1)", "transition(V(p, n), 0, 1)", "idt(0, V(p, n), 1)"]
)
def test_at_rest_they_pass_their_input_with_its_slope(expression: str):
    found = at(cell(f"I(p, n) <+ {expression};"), [0.7, 0.0])
    assert found.resist[0] == pytest.approx(0.7)
    assert found.jacobian_resist[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("slew(V(p, n), -1, -1)", "the rising rate of slew must be above 0"),
        ("slew(V(p, n), 1, 1)", "the falling rate of slew must be below 0"),
        ("transition(V(p, n), , 1n)", "an argument of transition is empty"),
        ("last_crossing(V(p, n), 1, 1)", "last_crossing takes 1 to 2 arguments, not 3"),
        ("idt(V(p, n), , 1)", "an argument of idt is empty"),
    ],
)
def test_wrong_arguments_are_told(expression: str, message: str):
    with pytest.raises(CosimError, match=message):
        cell(f"I(p, n) <+ {expression};")
