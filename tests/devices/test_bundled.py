"""The models that ship, as they are compiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cosim.devices import ir
from cosim.devices.build import compile_model
from cosim.devices.catalogue import CATALOGUE
from cosim.errors import ModelError, ParseError


@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_was_forgiven(name: str) -> None:
    assert compile_model(CATALOGUE[name].path, bundled=True).notes == ()


def test_bundled_models_need_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path / "none"))
    path = CATALOGUE["vteam"].path
    assert compile_model(path, bundled=True) is compile_model(path, bundled=True)
    assert not (tmp_path / "none").exists()
    assert compile_model(path) == compile_model(path, bundled=True)
    assert (tmp_path / "none").exists()


@pytest.mark.parametrize("name", CATALOGUE)
def test_text_form_is_the_identity(name: str) -> None:
    model = compile_model(CATALOGUE[name].path, bundled=True)
    assert ir.load(ir.dump(model)) == model


def test_every_parameter_has_a_range_a_unit_and_a_description() -> None:
    for entry in CATALOGUE.values():
        for parameter in compile_model(entry.path, bundled=True).parameters:
            assert parameter.range, f"{entry.name}.{parameter.name}"
            assert parameter.description, f"{entry.name}.{parameter.name}"
            assert parameter.units or parameter.type == "integer", f"{entry.name}.{parameter.name}"


def test_a_damaged_model_file_is_named() -> None:
    text = ir.dump(compile_model(CATALOGUE["vteam"].path, bundled=True))
    with pytest.raises(ParseError, match=r"m.json: not a compiled device model"):
        ir.load(text[:-40], path="m.json")
    with pytest.raises(ModelError, match=r"unknown opcode 'fmagic'"):
        ir.load(text.replace('"opcode": "fmul"', '"opcode": "fmagic"', 1))
    with pytest.raises(ModelError, match=r"is not a real value of evaluate|is None, expected"):
        ir.load(re.sub(r'"result": "\w+"', '"result": "lost"', text, count=1))
