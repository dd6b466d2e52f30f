"""The catalogue against the files it describes."""

from __future__ import annotations

import pytest

from cosim.devices.build import compile_model
from cosim.devices.catalogue import CATALOGUE, CatalogueEntry, entry
from cosim.errors import SpecError
from models.evaluation import VaModel
from tolerances import MODEL_CURRENT

each_entry = pytest.mark.parametrize("model", CATALOGUE.values(), ids=CATALOGUE)


def value(name_or_number: float | str, parameters: dict[str, float]) -> float:
    return parameters[name_or_number] if isinstance(name_or_number, str) else name_or_number


@each_entry
def test_entry_describes_its_file(model: CatalogueEntry):
    file = VaModel(model.path)
    parameters = file.parameters()
    assert model.state_range is not None
    low, high = (value(bound, parameters) for bound in model.state_range)
    assert compile_model(model.path).name == model.name
    assert low <= parameters[model.state_parameter] <= high
    assert parameters[model.write_parameter] == 0
    assert (model.path.parent / "README.md").is_file()


@each_entry
def test_scale_and_polarity_are_those_of_the_file(model: CatalogueEntry):
    """A voltage on the state node acts as a change of the state parameter; the set polarity lowers R."""
    file = VaModel(model.path)
    parameters = file.parameters()
    assert model.state_range is not None
    low, high = (value(bound, parameters) for bound in model.state_range)
    scale = value(model.state_scale, parameters)
    start, there = low + 0.4 * (high - low), low + 0.7 * (high - low)
    by_node = file.at(0.1, (there - start) / scale, **{model.state_parameter: start})
    by_parameter = file.at(0.1, **{model.state_parameter: there})
    assert by_node.current == pytest.approx(by_parameter.current, rel=MODEL_CURRENT)
    rises = by_parameter.current > file.at(0.1, **{model.state_parameter: start}).current
    point = file.at(1.45 * model.set_polarity, **{model.state_parameter: there, "write": 1})
    assert (point.node_rate * scale > 0) == rises
    assert point.node_rate != 0


def test_polarity_follows_its_parameter():
    assert entry("data_driven_2021").polarity({"eta": -1.0}) == 1
    assert entry("data_driven_2021").polarity({"eta": 1.0}) == -1
    assert entry("vteam").polarity({"r_on": 1.0}) == -1


def test_unknown_model_lists_the_names():
    with pytest.raises(SpecError, match=r"is called 'Vteam': use one of vteam, data_driven, .* the path"):
        entry("Vteam")
