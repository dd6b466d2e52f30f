"""Every example is run, the long ones with less data."""

from __future__ import annotations

import csv
import math
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim.errors import ParseError
from tolerances import FILE_EULER

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(ROOT.glob("examples/*.py"))
SMALL: dict[str, dict[str, Any]] = {
    "device_sweeps": {"images": 60, "seeds": 2, "coarse": 4},
    "hardware_aware_training": {"epochs": 1, "images": 640},
    "memtorch_tutorial": {"epochs": 2},
    "seizure_detection": {"rows": 800, "seeds": 1},
    "tutorial": {"epochs": 6},
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def load(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def run(name: str, capsys: pytest.CaptureFixture[str], **arguments: Any) -> str:
    load(name)["main"](**{**SMALL.get(name, {}), **arguments})
    return capsys.readouterr().out


def numbers(pattern: str, text: str) -> list[float]:
    found = [float(value) for value in re.findall(pattern, text)]
    assert found, f"no {pattern!r} in:\n{text}"
    return found


OWN_TESTS = {
    "bring_your_model",
    "device_sweeps",
    "hardware_aware_training",
    "memtorch_tutorial",
    "seizure_detection",
    "tutorial",
}


@pytest.mark.parametrize("name", [s.stem for s in SCRIPTS if s.stem not in OWN_TESTS])
def test_example_runs(name: str, capsys: pytest.CaptureFixture[str]):
    assert run(name, capsys)


def test_models_in_six_styles_load_without_options_and_agree(capsys: pytest.CaptureFixture[str]):
    text = run("bring_your_model", capsys)
    apart = numbers(r"within ([\d.e-]+) % of it", text)
    assert len(apart) == 6
    assert max(apart) < 100 * FILE_EULER
    assert "w open (it shows what the model computes)" in text
    assert Path("out/examples/bring_your_model.png").stat().st_size > 10_000


def test_tutorial_loses_little_by_tuned_tiles(capsys: pytest.CaptureFixture[str]):
    text = run("tutorial", capsys)
    digital, *tuned = numbers(r"(?:digital|tuned by regression) +([\d.]+)%", text)
    assert digital > 90
    assert tuned[0] > digital - 3
    assert Path("out/examples/tutorial_loops.png").stat().st_size > 10_000


def test_hardware_aware_training_wins_accuracy_back(capsys: pytest.CaptureFixture[str]):
    text = run("hardware_aware_training", capsys)
    digital, converted, tuned, trained = numbers(r"(?m)^[a-z].* ([\d.]+)%$", text)
    assert digital > 90
    assert tuned < digital - 10
    assert trained > tuned > converted
    assert Path("out/examples/hardware_aware_training.png").stat().st_size > 10_000


def test_memtorch_tutorial_walks_every_non_ideality(capsys: pytest.CaptureFixture[str]):
    text = run("memtorch_tutorial", capsys)
    digital, patched = numbers(r"(?:digital|patched and tuned) +([\d.]+)%", text)
    assert digital > 80
    assert patched > digital - 5
    assert len(numbers(r"^[A-Z]\w+ +([\d.]+)%(?m:$)".replace("^", "(?m:^)"), text)) == 5
    assert Path("out/examples/memtorch_tutorial_loops.png").exists()


def test_sweeps_fall_from_the_digital_accuracy_to_chance(capsys: pytest.CaptureFixture[str]):
    text = run("device_sweeps", capsys)
    curves = {part.split(":")[0].strip(): part for part in text.split("\n\n") if ":" in part}
    stuck = numbers(r" +([\d.]+)% \+-", curves["stuck at LRS"])
    states = numbers(r" +([\d.]+)% \+-", curves["states"])
    assert stuck[0] > 90
    assert stuck[-1] < stuck[0] - 20
    assert states[-1] > states[0] + 20
    assert Path("out/examples/device_sweeps.png").stat().st_size > 10_000


# --- the seizure data -------------------------------------------------------------------------------------


def test_seizure_example_finds_seizures_on_good_cells(capsys: pytest.CaptureFixture[str]):
    text = run("seizure_detection", capsys)
    digital = numbers(r"digital F1 ([\d.]+)", text)[0]
    scores = numbers(r"off   F1 ([\d.]+)", text)
    assert digital > 0.7
    assert scores[0] == pytest.approx(digital, abs=0.1)
    assert len(numbers(r"newton: F1 ([\d.]+)", text)) == 1


def test_made_up_segments_have_the_form_of_the_data_set(tmp_path: Path):
    example = load("seizure_detection")
    path = example["made_up"](tmp_path / "data.csv", 300, np.random.default_rng(1))
    with path.open() as file:
        header, *rows = csv.reader(file)
    assert header[:2] + header[-2:] == ["", "X1", "X178", "y"]
    assert re.fullmatch(r"X\d+\.V1\.\d+", rows[0][0])
    assert {row[-1] for row in rows} == {"1", "2", "3", "4", "5"}
    signals, seizure = example["read"](path)
    assert signals.shape == (300, 178)
    swing = signals.std(1)
    assert float(swing[seizure == 1].median()) > 1.5 * float(swing[seizure == 0].median())
    # seizures are rhythmic between 3 and 6 Hz: more of their power is there
    power = torch.fft.rfft(signals - signals.mean(1, keepdim=True)).abs().square()
    band = power[:, 3:8].sum(1) / power.sum(1)  # bins of 0.975 Hz
    assert math.isfinite(float(band.sum()))
    assert float(band[seizure == 1].mean()) > float(band[seizure == 0].mean())


def test_the_real_files_are_read_and_others_refused(tmp_path: Path):
    read: Callable[[Path], Any] = load("seizure_detection")["read"]
    path = tmp_path / "data.csv"
    header = ",".join(["", *(f"X{k}" for k in range(1, 179)), "y"])
    lines = [f"X21.V1.791,{','.join(['135'] * 178)},4", f"X15.V1.924,{','.join(['-386'] * 178)},1"]
    path.write_text("\n".join([header, *lines]) + "\n")
    signals, seizure = read(path)
    assert signals[:, 0].tolist() == [135, -386]
    assert seizure.tolist() == [0, 1]
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ParseError, match=r"the header is not ,X1,\.\.\.,X178,y: give the data set's CSV"):
        read(path)
