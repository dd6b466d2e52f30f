"""The ladder: errors against a reference that is computed here once more by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cosim.crossbar import Tile, Wires
from cosim.devices.device import Device
from cosim.engines import Engine, solve
from cosim.errors import SolveError, SpecError, ToolNotFound
from cosim.ladder import LadderReport, compare
from solvers.cases import cells, inputs
from solvers.stand_in import Sinh, stand_in_tile


def tile() -> Tile:
    return stand_in_tile(Sinh(2.5), state=cells(4, 3), wires=Wires(row=200.0, column=300.0))


def real_tile() -> Tile:
    return Tile(Device("vteam"), state=cells(4, 3) / cells(4, 3).max())


@pytest.fixture(scope="module")
def report() -> LadderReport:
    return compare(tile(), inputs(5, 4, volt=0.2), engines=("ideal", "linear"), reference="newton")


def test_errors_are_relative_to_the_largest_reference_current(report: LadderReport):
    truth = solve(tile(), inputs(5, 4, volt=0.2)).currents
    assert report.largest_current == float(truth.abs().max())
    for name in ("ideal", "linear"):
        error = (solve(tile(), inputs(5, 4, volt=0.2), engine=name).currents - truth) / report.largest_current
        assert report[name].max_error == pytest.approx(float(error.abs().max()))
        assert report[name].rms_error == pytest.approx(float(error.square().mean().sqrt()))
    assert report["newton"].max_error == 0.0
    assert report["ideal"].max_error > report["linear"].max_error > 0


def test_rungs_keep_their_order_and_the_reference_is_last(report: LadderReport):
    assert [rung.engine for rung in report.rungs] == ["ideal", "linear", "newton"]
    again = compare(tile(), inputs(1, 4), engines=("newton", "linear", "linear"), reference="newton")
    assert [rung.engine for rung in again.rungs] == ["linear", "newton"]
    assert (report.shape, report.vectors) == ((4, 3), 5)


def test_the_table_tells_everything(report: LadderReport):
    text = str(report)
    for part in ("4x3 tile, 5 vectors", "max error", "ms per vector", "set-up ms", "reference", "5 solved"):
        assert part in text
    assert f"{report['linear'].rms_error:.2e}" in text


def test_the_dictionary_is_json(report: LadderReport):
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["reference"] == "newton"
    assert found["shape"] == [4, 3]
    assert found["rungs"][1]["engine"] == "linear"
    assert found["rungs"][1]["max_error"] == report["linear"].max_error
    assert found["rungs"][1]["statuses"] == {"SOLVED": 5}
    assert found["rungs"][1]["milliseconds"] > 0


def test_the_plot_is_a_figure(report: LadderReport, tmp_path: Path):
    figure = report.plot()
    assert {text.get_text() for text in figure.axes[0].texts} == {"ideal", "linear"}
    figure.savefig(tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").stat().st_size > 0


def test_failed_vectors_raise_or_are_left_out():
    device, v = stand_in_tile(Sinh(2.5), state=cells(4, 3)), inputs(3, 4)
    v[1] = 1e4
    with pytest.raises(SolveError, match="'newton' failed for 1 of 3 vectors"):
        compare(device, v, engines=("ideal",), reference="newton")
    found = compare(device, v, engines=("ideal",), reference="newton", throw=False)
    assert found["newton"].statuses == {"SOLVED": 2, "NOT_FINITE": 1}
    good = compare(device, v[0::2], engines=("ideal",), reference="newton")
    assert found["ideal"].max_error == pytest.approx(good["ideal"].max_error)


def test_nothing_to_compare_is_not_a_zero_error():
    found = compare(
        stand_in_tile(Sinh(2.5), state=cells(4, 3)),
        torch.full((1, 4), 1e4),
        engines=("ideal",),
        reference="newton",
        throw=False,
    )
    assert found.to_dict()["rungs"][0]["max_error"] is None
    assert "nan" in str(found)
    found.plot()


def test_unknown_engines_are_refused_before_anything_runs(report: LadderReport):
    with pytest.raises(SpecError, match="an entry of engines is 'nodal': choose from ideal"):
        compare(tile(), inputs(1, 4), engines=("nodal",))
    with pytest.raises(SpecError, match=r"engines is 'ideal': give a sequence"):
        compare(tile(), inputs(1, 4), engines="ideal", reference="newton")
    with pytest.raises(SpecError, match="engine 'ngspice' is not in this report: it has ideal, linear"):
        report["ngspice"]


def test_compilation_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path))
    cold, warm = (compare(real_tile(), [0.1] * 4, engines=("ideal",)) for _ in range(2))
    assert cold["ngspice"].setup_milliseconds > warm["ngspice"].setup_milliseconds == 0
    assert cold["ngspice"].milliseconds > 0


def test_missing_tools_are_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(Engine, "solve", lambda *_, **__: pytest.fail("solved before looking for tools"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolNotFound, match="ngspice is not installed: "):
        compare(tile(), inputs(1, 4), engines=("newton", "ngspice"), reference="linear")
