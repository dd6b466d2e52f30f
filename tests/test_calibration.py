"""Calibration: the fit against numpy, held-out errors, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim import calibration, engines
from cosim.calibration import Calibration, calibrate
from cosim.crossbar import Solution, Tile, Wires
from cosim.engines import solve
from cosim.errors import ParseError, SpecError
from solvers.cases import cells
from solvers.stand_in import Resistor, Sinh, stand_in_tile

WIRES = Wires(row=20.0, column=30.0)


def tile(*shape: int) -> Tile:
    return stand_in_tile(Sinh(5.0), state=cells(*shape), wires=WIRES, v_read=0.4)


def draw(rows: int, *, samples: int = 64, seed: int = 0, v_max: float = 0.4) -> torch.Tensor:
    """The input vectors as the documentation of ``calibrate`` says."""
    return torch.as_tensor(np.random.default_rng(seed).uniform(0.0, 1.0, (samples, rows)) * v_max)


def test_own_inputs_are_drawn_without_repetition():
    pool = draw(4, samples=80, seed=3)
    cal = calibrate(tile(4, 3), fast="ideal", reference="newton", inputs=pool)
    order = np.random.default_rng(0).choice(80, 64, replace=False)
    assert len(set(order)) == 64
    x, y = (solve(tile(4, 3), pool[order], engine=e).currents.numpy() for e in ("ideal", "newton"))
    gain, offset = np.polyfit(x[16:, 1], y[16:, 1], 1)
    assert cal.gain[1] == pytest.approx(gain)
    assert cal.offset[1] == pytest.approx(offset, abs=1e-9)
    assert cal.v_max == float(pool[order].max())


@pytest.mark.parametrize("per", ["column", "tile"])
def test_the_fit_is_least_squares_on_the_training_vectors(per: str):
    cal = calibrate(tile(4, 3), fast="ideal", reference="newton", per=per)
    v = draw(4)
    x, y = (solve(tile(4, 3), v, engine=e).currents.numpy() for e in ("ideal", "newton"))
    assert (cal.samples, cal.held_out) == (64, 16)
    pairs = (
        [(x[16:, j], y[16:, j]) for j in range(3)] if per == "column" else [(x[16:].ravel(), y[16:].ravel())]
    )
    lines = [np.polyfit(a * 1e4, b * 1e4, 1) for a, b in pairs]
    np.testing.assert_allclose(cal.gain, [line[0] for line in lines], rtol=1e-9)
    np.testing.assert_allclose(cal.offset, [line[1] * 1e-4 for line in lines], rtol=1e-6)


def test_the_errors_are_those_of_the_held_out_vectors():
    cal = calibrate(tile(4, 3), fast="ideal", reference="newton")
    v = draw(4)[:16]
    x, y = (solve(tile(4, 3), v, engine=e).currents for e in ("ideal", "newton"))
    assert cal.rmse_before == pytest.approx(float((x - y).square().mean().sqrt()))
    assert cal.rmse_after == pytest.approx(float((cal(x) - y).square().mean().sqrt()))
    assert cal.rmse_after < 0.5 * cal.rmse_before
    assert cal.r2 == pytest.approx(1 - float((cal(x) - y).square().sum() / (y - y.mean()).square().sum()))


def test_a_line_is_found_exactly(monkeypatch: pytest.MonkeyPatch):
    """A reference that is a straight line of the fast engine comes back as gain and offset."""
    gain, offset = torch.tensor([0.5, 2.0, -1.0]), torch.tensor([1e-6, 0.0, -3e-5])

    class Line:
        def solve(self, tile: Tile, voltages: Any) -> Solution:
            fast = engines.find_engine("ideal").solve(tile, voltages)
            return Solution(currents=gain * fast.currents + offset, status=fast.status, engine="line")

    find = engines.find_engine
    monkeypatch.setattr(calibration, "find_engine", lambda name: Line() if name == "line" else find(name))
    cal = calibrate(tile(4, 3), fast="ideal", reference="line")
    np.testing.assert_allclose(cal.gain, gain, rtol=1e-6)
    np.testing.assert_allclose(cal.offset, offset, rtol=1e-6, atol=1e-18)
    assert cal.rmse_after < 1e-9 * cal.rmse_before


@pytest.mark.parametrize(("per", "shape"), [("column", (2, 3)), ("tile", (2, 1))])
def test_several_tiles_have_lines_of_their_own(per: str, shape: tuple[int, int]):
    cal = calibrate(tile(2, 4, 3), fast="ideal", reference="newton", per=per)
    assert tuple(cal.gain.shape) == tuple(cal.offset.shape) == shape
    single = calibrate(
        stand_in_tile(Sinh(5.0), state=cells(2, 4, 3)[1], wires=WIRES, v_read=0.4),
        fast="ideal",
        reference="newton",
        per=per,
    )
    np.testing.assert_allclose(cal.gain[1], single.gain, rtol=1e-9)
    assert cal(torch.zeros(2, 7, 3)).shape == (2, 7, 3)


def test_a_column_without_current_keeps_its_currents():
    state = cells(4, 3)
    state[:, 1] = 0
    cal = calibrate(
        stand_in_tile(Sinh(5.0), state=state, wires=WIRES, v_read=0.4), fast="ideal", reference="newton"
    )
    assert (float(cal.gain[1]), float(cal.offset[1])) == (1.0, 0.0)
    assert bool(cal.gain.isfinite().all())


def test_calibrated_currents_have_gradients():
    cal = calibrate(tile(4, 3), fast="linear", reference="newton", samples=8)
    currents = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    cal(currents).sum().backward()
    torch.testing.assert_close(currents.grad, cal.gain.expand(2, 3))
    assert cal(currents.float()).dtype == torch.float32


def test_the_seed_decides():
    a, b, c = (calibrate(tile(4, 3), fast="ideal", reference="linear", samples=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.gain, b.gain)
    assert not torch.equal(a.gain, c.gain)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    cal = calibrate(tile(2, 4, 3), fast="ideal", reference="newton", samples=8, v_max=0.2)
    cal.save(tmp_path / "cal.json")
    again = Calibration.load(tmp_path / "cal.json")
    assert torch.equal(again.gain, cal.gain)
    assert torch.equal(again.offset, cal.offset)
    others = [{k: v for k, v in vars(c).items() if k not in ("gain", "offset")} for c in (cal, again)]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("not json", r"cal.json: not a calibration: Expecting value"),
        ([], 'cal.json: not a calibration: "format" is not "cosim calibration"'),
        ({"format": "other"}, 'not a calibration: "format" is not'),
        ({"version": 2}, "version is 2, this cosim reads 1: calibrate again"),
        ({"more": 1}, "fields missing or not known: more"),
        ({"gain": None}, "gain is None: expected list"),
        ({"seed": 1.5}, "seed is 1.5: expected int"),
        ({"gain": ["a"]}, "gain and offset are not arrays of numbers"),
        ({"gain": [[1.0], [1.0, 2.0]]}, "gain and offset are not arrays of numbers"),
        ({"gain": [1.0]}, "gain and offset must be finite and of one shape"),
        ({"offset": [float("nan")] * 3}, "gain and offset must be finite and of one shape"),
        ({"per": "row"}, "per is 'row': expected one of column, tile, layer"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, change: Any, message: str):
    path = tmp_path / "cal.json"
    calibrate(tile(4, 3), fast="ideal", reference="linear", samples=8).save(path)
    if isinstance(change, dict):
        change = {**json.loads(path.read_text()), **change}
    path.write_text(change if isinstance(change, str) else json.dumps(change))
    with pytest.raises(ParseError, match=message):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "row"}, "per is 'row': choose from column, tile, layer"),
        ({"samples": 2}, "samples is 2: a line needs 2 vectors to fit and 1 held out"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0: it must be a finite number, above 0 and below 1"),
        ({"v_max": 0.0}, "v_max is 0.0: it must be a finite number, not 0"),
        ({"fast": "nodal"}, "no engine 'nodal'"),
        ({"inputs": torch.ones(5, 4)}, r"inputs of shape \(5, 4\) cannot give 64 vectors"),
        ({"inputs": torch.ones(64, 4), "v_max": 0.2}, "give v_max= for random vectors or inputs="),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=message):
        calibrate(tile(4, 3), **{"reference": "linear", **options})


def test_currents_of_another_shape_are_refused():
    cal = calibrate(stand_in_tile(Resistor(), state=cells(4, 3)), fast="ideal", reference="linear", samples=8)
    for shape in ((2, 4), (), (2, 1)):
        with pytest.raises(SpecError, match=r"currents of shape .* do not fit a calibration of shape \(3,\)"):
            cal(torch.zeros(shape))


def test_the_plot_is_a_figure(tmp_path: Path):
    figure = calibrate(tile(4, 3), fast="ideal", reference="linear", samples=8).plot()
    assert len(figure.axes[0].lines[0].get_xdata()) == 3
    figure.savefig(tmp_path / "calibration.png")
