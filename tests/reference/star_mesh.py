"""The independent truth where nodal analysis loses its digits: star-mesh elimination, nothing subtracted.

A node is eliminated by joining its neighbours a, b with ``g_a g_b / sum(g)``. Additions, products and
quotients of positive numbers keep their relative accuracy, so every conductance between terminals is
right to (number of nodes) x (rounding), whatever the range of the resistances: Grassmann, Taksar and
Heyman, Oper. Res. 33 (1985) 1107. 0 merges two nodes, ``inf`` leaves the branch out.

Numbers are ``numpy.longdouble``: 64 bits of mantissa on x86-64. Where it is no wider than float64 the
elimination still has some 1e-13, which no tolerance of the tests comes close to.

Shares no code with cosim, nor with ``nodal``, whose convention of axes and ends it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from reference.nodal import Cell

REAL = np.longdouble
_ZERO, _ONE = REAL(0), REAL(1)


class StarMesh:
    """One tile with linear cells, or with cells of changing slope, whose wires stay the same.

    Each resistance is a number or an array: source (rows, 1), row (rows, columns - 1), column (rows - 1,
    columns), sense (1, columns), source_far (rows, 1), sense_far (1, columns), or what broadcasts to it.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        row: Any = 0.0,
        column: Any = 0.0,
        source: Any = None,
        sense: Any = None,
        source_far: Any = None,
        sense_far: Any = None,
    ) -> None:
        self.shape = rows, columns = shape
        source = row if source is None else source
        sense = column if sense is None else sense
        grid = np.arange(rows * columns).reshape(shape)
        word, bit = 2 * grid, 2 * grid + 1  # side by side, so that few nodes are open at a time
        drive = 2 * grid.size + np.arange(rows)
        ground = 2 * grid.size + rows + np.arange(columns)  # both ends of a bit line are one terminal
        wires = [
            (drive[:, None], word[:, :1], source),
            (word[:, :-1], word[:, 1:], row),
            (bit[:-1], bit[1:], column),
            (bit[-1:], ground[None], sense),
            (drive[:, None], word[:, -1:], np.inf if source_far is None else source_far),
            (bit[:1], ground[None], np.inf if sense_far is None else sense_far),
        ]
        start, end = (np.concatenate([part[n].ravel() for part in wires]) for n in range(2))
        ohm = np.concatenate([np.broadcast_to(np.asarray(r, REAL), a.shape).ravel() for a, _, r in wires])
        total = 2 * grid.size + rows + columns
        merged = ohm == 0
        link = coo_matrix((np.ones(merged.sum()), (start[merged], end[merged])), (total, total))
        self.count, label = connected_components(link, directed=False)
        self.word, self.bit = label[word].ravel(), label[bit].ravel()
        self.terminals = np.concatenate([label[drive], label[ground]])
        kept = ~merged & ~np.isinf(ohm)
        self.start, self.end, self.siemens = label[start[kept]], label[end[kept]], _ONE / ohm[kept]

    def eliminate(self, cells: np.ndarray) -> Reduced:
        """All nodes but the terminals, for cells of (rows, columns) S."""
        g = np.zeros((self.count, self.count), REAL)
        start = np.concatenate([self.start, self.word])
        end = np.concatenate([self.end, self.bit])
        siemens = np.concatenate([self.siemens, np.asarray(cells, REAL).ravel()])
        loose = start != end  # a line of 0 ohm with a resistor along it
        np.add.at(g, (start[loose], end[loose]), siemens[loose])
        np.add.at(g, (end[loose], start[loose]), siemens[loose])
        inner = np.setdiff1d(np.arange(self.count), self.terminals)
        steps = []
        for k in inner[np.argsort(self._first_seen()[inner])]:
            near = np.flatnonzero(g[k])
            star = g[k, near]
            sum_of_star = star.sum()
            share = star / sum_of_star if len(near) else star
            mesh = np.ix_(near, near)
            g[mesh] += star[:, None] * share
            g[near, near] = g[k] = g[:, k] = _ZERO
            steps.append((k, near, share, sum_of_star))
        return Reduced(self, g[np.ix_(self.terminals, self.terminals)], steps)

    def _first_seen(self) -> np.ndarray:
        """Where each node stands along the shorter side of the tile: the order of elimination."""
        rows, columns = self.shape
        grid = np.arange(rows * columns).reshape(self.shape)
        place = grid if columns <= rows else grid.T.argsort(axis=None).argsort().reshape(self.shape)
        seen = np.full(self.count, 2 * grid.size)
        np.minimum.at(seen, np.concatenate([self.word, self.bit]), np.tile(place.ravel(), 2))
        return seen


@dataclass(frozen=True)
class Reduced:
    """What is left between the terminals, drivers before sense nodes; and the way back to the nodes."""

    network: StarMesh
    mutual: np.ndarray  # (rows + columns, same) S, conductances between terminals, diagonal 0
    steps: list[tuple[int, np.ndarray, np.ndarray, np.longdouble]]

    @property
    def transfer(self) -> np.ndarray:
        """G_eff (rows, columns) S: currents into the sense nodes, both ends, per volt of each driver."""
        rows, _ = self.network.shape
        return self.mutual[:rows, rows:]

    @property
    def admittance(self) -> np.ndarray:
        """(rows, rows) S: what each driver delivers, per volt of each driver."""
        rows, _ = self.network.shape
        return np.diag(self.mutual[:rows].sum(1)) - self.mutual[:rows, :rows]

    def solve(self, voltages: np.ndarray, through: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sense currents (columns) A and cell voltages (rows, columns) V.

        voltages: (rows) V; through: (rows, columns) A, sources beside the cells, word to bit line.
        """
        rows, columns = self.network.shape
        terminals = self.network.terminals
        injected = np.zeros(self.network.count, REAL)
        np.subtract.at(injected, self.network.word, through.ravel())
        np.add.at(injected, self.network.bit, through.ravel())
        for k, near, share, _ in self.steps:
            injected[near] += share * injected[k]
        sensed = np.asarray(voltages, REAL) @ self.transfer + injected[terminals[rows:]]
        volts = np.zeros(self.network.count, REAL)
        volts[terminals[:rows]] = voltages
        for k, near, share, sum_of_star in reversed(self.steps):
            # a node that nothing leads to is at no voltage of its own: 0 as well as any other
            volts[k] = share @ volts[near] + injected[k] / sum_of_star if len(near) else _ZERO
        return sensed, (volts[self.network.word] - volts[self.network.bit]).reshape(rows, columns)


def star_mesh_transfer(conductance: ArrayLike, **wires: Any) -> np.ndarray:
    """G_eff (rows, columns) S of linear cells (rows, columns) S; ``wires`` as ``StarMesh`` takes them."""
    cells = np.asarray(conductance, REAL)
    return StarMesh(cells.shape, **wires).eliminate(cells).transfer


def star_mesh_currents(
    voltages: ArrayLike, shape: tuple[int, int], *, cell: Cell, max_iterations: int = 200, **wires: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Nonlinear cells with slopes of 0 or more: currents (batch, columns) A, and their errors (batch) A.

    Newton with the cells' tangents in their wires, until a step changes no current by more than rounding;
    the error is what the last one changed.
    """
    network = StarMesh(shape, **wires)
    solved = [
        _newton(network, vector, cell, max_iterations) for vector in np.atleast_2d(np.asarray(voltages, REAL))
    ]
    currents, errors = zip(*solved, strict=True)
    return np.array(currents), np.array(errors)


def _newton(
    network: StarMesh, vector: np.ndarray, cell: Cell, max_iterations: int
) -> tuple[np.ndarray, np.longdouble]:
    """Halves the step while the sum of what the cells' laws miss does not fall."""
    volts = np.zeros(network.shape, REAL)
    current, slope = cell(volts)
    missed, sensed, change = None, np.zeros(network.shape[1], REAL), REAL(np.inf)
    for _ in range(max_iterations):
        target, across = network.eliminate(slope).solve(vector, current - slope * volts)
        change = np.abs(target - sensed).max()
        if change <= 8 * np.finfo(REAL).eps * np.abs(target).max():
            return target, change
        size = _ONE
        while True:
            step = size * (across - volts)
            trial, steeper = cell(volts + step)
            # the wires are linear: between two solutions of the network only the cells' laws are missed
            left = trial - current - slope * step + (0 if missed is None else (1 - size) * missed)
            if missed is None or np.abs(left).sum() < np.abs(missed).sum():
                break
            size /= 2
            if size < 1e-12:  # the sum is as small as rounding allows
                return target, change
        sensed = sensed + size * (target - sensed)
        volts, current, slope, missed = volts + step, trial, steeper, left
    return sensed, change
