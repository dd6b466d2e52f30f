"""One interface for all engines: names, options, failures."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cosim import engines
from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.devices.device import Device
from cosim.engines import ENGINES, Engine, find_engine, solve
from cosim.errors import SolveError, SpecError
from solvers.cases import cells, distance, inputs, name
from solvers.stand_in import Resistor, Sinh, stand_in_tile
from tolerances import NEWTON_EXACT, NGSPICE_LINEAR, NGSPICE_NEWTON

WIRES = Wires(row=2.0, column=3.0)


def test_the_ladder_is_in_order():
    assert list(ENGINES) == ["ideal", "linear", "newton", "ngspice"]


@pytest.mark.parametrize("engine", ["ideal", "linear", "newton"])
def test_every_engine_answers_in_one_form(engine: str):
    tile = stand_in_tile(Sinh(2.5), state=cells(2, 3, 5), wires=WIRES)
    solution = solve(tile, inputs(4, 3), engine=engine)
    assert solution.engine == engine
    assert solution.currents.shape == (2, 4, 5)
    assert solution.status.shape == (2, 4)
    assert not solution.status.is_floating_point()
    assert solution.stats["seconds"] > 0


def test_newton_is_the_default_and_equals_linear_for_linear_cells():
    tile = stand_in_tile(Resistor(), state=cells(3, 5), wires=WIRES)
    v = inputs(4, 3)
    solution = solve(tile, v)
    assert solution.engine == "newton"
    assert distance(solution.currents, solve(tile, v, engine="linear").currents) <= NEWTON_EXACT


def test_one_vector_is_a_batch_of_one():
    tile = stand_in_tile(Resistor(), state=cells(3, 5), wires=WIRES)
    assert solve(tile, [0.1, 0.2, 0.3]).currents.shape == (1, 5)


def test_options_reach_the_engine():
    tile = stand_in_tile(Sinh(4.0), state=1e2 * cells(5, 4), wires=WIRES)
    few, many = (solve(tile, inputs(2, 5), tolerance=t).stats["iterations"] for t in (1e-2, 1e-10))
    assert bool((few < many).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"engine": "spice"}, "no engine 'spice': choose from ideal, linear, newton, ngspice"),
        ({"engine": "ideal", "tol": 1}, "engine 'ideal' has no option 'tol'; its options are: none"),
        (
            {"engine": "linear", "tolerance": 1},
            "engine 'linear' has no option 'tolerance'; its options are: nodes, check, memory",
        ),
        (
            {"steps": 1},
            "'newton' has no option 'steps'; its options are: nodes, tolerance, max_iterations, memory",
        ),
    ],
)
def test_unknown_names_are_refused(call: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=message):
        solve(stand_in_tile(Resistor(), state=cells(3, 5)), inputs(1, 3), **call)


@pytest.mark.parametrize("engine", ["ideal", "linear", "newton"])
@pytest.mark.parametrize(
    ("voltages", "message"),
    [
        (torch.zeros(2, 4), r"voltages of shape \(2, 4\) do not fit a tile with 3 rows"),
        (torch.zeros(4, 2, 3), r"voltages of shape \(4, 2, 3\) do not fit a tile of shape \(2, 3, 5\)"),
        (torch.tensor([0.0, torch.inf, 0.0]), r"voltages\[1\] is inf: every entry must be finite"),
    ],
)
def test_voltages_that_do_not_fit_are_refused(engine: str, voltages: torch.Tensor, message: str):
    with pytest.raises(SpecError, match=message):
        solve(stand_in_tile(Resistor(), state=cells(2, 3, 5)), voltages, engine=engine)


def test_a_failed_vector_raises_or_is_marked():
    tile = stand_in_tile(Sinh(2.5), state=cells(3, 5))
    v = inputs(3, 3)
    v[2] = 1e4
    message = r"'newton' failed for 1 of 3 vectors, first at \[2\]: NOT_FINITE"
    with pytest.raises(SolveError, match=message) as error:
        solve(tile, v)
    assert error.value.solution.status.tolist() == [0, 0, Status.NOT_FINITE]
    assert solve(tile, v, throw=False).status.tolist() == [0, 0, Status.NOT_FINITE]


def test_an_engine_is_imported_at_first_use(monkeypatch: pytest.MonkeyPatch):
    engine = Engine(name="missing", exact_for="nothing", module="cosim.no_such_module", function="f")
    monkeypatch.setattr(engines, "ENGINES", {"missing": engine})
    assert find_engine("missing") is engine
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        engine.solve(stand_in_tile(Resistor(), state=cells(1, 1)), [0.0])


def test_solution_type():
    assert isinstance(solve(stand_in_tile(Resistor(), state=cells(1, 1)), [0.1]), Solution)


def device_tile(name: str, rows: int, columns: int, wires: Wires) -> Tile:
    """A tile of a bundled device with states drawn over its whole range."""
    device = Device(name)
    low, high = device.state_range
    generator = torch.Generator().manual_seed(3)
    return Tile(
        device,
        state=low + (high - low) * torch.rand(rows, columns, generator=generator, dtype=torch.float64),
        wires=wires,
    )


@pytest.mark.parametrize("wires", [WIRES, Wires(row=2.0, column=0.0, source=50.0, sense=7.0)], ids=name)
@pytest.mark.parametrize("device", ["stanford_pku", "data_driven", "data_driven_2021"])
def test_newton_equals_ngspice(device: str, wires: Wires):
    tile = device_tile(device, 3, 5, wires)
    v = inputs(4, 3)
    truth = solve(tile, v, engine="ngspice").currents
    assert distance(solve(tile, v).currents, truth) <= NGSPICE_NEWTON


@pytest.mark.parametrize("device", ["vteam", "linear_ion_drift"])
def test_linear_equals_ngspice(device: str):
    tile = device_tile(device, 3, 5, WIRES)
    v = inputs(4, 3)
    truth = solve(tile, v, engine="ngspice").currents
    assert distance(solve(tile, v, engine="linear").currents, truth) <= NGSPICE_LINEAR


@pytest.mark.slow
def test_newton_equals_ngspice_on_a_whole_tile():
    """128x128 Stanford-PKU cells, 16 vectors up to 1 V, 2 ohm."""
    tile = device_tile("stanford_pku", 128, 128, Wires(row=2.0, column=2.0))
    v = inputs(16, 128)
    truth = solve(tile, v, engine="ngspice").currents
    assert distance(solve(tile, v).currents, truth) <= NGSPICE_NEWTON
