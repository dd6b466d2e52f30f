"""States that files carry in variables: found, shown by every engine, read in tiles, started where told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim import Device, Tile
from tolerances import CLOSED_FORM, FILE_EULER

EXAMPLE = Path(__file__).parents[2] / "examples/models/euler.va"
MOVE = "w = w + 1e5*V(p, n)*w*(1.0 - w)*($abstime - t_last); t_last = $abstime;"
READ = "I(p, n) <+ (1e-6 + 1e-3*w)*V(p, n);"
START = "@(initial_step) begin w = x0; t_last = 0.0; end"
PARAMETER = "parameter real x0 = 0.3 from [0:1]; real w, t_last;"
SCALED = "D*1e5*V(p, n)*(w/D)*(1.0 - w/D)*($abstime - t_last)"
# style -> declarations, body, the words that say where it starts
STYLES = {
    "parameter": (PARAMETER, f"{START} {MOVE} {READ}", "x0, 0 to 1"),
    "clipped": (PARAMETER, f"{START} {MOVE} if (w > 1.0) w = 1.0; {READ}", "x0, 0 to 1"),
    "literal": ("real w, t_last;", f"{START.replace('x0', '0.3')} {MOVE} {READ}", "0.3"),
    "initialiser": ("real w = 0.3; real t_last = 0.0;", f"{MOVE} {READ}", "0.3"),
    "another unit": (
        f"parameter real D = 10n from (0:inf); {PARAMETER}",
        f"{START.replace('x0', 'x0*D')} w = w + {SCALED}; t_last = $abstime; {READ.replace('*w', '*w/D')}",
        "x0, 0 to 1",
    ),
    "the other end": (
        PARAMETER.replace("0.3", "0.7"),
        f"{START.replace('x0', '1.0 - x0')} {MOVE} {READ}",
        "x0, 0 to 1",
    ),
    "first evaluation": (
        f"{PARAMETER} integer first = 1;",
        f"if (first == 1) begin w = x0; first = 0; end {MOVE} {READ}",
        "x0, 0 to 1",
    ),
}


def device(folder: Path, declarations: str, body: str) -> Device:
    path = folder / "own.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule own(p, n); inout p, n; electrical p, n;\n'
        f"{declarations}\nanalog begin {body} end\nendmodule\n"
    )
    return Device(path)


def euler(time: np.ndarray, volts: np.ndarray, w: float) -> np.ndarray:
    found, last = [], 0.0
    for t, v in zip(time, volts, strict=True):
        w, last = w + 1e5 * v * w * (1.0 - w) * (t - last), t
        found.append(w)
    return np.array(found)


@pytest.mark.parametrize("style", STYLES)
def test_it_is_found_and_starts_where_it_is_told(tmp_path: Path, style: str) -> None:
    own = device(tmp_path, *STYLES[style][:2])
    assert f"state: w, starts at {STYLES[style][2]}, carried in a variable" in str(own)
    time = np.linspace(0.0, 1e-4, 1001)
    volts = np.sin(2e4 * np.pi * time)
    turn = (lambda x: 1.0 - x) if style == "the other end" else (lambda x: x)
    for state in (None, 0.6):
        expected = turn(euler(time, volts, 0.3 if state is None else turn(state)))
        alone = own.simulate(volts, time=time, state=state)
        many = own.simulate(np.repeat(volts[:, None], 40, 1), time=time, state=state)  # in torch, not in C
        theirs = own.simulate(volts, time=time, state=state, engine="ngspice")
        np.testing.assert_allclose(alone.state, expected, rtol=CLOSED_FORM)
        np.testing.assert_allclose(many.state[:, 7], expected, rtol=CLOSED_FORM)
        # ngspice makes shorter steps, so the file's own error is another one
        np.testing.assert_allclose(theirs.state, expected, atol=FILE_EULER)
        shown = (1e-6 + 1e-3 * turn(theirs.state.numpy())) * volts
        np.testing.assert_allclose(theirs.current, shown, rtol=1e-4, atol=1e-8)
        assert float(theirs.state[0]) == pytest.approx(0.7 if turn(0) and not state else state or 0.3)


def test_another_scale_is_followed(tmp_path: Path) -> None:
    own = device(tmp_path, *STYLES["another unit"][:2]).replace(D=3e-9)
    trace = own.simulate(np.zeros(3), 1e-6, state=0.6)
    np.testing.assert_allclose(trace.state, 0.6, rtol=CLOSED_FORM)


def test_cells_are_read_with_their_own_state(tmp_path: Path) -> None:
    state, volts = np.array([[0.1, 0.6], [0.9, 0.4]]), np.array([0.1, 0.05])
    for style in ("parameter", "literal", "another unit", "first evaluation"):
        tile = Tile(device(tmp_path, *STYLES[style][:2]), state=state)
        expected = volts @ (1e-6 + 1e-3 * state)
        for engine in ("newton", "ngspice"):
            found = cosim.solve(tile, volts, engine=engine).currents.reshape(-1)
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_gradients_reach_the_state(tmp_path: Path) -> None:
    """Also through an internal node that moves the variable."""
    body = MOVE.replace("V(p, n)", "V(i, n)") + READ.replace("p, n", "i, n") + "I(p, i) <+ V(p, i)/500.0;"
    own = device(tmp_path, f"{PARAMETER} electrical i;", f"{START} {body}")
    time = np.linspace(0.0, 2e-5, 11)

    def last(size: torch.Tensor) -> torch.Tensor:
        return own.simulate(size * torch.ones(11, dtype=torch.float64), time=time).state[-1]

    size = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(last(size), size)
    step = 1e-4
    with torch.no_grad():
        expected = (last(size + step) - last(size - step)) / (2 * step)
    assert float(slope) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("declarations", "body", "words"),
    [
        (PARAMETER, f"@(initial_step) begin w = x0 + V(p, n); t_last = 0; end {MOVE} {READ}", "none"),
        ("real t_on = 0;", "@(cross(V(p, n) - 0.5, +1)) t_on = $abstime; I(p, n) <+ V(p, n)*t_on;", "none"),
        ("real v_last = 0;", "I(p, n) <+ 1e-3*(V(p, n) + v_last); v_last = V(p, n);", "none"),
        (
            "integer on = 0;",
            "@(cross(V(p, n) - 0.5, +1)) on = 1; I(p, n) <+ V(p, n)*(on ? 1e-3 : 1e-6);",
            "none that a cell starts at; on: a switch, carried in a variable",
        ),
    ],
)
def test_what_is_no_state(tmp_path: Path, declarations: str, body: str, words: str) -> None:
    assert f"state: {words}\n" in str(device(tmp_path, declarations, body))


def test_the_example() -> None:
    assert "state: w, starts at w_init, 0 to 1, carried in a variable" in str(Device(EXAMPLE))


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
@pytest.mark.parametrize(
    "start", ['analysis("dc") || analysis("ic")', 'analysis("ic")', 'analysis("dc")', 'analysis("static")']
)
def test_a_start_in_an_operating_point_is_that_of_a_transient(tmp_path: Path, start: str, engine: str):
    body = START.replace("@(initial_step)", f"if ({start})")
    own = device(tmp_path, PARAMETER, f"{body} {MOVE} {READ}")
    time = np.linspace(0.0, 1e-5, 101)
    volts = np.sin(2e5 * np.pi * time)
    trace = own.simulate(volts, time[1], engine=engine)
    assert trace.state.numpy() == pytest.approx(euler(time, volts, 0.3), abs=FILE_EULER)
