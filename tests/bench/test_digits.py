"""benchmarks/digits.py, tiny: what it leaves, and what it is about. No time is asserted."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "digits.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_it_leaves(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"SIZE": 8, "HIDDEN": 12, "TILE_SHAPE": (32, 24)}.items():
        monkeypatch.setattr(script, name, value)
    script.main(["--images", "6", "--samples", "2", "--out", str(tmp_path)])
    files = sorted(tmp_path.iterdir())
    assert [path.suffix for path in files] == [".json", ".md", ".png"]
    assert all(path.stem.endswith("_digits") for path in files)
    document, text = json.loads(files[0].read_text()), files[1].read_text()
    assert (document["tiles"], document["settings"]["images"]) == (3, 6)
    assert [(row["engine"], row["tuned"]) for row in document["rows"]] == [
        (engine, tuned) for tuned in (False, True) for engine in ("linear", "newton", "ngspice")
    ]
    ngspice, newton = document["rows"][2], document["rows"][1]
    assert ngspice["agreement"]["value"] == 1.0
    assert newton["accuracy"] == ngspice["accuracy"]
    assert f"| `ngspice` | {100 * ngspice['accuracy']['value']:.1f} % (" in text
    assert "6 test images" in text
    for name in ("before", "after"):
        validation = document["validation"][name]
        assert [layer["samples"] for layer in validation["layers"]] == [2, 2]
        assert not validation["end_to_end"]["failures"]
        assert 0 < validation["end_to_end"]["output_error"]["value"] < 0.2


def test_the_network_fills_tiles_and_the_cells_spread(script: ModuleType):
    digits = script.load(seed=0)
    assert digits.test.shape == (540, 256)
    scores = digits.network(digits.test)
    assert script.matching(scores.argmax(1), digits.test_labels).value > 0.93
    converted = script.convert(digits, "data_driven", seed=0)
    assert converted.report.layers[0].utilisation == 1.0
    device = converted.products["0.matmul"].tile().device
    for name, ohm in script.DEVICES["data_driven"].items():
        spread = torch.as_tensor(device.parameters[name])
        assert float(spread.mean()) == pytest.approx(ohm, rel=0.01)
        assert float(spread.std()) == pytest.approx(0.1 * ohm, rel=0.02)
    tuned = converted.tune(digits.train, per="column")
    assert all(layer.rmse_after < layer.rmse_before for layer in tuned.layers)
