"""The newton engine against an independent dense Newton on the nodal equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.errors import SpecError
from cosim.solvers import iteration
from cosim.solvers.newton import solve_newton
from reference.nodal import nodal_solve
from solvers.cases import UNEQUAL, ZEROS, cells, distance, inputs, name, ohms
from solvers.stand_in import Diode, Resistor, Sinh, stand_in_tile
from tolerances import NEWTON_EXACT


def truth(tile: Tile, voltages: torch.Tensor) -> torch.Tensor:
    """Currents of one tile from the reference, ``(batch, columns)`` A."""

    def cell(v: Any) -> Any:
        i, slope = tile.device.current_and_slope(torch.as_tensor(v), tile.state)
        return i.numpy(), slope.numpy()

    shape = (tile.rows, tile.columns)
    return torch.as_tensor(nodal_solve(voltages.numpy(), shape, cell=cell, **ohms(tile.wires)).currents)


def check(solution: Solution, expected: torch.Tensor) -> None:
    """Every vector solved, right to the tolerance, and no worse than the solution says."""
    assert bool(solution.solved.all())
    error = (solution.currents - expected).abs().amax(-1)
    largest = expected.abs().amax(-1)
    assert bool((error <= NEWTON_EXACT * largest).all())
    # the reference itself stops at rounding, which the bound does not know
    assert bool((error <= solution.stats["error_bound"] + 1e-12 * largest).all())


DEVICES = [Resistor(), Sinh(2.5), Sinh(6.0), Diode()]


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: f"{d.name}-{d.digest[-3:]}")
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3), (1, 4), (4, 1), (16, 16)], ids=str)
def test_equals_the_dense_newton(device: Any, shape: tuple[int, int]):
    tile = stand_in_tile(device, state=cells(*shape), wires=UNEQUAL)
    v = inputs(3, shape[0], volt=0.3 if device.name == "diode_cell" else 1.0)
    check(solve_newton(tile, v), truth(tile, v))


@pytest.mark.parametrize("wires", ZEROS, ids=name)
def test_any_resistance_may_be_zero(wires: Wires):
    tile = stand_in_tile(Sinh(4.0), state=cells(3, 5), wires=wires)
    v = inputs(3, 3)
    check(solve_newton(tile, v), truth(tile, v))


def test_autocast_changes_nothing():
    tile = stand_in_tile(Sinh(2.5), state=cells(6, 5).float(), wires=UNEQUAL)
    v = inputs(3, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = solve_newton(tile, v)
    assert torch.equal(found.currents, solve_newton(tile, v).currents)


def test_strong_drop_over_the_wires():
    """Cells of 100 ohm at 1 V: most of the voltage is lost, the first guess is far away."""
    tile = stand_in_tile(Sinh(4.0), state=1e3 * cells(12, 10), wires=Wires(row=5.0, column=5.0))
    v = inputs(4, 12).abs()
    check(solve_newton(tile, v), truth(tile, v))


def test_open_and_shorted_cells():
    state = cells(5, 4)
    state[1, 2], state[3, 0] = 0.0, 1.0
    tile = stand_in_tile(Sinh(2.5), state=state, wires=UNEQUAL)
    v = inputs(4, 5)
    check(solve_newton(tile, v), truth(tile, v))


def test_vectors_on_their_own_factorisation(monkeypatch: pytest.MonkeyPatch):
    tile = stand_in_tile(Diode(), state=cells(2, 6, 5), wires=UNEQUAL)
    v = inputs(3, 6, volt=0.4)
    monkeypatch.setattr(iteration, "_SHARED_STEPS", 0)
    solution = solve_newton(tile, v, memory=20_000)
    for t in range(2):
        one = stand_in_tile(Diode(), state=tile.state[t], wires=UNEQUAL)
        assert distance(solution.currents[t], truth(one, v)) <= NEWTON_EXACT


def test_tiles_and_parameters_per_cell():
    a = 2.0 + cells(2, 1, 4, 3) * 1e4
    state = cells(2, 3, 4, 3)
    v = inputs(2, 3, 5, 4)
    for memory in (1 << 30, 20_000):  # all at once; tile by tile
        currents = solve_newton(stand_in_tile(Sinh(a), state=state, wires=UNEQUAL), v, memory=memory).currents
        assert currents.shape == (2, 3, 5, 3)
        for t in range(2):
            for u in range(3):
                one = stand_in_tile(Sinh(a[t, 0]), state=state[t, u], wires=UNEQUAL)
                assert distance(currents[t, u], truth(one, v[t, u])) <= NEWTON_EXACT


def test_leading_axes_of_the_voltages_alone():
    tile = stand_in_tile(Sinh(2.5), state=cells(4, 3), wires=UNEQUAL)
    v = inputs(2, 5, 4)
    solution = solve_newton(tile, v)
    assert solution.status.shape == (2, 5)
    for k in range(2):
        check(solve_newton(tile, v[k]), truth(tile, v[k]))
        assert distance(solution.currents[k], truth(tile, v[k])) <= NEWTON_EXACT


def test_a_vector_that_overflows_leaves_the_others_right():
    tile = stand_in_tile(Sinh(2.5), state=cells(3, 5), wires=Wires())
    v = inputs(3, 3)
    v[1] = 1e4
    solution = solve_newton(tile, v)
    assert solution.status.tolist() == [Status.SOLVED, Status.NOT_FINITE, Status.SOLVED]
    assert bool(solution.currents[1].isnan().all())
    expected = v @ torch.zeros(3, 5, dtype=v.dtype) + Sinh(2.5).current(v[..., None], tile.state).sum(-2)
    assert distance(solution.currents[0::2], expected[0::2]) <= NEWTON_EXACT


def test_a_vector_that_does_not_converge_leaves_the_others_right():
    tile = stand_in_tile(Diode(), state=cells(4, 4), wires=UNEQUAL)
    v = inputs(3, 4, volt=0.2)
    v[1] = 500.0
    solution = solve_newton(tile, v, max_iterations=2)
    assert solution.status[1] == Status.NOT_CONVERGED
    assert bool(solution.currents[1].isnan().all())
    assert distance(solution.currents[0::2], truth(tile, v[0::2])) <= NEWTON_EXACT


def test_no_voltage_no_current():
    solution = solve_newton(stand_in_tile(Sinh(2.5), state=cells(3, 2), wires=UNEQUAL), torch.zeros(2, 3))
    assert solution.currents.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert solution.stats["relative_residual"].tolist() == [0.0, 0.0]


def test_residual_is_kirchhoffs_law_at_the_nodes():
    """A loose tolerance leaves a residual, and it is the one that the node voltages have."""
    tile = stand_in_tile(Sinh(4.0), state=1e2 * cells(6, 6), wires=UNEQUAL)
    v = inputs(3, 6)
    loose = solve_newton(tile, v, tolerance=1e-3)
    error = (loose.currents - truth(tile, v)).abs().amax(-1)
    assert bool((loose.stats["residual"] > 0).all())
    assert bool((error <= loose.stats["error_bound"]).all())
    assert bool((loose.stats["error_bound"] <= 2e-3 * loose.currents.abs().amax(-1)).all())


def test_float32():
    tile = stand_in_tile(Sinh(2.5), state=cells(8, 8).float(), wires=UNEQUAL)
    v = inputs(3, 8).float()
    solution = solve_newton(tile, v)
    assert solution.currents.dtype == torch.float32
    assert bool(solution.solved.all())
    double = stand_in_tile(Sinh(2.5), state=tile.state.double(), wires=UNEQUAL)
    error = (solution.currents - truth(double, v.double())).abs().amax(-1)
    assert bool((error <= 2 * solution.stats["error_bound"] + 1e-6 * solution.currents.abs().amax(-1)).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "tolerance is 0.0: it must be a finite number, above 0 and below 1"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"max_iterations": 0}, "max_iterations is 0: it must be a whole number, at least 1"),
        ({"memory": 1000}, r"a 16x16 tile needs \d+ bytes of factors, memory=1000: raise memory="),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=message):
        solve_newton(stand_in_tile(Sinh(2.5), state=cells(16, 16), wires=UNEQUAL), inputs(1, 16), **options)
