"""The benchmark, tiny: what it leaves and the accuracies it reports. No time is asserted."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cosim
from cosim import cli
from cosim.bench import measure as timing
from cosim.bench import suite
from cosim.bench.contenders import Contender, SetUp, own_contenders, refined_splu
from cosim.bench.findings import LINEAR, SINH, STANFORD, STEEP, find_growth, find_ratios
from cosim.bench.measure import Budget, Measurement, measure, relative_error
from cosim.bench.problems import Case, Problem
from cosim.bench.report import details, plot, summary, write
from cosim.bench.suite import Settings, run
from cosim.errors import SolveError, SpecError
from reference.nodal import nodal_solve
from tolerances import LINEAR_EXACT, NGSPICE_LINEAR, NGSPICE_NEWTON

ROOT = Path(__file__).parents[2]
ONE = Case(name="one", model="vteam", size=4, vectors=(1, 2), volts=0.2, ohm=2.0, linear=True)


@pytest.fixture(scope="module", autouse=True)
def short_calls() -> Iterator[None]:
    """Calls are not repeated for a steady median: nothing here looks at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_LEAST", 0.0)
        yield


def contender(
    name: str, solver: Callable[[torch.Tensor], torch.Tensor] | None = None, **fields: Any
) -> Contender:
    def load(problem: Problem) -> SetUp:
        return lambda: solver or (lambda voltages: voltages @ problem.tile.conductance)

    return Contender(name=name, load=load, **fields)


def fail(voltages: torch.Tensor) -> torch.Tensor:
    raise SolveError("this one gives up")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    peers = (
        contender("absent", missing="not installed: pip install absent"),
        contender("failing", fail),
        contender("unsolved", lambda voltages: torch.full_like(voltages, torch.nan)),
    )
    settings = Settings(sizes=(8, 4), vectors=(3, 1), budget=120.0, rounds=2, tiles=2)
    return run(settings, peers=peers)


def measured(document: dict[str, Any], case: str, name: str) -> list[dict[str, Any]]:
    return [m for m in document["measurements"] if (m["case"], m["contender"]) == (case, name)]


@pytest.mark.parametrize(
    ("case", "name", "limit"),
    [
        (LINEAR, "linear", LINEAR_EXACT),
        (LINEAR, "linear, one call", LINEAR_EXACT),
        (LINEAR, "splu", LINEAR_EXACT),
        (LINEAR, "splu, symmetric", LINEAR_EXACT),
        (LINEAR, "ngspice", NGSPICE_LINEAR),
        *(
            (case, name, NGSPICE_NEWTON)
            for case in (SINH, STEEP, STANFORD)
            for name in ("newton", "splu Newton")
        ),
    ],
)
def test_accuracy_stands_beside_the_times(document: dict[str, Any], case: str, name: str, limit: float):
    found = measured(document, case, name)
    assert [m["size"] for m in found] == ([4, 8] if case in (LINEAR, SINH) else [8])
    for m in found:
        assert m["error"] < limit
        assert set(m["runs"]) == {1, 3}
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in m["runs"].values())
        assert m["reference"] == ("splu, refined" if case == LINEAR else "ngspice")


def test_what_a_cheap_engine_gets_wrong_is_reported(document: dict[str, Any]):
    for case in (LINEAR, SINH, STEEP, STANFORD):
        assert all(m["error"] > 1e-4 for m in measured(document, case, "ideal"))
    assert all(m["error"] > 1e-4 for m in measured(document, STEEP, "linear"))


def test_who_fails_or_is_missing_says_why_and_stops_nobody(document: dict[str, Any]):
    assert all(
        "this one gives up" in m["note"] and not m["runs"] for m in measured(document, LINEAR, "failing")
    )
    assert all(m["note"].startswith("not installed") for m in measured(document, LINEAR, "absent"))
    for m in measured(document, LINEAR, "unsolved"):
        assert (m["error"], m["note"]) == (None, "gave currents that are not numbers")


def test_the_machine_is_named(document: dict[str, Any]):
    machine = document["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["torch_threads"] == torch.get_num_threads()
    assert {"torch", "scipy", "ngspice", "python"} <= set(machine["versions"])
    assert document["settings"]["sizes"] == (4, 8)


def test_many_tiles(document: dict[str, Any]):
    assert [m["engine"] for m in document["memory"]] == ["linear", "newton"]
    for m in document["memory"]:
        assert m["solved"] == 2 * m["vectors"]
        assert m["peak_bytes"] >= m["before_bytes"] > 1 << 20
    assert {
        t["dtype"]: t["error"] < limit
        for t, limit in zip(document["throughput"], (1e-4, LINEAR_EXACT), strict=True)
    } == {
        "float32": True,
        "float64": True,
    }


def test_what_is_written(document: dict[str, Any], tmp_path: Path):
    numbers, text, figure = write(document, tmp_path, "bench")
    read = json.loads(numbers.read_text())
    assert summary(read) in text.read_text()
    assert details(read) in text.read_text()
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "absent: not installed: pip install absent" in summary(read)
    assert "ngspice / newton: batch of 3" in summary(read)
    assert len(plot(read).axes) == 2


def test_the_headline_goes_between_the_markers(document: dict[str, Any], tmp_path: Path):
    paste = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))["paste"]
    result, readme = write(document, tmp_path / "results", "machine")[0], tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n")
    paste(result, readme)
    paste(result, readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench:start -->\n\n![")
    assert text.endswith("<!-- bench:end -->\nafter\n")
    assert "(results/machine.png)" in text
    assert text.count("ngspice / newton: batch of 3") == 3
    assert "old" not in text
    readme.write_text("nothing\n")
    with pytest.raises(SpecError, match="has no place for the headline: add the lines <!-- bench:start -->"):
        paste(result, readme)


# --- the parts --------------------------------------------------------------------------------------


def test_the_sparse_matrix_is_the_network():
    """Against nodal analysis written separately, with four different resistances and 3x5 cells."""
    ohm = {"row": 2.0, "column": 3.0, "source": 5.0, "sense": 7.0}
    cells = 1e-3 + 1e-2 * torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tile = cosim.Tile(cosim.Device("vteam"), conductance=cells, wires=cosim.Wires(**ohm))
    voltages = torch.tensor([[0.1, -0.2, 0.3], [0.3, 0.2, 0.1]], dtype=torch.float64)
    found = refined_splu(Problem(case=ONE, tile=tile, voltages=voltages), voltages).numpy()
    slope = cells.numpy()
    expected = nodal_solve(voltages, (3, 5), cell=lambda v: (slope * v, slope), **ohm).currents
    assert np.abs(found - expected).max() < LINEAR_EXACT * np.abs(expected).max()


def test_smaller_batches_and_other_runs_see_the_same_numbers():
    small, large = (Problem.draw(ONE), Problem.draw(ONE))
    assert torch.equal(small.voltages, large.voltages)
    assert torch.equal(small.tile.conductance, large.tile.conductance)
    assert 1e-6 <= float(small.tile.conductance.min()) < float(small.tile.conductance.max()) <= 1e-4


def test_rounds_are_interleaved_and_rotated():
    turns: list[str] = []

    def solver(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def solve(voltages: torch.Tensor) -> torch.Tensor:
            turns.append(f"{name}{len(voltages)}")
            return voltages

        return solve

    found, _ = measure(
        Problem.draw(ONE), [contender(n, solver(n)) for n in "ab"], rounds=2, budget=Budget(100.0)
    )
    assert turns == ["a1", "a2", "b1", "b2", "b1", "b2", "a1", "a2"]
    assert [len(m.setup) for m in found] == [2, 2]


def test_what_is_too_slow_is_not_started():
    budget = Budget(100.0)  # 10 s for a call
    key = ("a", "linear", 64)
    assert budget.refusal(key, 128) == ""
    budget.learn(("a", "linear", 64), 64, 2.0)
    assert budget.refusal(key, 64) == ""
    assert budget.refusal(key, 128).startswith("not run: could take 18 s")
    assert budget.refusal(("a", "linear", 1024), 64).startswith("not run: could take 32 s")
    assert budget.refusal(("b", "linear", 64), 128) == ""
    assert Budget(1e-9).refusal(key, 4).startswith("not run: the budget of 1e-09 s is used up")


def test_ratios_compare_the_same_rounds():
    found = [
        Measurement(
            case=LINEAR, size=64, contender="linear", setup=(2.0, 4.0), runs={1: (0.1, 0.1)}, error=0.0
        ),
        Measurement(
            case=LINEAR, size=64, contender="splu", setup=(1.0, 1.0), runs={1: (1.0, 3.0)}, error=0.0
        ),
        Measurement(case=LINEAR, size=512, contender="linear", setup=(9.0,), runs={1: (0.1,)}),
        Measurement(case=LINEAR, size=512, contender="splu", setup=(9.0,), runs={1: (0.1,)}),
    ]
    first, *rest = find_ratios(found)
    assert first["title"] == "G_eff once / splu: factorisation and one solve"
    assert (first["size"], first["median"], first["low"], first["high"]) == (64, 1.0, 1.0, 1.0)
    assert [r["median"] for r in rest] == [20.0]
    (growth, _) = find_growth(found)
    assert growth["exponent"] == pytest.approx(np.log(9.1 / 3.1) / np.log(8))


def test_an_unsolved_vector_is_no_accuracy():
    truth = torch.ones(2, 2)
    assert relative_error(truth * 1.01, truth) == pytest.approx(0.01)
    assert np.isnan(relative_error(torch.tensor([[1.0, torch.nan]]), truth))


def test_every_contender_has_a_name_of_its_own():
    names = [c.name for c in own_contenders()]
    assert len(set(names)) == len(names)


# --- the border -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"sizes": (0,)}, r"sizes is (0,): give whole numbers, 2 or more"),
        ({"vectors": ()}, r"vectors is (): give whole numbers, 1 or more"),
        ({"rounds": 0}, r"rounds is 0: it must be 1 or more"),
        ({"budget": 0.0}, r"budget is 0.0 s: it must be above 0"),
        ({"place": "tpu"}, r"device is 'tpu': choose cpu or cuda"),
    ],
)
def test_settings_that_make_no_sense(field: dict[str, Any], message: str):
    with pytest.raises(SpecError) as caught:
        Settings.create(**field)
    assert message in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error of a machine without a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(SpecError, match="device is 'cuda', but torch sees no CUDA device: choose cpu"):
        Settings(place="cuda")


def test_command_line(
    document: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[Settings] = []

    def stand_in(settings: Settings, progress: Callable[[str], None]) -> dict[str, Any]:
        asked.append(settings)
        progress("4x4")
        return document

    monkeypatch.setattr(suite, "run", stand_in)
    options = [
        "bench",
        "--quick",
        "--sizes",
        "4",
        "--vectors",
        "2,1",
        "--budget",
        "9",
        "--out",
        str(tmp_path),
    ]
    for json_option in ([], ["--json"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*options, *json_option])
        assert not stop.value.code
    expected = Settings(sizes=(4,), vectors=(1, 2), budget=9.0, rounds=3, tiles=8)
    assert asked == [expected, expected]
    assert sorted(os.listdir(tmp_path)) == ["bench.json", "bench.md", "bench.png"]
    printed = capsys.readouterr()
    assert printed.err == "4x4\n4x4\n"
    text, _, document_line = printed.out.rstrip().rpartition("\n")
    assert text.startswith(summary(document))
    assert json.loads(document_line)["machine"] == document["machine"]


def test_command_line_errors(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "--sizes", "4,x"])
    assert stop.value.code == 2
    assert "--sizes '4,x': write whole numbers separated by commas" in capsys.readouterr().err
