"""SOLVED means right: faults put into every solver, and tiles where rounding is the whole problem."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from cosim.crossbar import Status, Tile, Wires
from cosim.devices import build
from cosim.devices.device import Device
from cosim.errors import SolveError, SpecError
from cosim.solvers import exact, iteration, library
from cosim.solvers.acceptance import judge
from cosim.solvers.iteration import Newton
from cosim.solvers.kernel import Compiled
from cosim.solvers.lines import Arms, Lines
from cosim.solvers.mesh import solve_mesh
from cosim.solvers.newton import _network, solve_newton
from reference.nodal import nodal_solve
from reference.star_mesh import star_mesh_currents, star_mesh_transfer
from solvers.cases import BOTH_ENDS, UNEQUAL, distance, inputs, ohms
from solvers.stand_in import Resistor, Sinh, stand_in_tile
from tolerances import GRADIENT_DIFFERENCE, LINEAR_EXACT, NEWTON_EXACT, STAR_MESH

FLOATING = Wires(row=2.0, column=3.0, source=1e9, sense=5.0, source_far=2e12)


def sinh_tile(*shape: int, wires: Wires = UNEQUAL) -> Tile:
    return Tile(Device("data_driven"), state=1280 + 15720 * inputs(*shape).abs(), wires=wires)


def truth(tile: Tile, voltages: torch.Tensor) -> torch.Tensor:
    """From the elimination without subtractions, ``(batch, columns)`` A."""
    if tile.device.is_linear:
        transfer = star_mesh_transfer(tile.state.numpy(), **ohms(tile.wires))
        return voltages @ torch.as_tensor(transfer.astype(float))

    def cell(v: Any) -> Any:
        volts = torch.as_tensor(np.asarray(v, float))
        i, slope = tile.device.current_and_slope(volts, tile.state)
        return i.numpy().astype(v.dtype), slope.expand_as(volts).numpy().astype(v.dtype)

    shape = (tile.rows, tile.columns)
    if tile.wires in (UNEQUAL, BOTH_ENDS):  # of usual resistances, where nodal analysis is as good and quick
        return torch.as_tensor(nodal_solve(voltages.numpy(), shape, cell=cell, **ohms(tile.wires)).currents)
    currents, _ = star_mesh_currents(voltages.numpy(), shape, cell=cell, **ohms(tile.wires))
    return torch.as_tensor(currents.astype(float))


def check(tile: Tile, voltages: torch.Tensor) -> None:
    """Every vector solved, right to the tolerance, and no worse than the solution says."""
    solution, expected = solve_newton(tile, voltages), truth(tile, voltages)
    assert solution.status.tolist() == [Status.SOLVED] * len(voltages)
    error, largest = (x.abs().amax(-1) for x in (solution.currents - expected, expected))
    assert bool((error <= NEWTON_EXACT * largest).all())
    assert bool((error <= solution.stats["error_bound"] + STAR_MESH * largest).all())


# --- wires of any size -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", [1e9, 1e12, 1e14, 1e18, 1e24, 1e30])
@pytest.mark.parametrize("line", ["source", "sense"])
def test_one_end_of_every_line_open_in_effect(line: str, end: float):
    """Driven, or sensed, from the far ends alone. At 1e18 ohm 54 % wrong with an error bound of 1e-14."""
    wires = Wires(row=2.0, column=2.0, **{line: end, f"{line}_far": 2.0})
    state = 1e-2 * inputs(10, 8).abs()
    check(stand_in_tile(Resistor(), state=state, wires=wires), torch.full((1, 10), 0.1).double())


def test_lines_driven_from_alternate_ends():
    """What a layout does that leads neighbouring lines out on opposite sides; no factors are needed."""
    odd = torch.arange(8) % 2 == 1
    near, far = (torch.where(odd == side, 1e15, 3.0).double() for side in (True, False))
    wires = Wires(row=2.0, column=1.0, source=near, source_far=far, sense=far[:6], sense_far=near[:6])
    check(sinh_tile(8, 6, wires=wires), inputs(1, 8))


def test_lines_that_are_broken_in_the_middle():
    row, column = torch.full((6, 4), 2.0), torch.full((5, 5), 2.0)
    row[2, 2], column[3, 1] = 1e10, 1e16
    wires = Wires(row=row, column=column, source=1.0, sense=1.0, source_far=1.0, sense_far=1.0)
    check(sinh_tile(6, 5, wires=wires), inputs(1, 6))


@pytest.mark.parametrize("ends", [1e8, 1e30])
@pytest.mark.parametrize("lines", ["source", "sense", "source sense"])
def test_floating_lines(ends: float, lines: str):
    """Every other line ends in next to nothing on both sides."""
    parts: dict[str, Any] = {}
    for line in lines.split():
        loose = torch.arange(4 if line == "source" else 3) % 2 == 1
        parts[line] = torch.where(loose, ends, 5.0).double()
        parts[f"{line}_far"] = torch.where(loose, 3 * ends, 9.0).double()
    tile = sinh_tile(4, 3, wires=Wires(row=2.0, column=3.0, **parts))
    check(tile, inputs(1, 4).abs())


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 1), (7, 3), (9, 10)], ids=str)
def test_the_mesh_equals_the_reference(size: tuple[int, int]):
    cells = torch.as_tensor(10 ** np.random.default_rng(3).uniform(-15, 0, size))
    for wires in (UNEQUAL, BOTH_ENDS, FLOATING, Wires(), Wires(row=1e-12, column=0.0, sense=1e30)):
        v = inputs(2, size[0]).abs()
        segments = wires.spread(*size).tiles(())
        _, currents = solve_mesh(cells.expand(2, *size), segments, v)
        expected = v.numpy() @ star_mesh_transfer(cells.numpy(), **ohms(wires))
        assert bool((np.abs(currents.numpy() - expected) <= STAR_MESH * np.abs(expected)).all())


# --- rounding --------------------------------------------------------------------------------------


def test_currents_far_below_those_of_the_cells():
    """18 cells up to 0.1 S beside an open sense line read 3e-12 S: nine digits cancel in each column."""
    state = 10 ** -inputs(18, 1, volt=8.0, seed=4).abs() * 0.1
    tile = stand_in_tile(Resistor(), state=state, wires=Wires(row=1.0, column=0.5, source=1.0, sense=3e11))
    check(tile, inputs(4, 18).abs())


def test_rounding_beyond_the_tolerance_is_no_solution():
    """A balanced bridge: what is left of its currents is less than rounding."""
    state = torch.full((2, 1), 1e-3, dtype=torch.float64)
    tile = stand_in_tile(Sinh(2.5), state=state, wires=Wires(sense=1e3))
    v = torch.tensor([[1.0, -1.0 + 2e-16], [1.0, 0.5]], dtype=torch.float64)
    solution = solve_newton(tile, v)
    assert solution.status.tolist() == [Status.INEXACT, Status.SOLVED]
    with pytest.raises(SolveError, match="INEXACT; rounding leaves more than the tolerance.*raise tolerance"):
        solution.check()


def test_a_tolerance_below_rounding_is_pursued():
    tile, v = sinh_tile(6, 5), inputs(3, 6)
    solution = solve_newton(tile, v, tolerance=1e-15)
    assert bool(solution.solved.all())
    assert bool((solution.stats["error_bound"] <= 1e-13 * solution.currents.abs().amax(-1)).all())


# --- faults ----------------------------------------------------------------------------------------


def lie(factor: float | None) -> Any:
    """A compiled iteration that calls everything solved: zeros, or currents off by a factor."""
    honest = iteration.solve_compiled

    def lying(network: Any) -> Any:
        found = honest(network)
        assert found is not None
        current = torch.zeros_like(found.current) if factor is None else factor * found.current
        solved = torch.ones_like(found.solved)
        return Compiled(current=current, solved=solved, iterations=found.iterations, products=found.products)

    return lying


@pytest.mark.parametrize("factor", [None, 1 + 1e-9, -1.0, torch.nan], ids=str)
def test_a_lie_is_found_out(monkeypatch: pytest.MonkeyPatch, factor: float | None):
    """By the evaluation, so that other ways find what is right; without them, nothing is SOLVED."""
    tile, v = sinh_tile(6, 5), inputs(3, 6)
    monkeypatch.setattr(iteration, "solve_compiled", lie(factor))
    check(tile, v)
    for way in ("_factored", "_refined"):
        monkeypatch.setattr(Newton, way, lambda newton, network, found, tolerance: found)
    assert not bool(solve_newton(tile, v).solved.any())


def test_a_library_that_does_nothing(monkeypatch: pytest.MonkeyPatch):
    """Compiled for real: the currents are what lay in memory, and the library says that they are solved."""
    code = ctypes.CDLL(str(build.build("int cosim_solve(void *task) { return 0; }", "idle", fast=True)))
    monkeypatch.setattr(library, "_load", lambda cells: code)
    check(sinh_tile(6, 5), inputs(3, 6))


def test_wires_that_a_solver_gets_wrong(monkeypatch: pytest.MonkeyPatch):
    honest = Lines.word_arms

    def longer(lines: Lines, rows: slice = slice(None)) -> Arms:
        arms = honest(lines, rows)
        return Arms(near=arms.near * (1 + 1e-6), rest=arms.rest)

    tile, v = sinh_tile(6, 5, wires=BOTH_ENDS), inputs(3, 6)
    monkeypatch.setattr(Lines, "word_arms", longer)
    check(tile, v)
    monkeypatch.setattr(Newton, "_refined", lambda newton, network, found, tolerance: found)
    assert not bool(solve_newton(tile, v).solved.any())


@pytest.mark.parametrize("factor", [0.0, 1 + 1e-9, torch.nan], ids=str)
def test_a_mesh_that_is_wrong(monkeypatch: pytest.MonkeyPatch, factor: float):
    def wrong(*arguments: Any, **options: Any) -> Any:
        volts, currents = solve_mesh(*arguments, **options)
        return volts, factor * currents

    tile, v = sinh_tile(4, 3, wires=FLOATING), inputs(1, 4).abs()
    check(tile, v)
    monkeypatch.setattr(exact, "solve_mesh", wrong)
    monkeypatch.setattr(Newton, "_factored", lambda newton, network, found, tolerance: found)
    assert not bool(solve_newton(tile, v).solved.any())


def test_the_evaluation_sees_a_single_cell():
    tile, v = sinh_tile(20, 18), inputs(2, 20)
    network, chord = _network(tile, v, 1e-10)
    current = Newton(guess=chord, max_steps=50, systems=1, meshes=0).solve(network, 1e-10).current
    assert bool(judge(network, current).within(1e-10).all())
    current[0, 7, 1, 11] += 1e-8 * current[0, :, 1].sum(0).abs().max()
    assert judge(network, current).within(1e-10).tolist() == [[True, False]]


INF = math.inf
OPENED = [
    FLOATING,
    Wires(row=2.0, column=3.0, source=INF, source_far=4.0),
    Wires(row=2.0, column=3.0, sense=INF, sense_far=4.0),
    Wires(row=[[2.0, INF, 2.0, 2.0], *[[2.0] * 4] * 2], column=3.0),
]


@pytest.mark.parametrize("wires", OPENED, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (3, 2)])
def test_nodes_beside_open_lines_obey_ohm_kirchhoff_and_the_device(wires: Wires, shape: tuple[int, int]):
    if isinstance(wires.row, torch.Tensor):
        wires = Wires(row=wires.row[:, : shape[1] - 1], column=3.0)
    tile, v = sinh_tile(*shape, wires=wires), inputs(2, 3).abs()
    solution = solve_newton(tile, v, nodes=True)
    assert bool(solution.solved.all())
    nodes = solution.nodes
    assert nodes is not None
    most = nodes.current.abs().max()
    assert distance(nodes.current, tile.device.current(nodes.cell_voltage, tile.state)) <= NEWTON_EXACT
    onward = pad(nodes.word_current[..., 1:], (0, 1)) - pad(
        nodes.source_far_current.unsqueeze(-1), (shape[1] - 1, 0)
    )
    assert (nodes.word_current - onward - nodes.current).abs().max() <= LINEAR_EXACT * most
    sensed = nodes.bit_current[..., -1, :] + nodes.sense_far_current
    assert distance(sensed, solution.currents) <= NEWTON_EXACT
    power = solution.power
    spent = power.cells + power.wires + power.drivers + power.sense
    assert distance(spent, power.source) <= LINEAR_EXACT


def test_nodes_of_floating_lines_have_no_gradients():
    v = inputs(2, 6).abs().requires_grad_()
    with pytest.raises(SpecError, match="nodes=True has no gradients for a tile with lines that are open"):
        solve_newton(sinh_tile(6, 5, wires=FLOATING), v, nodes=True)


def test_gradients_of_floating_lines():
    """Of every kind of input against differences of the reference."""
    parts = {
        "state": inputs(3, 2).abs() * 1e-3 + 1e-4,
        "v": inputs(2, 3).abs(),
        "row": torch.tensor([2.0, 2.5, 3.0]).double(),
    }
    loose = torch.tensor([1.0, 1e15, 1e20]).double()
    weight = inputs(2, 2, seed=5)

    def total(state: torch.Tensor, v: torch.Tensor, row: torch.Tensor) -> float:
        wires = Wires(row=row, column=1.0, source=loose, sense=7.0)
        transfer = star_mesh_transfer(state.numpy(), **ohms(wires)).astype(float)
        return float((v @ torch.as_tensor(transfer) * weight).sum())

    free = {name: value.clone().requires_grad_() for name, value in parts.items()}
    wires = Wires(row=free["row"], column=1.0, source=loose, sense=7.0)
    solution = solve_newton(stand_in_tile(Resistor(), state=free["state"], wires=wires), free["v"])
    assert bool(solution.solved.all())
    (solution.currents * weight).sum().backward()
    for name, value in parts.items():
        step = 1e-4 * float(value.abs().max())
        differences = torch.zeros_like(value)
        for at in range(value.numel()):
            up, down = value.clone(), value.clone()
            up.view(-1)[at] += step
            down.view(-1)[at] -= step
            totals = [total(**{**parts, name: part}) for part in (up, down)]
            differences.view(-1)[at] = (totals[0] - totals[1]) / (2 * step)
        grad = free[name].grad
        assert grad is not None
        assert distance(grad, differences) <= GRADIENT_DIFFERENCE


def test_gradients_of_nonlinear_cells_on_floating_lines():
    """Along one direction of all states."""
    loose = torch.tensor([1.0, 1e15, 1.0]).double()
    wires = Wires(row=2.0, column=1.0, source=loose, sense=7.0)
    state, way, v = inputs(3, 2).abs() * 1e-3 + 1e-4, inputs(3, 2, seed=8) * 1e-5, inputs(1, 3).abs()

    def total(x: torch.Tensor) -> torch.Tensor:
        return truth(stand_in_tile(Sinh(2.5), state=x, wires=wires), v).sum()

    free = state.clone().requires_grad_()
    solve_newton(stand_in_tile(Sinh(2.5), state=free, wires=wires), v).currents.sum().backward()
    assert free.grad is not None
    expected = (total(state + way) - total(state - way)) / 2
    assert distance((free.grad * way).sum(), expected) <= GRADIENT_DIFFERENCE
