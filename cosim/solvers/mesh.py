"""Exact elimination of the nodes of a tile without a subtraction, for wires and cells of any size.

Eliminating nodes k between the nodes o that stay leaves conductances ``C_oo + C_ok K^-1 C_ko`` between
these, with ``K = diag(sums) - C_kk``. The sums are formed from conductances that are there instead of
by subtraction (Grassmann, Taksar and Heyman, Operations Research 33 (1985) 1107), so that every number
is made of sums, products and quotients of positive ones: each conductance that is left keeps its
relative accuracy, with floating lines, breaks and shorts of any size.

Blocks of cells, known by the mesh between the nodes at their border, are joined pair by pair, along
rows and columns in turn: all pairs of a round at once, of the order of n^3 for n x n cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cosim.wires import Segments

__all__ = ["mesh_bytes", "solve_mesh"]

_SHORT = 1e-200  # ohm of a segment without resistance: no sum of positive numbers notices it


@dataclass(frozen=True, kw_only=True)
class _Mesh:
    """Equal blocks of p x q cells: nodes on the left, right (p each), at the top and bottom (q each).

    Leading axes of all: ``(systems, grid rows, grid columns)``.
    """

    conductance: torch.Tensor  # (..., nodes, nodes) S, symmetric; the diagonal means nothing
    leak: torch.Tensor  # (..., nodes) S, to 0 V
    injected: torch.Tensor  # (..., nodes) A
    rows: int
    columns: int

    def paired(self, by_word: bool) -> _Mesh:
        """Neighbours side by side, with nothing between them yet."""
        parts = (self.conductance, self.leak, self.injected)
        near, far = ([part[:, :, k::2] if by_word else part[:, k::2] for part in parts] for k in range(2))
        n = near[1].shape[-1]
        conductance = near[0].new_zeros(*near[1].shape[:-1], 2 * n, 2 * n)
        conductance[..., :n, :n], conductance[..., n:, n:] = near[0], far[0]
        leak, injected = (torch.cat(pair, -1) for pair in (near[1:2] + far[1:2], near[2:] + far[2:]))
        rows, columns = (self.rows, 2 * self.columns) if by_word else (2 * self.rows, self.columns)
        return _Mesh(conductance=conductance, leak=leak, injected=injected, rows=rows, columns=columns)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """Eliminated nodes: their voltages are ``weight @ those of the nodes that stayed + offset``."""

    gone: torch.Tensor
    kept: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor
    by_word: bool = True

    def down(self, kept: torch.Tensor) -> torch.Tensor:
        """Voltages of all nodes."""
        gone = (self.weight @ kept.unsqueeze(-1)).squeeze(-1) + self.offset
        nodes = kept.new_empty(*kept.shape[:-1], len(self.gone) + len(self.kept))
        return nodes.index_copy_(-1, self.kept, kept).index_copy_(-1, self.gone, gone)

    def split(self, kept: torch.Tensor) -> torch.Tensor:
        """The same for the grid of blocks that were joined."""
        axis = 2 if self.by_word else 1
        return self.down(kept).unflatten(-1, (2, -1)).movedim(-2, axis + 1).flatten(axis, axis + 1)


@torch.no_grad()
def solve_mesh(
    conductance: torch.Tensor,
    segments: Segments,
    voltages: torch.Tensor,
    injected: torch.Tensor | None = None,
    leak: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Voltages across all cells, V, and column currents, A, of linear cells at driver voltages.

    conductance: ``(systems, rows, columns)`` S, 0 or more. segments: with a leading axis of ``systems``
    or 1; any resistance, 0 and inf as well. voltages: ``(systems, rows)`` V. injected: as conductance,
    A, from the bit to the word line beside each cell. leak: from the nodes of each cell to 0 V, times its
    conductance. What nothing ties to a driver or a sense node is at 0 V.
    """
    rows, columns = conductance.shape[-2:]
    height, width = (max(2, 1 << (n - 1).bit_length()) for n in (rows, columns))
    # lines go on beyond the last cell without resistance, so that their ends are at the border
    word = _padded(_siemens(segments.word[..., 1:]), height, width, 1 / _SHORT)
    bit = _padded(_siemens(segments.bit[..., :-1, :]), height, width, 1 / _SHORT)
    cells, sources = (
        _padded(part, height, width, 0.0)
        for part in (conductance, torch.zeros_like(conductance) if injected is None else injected)
    )
    mesh = _leaves(cells, sources, leak, word, bit)
    steps = []
    while mesh.leak.shape[1:3] != (1, 1):
        mesh, step = _join(mesh, word, bit)
        steps.append(step)
    ties = _ties(segments, len(cells), height, width)
    border = _border_voltages(mesh, ties, pad(voltages, (0, height - rows)))
    grid = border[:, None, None]
    for step in reversed(steps):
        grid = step.split(grid)
    # left, right, top, bottom of 2 x 2 cells: by column and row on word lines, by row and column on bit lines
    nodes = grid.unflatten(-1, (2, 2, 2))
    across = nodes[..., 0, :, :].mT - nodes[..., 1, :, :]
    across = across.transpose(2, 3).flatten(1, 2).flatten(2, 3)
    sensed = (ties * border)[:, 2 * height :].unflatten(-1, (2, width)).sum(1)
    return across[:, :rows, :columns], sensed[:, :columns]


def mesh_bytes(rows: int, columns: int) -> int:
    """About what one system takes in float64."""
    side = max(2, 1 << (max(rows, columns) - 1).bit_length())
    return 8 * 80 * side**2


def _padded(cells: torch.Tensor, height: int, width: int, value: float) -> torch.Tensor:
    rows, columns = cells.shape[-2:]
    return pad(cells, (0, width - columns, 0, height - rows), value=value)


def _siemens(ohm: torch.Tensor) -> torch.Tensor:
    return 1 / ohm.clamp(min=_SHORT)


def _leaves(
    cells: torch.Tensor, sources: torch.Tensor, leak: float, word: torch.Tensor, bit: torch.Tensor
) -> _Mesh:
    """Blocks of 2 x 2 cells: every node is at the border. word, bit: S behind each node of a line."""
    systems, height, width = cells.shape
    c = cells.new_zeros(systems, height // 2, width // 2, 8, 8)
    tied, injected = torch.zeros_like(c[..., 0]), torch.zeros_like(c[..., 0])
    for k in range(2):
        for i, j, link in ((k, 2 + k, word[:, k::2, ::2]), (4 + k, 6 + k, bit[:, ::2, k::2])):
            c[..., i, j] = c[..., j, i] = link
        for r in range(2):
            i, j, cell, source = 2 * k + r, 4 + 2 * r + k, cells[:, r::2, k::2], sources[:, r::2, k::2]
            c[..., i, j] = c[..., j, i] = cell
            for node, sign in ((i, 1), (j, -1)):
                tied[..., node] += leak * cell
                injected[..., node] += sign * source
    return _Mesh(conductance=c, leak=tied, injected=injected, rows=2, columns=2)


def _join(mesh: _Mesh, word: torch.Tensor, bit: torch.Tensor) -> tuple[_Mesh, _Step]:
    """Every two neighbours along a row or a column of blocks as one."""
    p, q = mesh.rows, mesh.columns
    grid_rows, grid_columns = mesh.leak.shape[1:3]
    by_word = grid_rows == 1 or (grid_columns > 1 and q <= p)
    n = 2 * (p + q)
    if by_word:
        links = word[:, :, q - 1 :: 2 * q][..., : grid_columns // 2].unflatten(1, (-1, p)).transpose(2, 3)
        first, second = range(p, 2 * p), range(n, n + p)
        kept = [*range(p), *range(n + p, n + 2 * p)]
        for side in (2 * p, 2 * p + q):
            kept += [*range(side, side + q), *range(n + side, n + side + q)]
    else:
        links = bit[:, p - 1 :: 2 * p][:, : grid_rows // 2].unflatten(2, (-1, q))
        first, second = range(2 * p + q, n), range(n + 2 * p, n + 2 * p + q)
        kept = [*range(p), *range(n, n + p), *range(p, 2 * p), *range(n + p, n + 2 * p)]
        kept += [*range(2 * p, 2 * p + q), *range(n + 2 * p + q, 2 * n)]
    pairs = mesh.paired(by_word)
    for k, (i, j) in enumerate(zip(first, second, strict=True)):
        pairs.conductance[..., i, j] = pairs.conductance[..., j, i] = links[..., k]
    return _eliminate(pairs, [*first, *second], kept, by_word)


def _eliminate(mesh: _Mesh, gone: list[int], kept: list[int], by_word: bool) -> tuple[_Mesh, _Step]:
    """The mesh between the nodes ``kept``, in their order."""
    k, o = (torch.tensor(nodes, dtype=torch.long, device=mesh.leak.device) for nodes in (gone, kept))
    rows = mesh.conductance.index_select(-2, k)
    across = rows.index_select(-1, o)
    leaks, sources = (part.index_select(-1, k).unsqueeze(-1) for part in (mesh.leak, mesh.injected))
    factors = _factor(rows.index_select(-1, k), across.sum(-1) + leaks[..., 0])
    weight, offset = _solve(*factors, torch.cat([across, sources], -1)).split([len(kept), 1], -1)
    inner = mesh.conductance.index_select(-2, o).index_select(-1, o)
    joined = _Mesh(
        conductance=inner + across.mT @ weight,
        leak=mesh.leak.index_select(-1, o) + (weight.mT @ leaks).squeeze(-1),
        injected=mesh.injected.index_select(-1, o) + (weight.mT @ sources).squeeze(-1),
        rows=mesh.rows,
        columns=mesh.columns,
    )
    return joined, _Step(gone=k, kept=o, weight=weight, offset=offset.squeeze(-1), by_word=by_word)


def _factor(between: torch.Tensor, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``K = L D L^T`` for conductances between nodes and from them to all others; L has ones and less."""
    n = out.shape[-1]
    between, out, sums = between.clone(), out.clone(), torch.ones_like(out)
    for k in range(n):
        row = between[..., k, k + 1 :]
        total = row.sum(-1) + out[..., k]
        sums[..., k] = torch.where(total > 0, total, 1.0)  # a node that nothing connects
        ratio = row / sums[..., k, None]
        between[..., k + 1 :, k + 1 :] += ratio.unsqueeze(-1) * row.unsqueeze(-2)
        out[..., k + 1 :] += ratio * out[..., k, None]
        between[..., k + 1 :, k] = -ratio
    lower = between.tril(-1)
    lower.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return lower, sums


def _solve(lower: torch.Tensor, sums: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    half = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
    return torch.linalg.solve_triangular(lower.mT, half / sums.unsqueeze(-1), upper=True, unitriangular=True)


def _ties(segments: Segments, systems: int, height: int, width: int) -> torch.Tensor:
    """Siemens from each node of the border to its driver or its sense node, ``(systems, nodes)``."""
    ends = (
        (segments.word[..., 0], height),
        (segments.word_far, height),
        (segments.bit_far, width),
        (segments.bit[..., -1, :], width),
    )
    parts = []
    for ohm, size in ends:
        tied = segments.word.new_zeros(1, 0) if ohm is None else _siemens(ohm)
        parts.append(pad(tied, (0, size - tied.shape[-1])).expand(systems, size))
    return torch.cat(parts, -1)


def _border_voltages(mesh: _Mesh, ties: torch.Tensor, voltages: torch.Tensor) -> torch.Tensor:
    fed = ties[:, : 2 * mesh.rows] * voltages.repeat(1, 2)
    injected = mesh.injected[:, 0, 0] + pad(fed, (0, 2 * mesh.columns))
    factors = _factor(mesh.conductance[:, 0, 0], mesh.leak[:, 0, 0] + ties)
    return _solve(*factors, injected.unsqueeze(-1)).squeeze(-1)
