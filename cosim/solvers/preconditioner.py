"""One linear network close to many: cells of conductance g in their wires, inverted once, applied often.

``apply`` gives the cell voltages ``Z r`` for currents r in parallel with the cells, ``Z = (I + R g)^-1 R``,
with four dense products a row. It need not be exact: who uses it measures the error elsewhere. So
it runs in float32 as a rule, which halves the time and lets the blocks of a 128x128 tile stay in the cache.
"""

from __future__ import annotations

import torch

from cosim.solvers.lines import Lines

__all__ = ["Preconditioner"]

_CACHED = 1 << 16  # cells whose temporaries stay in a processor's second-level cache
_LAUNCHED = 1 << 26  # cells at once on a GPU, where starting a kernel is what costs


class Preconditioner:
    """Z of tiles with cells ``conductance (tiles, rows, columns)`` S, zero or more."""

    def __init__(self, conductance: torch.Tensor, lines: Lines) -> None:
        dtype = conductance.dtype
        self.conductance = conductance.unsqueeze(-2)
        self._ohm = _ohm(lines.bit, dtype)
        # symmetric positive semidefinite blocks: of each word line alone, and of all rows above it
        self._lines = _word_impedance(conductance, lines)  # (tiles, rows, columns, columns) ohm
        self._above, self._below = self._eliminate(lines)

    @property
    def dtype(self) -> torch.dtype:
        return self.conductance.dtype

    @staticmethod
    def nbytes(rows: int, columns: int, dtype: torch.dtype) -> int:
        """What one tile takes, with what is needed to make it."""
        return 3 * rows * columns**2 * dtype.itemsize

    def _eliminate(self, lines: Lines) -> tuple[torch.Tensor, torch.Tensor]:
        """Down the rows: the admittance above each segment, seen from below it; the last impedance."""
        g, z = self.conductance, self._lines
        tiles, rows, columns = z.shape[:3]
        above = torch.zeros_like(z[:, 0])
        if lines.bit_far is not None:
            above.diagonal(dim1=-2, dim2=-1).copy_(_admittance(lines.bit_far[:, 0, 0]))
        root = self._ohm.sqrt()
        seen = torch.empty_like(z[:, 1:])
        for row in range(rows):
            above.addcmul_(g[:, row].mT * z[:, row], g[:, row], value=-1)
            above.diagonal(dim1=-2, dim2=-1).add_(g[:, row, 0])
            scaled = above * root[:, row]
            system = root[:, row].mT * scaled
            system.diagonal(dim1=-2, dim2=-1).add_(1)
            upper = torch.linalg.cholesky_ex(system).L.mT
            if row + 1 < rows:
                half = torch.linalg.solve_triangular(upper, scaled, upper=True, left=False)
                above = torch.baddbmm(above, half, half.mT, alpha=-1)
                seen[:, row] = above
        ends = torch.diag_embed(root[:, -1, 0]).expand(tiles, columns, columns)
        half = torch.linalg.solve_triangular(upper, ends, upper=True, left=False)
        return seen, half @ half.mT

    def apply(self, source: torch.Tensor) -> torch.Tensor:
        """``Z source``: V for A, both ``(tiles, rows, batch, columns)``."""
        out = torch.empty_like(source)
        for tiles, rows in chunks(source):
            g, part = self.conductance[tiles, rows], source[tiles, rows]
            inner = _times(part, self._lines[tiles, rows]).mul_(g)
            torch.sub(part, inner, out=out[tiles, rows])
        self._bit_voltages(out)
        for tiles, rows in chunks(source):
            g, bit = self.conductance[tiles, rows], out[tiles, rows]
            bit += _times(torch.addcmul(source[tiles, rows], g, bit, value=-1), self._lines[tiles, rows])
        return out

    def _bit_voltages(self, cells: torch.Tensor) -> None:
        """In place, from currents into the bit lines to the voltages there: down the rows and up again."""
        rows = cells.shape[1]
        for row in range(rows - 1):
            # behind the segment the current is (I + r A)^-1 of the current before it, = I - A' r
            flow = cells[:, row]
            flow.baddbmm_(self._ohm[:, row] * flow, self._above[:, row], alpha=-1)
            cells[:, row + 1] += flow
        below = torch.matmul(cells[:, -1], self._below)
        cells[:, -1] = below
        for row in range(rows - 2, -1, -1):
            flow = cells[:, row]
            flow.baddbmm_(below, self._above[:, row], alpha=-1)
            torch.addcmul(below, self._ohm[:, row], flow, out=flow)
            below = flow


def chunks(cells: torch.Tensor) -> list[tuple[slice, slice]]:
    """Tiles and rows of ``(tiles, rows, batch, columns)`` in pieces that suit the place of the cells."""
    tiles, rows, batch, columns = cells.shape
    most = _CACHED if cells.device.type == "cpu" else _LAUNCHED
    if rows * batch * columns <= most:
        step = max(1, most // max(1, rows * batch * columns))
        return [(slice(t, t + step), slice(None)) for t in range(0, tiles, step)]
    step = max(1, most // (batch * columns))
    return [(slice(t, t + 1), slice(r, r + step)) for t in range(tiles) for r in range(0, rows, step)]


def _times(cells: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    product = torch.bmm(cells.flatten(0, 1), blocks.flatten(0, 1))
    return product.unflatten(0, cells.shape[:2])


def _admittance(ohm: torch.Tensor) -> torch.Tensor:
    """1/ohm; a short circuit is taken as a milliohm, which an approximation may."""
    return 1 / ohm.clamp(min=1e-3)


def _ohm(ohm: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """No more than 1e15 ohm, whose square float32 still holds."""
    return ohm.clamp(max=1e15).to(dtype)


def _word_impedance(conductance: torch.Tensor, lines: Lines) -> torch.Tensor:
    """Of every word line with its cells, bit lines grounded: volts at node k for amperes into node l."""
    tiles, rows, columns = conductance.shape
    dtype = conductance.dtype
    shape = (tiles, rows, columns)
    ohm = _ohm(lines.word[:, :, 0], dtype).expand(shape).reshape(-1, columns).T.contiguous()
    g = conductance.reshape(-1, columns).T.contiguous()  # (columns, lines)
    source, end = torch.empty_like(g), torch.empty_like(g)  # ohm towards the driver, S towards the end
    source[0], end[-1] = ohm[0], 0.0
    if lines.word_far is not None:
        end[-1] = _admittance(lines.word_far).expand(tiles, rows, 1, 1).reshape(-1)
    for k in range(1, columns):
        source[k] = ohm[k] + source[k - 1] / (1 + g[k - 1] * source[k - 1])
    for k in range(columns - 1, 0, -1):
        far = end[k] + g[k]
        end[k - 1] = far / (1 + ohm[k] * far)
    own = source / (1 + source * (end + g))
    divider = 1 / (1 + ohm * (end + g))  # voltage at node k over that at node k - 1
    blocks = g.new_zeros(columns, columns, g.shape[1])
    for k in range(columns):
        if k:
            torch.mul(blocks[k - 1, :k], divider[k], out=blocks[k, :k])
        blocks[k, k] = own[k]
    lower = blocks.permute(2, 0, 1).contiguous()
    return (lower + lower.tril(-1).mT).unflatten(0, (tiles, rows))
