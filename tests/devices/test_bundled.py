"""The compiled models that ship are what their sources compile to today."""

from __future__ import annotations

import pytest

from cosim.devices import ir
from cosim.devices.build import compile_model
from cosim.devices.catalogue import CATALOGUE
from cosim.devices.frontend import compile_file
from cosim.errors import ModelError, ParseError


@pytest.mark.parametrize("name", CATALOGUE)
def test_shipped_model_equals_a_fresh_compile(name: str, update_golden: bool) -> None:
    path = CATALOGUE[name].path
    fresh = ir.dump(compile_file(path))
    shipped = path.with_suffix(".json")
    if update_golden:
        shipped.write_text(fresh)
    assert shipped.read_text() == fresh, "run: ./scripts/test --update-golden tests/devices/test_bundled.py"


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
        ir.load(text.replace('"result": "v', '"result": "w', 1))
