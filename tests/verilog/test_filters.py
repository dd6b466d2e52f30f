"""laplace_* filters against scipy.signal: in ngspice (op, ac, tran) and as a static gain in torch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from cosim.devices.interp import Conditions
from cosim.errors import ModelError, ParseError
from tolerances import CLOSED_FORM, FILTER_STEP, NGSPICE_PRINTED
from verilog.host import at, cell, current
from verilog.simulator import plot

W = 2e6 * np.pi  # rad/s
FILTERS = {
    # one pole, its time constant a parameter
    "laplace_nd(V(p), '{2}, '{1, tau})": ([2.0], [1e-6, 1.0]),
    "laplace_nd(V(p), {1, 3u}, {4, 2*tau, 1e-12})": ([3e-6, 1.0], [1e-12, 2e-6, 4.0]),
    # a low pass of third order, a pole far away, and as many zeros as poles
    "laplace_np(V(p), '{0.5}, '{-1M, 0, -0.5M, 2M, -0.5M, -2M})": "poles",
    "laplace_zp(V(p), '{0, 0}, '{-1M, 0, -1G, 0})": ([1.0, 0.0], np.polymul([1e-6, 1], [1e-9, 1])),
    "laplace_zd(V(p), '{-2M, 0}, '{1, tau})": ([0.5e-6, 1.0], [1e-6, 1.0]),
}


def transfer(name: str) -> tuple[np.ndarray, np.ndarray]:
    known = FILTERS[name]
    if known != "poles":
        return np.array(known[0]), np.array(known[1])
    poles = np.array([-1e6, -0.5e6 + 2e6j, -0.5e6 - 2e6j])
    denominator = np.real(np.poly(poles) / np.prod(-poles))
    return np.array([0.5]), denominator


@pytest.mark.parametrize("name", FILTERS)
def test_filters_settle_follow_and_pass_frequencies_as_their_transfer_function(name: str):
    numerator, denominator = transfer(name)
    ir = cell(f"V(n) <+ {name};", "parameter real tau = 1u from (0:inf);")
    # a source inside: V(n) is the output, p draws nothing
    deck = "v1 p 0 dc 1 ac 1 pulse(0 1 0 1p 1p 1 2)\nn1 p out dev\n"
    gain = numerator[-1] / denominator[-1]
    assert plot(ir, deck, "op")["v(out)"][0] == pytest.approx(gain, rel=NGSPICE_PRINTED)
    found = plot(ir, deck, f"ac lin 3 {W / 2 / np.pi / 10} {W / 2 / np.pi * 3}")
    s = 2j * np.pi * np.abs(found["frequency"])
    response = np.polyval(numerator, s) / np.polyval(denominator, s)
    assert np.allclose(found["v(out)"], response, rtol=NGSPICE_PRINTED)
    moving = plot(ir, deck, "tran 2n 10u 0 2n")
    time = np.real(moving["time"])
    even, response = signal.step((numerator, denominator), T=np.linspace(0, 10e-6, 5001))
    truth = np.interp(time, even, response)
    late = time > 20e-9  # behind the edge of the source
    assert np.allclose(np.real(moving["v(out)"])[late], truth[late], atol=FILTER_STEP * np.abs(truth).max())


def test_the_static_gain_of_a_filter_is_solved_and_has_a_slope():
    ir = cell("I(p, n) <+ laplace_nd(V(p, n)**2, '{3, 1n}, '{2, 1n, 1p});")
    assert current(ir, 2.0) == pytest.approx(6.0, rel=CLOSED_FORM)
    found = at(ir, [2.0, 0.0, 2.0, 0.0])
    assert np.linalg.matrix_rank(found.jacobian_resist[2:, 2:]) == 2
    total = found.jacobian_resist[0, 0] - found.jacobian_resist[0, 2:] @ np.linalg.solve(
        found.jacobian_resist[2:, 2:], found.jacobian_resist[2:, 0]
    )
    assert total == pytest.approx(1.5 * 4.0, rel=CLOSED_FORM)


def test_a_filter_with_a_pole_at_0_integrates_from_0():
    ir = cell("V(n) <+ laplace_nd(V(p), '{1}, '{0, 1u});")
    assert at(ir, [1.0, 0.0, 0.0]).resist[2] == 0.0
    running = at(ir, [1.0, 0.0, 0.0, 0.0], Conditions(integrating=True))
    assert np.count_nonzero(running.resist) > 0
    found = plot(ir, "v1 p 0 pulse(0 1 0 1p 1p 1 2)\nn1 p out dev", "tran 10n 2u 0 10n")
    late = np.real(found["time"]) > 1e-7
    assert np.allclose(np.real(found["v(out)"])[late], np.real(found["time"])[late] * 1e6, atol=FILTER_STEP)


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        ("laplace_nd(V(p, n), '{1, 1}, '{1})", ModelError, "more zeros than poles"),
        ("laplace_nd(V(p, n), '{V(p, n)}, '{1, 1})", ModelError, "must not change during a run"),
        ("laplace_zp(V(p, n), '{1}, '{1, 0})", ParseError, "a real and an imaginary part of each root"),
        ("laplace_nd(V(p, n), 1, '{1})", ParseError, "an array is needed here"),
        ("laplace_nd(V(p, n))", ParseError, "takes an expression and two arrays"),
        (
            "absdelay(V(p, n), 1n)",
            ModelError,
            "absdelay is not supported: put a transmission line into the netlist",
        ),
    ],
)
def test_what_is_no_filter_is_told(expression: str, error: type, message: str):
    with pytest.raises(error, match=message):
        cell(f"I(p, n) <+ {expression};")
