"""The demo, small: what it leaves behind, and that its numbers are those of the engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cosim import demo
from cosim.engines import solve
from cosim.errors import SpecError, ToolNotFound
from tolerances import NGSPICE_NEWTON


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoReport:
    out = tmp_path_factory.mktemp("demo")
    return demo.run(out, images=6, calibration_samples=12, console=Console(quiet=True))


def rung(report: demo.DemoReport, engine: str) -> demo.Rung:
    return next(r for r in report.rungs if r.engine == engine)


def test_the_ladder_is_ordered(report: demo.DemoReport) -> None:
    assert report.reference == "ngspice"
    assert rung(report, "newton").error < NGSPICE_NEWTON
    assert rung(report, "newton").error < rung(report, "linear").error < rung(report, "ideal").error
    assert rung(report, "ngspice").agreement == 1.0


def test_calibration_reduces_the_held_out_error(report: demo.DemoReport) -> None:
    for engine in ("ideal", "linear"):
        for fit in report.calibrations[engine]:
            assert fit.held_out >= 3
            assert fit.rmse_after < fit.rmse_before
    ideal = rung(report, "ideal")
    assert ideal.calibrated_error is not None
    assert ideal.calibrated_error < 0.5 * ideal.error


def test_what_it_leaves(report: demo.DemoReport) -> None:
    names = {path.relative_to(report.out).as_posix() for path in report.out.rglob("*") if path.is_file()}
    assert {"report.json", "report.txt", "ladder.png", "tile_1.png", "calibration_ideal_1.json"} <= names
    assert {"layer_1/dut.sp", "layer_1/models.sp", "layer_1/testbench.sp", "layer_2/dut.sp"} <= names
    for name in ("layer_1", "layer_2"):  # distinct, so that both go into one deck
        assert f".subckt {name} " in (report.out / name / "dut.sp").read_text()
    read = json.loads((report.out / "report.json").read_text())
    assert [r["engine"] for r in read["rungs"]] == ["ideal", "linear", "newton", "ngspice"]
    assert "ngspice" in (report.out / "report.txt").read_text()


def test_a_layer_without_wires_is_the_digital_layer() -> None:
    """With ohmic cells and no wires the mapping is exact; signs and column order included."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(3, generator=generator, dtype=torch.float64)
    inputs = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    device = demo.Device("vteam", r_on=10e3, r_off=1e6)
    layer = demo.CrossbarLayer.map(device, weight, bias, demo.Wires())
    found = layer.forward(inputs, 1.0, lambda tile, volts: solve(tile, volts, engine="ideal").currents)
    assert torch.allclose(found, inputs @ weight.T + bias, rtol=1e-10)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="images is 0: it must be a whole number, at least 1 and at"):
        demo.run(tmp_path, images=0)
    with pytest.raises(SpecError, match=r"no engine 'hspice': choose from ideal, linear, newton, ngspice"):
        demo.run(tmp_path, reference="hspice")


def test_a_missing_program_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "train", lambda **_: pytest.fail("trained a network for nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolNotFound, match="ngspice is not installed: "):
        demo.run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("argument", ["out", "images", "seed", "reference", "calibration_samples"])
def test_wrong_values_are_refused_before_anything_is_trained(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "train", lambda **_: pytest.fail("trained a network for nothing"))
    arguments: dict[str, Any] = {"out": tmp_path / "out"}
    for value in (None, -1, 1.5, b"x", [], object(), 10**5000):
        with pytest.raises(SpecError):
            demo.run(**{**arguments, argument: value})
    assert not (tmp_path / "out").exists()
