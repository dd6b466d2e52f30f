"""The independent truth for tiles: nodal analysis written straight from the convention.

Shares no code with cosim. Word line i is driven at column 0 through ``source`` ohm, then ``row`` ohm
per segment; bit line j ends below the last row through ``sense`` ohm into 0 V, ``column`` ohm per
segment; far ends are open; a resistance of 0 makes its two nodes one. Cell (i, j): p on the word line.
Each resistance is a number or an array: source (rows, 1), row (rows, columns - 1), column (rows - 1,
columns), sense (1, columns), or what broadcasts to it. With ``source_far``, ``sense_far`` the other
end of every line has a resistance too, to the same driver, to a sense node of its own.
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

    def __init__(self, rows, columns, *, row, column, source, sense, source_far=None, sense_far=None):
        cells = rows * columns
        grid = np.arange(cells).reshape(rows, columns)
        word, bit = grid, grid + cells
        drive = 2 * cells + np.arange(rows)
        ground = 2 * cells + rows + np.arange(columns)  # one sense node per column, each at 0 V
        beyond = ground + columns  # the sense nodes of the far ends
        wires = [(drive[:, None], word[:, :1], source), (word[:, :-1], word[:, 1:], row)]
        wires += [(bit[:-1], bit[1:], column), (bit[-1:], ground[None], sense)]
        if source_far is not None:
            wires.append((drive[:, None], word[:, -1:], source_far))
        if sense_far is not None:
            wires.append((bit[:1], beyond[None], sense_far))
        start, end = (np.concatenate([part[n].ravel() for part in wires]) for n in range(2))
        ohm = np.concatenate([np.broadcast_to(np.asarray(r, float), a.shape).ravel() for a, _, r in wires])

        total = 2 * cells + rows + 2 * columns
        merged = ohm == 0
        link = sp.coo_matrix((np.ones(merged.sum()), (start[merged], end[merged])), (total, total))
        self.count, label = sp.csgraph.connected_components(link, directed=False)
        self.word, self.bit = label[word].ravel(), label[bit].ravel()
        self.drive, self.ground, self.beyond = label[drive], label[ground], label[beyond]
        self.a, self.b, self.g = label[start[~merged]], label[end[~merged]], 1 / ohm[~merged]
        known = np.zeros(self.count, bool)
        known[self.drive] = known[self.ground] = known[self.beyond] = True
        self.free = np.flatnonzero(~known)

    def sensed(self, flow) -> np.ndarray:
        """What leaves the sense nodes of each column, both ends; a node that is both ends counts once."""
        return flow[self.ground] + np.where(self.beyond != self.ground, flow[self.beyond].T, 0).T

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
    source_far: float | None = None,
    sense_far: float | None = None,
    max_iterations: int = 200,
) -> Nodal:
    """Newton on the nodal equations, one vector at a time, halving steps that raise the residual.

    voltages (batch, rows) V; shape (rows, columns); ``cell`` gives current and slope of every cell.
    Stops when the step is below 1e-13 of the largest voltage or the residual cannot fall any more.
    """
    rows, columns = shape
    source = row if source is None else source
    sense = column if sense is None else sense
    ohm = {"row": row, "column": column, "source": source, "sense": sense}
    net = _Network(rows, columns, **ohm, source_far=source_far, sense_far=sense_far)
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
        solved.append((-net.sensed(f), f[net.drive], v[net.word], v[net.bit], iterations))
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


def dense_solve(
    conductance, voltages, row, column, source=None, sense=None, source_far=None, sense_far=None
) -> Nodal:
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
        source_far=source_far,
        sense_far=sense_far,
    )


def dense_currents(
    conductance, voltages, row, column, source=None, sense=None, source_far=None, sense_far=None
) -> np.ndarray:
    """Linear cells (rows, columns) S, voltages (batch, rows) V -> currents (batch, columns) A."""
    g = np.asarray(conductance, float)
    v = np.atleast_2d(np.asarray(voltages, float))
    rows, columns = g.shape
    source = row if source is None else source
    sense = column if sense is None else sense
    ohm = {"row": row, "column": column, "source": source, "sense": sense}
    net = _Network(rows, columns, **ohm, source_far=source_far, sense_far=sense_far)
    full = sp.csr_matrix(net.laplacian(net.a, net.b, net.g) + net.laplacian(net.word, net.bit, g.ravel()))
    potential = np.zeros((net.count, len(v)))
    potential[net.drive] = v.T
    inner = full[net.free][:, net.free]
    potential[net.free] = -_solve(inner, (full @ potential)[net.free])
    # one step of iterative refinement: the truth must be better than what it judges
    potential[net.free] -= _solve(inner, (full @ potential)[net.free])
    return -net.sensed(full @ potential).T
