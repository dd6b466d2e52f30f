"""The state of a model is found: what carries it, what sets it, what switches writing on; no option given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import cosim
from cosim import Device
from cosim.errors import SpecError
from tolerances import STARTED, TRANSIENT_REFINED

READ = "I(p, n) <+ (1e-6 + 1e-3*x)*V(p, n);"
RATE = "rate = 1e6*V(p, n)*(1.0 - x);"
# style -> ports, declarations, body; what is found: (node, parameter, scale), what switches writing on
STYLES = {
    "internal node": (
        "p, n", "electrical s;", f"x = V(s); {RATE} I(s) <+ ddt(V(s)); I(s) <+ -rate; {READ}",
        ("s", "cosim_start", 1.0), "",
    ),
    "port": (
        "p, n, s", "", f"x = V(s); {RATE} I(s) <+ ddt(V(s)); I(s) <+ -rate; {READ}",
        ("s", "cosim_start", 1.0), "",
    ),
    "scaled charge": (
        "p, n", "electrical s;", f"x = 1e-3*V(s); {RATE} I(s) <+ ddt(1e-9*V(s)) - 1e-6*rate; {READ}",
        ("s", "cosim_start", 1.0), "",
    ),
    "integral": (
        "p, n", "", f"x = idt(1e6*V(p, n), x0); {READ}",
        ("implicit_equation_0", "x0", 1.0), "",
    ),
    "integral from 0": (
        "p, n", "", f"x = x0 + idt(1e6*V(p, n), 0.0); {READ}",
        ("implicit_equation_0", "x0", 1.0), "",
    ),
    "integral without start": (
        "p, n", "", f"x = 0.25*idt(4e6*V(p, n)); {READ}",
        ("implicit_equation_0", "cosim_start", 1.0), "",
    ),
    "integral of another unit": (
        "p, n", "", f"x = 1e-9*idt(1e15*V(p, n), x0/1e-9); {READ}",
        ("implicit_equation_0", "x0", 1e-9), "",
    ),
    "initial condition": (
        "p, n", "electrical s;",
        f'x = V(s); {RATE} if (analysis("ic")) V(s) <+ x0; else I(s) <+ ddt(V(s)) - rate; {READ}',
        ("s", "x0", 1.0), "",
    ),
    "static equation": (
        "p, n", "electrical s;",
        f'x = V(s); {RATE} I(s) <+ ddt(V(s)); if (analysis("static")) I(s) <+ V(s) - x0; '
        f"else I(s) <+ -rate; {READ}",
        ("s", "x0", 1.0), "",
    ),
    "deviation": (
        "p, n", "electrical y;", f"x = x0 + V(y); {RATE} I(y) <+ ddt(V(y)) - rate; {READ}",
        ("y", "x0", 1.0), "",
    ),
    "scaled deviation": (
        "p, n", "electrical y;", f"x = x0 + 0.01*V(y); {RATE} I(y) <+ ddt(V(y)) - 100.0*rate; {READ}",
        ("y", "x0", 0.01), "",
    ),
    "deviation with a switch": (
        "p, n", "electrical y; parameter integer on = 0 from [0:1];",
        f"x = x0 + V(y); {RATE} if (on == 1) I(y) <+ ddt(V(y)) - rate; else I(y) <+ V(y); {READ}",
        ("y", "x0", 1.0), "on",
    ),
    "behind a series resistance": (
        "p, n", "electrical i, y;",
        "x = V(y); I(y) <+ ddt(V(y)) - 1e6*V(i, n)*(1.0 - x); I(p, i) <+ V(p, i)/1e-3; "
        "I(i, n) <+ (1e-6 + 1e-3*x)*V(i, n); I(i, n) <+ ddt(1e-18*V(i, n));",
        ("y", "cosim_start", 1.0), "",
    ),
    "with heat": (
        "p, n", "electrical y, t;",
        f"x = V(y); {RATE} I(y) <+ ddt(V(y)) - rate*(1.0 + 0.0*V(t)); {READ} "
        "I(t) <+ ddt(1e-12*V(t)) + V(t)/1e5 - V(p, n)*V(p, n)*(1e-6 + 1e-3*x);",
        ("y", "cosim_start", 1.0), "",
    ),
}  # fmt: skip
LINEAR = [style for style in STYLES if style.startswith("integral")]  # without the factor (1 - x)


def write(folder: Path, style: str) -> Path:
    ports, declarations, body, _, _ = STYLES[style]
    path = folder / "styled.va"
    path.write_text(
        f'`include "disciplines.vams"\nmodule styled({ports}); inout {ports}; electrical {ports};\n'
        f"{declarations} parameter real x0 = 0.125 from [0:1]; real x, rate;\n"
        f"analog begin {body} end\nendmodule\n"
    )
    return path


def unit(style: str) -> float:
    """Of the found state, for x as 1."""
    return {"integral without start": 4.0, "scaled charge": 1e3}.get(style, 1.0)


@pytest.mark.parametrize("style", STYLES)
def test_the_state_is_found(tmp_path: Path, style: str) -> None:
    device = Device(write(tmp_path, style))
    assert device.memory is not None
    found = (device.state_node, device.state_parameter, pytest.approx(device.state_scale))
    *_, (node, parameter, scale), switch = STYLES[style]
    assert found == (node, parameter, scale)
    assert (device.write_parameter or "") == switch
    assert device.ir.terminals == ("p", "n")


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
@pytest.mark.parametrize("style", STYLES)
def test_it_switches_from_where_it_is_told(tmp_path: Path, style: str, engine: str) -> None:
    device, dt = Device(write(tmp_path, style)), 5e-8
    wave = np.array([0.0, 0.3, 0.6, 0.6, 0.1, -0.2, 0.0])
    times = dt * np.arange(len(wave))
    damped = style not in LINEAR

    def rate(t: float, x: np.ndarray) -> np.ndarray:
        return 1e6 * np.interp(t, times, wave) * (1 - damped * x)

    done = solve_ivp(rate, (0, times[-1]), [0.3], t_eval=times, rtol=1e-10, atol=1e-12, max_step=dt / 5)
    more = {"max_step": dt / 20} if engine == "ngspice" else {}
    trace = device.simulate(wave, dt, state=0.3 * unit(style), engine=engine, **more)
    assert float(trace.state[0]) == pytest.approx(0.3 * unit(style), rel=1e-9)
    assert trace.state.numpy() / unit(style) == pytest.approx(done.y[0], abs=10 * STARTED)
    current = (1e-6 + 1e-3 * done.y[0]) * wave
    assert trace.current.numpy() == pytest.approx(current, abs=10 * STARTED * 1e-3)


@pytest.mark.parametrize("style", STYLES)
def test_a_tile_reads_the_state_frozen(tmp_path: Path, style: str) -> None:
    device = Device(write(tmp_path, style))
    state = torch.tensor([[0.0, 0.2, 0.9], [0.4, 0.6, 1.0]], dtype=torch.float64)
    tile = cosim.Tile(device, state=state * unit(style))
    volts = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    wanted = volts @ (1e-6 + 1e-3 * state)
    for engine in ("newton", "ngspice"):
        found = cosim.solve(tile, volts, engine=engine).currents
        assert found.numpy() == pytest.approx(wanted.numpy(), rel=2e-6)
    ours = device.current(volts.T, state * unit(style)).numpy()
    assert ours == pytest.approx((volts.T * (1e-6 + 1e-3 * state)).numpy(), rel=2e-6)


def test_without_a_state_it_starts_where_the_file_says(tmp_path: Path) -> None:
    for style in ("integral", "deviation", "initial condition", "static equation"):
        device = Device(write(tmp_path, style))
        assert float(device.current(1.0)) == pytest.approx(1e-6 + 1e-3 * 0.125)
        assert float(device.replace(x0=0.5).current(1.0)) == pytest.approx(1e-6 + 1e-3 * 0.5)
        assert float(device.simulate([0.0, 0.1], 1e-9).state[0]) == pytest.approx(0.125)
    zero = Device(write(tmp_path, "integral without start"))
    assert float(zero.current(1.0)) == pytest.approx(1e-6)
    with pytest.raises(SpecError, match=r"styled needs a state: give state= \(V\(s\)\)"):
        Device(write(tmp_path, "internal node")).current(0.1)


def test_a_tile_by_shape_starts_where_the_file_says(tmp_path: Path) -> None:
    tile = cosim.Tile(Device(write(tmp_path, "integral")), shape=(2, 3))
    assert tile.state.tolist() == [[0.125] * 3] * 2


def test_the_range_is_that_of_the_parameter_or_asked_for(tmp_path: Path) -> None:
    device = Device(write(tmp_path, "deviation"))
    assert device.state_range == (0.0, 1.0)
    assert float(device.state_for(5e-4)) == pytest.approx((5e-4 - 1e-6) / 1e-3)
    path = write(tmp_path, "internal node")
    with pytest.raises(
        SpecError, match=r"the range of the state of styled, V\(s\), is not known: give .*state_range="
    ):
        Device(path).state_for(5e-4)
    assert float(Device(path, state_range=(0, 1)).state_for(5e-4)) == pytest.approx((5e-4 - 1e-6) / 1e-3)
    with pytest.raises(SpecError, match=r"state\[\] is 2.0: V\(s\) of styled goes from 0.0 to 1.0"):
        Device(path, state_range=(0, 1)).current(0.1, 2.0)


def test_options_overrule(tmp_path: Path) -> None:
    path = write(tmp_path, "deviation with a switch")
    assert Device(path, write="on", state="x0", state_node="y").write_parameter == "on"
    assert Device(path, on=1).write_parameter is None
    still = Device(path, on=0).simulate([0.0, 1.0, 1.0], 1e-7, state=0.3)
    assert still.state.tolist() == pytest.approx([0.3] * 3)
    heat = Device(write(tmp_path, "with heat"), state_node="t")
    assert heat.memory is not None
    assert (heat.state_node, heat.state_parameter, list(heat.memory.others)) == ("t", "cosim_start", ["y"])


def test_the_state_is_told(tmp_path: Path) -> None:
    text = str(Device(write(tmp_path, "deviation with a switch"), x0=0.5))
    assert "state: x0, 0 to 1, moved by V(y); found: voltages move it" in text
    assert "writing is on while on = 1" in text
    assert "x0 = 0.5 (given)" in text
    text = str(Device(write(tmp_path, "port")))
    assert "terminals: p and n, s open (it shows what the model computes)" in text
    assert "state: V(s); found" in text


def test_what_relaxes_by_itself_is_no_state(tmp_path: Path) -> None:
    """A self-heating resistor has one static current; nobody has to tell its temperature."""
    path = tmp_path / "hot.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule hot(p, n); inout p, n; electrical p, n, t; analog begin '
        "I(p, n) <+ V(p, n)/(1e3*(1.0 + 0.01*V(t))); I(t) <+ ddt(1e-12*V(t)) + V(t)/1e5; "
        "I(t) <+ -V(p, n)*V(p, n)/(1e3*(1.0 + 0.01*V(t))); end endmodule"
    )
    device = Device(path)
    assert (device.memory, device.state_parameter) == (None, None)
    kelvin = (-1 + np.sqrt(1 + 4 * 0.01 * 1e5 * 1e-3)) / 0.02
    assert float(device.current(1.0)) == pytest.approx(1 / (1e3 * (1 + 0.01 * kelvin)), rel=1e-12)


def test_two_states_rest_together(tmp_path: Path) -> None:
    """The second is held where the file starts it, or the caller says; both move in a transient."""
    path = tmp_path / "two.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule two(p, n); inout p, n; electrical p, n, a, b; '
        "parameter real b0 = 0.5; real x; analog begin x = V(a)*(b0 + V(b)); "
        "I(a) <+ ddt(V(a)) - 1e6*V(p, n); I(b) <+ ddt(V(b)) - 1e6*V(p, n); "
        f"{READ} end endmodule"
    )
    device = Device(path, b0=0.25)
    assert float(device.current(1.0, 0.5)) == pytest.approx(1e-6 + 1e-3 * 0.5 * 0.25)
    for engine in ("torch", "ngspice"):
        trace = device.simulate(np.linspace(0, 1, 21), 1e-8, state=0.5, engine=engine)
        moved = 0.5 * 1e6 * 2e-7
        wanted = 1e-6 + 1e-3 * (0.5 + moved) * (0.25 + moved)
        assert float(trace.current[-1]) == pytest.approx(wanted, rel=TRANSIENT_REFINED)
