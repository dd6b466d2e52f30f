"""The elimination without subtractions: against exact rational arithmetic, closed forms, nodal analysis."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from reference.nodal import dense_currents, nodal_solve
from reference.star_mesh import StarMesh, star_mesh_currents, star_mesh_transfer
from tolerances import LINEAR_EXACT, STAR_MESH


def relative(actual, expected) -> float:
    """Worst error of an entry, relative to that entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert ((expected == 0) <= (actual == 0)).all()
    return float(np.abs(actual / np.where(expected == 0, 1, expected) - (expected != 0)).max())


def rational_transfer(g, row, column, source, sense, source_far, sense_far) -> np.ndarray:
    """G_eff from the nodal equations in exact arithmetic, by Gauss-Jordan; resistances above 0, or inf."""
    rows, columns = g.shape
    branches = []
    for i, j in np.ndindex(g.shape):
        word, bit = ("word", i, j), ("bit", i, j)
        branches += [(word, bit, Fraction(float(g[i, j])))]
        wires = [(("drive", i), word, source if j == 0 else None), (word, ("drive", i), source_far)]
        wires = wires if j + 1 == columns else [wires[0], (word, ("word", i, j + 1), row)]
        wires += [(bit, ("ground", j), sense) if i + 1 == rows else (bit, ("bit", i + 1, j), column)]
        wires += [(("ground", j), bit, sense_far if i == 0 else None)]
        branches += [(a, b, 1 / Fraction(r)) for a, b, r in wires if r is not None and r != np.inf]
    nodes = {node: n for n, node in enumerate(dict.fromkeys(n for a, b, _ in branches for n in (a, b)))}
    inner = [n for node, n in nodes.items() if node[0] in ("word", "bit")]
    matrix = [[Fraction(0)] * len(nodes) for _ in nodes]
    for a, b, y in branches:
        for p, q in ((nodes[a], nodes[b]), (nodes[b], nodes[a])):
            matrix[p][p] += y
            matrix[p][q] -= y
    for k in inner:
        pivot = matrix[k]
        for n, line in enumerate(matrix):
            if n != k and line[k]:
                factor = line[k] / pivot[k]
                matrix[n] = [x - factor * y for x, y in zip(line, pivot, strict=True)]
    found = np.zeros(g.shape)
    for i, j in np.ndindex(g.shape):
        if ("drive", i) in nodes and ("ground", j) in nodes:
            found[i, j] = -float(matrix[nodes["drive", i]][nodes["ground", j]])
    return found


WIRES = ("row", "column", "source", "sense", "source_far", "sense_far")


@pytest.mark.parametrize("seed", range(8))
def test_every_entry_is_right_whatever_the_range(seed: int):
    """A dense nodal solve of these has no digit left."""
    rng = np.random.default_rng(seed)
    g = 10 ** rng.uniform(-15, 0, (2, 3) if seed % 2 else (3, 2))
    ohm = 10 ** rng.uniform(-12, 30, 6)
    ohm[2 + rng.integers(4)] = np.inf
    wires = dict(zip(WIRES, ohm.tolist(), strict=True))
    assert relative(star_mesh_transfer(g, **wires), rational_transfer(g, **wires)) <= STAR_MESH


def test_a_floating_bit_line_by_hand():
    """Both ends at 1e18 ohm: what little leaves is shared like the conductances of the cells."""
    cells = np.array([[1e-3], [4e-3]])
    leaves = 2e-18
    expected = cells * leaves / (cells.sum() + leaves)
    assert relative(star_mesh_transfer(cells, sense=1e18, sense_far=1e18), expected) <= STAR_MESH


def test_open_lines_by_hand():
    """A word line open at both ends joins the two bit lines through its cells in series."""
    cells = np.array([[1.0, 2.0], [4.0, 8.0]])
    open_line = np.array([[0.0], [np.inf]])
    found = star_mesh_transfer(cells, source=open_line, sense=np.array([[0.0, 0.5]]))
    between = 1 / (1 / 4 + 1 / 8)  # from bit line 1 into bit line 0
    out = 2 * (between / (2 + between + 2)), 2 * (2 / (2 + between + 2))
    assert relative(found, [[1 + out[0], out[1]], [0, 0]]) <= STAR_MESH


def test_a_line_open_in_the_middle_is_two():
    cells = np.array([[1.0, 2.0]])
    found = star_mesh_transfer(cells, row=np.array([[np.inf]]), source=1.0, source_far=0.5)
    assert relative(found, [[0.5, 1.0]]) <= STAR_MESH


@pytest.mark.parametrize(
    "far", [{}, {"source_far": 5.0}, {"sense_far": 0.0}, {"source_far": 0, "sense_far": 3}]
)
@pytest.mark.parametrize("near", [(2, 3, 50, 7), (0, 3, 0, 0), (2, 0, 50, 0), (0, 0, 0, 0)])
def test_agrees_with_nodal_analysis_where_that_is_well_conditioned(near: tuple, far: dict):
    rng = np.random.default_rng(1)
    g, v = 10 ** rng.uniform(-6, -3, (5, 4)), rng.uniform(-1, 1, (3, 5))
    wires = dict(zip(WIRES, near, strict=False)) | far
    expected = dense_currents(g, v, **wires)
    network = StarMesh(g.shape, **wires).eliminate(g)
    assert np.abs(v @ network.transfer - expected).max() <= LINEAR_EXACT * np.abs(expected).max()
    solved, across = network.solve(v[0], np.zeros(g.shape))
    assert np.abs(solved - expected[0]).max() <= LINEAR_EXACT * np.abs(expected).max()
    assert np.abs((g * across).sum(0) - expected[0]).max() <= LINEAR_EXACT * np.abs(expected).max()
    delivered = v @ network.admittance
    assert np.abs(delivered.sum(1) - expected.sum(1)).max() <= LINEAR_EXACT * np.abs(expected).max()


def sinh_cell(u):
    return 1e-3 * np.sinh(4 * u), 4e-3 * np.cosh(4 * u)


@pytest.mark.parametrize("far", [{}, {"source_far": 60.0, "sense_far": 30.0}])
def test_newton_agrees_with_nodal_analysis(far: dict):
    v = np.random.default_rng(2).uniform(-2, 2, (3, 6))
    found, error = star_mesh_currents(v, (6, 4), cell=sinh_cell, row=100, column=50, **far)
    expected = nodal_solve(v, (6, 4), cell=sinh_cell, row=100, column=50, **far).currents
    assert np.abs(found - expected).max() <= LINEAR_EXACT * np.abs(expected).max()
    assert (error <= STAR_MESH * np.abs(expected).max()).all()


def test_newton_on_a_floating_line_by_hand():
    """Equal cells from 1 V and from 0.5 V into a bit line of 1e18 ohm: it is at 0.75 V."""
    found, error = star_mesh_currents([[1.0, 0.5]], (2, 1), cell=sinh_cell, sense=1e18)
    assert relative(found, [[0.75e-18]]) <= STAR_MESH
    assert error[0] <= STAR_MESH * found[0, 0]
