"""The reference itself, against closed forms and hand-solved networks."""

from __future__ import annotations

import numpy as np
import pytest

from reference.nodal import dense_currents, dense_solve, nodal_solve
from tolerances import LINEAR_EXACT


def close(actual, expected):
    assert np.abs(actual - expected).max() <= LINEAR_EXACT * np.abs(expected).max()


def test_no_wires_is_the_matrix_product():
    rng = np.random.default_rng(1)
    g, v = rng.uniform(1e-6, 1e-4, (3, 5)), rng.uniform(-1, 1, (4, 3))
    close(dense_currents(g, v, 0, 0, 0, 0), v @ g)


def test_one_cell_is_a_series_circuit():
    close(dense_currents([[1e-3]], [[0.7]], 5, 7, 11, 13), np.array([[0.7 / (11 + 1000 + 13)]]))
    close(dense_currents([[1e-3]], [[0.7]], 5, 7), np.array([[0.7 / (5 + 1000 + 7)]]))


def test_two_rows_one_column_by_hand():
    # Millman at the node below row 1: row 0 arrives through cell and one column segment
    r0, r1, rc, rs, v0, v1 = 100.0 + 3, 200.0 + 3, 4.0, 6.0, 1.0, -0.5
    node = (v0 / (r0 + rc) + v1 / r1) / (1 / (r0 + rc) + 1 / r1 + 1 / rs)
    close(dense_currents([[0.01], [0.005]], [[v0, v1]], 0, rc, 3, rs), np.array([[node / rs]]))


def test_one_row_two_columns_by_hand():
    # a ladder: the second column is reached through one row segment
    tail = 2.0 + 50.0 + 1.0
    head = 25.0 + 1.0
    node = 0.3 * (1 / (1 / tail + 1 / head)) / (1 / (1 / tail + 1 / head) + 5.0)
    close(dense_currents([[1 / 25, 1 / 50]], [[0.3]], 2, 9, 5, 1), np.array([[node / head, node / tail]]))


ZEROES = [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (0, 0, 1, 1), (0, 3, 0, 0)]


@pytest.mark.parametrize("wires", ZEROES)
def test_zero_is_the_limit_of_small(wires):
    rng = np.random.default_rng(2)
    g, v = rng.uniform(1e-4, 1e-2, (3, 5)), rng.uniform(-1, 1, (2, 3))
    small = [w or 1e-6 for w in wires]
    exact, limit = dense_currents(g, v, *wires), dense_currents(g, v, *small)
    assert np.abs(exact - limit).max() < 1e-5 * np.abs(exact).max()


def test_newton_form_agrees_and_conserves_charge():
    rng = np.random.default_rng(3)
    g, v = rng.uniform(1e-6, 1e-4, (6, 4)), rng.uniform(-1, 1, (3, 6))
    solved = dense_solve(g, v, 2, 3, 5, 7)
    close(solved.currents, dense_currents(g, v, 2, 3, 5, 7))
    close(solved.currents.sum(1), solved.source_currents.sum(1))
    assert (solved.iterations <= 3).all()


def sinh_cell(u):
    return 1e-3 * np.sinh(4 * u), 4e-3 * np.cosh(4 * u)


def test_nonlinear_single_cell_meets_its_scalar_equation():
    i = nodal_solve([[1.0]], (1, 1), cell=sinh_cell, row=100, column=50)
    current = i.currents[0, 0]
    across = 1.0 - 150 * current
    close(np.array([1e-3 * np.sinh(4 * across)]), np.array([current]))
