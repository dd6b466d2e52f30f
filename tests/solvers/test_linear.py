"""The linear engine against a dense nodal solve and the laws of linear networks."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
import torch

from cosim.crossbar import Status, Wires
from cosim.errors import SpecError
from cosim.solvers import elimination, linear
from cosim.solvers.blocks import Block
from cosim.solvers.elimination import Elimination
from cosim.solvers.linear import LinearNetwork, solve_ideal, solve_linear
from cosim.wires import Segments
from reference.nodal import dense_currents, dense_solve
from solvers.cases import BOTH_ENDS, UNEQUAL, ZEROS, cells, distance, inputs, name, ohms, segments
from solvers.stand_in import Resistor, Sinh, stand_in_tile
from tolerances import CHECKED, LINEAR_EXACT, LINEAR_FLOAT32

SHAPES = [(1, 1), (1, 6), (6, 1), (3, 5), (5, 3), (2, 4), (16, 16), (13, 100), (64, 24), (61, 67)]
FAR = ["", "source", "sense", "source sense"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_dense_nodal_solve(shape: tuple[int, int]):
    g, v = cells(*shape), inputs(3, shape[0])
    tile = stand_in_tile(Resistor(), state=g, wires=UNEQUAL)
    solution = solve_linear(tile, v)
    assert distance(solution.currents, dense_currents(g, v, **ohms(UNEQUAL))) <= LINEAR_EXACT
    assert solution.status.tolist() == [Status.SOLVED] * 3


@pytest.mark.parametrize("wires", [UNEQUAL, Wires()], ids=name)
def test_autocast_changes_nothing(wires: Wires):
    tile = stand_in_tile(Resistor(), state=cells(20, 12).float(), wires=wires)
    v = inputs(3, 20).float()
    for solve in (solve_linear, solve_ideal):
        found = solve(tile, v).currents
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(solve(tile, v).currents, found)


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


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (5, 3), (7, 12), (17, 9)], ids=str)
def test_a_resistance_for_every_segment_any_of_them_zero(shape: tuple[int, int], far: str):
    g, v = cells(*shape), inputs(3, shape[0])
    for seed in range(4):
        wires = segments(*shape, far=far, seed=seed, zeros=0.25 * seed)
        tile = stand_in_tile(Resistor(), state=g, wires=wires)
        assert distance(solve_linear(tile, v).currents, dense_currents(g, v, **ohms(wires))) <= LINEAR_EXACT


@pytest.mark.parametrize("source", [0.0, 5.0])
@pytest.mark.parametrize("far", [0.0, 7.0])
def test_far_ends_of_lines_without_resistance(far: float, source: float):
    """The currents of the columns are determined, whatever the share of each end."""
    g, v = cells(4, 6), inputs(2, 4)
    ends = {"source": source, "source_far": far, "sense": far, "sense_far": 0.0}
    wires = Wires(row=[0.0, 1.0, 0.0, 0.0], column=0.0, **ends)
    currents = LinearNetwork.factor(g, wires).currents(v)
    assert distance(currents, dense_currents(g, v, **ohms(wires))) <= LINEAR_EXACT


def test_one_resistance_per_line():
    g, v = cells(4, 6), inputs(2, 4)
    wires = Wires(row=[1.0, 0.0, 3.0, 4.0], column=torch.arange(6.0), sense=9.0)
    currents = LinearNetwork.factor(g, wires).currents(v)
    assert distance(currents, dense_currents(g, v, **ohms(wires))) <= LINEAR_EXACT


def test_tiles_with_wires_of_their_own():
    g, v = cells(5, 4, 6), inputs(3, 4)
    wires = segments(4, 6, 5, far="source")
    tile = stand_in_tile(Resistor(), state=g, wires=wires)
    for memory in (1 << 30, 100_000):  # all at once; in chunks
        solution = solve_linear(tile, v, memory=memory, nodes=True)
        for t in range(5):
            own = Wires(**{name: getattr(wires, name)[t] for name in OHMS})
            assert distance(solution.currents[t], dense_currents(g[t], v, **ohms(own))) <= LINEAR_EXACT
            word, bit = solution.nodes.word[t], solution.nodes.bit[t]
            truth = dense_solve(g[t], v, **ohms(own))
            assert distance(word, truth.word) <= LINEAR_EXACT
            assert distance(bit, truth.bit) <= LINEAR_EXACT


OHMS = ("row", "column", "source", "sense", "source_far")


def test_open_and_shorted_cells():
    g, v = cells(5, 4), inputs(2, 5)
    g[1, 2], g[3, 0], g[:, 3] = 0.0, 10.0, 0.0
    network = LinearNetwork.factor(g, UNEQUAL)
    assert distance(network.currents(v), dense_currents(g, v, **ohms(UNEQUAL))) <= LINEAR_EXACT
    assert network.transfer[:, 3].tolist() == [0.0] * 5


def rational_transfer(g: torch.Tensor, wires: Wires) -> torch.Tensor:
    """G_eff of a small tile in exact arithmetic, from the resistances that the paths of two cells share."""
    rows, columns = g.shape
    ohm = {key: Fraction(value) for key, value in ohms(wires).items() if value is not None}
    places = [(i, j) for i in range(rows) for j in range(columns)]
    siemens = [Fraction(float(g[place])) for place in places]
    system = []
    for i, j in places:
        line = []
        for (k, m), cell in zip(places, siemens, strict=True):
            shared = (ohm["source"] + ohm["row"] * min(j, m)) * (i == k)
            shared += (ohm["sense"] + ohm["column"] * (rows - 1 - max(i, k))) * (j == m)
            line.append(shared * cell + ((i, j) == (k, m)))
        system.append(line + [Fraction(i == row) for row in range(rows)])
    for n in range(len(places)):  # Gauss-Jordan; cell voltages per volt of each driver remain
        pivot = system[n][n]
        system[n] = [entry / pivot for entry in system[n]]
        for other in range(len(places)):
            if other != n and (factor := system[other][n]):
                system[other] = [a - factor * b for a, b in zip(system[other], system[n], strict=True)]
    transfer = torch.zeros(rows, columns, dtype=torch.float64)
    for row in range(rows):
        for (_, j), cell, line in zip(places, siemens, system, strict=True):
            transfer[row, j] += float(cell * line[len(places) + row])
    return transfer


@pytest.mark.parametrize("short", [1e-2, 1.0, 1e3, 1e6, 1e9])
def test_shorted_cells_are_exact(short: float):
    """A dense nodal solve in float64 is off by 1e-5 at 1e9 S: the truth here is rational arithmetic."""
    g = cells(3, 4)
    g[0, 1] = g[0, 2] = g[2, 2] = short
    g[1, 1] = 0.0
    for wires in (UNEQUAL, Wires(row=2.0, column=2.0), Wires(row=1e3, column=1e3, sense=0.0)):
        truth = rational_transfer(g, wires)
        assert distance(LinearNetwork.factor(g, wires).transfer, truth) <= LINEAR_EXACT
        single = LinearNetwork.factor(g.float(), wires).transfer.double()
        assert distance(single, rational_transfer(g.float().double(), wires)) <= LINEAR_FLOAT32


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
    need = linear._chunk_bytes(g, g.dtype, keep=False)
    chunked = LinearNetwork.factor(g, UNEQUAL, memory=3 * need)
    assert sizes == [3, 2]
    torch.testing.assert_close(chunked.transfer, whole.transfer, rtol=0, atol=0)


@pytest.mark.slow
def test_256x256_is_exact_in_both_precisions():
    g, v = cells(256, 256), inputs(4, 256)
    wires = Wires(row=2.0, column=2.0)
    network = LinearNetwork.factor(g, wires)
    assert distance(network.currents(v), dense_currents(g, v, 2.0, 2.0)) <= LINEAR_EXACT
    single = LinearNetwork.factor(g.float(), wires)
    assert single.transfer.dtype == torch.float32
    truth = v @ LinearNetwork.factor(g.float().double(), wires).transfer
    assert distance(v @ single.transfer.double(), truth) <= LINEAR_FLOAT32


@pytest.mark.slow
def test_a_tile_of_1024_stays_within_the_memory():
    script = """
import resource, torch
from cosim.crossbar import Wires
from cosim.solvers.linear import DEFAULT_MEMORY, LinearNetwork
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
LinearNetwork.factor(torch.ones(8, 8), Wires(row=1.0))
before = peak()
cells = 1e-5 + 1e-4 * torch.rand(1024, 1024, dtype=torch.float64)
network = LinearNetwork.factor(cells, Wires(row=2.0, column=2.0))
print(float(network.relative_residual), (peak() - before) / DEFAULT_MEMORY)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    residual, share = map(float, done.stdout.split())
    assert residual <= LINEAR_EXACT
    assert share <= 1


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


@pytest.mark.parametrize("wires", [UNEQUAL, BOTH_ENDS, *ZEROS], ids=name)
def test_dissipated_power_equals_source_power(wires: Wires):
    g, v = cells(2, 5, 3), inputs(4, 5)
    tile = stand_in_tile(Resistor(), state=g, wires=wires)
    power = solve_linear(tile, v, nodes=True).power
    assert power.source.shape == (2, 4)
    assert bool((power.cells > 0).all())
    assert distance(power.cells + power.wires + power.drivers + power.sense, power.source) <= LINEAR_EXACT
    assert distance(LinearNetwork.factor(g, wires).source_power(v), power.source) <= LINEAR_EXACT


@pytest.mark.parametrize("wires", [UNEQUAL, BOTH_ENDS, *ZEROS], ids=name)
def test_node_voltages_equal_the_dense_nodal_solve(wires: Wires):
    g, v = cells(6, 9), inputs(3, 6)
    solution = solve_linear(stand_in_tile(Resistor(), state=g, wires=wires), v, nodes=True)
    truth = dense_solve(g, v, **ohms(wires))
    nodes = solution.nodes
    assert distance(nodes.word, truth.word) <= LINEAR_EXACT
    assert distance(nodes.bit, truth.bit) <= LINEAR_EXACT if truth.bit.any() else not nodes.bit.any()
    assert distance(nodes.current, g * nodes.cell_voltage) <= LINEAR_EXACT
    delivered = nodes.word_current[..., 0] + nodes.source_far_current
    assert distance(delivered, truth.source_currents) <= LINEAR_EXACT
    sensed = nodes.bit_current[..., -1, :] + nodes.sense_far_current
    assert distance(sensed, solution.currents) <= LINEAR_EXACT


def test_nodes_take_leading_axes_of_the_voltages():
    g = cells(3, 4, 5)
    tile, one = (stand_in_tile(Resistor(), state=state, wires=UNEQUAL) for state in (g, g[1]))
    v = inputs(2, 3, 7, 4)
    nodes = solve_linear(tile, v, nodes=True).nodes
    assert nodes.word.shape == (2, 3, 7, 4, 5)
    for k in range(2):
        assert distance(nodes.word[k, 1], solve_linear(one, v[k, 1], nodes=True).nodes.word) <= LINEAR_EXACT
    ideal = stand_in_tile(Resistor(), state=g, wires=Wires())
    current = solve_linear(ideal, v, nodes=True).nodes.current
    assert distance(current, g[:, None] * v[..., None]) <= LINEAR_EXACT


def test_power_needs_the_nodes():
    with pytest.raises(SpecError, match="power needs what is inside the tile: solve with nodes=True"):
        _ = solve_linear(stand_in_tile(Resistor(), state=cells(2, 2), wires=UNEQUAL), inputs(1, 2)).power


def test_the_map_is_a_figure():
    tile = stand_in_tile(Resistor(), state=cells(2, 4, 3), wires=UNEQUAL)
    solution = solve_linear(tile, inputs(2, 4), nodes=True)
    figure = solution.nodes.plot(vector=1, tile=(1,))
    drop = figure.axes[0].images[0].get_array()
    expected = inputs(2, 4)[1, :, None] - solution.nodes.cell_voltage[1, 1]
    assert distance(torch.as_tensor(drop), 1e3 * expected) <= LINEAR_EXACT
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["row"] * 3
    message = r"no vector 2 of tile \(0,\): the tiles are \(2,\), with 2 vectors each"
    with pytest.raises(SpecError, match=message):
        solution.nodes.plot(vector=2, tile=(0,))


@pytest.mark.parametrize("wires", [UNEQUAL, Wires(row=2.0), Wires(column=3.0)], ids=name)
@pytest.mark.parametrize("shape", [(3, 4), (4, 3)], ids=str)
def test_gradients_of_the_transfer(wires: Wires, shape: tuple[int, int]):
    # in mS, so that finite differences of gradcheck see numbers near 1
    g = (cells(*shape) * 1e4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: 1e3 * LinearNetwork.factor(1e-3 * x, wires).transfer, (g,))


@pytest.mark.parametrize("far", FAR)
def test_gradients_to_every_segment(far: str):
    """Also where a resistance is 0: there the derivative is not."""
    g, wires = cells(3, 5), segments(3, 5, far=far, zeros=0.3)
    parts = {name: part for name, part in vars(wires.spread(3, 5)).items() if part is not None}
    parts = {name: part.clone().requires_grad_() for name, part in parts.items()}

    def transfer(*ohm: torch.Tensor) -> torch.Tensor:
        given = dict(zip(parts, ohm, strict=True))
        own = Segments(**{"word_far": None, "bit_far": None, **given})
        return 1e6 * Elimination(1e2 * g, own, inject=True).transfer

    assert torch.autograd.gradcheck(transfer, tuple(parts.values()))


def test_gradients_to_resistances_as_the_user_gives_them():
    g, v = cells(3, 4), inputs(2, 3)
    given = {
        "row": torch.tensor(2.0, dtype=torch.float64),
        "column": torch.tensor([1.0, 2.0, 3.0, 0.0], dtype=torch.float64),
        "source": torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64),
        "sense_far": torch.tensor(0.5, dtype=torch.float64),
    }
    for ohm in given.values():
        ohm.requires_grad_()
    tile = stand_in_tile(Resistor(), state=g, wires=Wires(**given))
    solve_linear(tile, v).currents.sum().backward()
    for key, ohm in given.items():
        step = torch.full_like(ohm, 1e-6).detach()
        moved = Wires(**{**given, key: (ohm + step).detach()})
        more = LinearNetwork.factor(g, moved).currents(v).detach().sum()
        less = LinearNetwork.factor(g, tile.wires).currents(v).detach().sum()
        assert float(ohm.grad.sum()) == pytest.approx(float(more - less) / 1e-6, rel=1e-3), key


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


def broken(monkeypatch: pytest.MonkeyPatch, harm: Any) -> None:
    """Every factorisation ends with ``harm(elimination)``."""

    class Wrong(Elimination):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            harm(self)

    monkeypatch.setattr(linear, "Elimination", Wrong)


@pytest.mark.parametrize("name", ["transfer", "admittance"])
@pytest.mark.parametrize("place", [(0, 0), (3, 1), (5, 4)], ids=str)
def test_one_wrong_entry_is_found(monkeypatch: pytest.MonkeyPatch, name: str, place: tuple[int, int]):
    tile = stand_in_tile(Resistor(), state=cells(2, 6, 5), wires=UNEQUAL)
    v = inputs(3, 6)
    solution = solve_linear(tile, v)
    assert float(solution.stats["relative_residual"].max()) <= LINEAR_EXACT

    def harm(network: Elimination) -> None:
        matrix = getattr(network, name)
        matrix[1][place] += 1e-8 * matrix[1].abs().max()

    broken(monkeypatch, harm)
    assert solve_linear(tile, v).status.tolist() == [[0] * 3, [Status.SINGULAR] * 3]
    assert solve_linear(tile, v, check=False).status.tolist() == [[0] * 3] * 2


@pytest.mark.parametrize(
    "wires", [Wires(row=2.0, column=2.0), BOTH_ENDS, Wires(row=1e4, column=1e4)], ids=name
)
def test_a_wrong_step_inside_the_factorisation_is_found(monkeypatch: pytest.MonkeyPatch, wires: Wires):
    """Every join in turn, one entry of every matrix that it starts from, 1e-4 of its size."""
    g, join = cells(11, 21), elimination.join
    generator = torch.Generator().manual_seed(0)
    right = LinearNetwork.factor(g, wires).transfer
    joins, harmed, missed = [0], -1, []

    def counted(near: Block, far: Block, **options: Any) -> Any:
        joins[0] += 1
        if joins[0] - 1 == harmed:
            matrix, ports = near.matrix.clone(), near.sides.count
            i, j = torch.randint(ports, (2,), generator=generator).tolist()
            for a, b in {(i, j), (j, i)}:
                matrix[..., a, b] *= 1 + 1e-4
            near = Block(matrix=matrix, sides=near.sides)
        return join(near, far, **options)

    monkeypatch.setattr(elimination, "join", counted)
    LinearNetwork.factor(g, wires)
    for harmed in range(joins[0]):
        joins[0] = 0
        network = LinearNetwork.factor(g, wires)
        if distance(network.transfer, right) > CHECKED and bool(network.solved):
            missed.append(harmed)
    assert joins[0] >= 6
    assert not missed


def test_random_cases_are_right_or_say_so():
    """Sizes, ratios, resistances and voltages at random, with open cells and shorts of 10 S."""
    generator = torch.Generator().manual_seed(11)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    solved = 0
    for case in range(60):
        rows, columns = (int(draw(1, 13)) for _ in range(2))
        g = 10 ** (draw(-6, -3) + draw(0, 3) * (inputs(rows, columns, seed=case) - 1))
        chance = torch.rand(rows, columns, generator=generator)
        g[chance < 0.1 * (case % 2)], g[chance > 1 - 0.1 * (case % 3)] = 0.0, 10.0
        ohm = 10 ** draw(-2, 4)
        wires = segments(rows, columns, far=FAR[case % 4], zeros=draw(0, 0.9), scale=ohm, seed=case)
        v = inputs(2, rows, volt=10 ** draw(-3, 2), seed=case)
        tile = stand_in_tile(Resistor(), state=g, wires=wires)
        solution = solve_linear(tile, v)
        if bool((solution.status == int(Status.SOLVED)).all()):
            solved += 1
            truth = torch.as_tensor(dense_currents(g, v, **ohms(wires)))
            largest = (LinearNetwork.factor(g, wires).transfer.abs().amax() * v.abs().amax()).item()
            assert float((solution.currents - truth).abs().max()) <= CHECKED * max(largest, 1e-300), case
    assert solved >= 58


def test_what_was_not_checked_says_so():
    network = LinearNetwork.factor(cells(2, 3), UNEQUAL, check=False)
    with pytest.raises(SpecError, match="the matrices were not checked: factor with check=True"):
        _ = network.solved


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
    with pytest.raises(SpecError, match=r"a 64x64 tile needs \d+ bytes, memory=1000: raise memory="):
        LinearNetwork.factor(cells(64, 64), UNEQUAL, memory=1000)
