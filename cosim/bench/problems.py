"""What is timed: a case, the tile and inputs drawn for it, and the sparse nodal matrix of its wires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.crossbar import Tile, Wires
from cosim.devices.device import Device

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

__all__ = ["Case", "Problem", "SparseNetwork"]

_LOW, _HIGH = 1e-6, 1e-4  # S, of linear cells


@dataclass(frozen=True, kw_only=True)
class Case:
    """A square tile of ``size`` rows with random cells and inputs.

    name: of the kind of case, the same at every size. vectors: numbers of input vectors to time.
    volts: inputs are uniform from 0 to this. ohm: of every wire segment. linear: cells are ohmic
    with conductances uniform in 1e-6..1e-4 S; otherwise states are uniform in the device's range.
    """

    name: str
    model: str
    size: int
    vectors: tuple[int, ...]
    volts: float
    ohm: float
    linear: bool


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A case with its numbers. voltages: ``(largest of case.vectors, rows)`` V, on the tile's device."""

    case: Case
    tile: Tile
    voltages: torch.Tensor

    @classmethod
    def draw(cls, case: Case, *, seed: int = 0, place: str = "cpu") -> Problem:
        """The numbers are the same on every ``place`` (torch device), and smaller batches are prefixes."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        cells = uniform(case.size, case.size).to(place)
        wires = Wires(row=case.ohm, column=case.ohm)
        if case.linear:
            device = Device(case.model, r_on=1 / _HIGH, r_off=1 / _LOW)
            tile = Tile(device, conductance=_LOW + (_HIGH - _LOW) * cells, wires=wires)
        else:
            device = Device(case.model)
            low, high = device.state_range
            tile = Tile(device, state=low + (high - low) * cells, wires=wires)
        voltages = case.volts * uniform(max(case.vectors), case.size).to(place)
        return cls(case=case, tile=tile, voltages=voltages)


@dataclass(frozen=True, kw_only=True)
class SparseNetwork:
    """The wires of a tile as the matrix of nodal analysis: word line nodes row-major, then bit line nodes.

    wires: nodal matrix without the cells. drive: ``(nodes, rows)``, amperes injected per volt.
    All four resistances of the tile are above 0.
    """

    wires: csc_matrix
    drive: csc_matrix
    sense: float  # S, last cell to sense node
    columns: int

    @classmethod
    def of(cls, tile: Tile) -> SparseNetwork:
        import scipy.sparse as sp

        rows, columns, ohm = tile.rows, tile.columns, tile.wires
        source, sense = 1 / float(ohm.source or 0), 1 / float(ohm.sense or 0)
        word = _line(columns, 1 / float(ohm.row), end=0, conductance=source)
        bit = _line(rows, 1 / float(ohm.column), end=-1, conductance=sense)
        blocks = [sp.kron(sp.eye(rows), word), sp.kron(bit, sp.eye(columns))]
        inputs = np.arange(rows)
        drive = sp.csc_matrix((np.full(rows, source), (inputs * columns, inputs)), (2 * rows * columns, rows))
        return cls(wires=sp.csc_matrix(sp.block_diag(blocks)), drive=drive, sense=sense, columns=columns)

    def matrix(self, slope: torch.Tensor) -> csc_matrix:
        """Nodal matrix with cells of ``slope (rows, columns)`` S."""
        import scipy.sparse as sp

        cells = sp.diags(slope.cpu().numpy().ravel())
        return (self.wires + sp.bmat([[cells, -cells], [-cells, cells]])).tocsc()

    def right_side(self, voltages: torch.Tensor) -> np.ndarray:
        """``(batch, rows)`` V to the injected currents ``(nodes, batch)`` A."""
        return np.asarray(self.drive @ voltages.cpu().numpy().T)

    def currents(self, nodes: np.ndarray) -> torch.Tensor:
        """Node voltages ``(nodes, batch)`` to column currents ``(batch, columns)`` A."""
        return torch.from_numpy(self.sense * nodes[-self.columns :].T)


def _line(count: int, segment: float, *, end: int, conductance: float) -> np.ndarray:
    """Nodal matrix of a chain of ``count`` nodes, with ``conductance`` from one end to a terminal."""
    matrix = -segment * (np.eye(count, k=1) + np.eye(count, k=-1))
    matrix -= np.diag(matrix.sum(1))
    matrix[end, end] += conductance
    return matrix
