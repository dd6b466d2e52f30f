"""The linear engine against a dense nodal solve and the laws of linear networks."""

from __future__ import annotations

import pytest
import torch

from cosim.crossbar import Status, Wires
from cosim.errors import SpecError
from cosim.solvers import linear
from cosim.solvers.elimination import Elimination
from cosim.solvers.linear import LinearNetwork, solve_ideal, solve_linear
from reference.nodal import dense_currents
from solvers.cases import UNEQUAL, ZEROS, cells, distance, inputs, name, ohms
from solvers.stand_in import Resistor, Sinh, stand_in_tile
from tolerances import LINEAR_EXACT, LINEAR_FLOAT32

SHAPES = [(1, 1), (1, 6), (6, 1), (3, 5), (5, 3), (16, 16), (24, 64), (64, 24), (64, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_dense_nodal_solve(shape: tuple[int, int]):
    g, v = cells(*shape), inputs(3, shape[0])
    tile = stand_in_tile(Resistor(), state=g, wires=UNEQUAL)
    solution = solve_linear(tile, v)
    assert distance(solution.currents, dense_currents(g, v, **ohms(UNEQUAL))) <= LINEAR_EXACT
    assert solution.status.tolist() == [Status.SOLVED] * 3


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("wires", ZEROS, ids=name)
def test_any_resistance_may_be_zero(wires: Wires, shape: tuple[int, int]):
    g, v = cells(*shape), inputs(4, shape[0])
    currents = LinearNetwork.factor(g, wires).currents(v)
    assert distance(currents, dense_currents(g, v, **ohms(wires))) <= LINEAR_EXACT


@pytest.mark.parametrize("ohm", [1e-3, 1.0, 1e3, 1e6])
def test_wires_from_negligible_to_dominant(ohm: float):
    g, v = cells(7, 4), inputs(2, 7)
    wires = Wires(row=ohm, column=2 * ohm, source=0.5 * ohm, sense=3 * ohm)
    currents = LinearNetwork.factor(g, wires).currents(v)
    assert distance(currents, dense_currents(g, v, **ohms(wires))) <= LINEAR_EXACT


def test_open_and_shorted_cells():
    g, v = cells(5, 4), inputs(2, 5)
    g[1, 2], g[3, 0], g[:, 3] = 0.0, 10.0, 0.0
    network = LinearNetwork.factor(g, UNEQUAL)
    assert distance(network.currents(v), dense_currents(g, v, **ohms(UNEQUAL))) <= LINEAR_EXACT
    assert network.transfer[:, 3].tolist() == [0.0] * 5


def test_tiles_are_independent_and_broadcast_with_the_voltages():
    g, v = cells(2, 3, 3, 5), inputs(2, 1, 4, 3)
    currents = solve_linear(stand_in_tile(Resistor(), state=g, wires=UNEQUAL), v).currents
    assert currents.shape == (2, 3, 4, 5)
    for t in range(2):
        for u in range(3):
            truth = dense_currents(g[t, u], v[t, 0], **ohms(UNEQUAL))
            assert distance(currents[t, u], truth) <= LINEAR_EXACT


def test_chunks_of_tiles_give_the_same(monkeypatch: pytest.MonkeyPatch):
    g = cells(5, 6, 4)
    whole = LinearNetwork.factor(g, UNEQUAL)
    sizes = []
    original = linear._factor_tiles
    monkeypatch.setattr(linear, "_factor_tiles", lambda c, *a: (sizes.append(len(c)), original(c, *a))[1])
    chunked = LinearNetwork.factor(g, UNEQUAL, memory=40_000)
    assert sizes == [3, 2]
    torch.testing.assert_close(chunked.transfer, whole.transfer, rtol=0, atol=0)


def test_float32_stays_float32():
    g, v = cells(64, 64), inputs(4, 64)
    network = LinearNetwork.factor(g.float(), Wires(row=2.0, column=2.0))
    assert network.transfer.dtype == torch.float32
    truth = dense_currents(g.float().double(), v, 2.0, 2.0)
    assert distance(v @ network.transfer.double(), truth) <= LINEAR_FLOAT32


def test_superposition():
    tile = stand_in_tile(Resistor(), state=cells(4, 6), wires=UNEQUAL)
    a, b = inputs(1, 4, seed=2), inputs(1, 4, seed=3)
    ia, ib, both = (solve_linear(tile, v).currents for v in (a, b, 2 * a - 3 * b))
    assert distance(2 * ia - 3 * ib, both) <= LINEAR_EXACT


def test_reciprocity():
    """Driver i to sense node j equals driver j to sense node i of the mirrored network."""
    g = cells(4, 6)
    mirrored = Wires(row=UNEQUAL.column, column=UNEQUAL.row, source=UNEQUAL.sense, sense=UNEQUAL.source)
    there = LinearNetwork.factor(g, UNEQUAL).transfer
    back = LinearNetwork.factor(g.flip(0, 1).mT, mirrored).transfer
    assert distance(back.flip(0, 1).mT, there) <= LINEAR_EXACT


def test_without_wires_it_is_the_product():
    g, v = cells(4, 6), inputs(3, 4)
    tile = stand_in_tile(Resistor(), state=g, wires=Wires())
    assert distance(solve_linear(tile, v).currents, v @ g) <= LINEAR_EXACT
    assert distance(solve_ideal(tile, v).currents, v @ g) <= LINEAR_EXACT


@pytest.mark.parametrize("wires", [UNEQUAL, *ZEROS], ids=name)
def test_dissipated_power_equals_source_power(wires: Wires):
    g, v = cells(5, 3), inputs(2, 5)
    voltage, current = Elimination(g, wires).solve(v[..., None].expand(2, 5, 3))
    along_word = current.flip(-1).cumsum(-1).flip(-1)  # through the segment before each cell
    along_bit = current.cumsum(-2)  # through the segment after each cell
    ohm = ohms(wires)
    dissipated = (
        (voltage * current).sum((-2, -1))
        + ohm["source"] * along_word[..., 0].square().sum(-1)
        + ohm["row"] * along_word[..., 1:].square().sum((-2, -1))
        + ohm["column"] * along_bit[..., :-1, :].square().sum((-2, -1))
        + ohm["sense"] * along_bit[..., -1, :].square().sum(-1)
    )
    delivered = (v * current.sum(-1)).sum(-1)
    assert distance(dissipated, delivered) <= LINEAR_EXACT


@pytest.mark.parametrize("wires", [UNEQUAL, Wires(row=2.0), Wires(column=3.0)], ids=name)
@pytest.mark.parametrize("shape", [(3, 4), (4, 3)], ids=str)
def test_gradients_of_the_transfer(wires: Wires, shape: tuple[int, int]):
    # in mS, so that finite differences of gradcheck see numbers near 1
    g = (cells(*shape) * 1e4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: 1e3 * LinearNetwork.factor(1e-3 * x, wires).transfer, (g,))


def test_gradients_reach_state_and_voltages():
    g, v = cells(3, 4).requires_grad_(), inputs(2, 3).requires_grad_()
    solve_linear(stand_in_tile(Resistor(), state=g, wires=UNEQUAL), v).currents.sum().backward()
    assert g.grad is not None
    assert v.grad is not None
    assert bool((g.grad != 0).all())
    assert bool((v.grad != 0).all())


def test_a_tile_keeps_no_graph_and_loses_none():
    g = cells(3, 4).requires_grad_()
    tile = stand_in_tile(Sinh(2.5), state=g, wires=UNEQUAL)
    with torch.no_grad():
        assert not solve_linear(tile, inputs(2, 3)).currents.requires_grad
    for _ in range(2):
        solve_linear(tile, inputs(2, 3)).currents.sum().backward()
    assert g.grad is not None


def test_nonlinear_cells_are_taken_at_the_read_voltage():
    device, state, v = Sinh(2.5), cells(3, 4), inputs(2, 3)
    tile = stand_in_tile(device, state=state, wires=UNEQUAL, v_read=0.3)
    chord = device.conductance(state, 0.3)
    truth = dense_currents(chord, v, **ohms(UNEQUAL))
    assert distance(solve_linear(tile, v).currents, truth) <= LINEAR_EXACT


def test_residual_is_small_and_finds_a_wrong_matrix(monkeypatch: pytest.MonkeyPatch):
    tile = stand_in_tile(Resistor(), state=cells(2, 6, 5), wires=UNEQUAL)
    v = inputs(3, 6)
    solution = solve_linear(tile, v)
    assert float(solution.stats["relative_residual"].max()) <= LINEAR_EXACT

    class Wrong(Elimination):
        def _sweep(self, *, inject: bool, keep: bool) -> None:
            super()._sweep(inject=inject, keep=keep)
            assert self.transfer is not None
            self.transfer[1, 2, 3] *= 1.001

    monkeypatch.setattr(linear, "Elimination", Wrong)
    assert solve_linear(tile, v).status.tolist() == [[0] * 3, [Status.SINGULAR] * 3]
    assert solve_linear(tile, v, check=False).status.tolist() == [[0] * 3] * 2


def test_overflow_is_marked():
    tile = stand_in_tile(Resistor(), state=torch.full((1, 2), 10.0), wires=Wires())
    for engine in (solve_ideal, solve_linear):
        solution = engine(tile, [[1.0], [1.7e308]])
        assert solution.status.tolist() == [Status.SOLVED, Status.NOT_FINITE]


@pytest.mark.parametrize(
    ("conductance", "message"),
    [
        ([[1.0, -2.0]], r"conductance\[0, 1\] is -2.0: it must be 0 or more"),
        ([[1.0, float("nan")]], r"conductance\[0, 1\] is nan: every entry must be finite"),
        ([1.0], r"conductance of shape \(1,\) is not \(\*tiles, rows, columns\)"),
    ],
)
def test_bad_conductances_are_refused(conductance: list[object], message: str):
    with pytest.raises(SpecError, match=message):
        LinearNetwork.factor(conductance, UNEQUAL)


def test_a_tile_beyond_the_memory_is_refused():
    with pytest.raises(SpecError, match=r"a 64x64 tile needs \d+ bytes of factors, memory=1000.*check=False"):
        LinearNetwork.factor(cells(64, 64), UNEQUAL, memory=1000)
