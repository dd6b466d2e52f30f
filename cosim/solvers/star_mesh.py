"""Elimination of the nodes of a tile without a subtraction, for any range of resistances.

A node goes by joining its neighbours a, b with ``g_a g_b / sum(g)`` (star to mesh). Conductances between
different nodes are all that is stored; the sums of a node's conductances are formed anew for each star,
so that every result is a sum of positive terms: right to rounding, entry by entry, where a factorised
nodal matrix or the impedances of ``blocks`` lose the voltages between lines that float together.
Grassmann, Taksar and Heyman, Oper. Res. 33 (1985) 1107, for Markov chains.

Neighbouring blocks are joined pair by pair as in ``elimination``. A block's matrix holds the conductances
between its ports, S; the diagonal is never read. 0 ohm stands as a conductance so large that it makes
no difference, an open segment as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cosim.solvers.blocks import Block, Sides
from cosim.solvers.rounds import Round, join_round
from cosim.wires import Segments

__all__ = ["StarMesh", "star_mesh_matrices"]

_PANEL = 16  # nodes whose meshes are added in one product
_SHORT = 1e25  # conductance of 0 ohm over the largest other: far from rounding, far from overflow


@dataclass(frozen=True, kw_only=True)
class _BackSubstitution:
    """Way back to the nodes that were eliminated: each is at a mean of those that were left.

    weight: ``(..., nodes, nodes + ports)``, in the order of elimination; those before are 0.
    """

    weight: torch.Tensor

    def voltages(self, ports: torch.Tensor) -> torch.Tensor:
        """``(..., nodes, batch)`` for ``(..., ports, batch)``; 0 V where nothing leads to."""
        count = self.weight.shape[-2]
        volts = self.weight[..., count:] @ ports
        for k in range(count - 2, -1, -1):
            volts[..., k, :] += (self.weight[..., k, k + 1 : count, None] * volts[..., k + 1 :, :]).sum(-2)
        return volts


@dataclass(frozen=True, kw_only=True)
class _Interface(_BackSubstitution):
    """What ``Round.down`` needs of a join; see ``blocks.Joint``."""

    word: bool
    cut: int
    count: int  # ports of far that stay

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def down(self, ports: torch.Tensor, inside: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltages at the ports of both blocks from those of the joined one."""
        between = self.voltages(ports)
        rest = ports.shape[-2] - self.cut - self.count
        first, far, last = ports.split([self.cut, self.count, rest], -2)
        turned = between.flip(-2)
        return torch.cat([first, between, last], -2), torch.cat(
            [turned, far] if self.word else [far, turned], -2
        )


def _eliminate(g: torch.Tensor, count: int) -> tuple[torch.Tensor, _BackSubstitution]:
    """The first ``count`` nodes of ``g (..., nodes, nodes)`` S, which is overwritten."""
    weight = torch.zeros_like(g[..., :count, :])
    for start in range(0, count, _PANEL):
        stop = min(start + _PANEL, count)
        for k in range(start, stop):
            star = g[..., k, k + 1 :]
            total = star.sum(-1, keepdim=True)
            ratio = torch.div(star, torch.where(total > 0, total, 1.0), out=weight[..., k, k + 1 :])
            if k + 1 < stop:
                g[..., k + 1 : stop, k + 1 :] += star[..., : stop - k - 1, None] * ratio.unsqueeze(-2)
        panel = slice(start, stop)
        g[..., stop:, stop:] += g[..., panel, stop:].mT @ weight[..., panel, stop:]
    return g[..., count:, count:], _BackSubstitution(weight=weight)


def _join(near: Block, far: Block, *, word: bool, keep: bool) -> tuple[Block, _Interface | None]:
    """Blocks side by side as one; word: far is right of near, else above it."""
    a, b = near.matrix, far.matrix
    cut = near.sides.span("right" if word else "top")
    far_cut = far.sides.span("left" if word else "bottom")
    kept = slice(far_cut.stop, far.sides.count) if word else slice(0, far_cut.start)
    p, count = cut.stop - cut.start, kept.stop - kept.start
    # the interface first, then near's ports before it, far's, near's behind it
    ports = torch.arange(p + near.sides.count - p + count, device=a.device)
    behind = p + cut.start + count
    near_places = torch.cat([ports[p : p + cut.start], ports[:p], ports[behind:]])
    far_places = ports[p + cut.start : behind]
    turned = ports[:p].flip(0)  # the two sides count their ports in opposite directions
    far_places = torch.cat([turned, far_places] if word else [far_places, turned])
    g = a.new_zeros(*a.shape[:-2], len(ports), len(ports))
    g[..., near_places.unsqueeze(-1), near_places] = a
    g[..., far_places.unsqueeze(-1), far_places] += b
    matrix, back = _eliminate(g, p)
    block = Block(matrix=matrix, sides=near.sides.joined(far.sides, word=word))
    if not keep:
        return block, None
    return block, _Interface(weight=back.weight, word=word, cut=cut.start, count=count)


class StarMesh:
    """Tiles of linear cells reduced to the conductances between drivers and sense nodes.

    conductance: ``(tiles, rows, columns)`` S, float64; ``segments`` with one tile axis or an axis of 1.
    transfer, admittance: as in ``Elimination``. With ``keep``, ``voltages`` gives what is inside.
    """

    def __init__(self, conductance: torch.Tensor, segments: Segments, *, keep: bool = False) -> None:
        g, word, bit = torch.broadcast_tensors(conductance, segments.word, segments.bit)
        short = _SHORT * _largest(conductance, *(x for x in vars(segments).values() if x is not None))
        leaf = g.new_zeros(*g.shape, 4, 4)  # left, top, right, bottom
        for a, b, siemens in ((0, 2, _siemens(word, short)), (1, 2, g), (1, 3, _siemens(bit, short))):
            leaf[..., a, b] = leaf[..., b, a] = siemens
        blocks = [[Block(matrix=leaf.flip(-4), sides=Sides(left=1, top=1, right=1, bottom=1))]]
        self._stages: list[Round] = []
        self._shape = rows, columns = g.shape[-2:]
        height, width = rows, columns
        while height > 1 or width > 1:
            along = height == 1 or (width > 1 and rows * width >= columns * height)
            blocks, joined = join_round(blocks, word=along, keep=keep, join=_join)
            self._stages += [joined] * keep
            height = sum(line[0].matrix.shape[-4] for line in blocks)
            width = sum(block.matrix.shape[-3] for block in blocks[0])
        whole = blocks[0][0].matrix[..., 0, 0, :, :]
        self._ends(whole, segments, short)

    def _ends(self, whole: torch.Tensor, segments: Segments, short: torch.Tensor) -> None:
        """Connect the far ends, and eliminate them. Left and bottom ports count from the last line."""
        rows, columns = self._shape
        order = torch.arange(whole.shape[-1], device=whole.device).split([rows, columns, rows, columns])
        left, top, right, bottom = order
        turned = torch.cat([top, right, left.flip(0), bottom.flip(0)])  # then drivers, sense nodes
        g = whole[..., turned.unsqueeze(-1), turned]
        drivers = torch.arange(columns + rows, columns + 2 * rows, device=whole.device)
        for far, line, end in (
            (segments.bit_far, torch.arange(columns, device=whole.device), drivers[-1] + 1),
            (segments.word_far, drivers - rows, drivers[0]),
        ):
            if far is not None:
                siemens = _siemens(far, short)
                terminal = end + torch.arange(len(line), device=whole.device)
                g[..., line, terminal] += siemens
                g[..., terminal, line] += siemens
        mutual, self._far = _eliminate(g, rows + columns)
        self.transfer = mutual[..., :rows, rows:].contiguous()
        between = mutual[..., :rows, :rows]
        between.diagonal(dim1=-2, dim2=-1).zero_()
        own = between.sum(-1) + self.transfer.sum(-1)
        self.admittance = torch.diag_embed(own) - between

    def voltages(self, terminals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the word and the bit line node of every cell, both ``(tiles, batch, rows, columns)`` V.

        terminals: ``(tiles, batch, rows + columns)`` V of the drivers and the sense nodes.
        """
        rows, columns = self._shape
        known = terminals.mT
        top, right = self._far.voltages(known).split([columns, rows], -2)
        drivers, sense = known.split([rows, columns], -2)
        ports = torch.cat([drivers.flip(-2), top, right, sense.flip(-2)], -2)
        grid = [[ports[..., None, None, :, :]]]
        for stage in reversed(self._stages):
            grid = stage.down(grid, None)
        nodes = grid[0][0].flip(-4).movedim(-1, -4)  # (tiles, batch, rows, columns, ports)
        return nodes[..., 2], nodes[..., 1]


def _largest(conductance: torch.Tensor, *ohms: torch.Tensor) -> torch.Tensor:
    """The largest conductance that is there, S."""
    largest = [conductance.max(), *(_siemens(ohm, ohm.new_zeros(())).max() for ohm in ohms if ohm.numel())]
    return torch.stack(largest).max()


def _siemens(ohm: torch.Tensor, short: torch.Tensor) -> torch.Tensor:
    return torch.where(ohm > 0, 1 / torch.where(ohm > 0, ohm, 1.0), short)


class _Matrices(torch.autograd.Function):
    """``transfer`` and ``admittance``, whose gradients come from the currents inside.

    Backwards through the elimination, a short segment's own voltage would be lost in rounding.
    """

    @staticmethod
    def forward(ctx: Any, *parts: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(*parts)
        mesh = StarMesh(*_network(parts))
        return mesh.transfer, mesh.admittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, transfer: torch.Tensor, admittance: torch.Tensor) -> Any:
        """With all terminals but one at 0 V in turn: d(Y)/dg is the product of two cell voltages, and
        d(Y)/dr minus that of two currents; see Tellegen's theorem."""
        cells, segments = _network(ctx.saved_tensors)
        rows, columns = cells.shape[-2:]
        mesh = StarMesh(cells, segments, keep=True)
        unit = torch.eye(rows + columns, dtype=cells.dtype, device=cells.device)
        terminals = unit.expand(len(cells), -1, -1)
        word, bit = mesh.voltages(terminals)
        flows = segments.ohmic_flows(word, bit, cells, terminals[..., :rows], terminals[..., rows:])
        pull = unit.new_zeros(len(cells), rows + columns, rows + columns)
        pull[:, :rows, :rows], pull[:, :rows, rows:] = admittance, -transfer

        def weighed(x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(2)
            return (flat * (pull @ flat)).sum(1).unflatten(-1, x.shape[2:])

        grads = [weighed(word - bit), *(-weighed(current) for current in flows)]
        return tuple(
            None if part is None else grad.sum_to_size(part.shape)
            for part, grad in zip(ctx.saved_tensors, grads, strict=True)
        )


def _network(parts: Any) -> tuple[torch.Tensor, Segments]:
    cells, word, bit, word_far, bit_far = parts
    return cells, Segments(word=word, bit=bit, word_far=word_far, bit_far=bit_far)


def star_mesh_matrices(conductance: torch.Tensor, segments: Segments) -> tuple[torch.Tensor, torch.Tensor]:
    """``transfer`` and ``admittance`` of ``StarMesh``, differentiable in conductances and resistances."""
    parts = segments.word, segments.bit, segments.word_far, segments.bit_far
    return _Matrices.apply(conductance, *parts)
