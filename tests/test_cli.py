"""The command line: what it prints, for people and for programs, and how it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim import cli, doctor, errors

TILE = ["vteam", "--shape", "3x5", "--batch", "2", "--row", "2", "--column", "1"]


def run(*arguments: str) -> int:
    """The exit code of ``cosim ARGUMENTS``."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)


def random_tile() -> tuple[cosim.Tile, torch.Tensor]:
    """The tile and inputs that TILE describes, drawn as the option texts say."""
    states = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    voltages = 0.2 * torch.rand(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return cosim.Tile(cosim.Device("vteam"), state=states, wires=cosim.Wires(row=2, column=1)), voltages


def test_solve_prints_the_currents_of_the_api(capsys: pytest.CaptureFixture[str]):
    assert run("solve", *TILE, "--engine", "newton") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "c0,c1,c2,c3,c4"
    tile, voltages = random_tile()
    np.testing.assert_allclose(
        np.loadtxt(lines, delimiter=","), cosim.solve(tile, voltages, engine="newton").currents, rtol=1e-8
    )


def test_solve_json(capsys: pytest.CaptureFixture[str]):
    assert run("solve", *TILE, "--engine", "linear", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    tile, voltages = random_tile()
    expected = cosim.solve(tile, voltages, engine="linear")
    assert document["currents"] == expected.currents.tolist()
    assert document["status"] == [0, 0]


def test_solve_reads_cells_and_inputs_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cells, inputs = np.array([[2e-3, 5e-3, 1e-2]]), np.array([[0.1], [0.2]])
    np.save(tmp_path / "cells.npy", cells)
    np.savetxt(tmp_path / "inputs.csv", inputs, delimiter=",")
    files = ["--conductance", str(tmp_path / "cells.npy"), "--voltages", str(tmp_path / "inputs.csv")]
    assert run("solve", "vteam", *files, "--engine", "ideal", "--json") == 0
    np.testing.assert_allclose(json.loads(capsys.readouterr().out)["currents"], inputs @ cells, rtol=1e-12)


def test_parameters_reach_the_device(capsys: pytest.CaptureFixture[str]):
    assert (
        run("iv", "vteam", "-p", "r_on=1e3", "-p", "r_off=1e4", "--state", "0", "--points", "3", "--json")
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["parameters"]["r_on"] == 1e3
    np.testing.assert_allclose(document["current"], [-1e-3, 0.0, 1e-3], rtol=1e-12)


def test_temperature_reaches_the_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "hot.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule hot(p, n); inout p, n; electrical p, n; '
        "analog I(p, n) <+ 1e-6*$temperature*V(p, n); endmodule"
    )
    assert run("iv", str(path), "--temperature", "400", "--points", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["current"] == pytest.approx([-4e-4, 0.0, 4e-4])
    tile = [str(path), "--shape", "1x1", "--batch", "1", "--temperature", "250", "--json"]
    assert run("solve", *tile, "--engine", "newton") == 0
    cold = json.loads(capsys.readouterr().out)["currents"][0][0]
    assert run("solve", *tile[:-2], "400", "--json", "--engine", "newton") == 0
    assert json.loads(capsys.readouterr().out)["currents"][0][0] == pytest.approx(cold * 400 / 250)


def test_iv_loop_is_the_simulation(capsys: pytest.CaptureFixture[str]):
    assert run("iv", "linear_ion_drift", "--period", "1.0", "--points", "41", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["time"]) == len(document["current"]) == len(document["state"]) == 41
    assert max(document["voltage"]) == pytest.approx(1.0)
    assert max(document["state"]) > document["state"][0]  # a positive half wave lowers the resistance


def test_compare_prints_one_line_for_each_engine(capsys: pytest.CaptureFixture[str]):
    assert run("compare", *TILE, "--engines", "ideal,linear", "--reference", "newton") == 0
    text = capsys.readouterr().out
    assert re.search(r"\bideal\b", text)
    assert re.search(r"\blinear\b", text)


def test_compare_json(capsys: pytest.CaptureFixture[str]):
    assert run("compare", *TILE, "--engines", "ideal,linear", "--reference", "newton", "--json") == 0
    assert json.loads(capsys.readouterr().out)


def test_netlist_prints_the_files_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("netlist", *TILE, "--out", str(tmp_path / "deck")) == 0
    files = capsys.readouterr().out.splitlines()
    assert files
    assert all(Path(file).is_file() for file in files)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["solve", "vteam"], 2, "exactly one of --conductance FILE and --shape"),
        (["solve", "vteam", "--shape", "3by5"], 2, "--shape '3by5': write ROWSxCOLUMNS, such as 16x16"),
        (["solve", "vteam", "--shape", "0x5"], 2, "--shape '0x5': write ROWSxCOLUMNS"),
        (["iv", "vteam", "-p", "r_on"], 2, "--param 'r_on': write NAME=VALUE"),
        (["solve", "vteam", "--conductance", "none.npy"], 2, "--conductance cannot be read from none.npy"),
        (["solve", *TILE, "--engine", "spectre"], 2, "spectre"),
        (["iv", "no_such_model"], 2, "no_such_model"),
        (["iv", "vteam", "--engine", "ngspice"], 2, "--engine ngspice integrates a loop: give its --period"),
        (["iv", "vteam", "-p", "x_init=0.1", "--state", "0.5"], 2, "--param x_init= and --state both set"),
        (["iv", "vteam", "-p", "r_on=1e3", "-p", "r_on=2e3"], 2, "--param 'r_on=2e3': r_on is given twice"),
        (["solve", *TILE, "-p", "x_init=0.1"], 2, "--param x_init= and --shape both set the state"),
        (["solve", *TILE, "--voltages", "v.csv"], 2, "--batch 2 is for random numbers, which the files rep"),
        (["iv", "vteam", "--temperature", "350"], 2, "vteam reads neither $temperature nor $vt"),
        (["netlist", *TILE, "--dialect", "none"], 2, "none"),
        (
            ["netlist", *TILE, "--out", "/dev/null/deck"],
            2,
            "/dev/null/deck cannot be written (Not a dir",
        ),
        (["bench", "--out", "/dev/null/bench"], 2, "/dev/null/bench cannot be written (Not a directory)"),
        (["demo", "--out", "/dev/null/demo"], 2, "/dev/null/demo cannot be written (Not a directory)"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
):
    assert run(*arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cosim: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    "error", [errors.SpecError, errors.ModelError, errors.ToolNotFound, errors.SolveError]
)
def test_each_branch_of_the_error_tree_has_its_exit_code(
    error: type[errors.CosimError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object, **__: object) -> None:
        raise error("first line\nsecond line")

    monkeypatch.setattr(cosim, "Device", fail)
    assert run("iv", "vteam") == error.exit_code
    assert capsys.readouterr().err == "cosim: first line second line\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cosim, "Device", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["iv", "vteam"])


def test_what_a_model_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "talks.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule talks(p, n); inout p, n; electrical p, n;\n'
        'analog begin $strobe("hello"); I(p, n) <+ 1e-3 * V(p, n); end\nendmodule\n'
    )
    assert (
        run("solve", str(path), "--shape", "2x3", "--engine", "ideal", "--json") == 0
    )  # cells without state
    captured = capsys.readouterr()
    assert np.shape(json.loads(captured.out)["currents"]) == (4, 3)
    assert captured.err.startswith("cosim: note: ")
    assert "$strobe is dropped" in captured.err


def test_unknown_option_ends_with_2(capsys: pytest.CaptureFixture[str]):
    assert run("iv", "vteam", "--no-such-option") == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_doctor_finds_this_machine_healthy(capsys: pytest.CaptureFixture[str]):
    assert run("doctor", "--json") == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert set(checks) >= {
        "torch",
        "C compiler",
        "ngspice",
        "Verilog-A in ngspice",
        "PySpice",
    }
    assert all(check["ok"] for check in checks.values())


def test_doctor_without_tools_says_what_mends_it(tmp_path: Path):
    """A real run with an empty PATH: no compiler, no ngspice."""
    environment = {**os.environ, "PATH": str(tmp_path), "COSIM_CACHE": "/dev/null/cache", "COLUMNS": "200"}
    environment.pop("CC", None)
    done = subprocess.run(
        [sys.executable, "-c", "from cosim.cli import main; main(['doctor'])"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    for name, remedy in (
        ("C compiler", "apt-get install gcc libc6-dev"),
        ("cache folder", "export COSIM_CACHE="),
        ("ngspice", "apt-get install ngspice"),
    ):
        assert re.search(rf"^fails +{name}", done.stdout, flags=re.MULTILINE)
        assert f"{name}: to mend it\n  {remedy}" in done.stdout


def test_doctor_forgives_what_is_not_essential(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> str:
        raise ImportError("not here")

    attempt = doctor._Attempt(name="extra", run=fail, remedy="mend it", essential=False)
    monkeypatch.setattr(doctor, "_ATTEMPTS", (attempt,))
    assert run("doctor") == 0
    assert "without" in capsys.readouterr().out


def test_what_is_not_finite_is_null_in_json(capsys: pytest.CaptureFixture[str]):
    cli._print_json({"currents": torch.tensor([1.0, float("nan")]), 3: (Path("x"), None)})
    assert json.loads(capsys.readouterr().out) == {"currents": [1.0, None], "3": ["x", None]}


def test_iv_tells_the_state_that_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule shows(p, n, s); inout p, n, s; electrical p, n, s;\n'
        "parameter real s0 = 0.25 from [0:1]; real x;\n"
        "analog begin x = idt(1e6*V(p, n), s0); V(s) <+ x; I(p, n) <+ 1e-3*x*V(p, n); end endmodule"
    )
    assert run("iv", str(path), "--points", "3") == 0
    out, err = capsys.readouterr()
    assert "cosim: note: terminals: p and n, s open" in err
    assert "cosim: note: state: s0, 0 to 1, moved by V(implicit_equation_0)" in err
    assert out.splitlines()[-1] == "1,0.0005"
