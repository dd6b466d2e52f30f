"""Every transient starts at the state that was asked for, whatever the idiom of the file; both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from cosim import Device
from tolerances import ROUNDING, STARTED

STATES = (0.5, 0.8)
WAVE, DT = np.array([0.0, 0.5, 1.0, 1.0, 0.2, 0.0]), 2e-7
FAST, TAU = 1e6, 1e-6  # 1/(V s), s

RELAXING = "rate = 1e6*V(p, n)*(1.0 - x) - x/1e-6;"
CURRENT = "I(p, n) <+ (1e-6 + 1e-3*x)*V(p, n);"
# how a file may carry its state -> the body of its analog block, and what Device is told beside it
IDIOMS = {
    "deviation": (f"x = x0 + V(y); {RELAXING} {CURRENT} I(y) <+ ddt(1e-9*V(y)) - 1e-9*rate;", {}),
    "written": (
        f"x = x0 + V(y); {RELAXING} {CURRENT} "
        "I(y) <+ ddt(1e-9*V(y)) - write*1e-9*rate + (1 - write)*1e-3*V(y);",
        {"write": "write"},
    ),
    "guarded": (
        f"x = x0 + V(y); {RELAXING} {CURRENT} run = (write == 1 && $abstime > 0.0) ? 1.0 : 0.0; "
        "I(y) <+ ddt(1e-9*V(y)) - run*1e-9*rate + (1.0 - run)*1e-3*V(y);",
        {"write": "write"},
    ),
    "scaled": (
        f"x = x0 + 0.01*V(y); {RELAXING} {CURRENT} I(y) <+ ddt(1e-9*V(y)) - 1e-7*rate;",
        {"state_scale": 0.01},
    ),
    "absolute": (
        f"x = V(y); {RELAXING} {CURRENT} I(y) <+ ddt(1e-9*V(y)); "
        'if (analysis("static")) I(y) <+ V(y) - x0; else I(y) <+ -1e-9*rate;',
        {},
    ),
    "absolute, read in time": (
        f"x = V(y); {RELAXING} I(p, n) <+ (1e-6 + 1e-3*x + 0.0*V(y)*x0)*V(p, n); I(y) <+ ddt(1e-9*V(y)); "
        'if (analysis("static")) I(y) <+ V(y) - x0; else I(y) <+ -1e-9*rate*(1.0 + 1e-14*x0);',
        {},
    ),
    "absolute, parameter unused": (
        f"x = V(y); {RELAXING} {CURRENT} I(y) <+ ddt(1e-9*V(y)) - 1e-9*rate;",
        {},
    ),
    "absolute, scaled": (
        f"x = 1e-3*V(y); {RELAXING} {CURRENT} I(y) <+ ddt(1e-9*V(y)) - 1e-6*rate;",
        {"state_scale": 1e-3},
    ),
}


def device(folder: Path, idiom: str) -> Device:
    body, more = IDIOMS[idiom]
    path = folder / "relaxing.va"
    path.write_text(
        f"""`include "disciplines.vams"
        module relaxing(p, n);
            inout p, n; electrical p, n, y;
            parameter real x0 = 0.5 from [0:1];
            parameter integer write = 0 from [0:1];
            real x, rate, run;
            analog begin {body} end
        endmodule"""
    )
    return Device(path, state="x0", state_range=(0, 1), state_node="y", **more)


def path_of(start: float, times: np.ndarray) -> np.ndarray:
    """x(t) of the rate equation, integrated by scipy."""
    corners = DT * np.arange(len(WAVE))

    def rate(t: float, x: np.ndarray) -> np.ndarray:
        return FAST * np.interp(t, corners, WAVE) * (1 - x) - x / TAU

    done = solve_ivp(rate, (0.0, times[-1]), [start], t_eval=times, rtol=1e-10, atol=1e-12, max_step=DT / 10)
    return done.y[0]


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
@pytest.mark.parametrize("idiom", IDIOMS)
def test_it_starts_where_it_was_told_to(tmp_path: Path, idiom: str, engine: str) -> None:
    more = {"max_step": DT / 40} if engine == "ngspice" else {}
    trace = device(tmp_path, idiom).simulate(WAVE, DT, state=STATES, engine=engine, **more)
    for k, start in enumerate(STATES):
        wanted = path_of(start, DT * np.arange(len(WAVE)))
        assert float(trace.state[0, k]) == pytest.approx(start, rel=ROUNDING)
        assert trace.state[:, k].numpy() == pytest.approx(wanted, abs=STARTED)
        current = (1e-6 + 1e-3 * wanted) * WAVE
        assert trace.current[:, k].numpy() == pytest.approx(current, abs=STARTED * 1e-3)


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_the_first_steps_leave_from_there(tmp_path: Path, engine: str) -> None:
    """A constant voltage, sampled a thousand times more finely than the state relaxes."""
    dt = 1e-9
    trace = device(tmp_path, "deviation").simulate(np.full(5, 0.0), dt, state=0.5, engine=engine)
    wanted = 0.5 * np.exp(-dt * np.arange(5) / TAU)
    assert trace.state.numpy() == pytest.approx(wanted, abs=1e-3 * STARTED)


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_the_first_sample_is_the_static_current_at_the_state(tmp_path: Path, engine: str) -> None:
    trace = device(tmp_path, "deviation").simulate([0.7, 0.7], 1e-12, state=0.25, engine=engine)
    assert float(trace.current[0]) == pytest.approx((1e-6 + 1e-3 * 0.25) * 0.7, rel=STARTED)


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_an_integral_starts_at_its_parameter(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "flux.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule flux(p, n); inout p, n; electrical p, n; '
        "parameter real x0 = 0.5 from [0:1]; real x; "
        f"analog begin x = idt(1e6*V(p, n), x0); {CURRENT} end endmodule"
    )
    flux = Device(path, state="x0", state_range=(0, 1))
    trace = flux.simulate([0.0, 0.5, 0.5], 1e-7, state=STATES, engine=engine)
    wanted = np.array(STATES) + np.array([0.0, 0.025, 0.075])[:, None]
    assert trace.state.numpy() == pytest.approx(wanted, abs=STARTED)
