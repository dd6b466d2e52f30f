"""The elimination by blocks against the mesh equations that it solves, written densely here."""

from __future__ import annotations

import pytest
import torch

from cosim.crossbar import Wires
from cosim.solvers.elimination import Elimination
from solvers.cases import BOTH_ENDS, UNEQUAL, cells, distance, inputs, segments
from tolerances import LINEAR_EXACT


def dense_drop(wires: Wires, rows: int, columns: int) -> torch.Tensor:
    """Volts that the wires take from every cell per ampere through each, column by column of the matrix."""
    unit = torch.eye(rows * columns, dtype=torch.float64).reshape(-1, rows, columns)
    return wires.spread(rows, columns).drop(unit).reshape(rows * columns, -1).mT


@pytest.mark.parametrize("wires", [UNEQUAL, BOTH_ENDS, None], ids=["near", "both", "segments"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 4), (7, 5), (12, 17)], ids=str)
def test_a_voltage_in_series_with_every_cell(shape: tuple[int, int], wires: Wires | None):
    wires = segments(*shape, far="source sense") if wires is None else wires
    g, h = cells(*shape), inputs(3, *shape)
    voltage, current = Elimination(g, wires).solve(h)
    system = torch.eye(g.numel(), dtype=g.dtype) + dense_drop(wires, *shape) * g.flatten()
    truth = torch.linalg.solve(system, h.flatten(1).mT).mT.reshape(h.shape)
    assert distance(voltage, truth) <= LINEAR_EXACT
    assert distance(current, g * truth) <= LINEAR_EXACT


def test_drivers_are_voltages_in_series_with_their_cells():
    g, v = cells(7, 5), inputs(3, 7)
    network = Elimination(g, BOTH_ENDS, inject=True)
    for given, driven in zip(network.solve(v[..., None].expand(3, 7, 5)), network.drive(v), strict=True):
        assert distance(driven, given) <= LINEAR_EXACT
    assert distance(network.transfer.mT @ v.mT, network.drive(v)[1].sum(-2).mT) <= LINEAR_EXACT


def test_admittance_is_what_the_drivers_deliver_and_symmetric():
    g, v = cells(6, 9), inputs(2, 6)
    network = Elimination(g, BOTH_ENDS, inject=True)
    word, _, far, _ = BOTH_ENDS.spread(6, 9).flows(network.drive(v)[1])
    assert distance(v @ network.admittance, word[..., 0] + far) <= LINEAR_EXACT
    assert distance(network.admittance.mT, network.admittance) <= LINEAR_EXACT


def test_systems_are_independent():
    g, h = cells(2, 3, 7, 5), inputs(2, 3, 4, 7, 5)
    wires = segments(7, 5, 3, far="sense")
    voltage, _ = Elimination(g, wires).solve(h)
    names = ("row", "column", "source", "sense", "sense_far")
    for k in range(3):
        one = Wires(**{name: getattr(wires, name)[k] for name in names})
        assert distance(voltage[1, k], Elimination(g[1, k], one).solve(h[1, k])[0]) <= LINEAR_EXACT


def test_kept_bytes_grow_slower_than_line_by_line():
    """A dense block per row would be n numbers per cell; here it is a logarithm."""
    kept = [Elimination(cells(n, n), UNEQUAL).nbytes / (8 * n * n) for n in (32, 64, 128)]
    assert kept[2] - kept[1] < 20
    assert kept[2] < 128
