"""Open and nearly open lines in the linear engine: matrices, what is inside, gradients, and the check."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cosim.crossbar import Status, Wires
from cosim.errors import SpecError
from cosim.solvers import linear
from cosim.solvers.linear import LinearNetwork, solve_linear
from cosim.solvers.star_mesh import StarMesh, star_mesh_matrices
from cosim.solvers.sweep import swept_currents
from cosim.wires import Segments
from reference.star_mesh import StarMesh as Exact
from reference.star_mesh import star_mesh_transfer
from solvers.cases import BOTH_ENDS, UNEQUAL, ZEROS, cells, distance, inputs, name, ohms, segments
from solvers.extremes import extreme_tile
from solvers.stand_in import Resistor, stand_in_tile
from tolerances import LINEAR_EXACT

OPEN = math.inf
EITHER_END = {  # each line is open at one end at least
    "sense": Wires(row=2.0, column=30.0, sense=OPEN, sense_far=7.0),
    "source": Wires(row=2.0, column=30.0, source=OPEN, source_far=7.0),
    "both": Wires(row=2.0, column=30.0, source=OPEN, source_far=7.0, sense=OPEN, sense_far=0.5),
    "in turn": Wires(row=2.0, column=3.0, source=[5.0, OPEN] * 3, source_far=[OPEN, 5.0] * 3),
    "one word line floats": Wires(row=2.0, column=3.0, source=[5.0, OPEN, 5.0, 5.0, 5.0, 5.0]),
    "one bit line floats": Wires(row=2.0, column=3.0, sense=[1.0, OPEN, 5.0, 5.0]),
}
either_end = pytest.mark.parametrize("wires", EITHER_END.values(), ids=EITHER_END)


def one(wires: Wires, rows: int, columns: int) -> Segments:
    return wires.spread(rows, columns).tiles((1,))


@pytest.mark.parametrize("wires", [UNEQUAL, BOTH_ENDS, *ZEROS[1:]], ids=name)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (6, 9), (20, 13)], ids=str)
def test_equals_the_elimination_with_subtractions_where_that_is_exact(shape: tuple[int, int], wires: Wires):
    g = cells(*shape)
    mesh, network = StarMesh(g[None], one(wires, *shape)), LinearNetwork.factor(g, wires)
    assert distance(mesh.transfer[0], network.transfer) <= LINEAR_EXACT
    assert distance(mesh.admittance[0], network.admittance) <= LINEAR_EXACT


def test_matrices_and_sweep_are_right_whatever_the_range():
    for seed in range(20):
        g, _, wires = extreme_tile(seed)
        exact = Exact(tuple(g.shape), **ohms(wires)).eliminate(g.numpy())
        truth = torch.from_numpy(exact.transfer.astype(float))
        mesh = StarMesh(g[None], one(wires, *g.shape))
        volts = 1 + torch.rand(len(g), dtype=g.dtype, generator=torch.Generator().manual_seed(seed))
        swept = swept_currents(g[None], one(wires, *g.shape), volts)
        if bool(truth.any()):
            assert distance(mesh.transfer[0], truth) <= LINEAR_EXACT, seed
            assert distance(swept[0], volts @ truth) <= LINEAR_EXACT, seed


@either_end
def test_lines_open_at_an_end(wires: Wires):
    g, v = cells(2, 6, 4), inputs(3, 6)
    solution = solve_linear(stand_in_tile(Resistor(), state=g, wires=wires), v)
    assert solution.status.tolist() == [[Status.SOLVED] * 3] * 2
    for t in range(2):
        truth = v.numpy() @ star_mesh_transfer(g[t].numpy(), **ohms(wires)).astype(float)
        assert distance(solution.currents[t], truth) <= LINEAR_EXACT


@either_end
def test_inside_of_lines_open_at_an_end(wires: Wires):
    """Kirchhoff's laws and Ohm's, at every node and in every segment: they have one solution."""
    g, v = cells(6, 4), inputs(3, 6)
    solution = solve_linear(stand_in_tile(Resistor(), state=g, wires=wires), v, nodes=True)
    nodes, wire = solution.nodes, wires.spread(6, 4)
    assert distance(nodes.current, g * nodes.cell_voltage) <= LINEAR_EXACT
    right = torch.cat([nodes.word_current[..., 1:], -nodes.source_far_current.unsqueeze(-1)], -1)
    below = torch.cat([nodes.sense_far_current.unsqueeze(-2), nodes.bit_current[..., :-1, :]], -2)
    most = nodes.current.abs().max()
    assert (nodes.word_current - right - nodes.current).abs().max() <= LINEAR_EXACT * most
    above = torch.cat([-below[..., :1, :], below[..., 1:, :]], -2)
    assert (nodes.bit_current - above - nodes.current).abs().max() <= LINEAR_EXACT * most
    before = torch.cat([v.unsqueeze(-1), nodes.word[..., :-1]], -1)
    after = torch.cat([nodes.bit[..., 1:, :], torch.zeros_like(nodes.bit[..., :1, :])], -2)
    drops = [
        (before - nodes.word, nodes.word_current, wire.word),
        (nodes.bit - after, nodes.bit_current, wire.bit),
    ]
    if wire.word_far is not None:
        drops.append((v - nodes.word[..., -1], nodes.source_far_current, wire.word_far))
    if wire.bit_far is not None:
        drops.append((nodes.bit[..., 0, :], nodes.sense_far_current, wire.bit_far))
    for volts, current, ohm in drops:
        there = torch.isfinite(ohm)
        assert (volts - ohm * current)[..., there].abs().max() <= LINEAR_EXACT
        assert not current[..., ~there].any()
    assert (
        distance(nodes.bit_current[..., -1, :] + nodes.sense_far_current, solution.currents) <= LINEAR_EXACT
    )
    power = solution.power
    assert distance(power.cells + power.wires + power.drivers + power.sense, power.source) <= LINEAR_EXACT


def test_an_island_carries_no_current():
    """Two lines that nothing but a cell of their own reaches."""
    g = torch.tensor([[1e-3, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    wires = Wires(row=1.0, column=1.0, source=[0.0, OPEN], sense=[0.0, OPEN])
    solution = solve_linear(stand_in_tile(Resistor(), state=g, wires=wires), [1.0, 1.0], nodes=True)
    assert solution.currents.tolist() == [[pytest.approx(1 / 1001), 0.0]]
    assert solution.nodes.current[0, 1, 1] == 0.0


def test_ordinary_and_floating_tiles_of_one_batch():
    g, v = cells(3, 4, 5), inputs(2, 4)
    sense = torch.tensor([[3.0], [1e15], [5.0]], dtype=torch.float64).expand(3, 5)
    wires = Wires(row=2.0, column=3.0, sense=sense)
    for dtype, limit in ((torch.float64, LINEAR_EXACT), (torch.float32, 1e-5)):
        tile = stand_in_tile(Resistor(), state=g.to(dtype), wires=wires)
        solution = solve_linear(tile, v.to(dtype), nodes=True)
        assert solution.currents.dtype == dtype
        assert solution.status.tolist() == [[0, 0]] * 3
        for t, ohm in enumerate((3.0, 1e15, 5.0)):
            transfer = star_mesh_transfer(g[t].to(dtype).double(), row=2.0, column=3.0, sense=ohm)
            truth = v.to(dtype).double().numpy() @ transfer.astype(float)
            assert distance(solution.currents[t].double(), truth) <= limit
            assert distance(solution.nodes.current[t].sum(-2), solution.currents[t]) <= 1e-3 or t == 1


def test_gradients_beside_open_ends():
    """Of cells and of the resistances that are not open; inf itself has none."""
    g = (cells(3, 4) * 1e4).requires_grad_()
    ends = segments(3, 4, far="source sense", zeros=0.0, seed=3)
    given = {
        key: getattr(ends, key).clone()
        for key in ("row", "column", "source", "sense", "source_far", "sense_far")
    }
    given["source"][1], given["sense_far"][2], given["sense"][:] = OPEN, OPEN, OPEN
    given["row"][0, 1] = OPEN
    closed = {key: torch.isfinite(ohm) for key, ohm in given.items()}
    free = {key: ohm[closed[key]].clone().requires_grad_() for key, ohm in given.items() if closed[key].any()}

    def matrices(x: torch.Tensor, *ohm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = {key: value.clone() for key, value in given.items()}
        for key, value in zip(free, ohm, strict=True):
            own[key] = own[key].masked_scatter(closed[key], value)
        network = LinearNetwork.factor(1e-3 * x, Wires(**own))
        return 1e3 * network.transfer, 1e3 * network.admittance

    assert torch.autograd.gradcheck(matrices, (g, *free.values()))
    sense = torch.tensor([OPEN, 2.0], dtype=torch.float64, requires_grad=True)
    total = LinearNetwork.factor(cells(3, 2), Wires(row=1.0, column=1.0, sense=sense)).transfer.sum()
    (gradient,) = torch.autograd.grad(total, sense)
    assert gradient[0] == 0
    assert gradient[1] < 0


def test_gradients_equal_those_of_the_elimination_with_subtractions():
    g, wires = cells(5, 6), segments(5, 6, far="source sense", zeros=0.3)
    parts = [part.unsqueeze(0).clone().requires_grad_() for part in vars(wires.spread(5, 6)).values()]
    own = Segments(**dict(zip(("word", "bit", "word_far", "bit_far"), parts, strict=True)))
    weights = inputs(5, 6), inputs(5, 5)
    found = []
    for transfer, admittance in (star_mesh_matrices(g[None], own), by_impedances(g, own)):
        loss = (transfer * weights[0]).sum() + (admittance * weights[1]).sum()
        found.append(torch.autograd.grad(loss, parts))
    for mesh, truth in zip(*found, strict=True):
        assert distance(mesh, truth) <= LINEAR_EXACT


def by_impedances(g: torch.Tensor, own: Segments) -> tuple[torch.Tensor, torch.Tensor]:
    network = linear.Elimination(g[None], own, inject=True)
    return network.transfer, network.admittance


def test_nodes_of_floating_tiles_have_no_gradients():
    tile = stand_in_tile(Resistor(), state=cells(2, 2).requires_grad_(), wires=Wires(row=1.0, sense=OPEN))
    with pytest.raises(SpecError, match=r"nodes=True has no gradients.*solve it under torch.no_grad\(\)"):
        solve_linear(tile, inputs(1, 2), nodes=True)
    with torch.no_grad():
        assert solve_linear(tile, inputs(1, 2), nodes=True).nodes.word.shape == (1, 2, 2)


@pytest.mark.parametrize("floating", [False, True], ids=["checked by impedances", "checked by a sweep"])
@pytest.mark.parametrize("place", [(0, 0), (3, 1), (5, 3)], ids=str)
def test_one_wrong_entry_is_found(monkeypatch: pytest.MonkeyPatch, floating: bool, place: tuple[int, int]):
    wires = EITHER_END["both" if floating else "sense"]
    tile = stand_in_tile(Resistor(), state=cells(2, 6, 4), wires=wires)
    right = linear.star_mesh_matrices
    assert solve_linear(tile, inputs(3, 6)).status.tolist() == [[0] * 3] * 2
    for which in (0, 1):

        def wrong(*arguments: Any, which: int = which) -> tuple[torch.Tensor, ...]:
            found = right(*arguments)
            found[which][1][place] += 1e-8 * found[which][1].abs().max()
            return found

        monkeypatch.setattr(linear, "star_mesh_matrices", wrong)
        assert solve_linear(tile, inputs(3, 6)).status.tolist() == [[0] * 3, [Status.SINGULAR] * 3]
