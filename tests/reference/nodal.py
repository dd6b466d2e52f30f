"""The independent truth for tiles: nodal analysis written straight from the convention.

Shares no code with cosim. Word line i is driven at column 0 through ``source`` ohm, then ``row`` ohm
per segment; bit line j ends below the last row through ``sense`` ohm into 0 V, ``column`` ohm per
segment; far ends are open; a resistance of 0 makes its two nodes one. Cell (i, j): p on the word line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import ArrayLike

# unknowns up to which the matrix is solved densely (LAPACK); above it SuperLU takes over
DENSE_LIMIT = 1200

Cell = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Voltages across the cells (rows, columns) V -> (current A, slope S), both (rows, columns)."""


@dataclass(frozen=True)
class Nodal:
    """Result for a batch. word, bit: node voltages at every cell; iterations: Newton, per vector."""

    currents: np.ndarray  # (batch, columns) A, positive into the sense node
    source_currents: np.ndarray  # (batch, rows) A, out of the driver
    word: np.ndarray  # (batch, rows, columns) V
    bit: np.ndarray  # (batch, rows, columns) V
    iterations: np.ndarray  # (batch,)


class _Network:
    """Node numbers after merging, and the wire branches, of one tile."""

    def __init__(self, rows, columns, *, row, column, source, sense):
        cells = rows * columns
        grid = np.arange(cells).reshape(rows, columns)
        word, bit = grid, grid + cells
        drive = 2 * cells + np.arange(rows)
        ground = 2 * cells + rows + np.arange(columns)  # one sense node per column, each at 0 V
        wires = [(drive, word[:, 0], source), (word[:, :-1].ravel(), word[:, 1:].ravel(), row)]
        wires += [(bit[:-1].ravel(), bit[1:].ravel(), column), (bit[-1], ground, sense)]

        total = 2 * cells + rows + columns
        merged = [(a, b) for a, b, ohm in wires if ohm == 0]
        start = np.concatenate([a for a, _ in merged]) if merged else np.zeros(0, int)
        end = np.concatenate([b for _, b in merged]) if merged else np.zeros(0, int)
        link = sp.coo_matrix((np.ones(len(start)), (start, end)), (total, total))
        self.count, label = sp.csgraph.connected_components(link, directed=False)
        self.word, self.bit = label[word].ravel(), label[bit].ravel()
        self.drive, self.ground = label[drive], label[ground]
        kept = [(label[a], label[b], np.full(len(a), 1 / ohm)) for a, b, ohm in wires if ohm != 0]
        kept = kept or [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
        self.a, self.b, self.g = (np.concatenate([part[n] for part in kept]) for n in range(3))
        known = np.zeros(self.count, bool)
        known[self.drive] = known[self.ground] = True
        self.free = np.flatnonzero(~known)

    def laplacian(self, a, b, g) -> sp.csr_matrix:
        """Symmetric nodal matrix of branches a-b with conductance g."""
        rows = np.concatenate([a, b, a, b])
        cols = np.concatenate([a, b, b, a])
        values = np.concatenate([g, g, -g, -g])
        return sp.csr_matrix((values, (rows, cols)), (self.count, self.count))


def _solve(matrix: sp.csr_matrix, right: np.ndarray) -> np.ndarray:
    if len(right) == 0:
        return np.zeros_like(right)
    if len(right) <= DENSE_LIMIT:
        return np.linalg.solve(matrix.toarray(), right)
    return spla.splu(matrix.tocsc()).solve(right)


def nodal_solve(
    voltages: ArrayLike,
    shape: tuple[int, int],
    *,
    cell: Cell,
    row: float,
    column: float,
    source: float | None = None,
    sense: float | None = None,
    max_iterations: int = 200,
) -> Nodal:
    """Newton on the nodal equations, one vector at a time, halving steps that raise the residual.

    voltages (batch, rows) V; shape (rows, columns); ``cell`` gives current and slope of every cell.
    Stops when the step is below 1e-13 of the largest voltage or the residual cannot fall any more.
    """
    rows, columns = shape
    source = row if source is None else source
    sense = column if sense is None else sense
    net = _Network(rows, columns, row=row, column=column, source=source, sense=sense)
    wires = net.laplacian(net.a, net.b, net.g)

    def residual(v):
        i, slope = cell((v[net.word] - v[net.bit]).reshape(shape))
        f = wires @ v
        np.add.at(f, net.word, i.ravel())
        np.subtract.at(f, net.bit, i.ravel())
        return f, slope.ravel()

    solved = []
    for vector in np.atleast_2d(np.asarray(voltages, float)):
        v = np.zeros(net.count)
        v[net.drive] = vector
        iterations = _newton(v, net, wires, residual, max_iterations)
        f, _ = residual(v)  # the current that leaves each node into the network
        solved.append((-f[net.ground], f[net.drive], v[net.word], v[net.bit], iterations))
    currents, drives, word, bit, iterations = (np.array(part) for part in zip(*solved, strict=True))
    return Nodal(currents, drives, word.reshape(-1, *shape), bit.reshape(-1, *shape), iterations)


def _newton(v, net, wires, residual, max_iterations) -> int:
    """Damped Newton on the free entries of ``v``, in place; the number of iterations."""
    scale = max(np.abs(v).max(), 1e-300)
    for iteration in range(1, max_iterations + 1):
        f, slope = residual(v)
        jacobian = wires + net.laplacian(net.word, net.bit, slope)
        step = np.zeros(net.count)
        step[net.free] = -_solve(jacobian[net.free][:, net.free], f[net.free])
        size = 1.0
        if np.abs(step).max() > 1e-13 * scale:
            while np.linalg.norm(residual(v + size * step)[0][net.free]) > np.linalg.norm(f[net.free]):
                size /= 2
                if size < 1e-9:  # no smaller residual in this direction: the rounding floor
                    return iteration
        v += size * step
        if np.abs(step).max() <= 1e-13 * scale:
            return iteration
    raise RuntimeError(f"nodal reference: no convergence in {max_iterations} iterations")


def dense_solve(conductance, voltages, row, column, source=None, sense=None) -> Nodal:
    """Linear cells: ``nodal_solve`` with i = g u, which Newton ends in one or two steps."""
    g = np.asarray(conductance, float)
    return nodal_solve(
        voltages,
        g.shape,
        cell=lambda u: (g * u, g),
        row=row,
        column=column,
        source=source,
        sense=sense,
    )


def dense_currents(conductance, voltages, row, column, source=None, sense=None) -> np.ndarray:
    """Linear cells (rows, columns) S, voltages (batch, rows) V -> currents (batch, columns) A."""
    g = np.asarray(conductance, float)
    v = np.atleast_2d(np.asarray(voltages, float))
    rows, columns = g.shape
    source = row if source is None else source
    sense = column if sense is None else sense
    net = _Network(rows, columns, row=row, column=column, source=source, sense=sense)
    full = net.laplacian(net.a, net.b, net.g) + net.laplacian(net.word, net.bit, g.ravel())
    potential = np.zeros((net.count, len(v)))
    potential[net.drive] = v.T
    inner = full[net.free][:, net.free]
    potential[net.free] = -_solve(inner, (full @ potential)[net.free])
    # one step of iterative refinement: the truth must be better than what it judges
    potential[net.free] -= _solve(inner, (full @ potential)[net.free])
    return -(full @ potential)[net.ground].T
