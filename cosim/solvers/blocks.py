"""Blocks of cells known by their ports, and what joining two of them takes.

A block of p x q cells has p ports on the left and on the right, q at the top and at the bottom. Its
inputs u are the voltages on the left (word lines) and at the bottom (bit lines), the sides of drivers
and sense nodes, and the currents that leave it at the right and at the top. Its outputs y are the
currents that enter it on the left and at the bottom, and the voltages at the right and at the top.
Then ``y = H u + y0`` with H symmetric; y0 is what voltages in series with the cells cause.
Ports are in the order of a walk around the block: left (upwards), top, right (downwards), bottom
(leftwards), so that the ports of a joined block are slices of its parts.

Where two blocks meet, one imposes ``V = V0 - Z J``, the other ``J = J0 + Y V``; Z and Y are symmetric
and positive semidefinite, so ``K = (I + Z Y)^-1`` exists and every update has terms of one sign:
nothing cancels, however small or large the resistances, and each may be 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

__all__ = ["Block", "Joint", "Sides", "join"]


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Number of ports on each side."""

    left: int
    top: int
    right: int
    bottom: int

    def span(self, side: str) -> slice:
        """Where the ports of a side are in the order of all ports."""
        sizes = vars(self)
        start = sum(sizes[name] for name in list(sizes)[: list(sizes).index(side)])
        return slice(start, start + sizes[side])

    @property
    def count(self) -> int:
        return sum(vars(self).values())

    def joined(self, far: Sides, *, word: bool) -> Sides:
        """With the block to the right (``word``) or above."""
        if word:
            return replace(self, top=self.top + far.top, right=far.right, bottom=self.bottom + far.bottom)
        return replace(self, left=self.left + far.left, top=far.top, right=self.right + far.right)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Equal blocks in a grid: ``matrix`` is H, ``(*systems, grid rows, grid columns, ports, ports)``.

    Further columns of ``matrix`` are y0, one for each given set of voltages in series with the cells;
    they ride along in the products. Grid rows count upwards from the sense nodes, grid columns from
    the drivers.
    """

    matrix: torch.Tensor
    sides: Sides

    def __getitem__(self, part: tuple[slice, slice]) -> Block:
        return replace(self, matrix=self.matrix[..., *part, :, :])

    def without(self, cut: set[str]) -> tuple[Block, torch.Tensor]:
        """The same without some sides (inputs of 0, outputs that nobody asks for); the ports that stay."""
        spans = [self.sides.span(side) for side in vars(self.sides) if side not in cut]
        ports = [port for span in spans for port in range(span.start, span.stop)]
        kept, every = (
            torch.tensor(part, dtype=torch.long, device=self.matrix.device)
            for part in (ports, [*ports, *range(self.sides.count, self.matrix.shape[-1])])
        )
        matrix = self.matrix.index_select(-1, every).index_select(-2, kept)
        return Block(matrix=matrix, sides=replace(self.sides, **dict.fromkeys(cut, 0))), kept


@dataclass(frozen=True, kw_only=True)
class Joint:
    """How the two sides of an interface of p ports answer to the ports around them.

    near: the block towards the drivers (``word``) or the sense nodes; far: its neighbour.
    """

    word: bool
    cut: int  # ports of near before the interface
    near_ports: torch.Tensor  # (..., p, ports of near that stay): V0 per input
    far_ports: torch.Tensor  # (..., p, ports of far that stay): J0 per input
    z: torch.Tensor  # (..., p, p)
    y: torch.Tensor
    k: torch.Tensor

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.near_ports, self.far_ports, self.z, self.y, self.k))

    def _meet(self, v0: torch.Tensor, j0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """V and J at the interface; each a sum of terms that do not cancel."""
        volts, amperes = self.k @ v0, self.k.mT @ j0
        return volts - self.z @ amperes, amperes + self.y @ volts

    def up(
        self, near: torch.Tensor, far: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """y0 of the joined block, ``(..., ports, batch)``, and V, J for inputs of 0."""
        p = self.k.shape[-1]
        rest = far.shape[-2] - p
        j0, kept = far.split([p, rest], -2) if self.word else far.split([rest, p], -2)[::-1]
        first, v0, last = near.split([self.cut, p, near.shape[-2] - self.cut - p], -2)
        volts, amperes = self._meet(v0, j0.flip(-2))
        passed = self.near_ports.mT @ amperes
        parts = [
            first + passed[..., : self.cut, :],
            kept + self.far_ports.mT @ volts,
            last + passed[..., self.cut :, :],
        ]
        return torch.cat(parts, -2), (volts, amperes)

    def down(
        self, ports: torch.Tensor, inside: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs u of both blocks from those of the joined one and what ``up`` found inside, if anything."""
        count = self.far_ports.shape[-1]
        first, far, last = ports.split([self.cut, count, ports.shape[-2] - self.cut - count], -2)
        volts, amperes = self._meet(self.near_ports @ torch.cat([first, last], -2), self.far_ports @ far)
        if inside is not None:
            volts, amperes = inside[0] + volts, inside[1] + amperes
        volts = volts.flip(-2)
        far = torch.cat([volts, far] if self.word else [far, volts], -2)
        return torch.cat([first, amperes, last], -2), far


def join(near: Block, far: Block, *, word: bool, keep: bool) -> tuple[Block, Joint | None]:
    """Blocks side by side as one; with ``keep`` also what ``up`` and ``down`` need.

    word: far is right of near, else above it.
    """
    a, b = near.matrix, far.matrix
    cut = near.sides.span("right" if word else "top")
    far_cut = far.sides.span("left" if word else "bottom")
    kept = slice(far_cut.stop, far.sides.count) if word else slice(0, far_cut.start)
    given = slice(far.sides.count, None)  # where y0 is

    z = -a[..., cut, cut]
    y = b[..., far_cut, far_cut].flip(-1, -2)  # the two sides count their ports in opposite directions
    # V0 and J0 per input of the ports that stay; behind them, the part of y0
    near_all = torch.cat([a[..., cut, : cut.start], a[..., cut, cut.stop :]], -1)
    far_all = b[..., far_cut, kept if kept.stop < given.start else slice(kept.start, None)]
    if given.start < b.shape[-1] and kept.stop < given.start:
        far_all = torch.cat([far_all, b[..., far_cut, given]], -1)
    far_all = far_all.flip(-2)
    near_ports = near_all[..., : near.sides.count - z.shape[-1]]
    far_ports = far_all[..., : kept.stop - kept.start]
    system = z @ y
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    k = torch.linalg.inv_ex(system).inverse
    volts = k @ near_all
    amperes = k.mT @ far_all
    fed, dropped = y @ volts, z @ amperes
    m, f = near_ports.shape[-1], far_ports.shape[-1]
    if b.shape[-1] > given.start:  # to y0, the other side gives its share as well
        fed[..., m:].add_(amperes[..., f:])
        dropped[..., f:].sub_(volts[..., m:])
    matrix = _assembled(
        a,
        b[..., kept, :],
        cut,
        kept,
        own=near_ports.mT @ fed,
        across=near_ports.mT @ amperes[..., :f],
        other=far_ports.mT @ dropped,
    )
    block = Block(matrix=matrix, sides=near.sides.joined(far.sides, word=word))
    if not keep:
        return block, None
    parts = {"near_ports": near_ports, "far_ports": far_ports, "z": z, "y": y, "k": k}
    return block, Joint(word=word, cut=cut.start, **parts)


def _assembled(
    near: torch.Tensor,
    far: torch.Tensor,
    cut: slice,
    kept: slice,
    *,
    own: torch.Tensor,
    across: torch.Tensor,
    other: torch.Tensor,
) -> torch.Tensor:
    """H of the joined block: near's ports before the cut, far's ports, near's ports after the cut.

    far: its rows that stay, of them the columns ``kept``. Behind the ports y0, in the parts as well.
    """
    if own.requires_grad:  # it depends on both blocks
        return _concatenated(near, far, cut, kept, own=own, across=across, other=other)
    count, more = other.shape[-2], own.shape[-1] - own.shape[-2]
    first, tail, behind = slice(0, cut.start), slice(cut.stop, near.shape[-2]), slice(cut.stop, None)
    middle = slice(cut.start, cut.start + count)
    last = slice(middle.stop, middle.stop + own.shape[-2] - cut.start)
    end, outputs = slice(last.start, last.stop + more), slice(last.stop, last.stop + more)
    new = near.new_empty(*near.shape[:-2], last.stop, end.stop)

    def put(rows: slice, columns: slice, base: torch.Tensor, more: torch.Tensor, sign: int = 1) -> None:
        # one pass over memory instead of two: half the time of the small blocks
        torch.add(base, more, alpha=sign, out=new[..., rows, columns])

    put(first, first, near[..., first, first], own[..., : cut.start, : cut.start])
    put(first, end, near[..., first, behind], own[..., : cut.start, cut.start :])
    put(last, first, near[..., tail, first], own[..., cut.start :, : cut.start])
    put(last, end, near[..., tail, behind], own[..., cut.start :, cut.start :])
    put(middle, middle, far[..., kept], other[..., :count], sign=-1)
    for ports, part in ((first, across[..., : cut.start, :]), (last, across[..., cut.start :, :])):
        new[..., ports, middle] = part
        new[..., middle, ports] = part.mT
    if more:
        put(middle, outputs, far[..., -more:], other[..., count:], sign=-1)
    return new


def _concatenated(
    near: torch.Tensor,
    far: torch.Tensor,
    cut: slice,
    kept: slice,
    *,
    own: torch.Tensor,
    across: torch.Tensor,
    other: torch.Tensor,
) -> torch.Tensor:
    """The same for gradients: a backward pass through writes in place copies the whole matrix for each."""
    before, count, ports = cut.start, other.shape[-2], own.shape[-2]

    def line(near: torch.Tensor, own: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
        left = near[..., :before] + own[..., :before]
        return torch.cat([left, across, near[..., cut.stop :] + own[..., before:]], -1)

    near_rows = near[..., :before, :], near[..., cut.stop :, :]
    own_rows, across_rows = (part.split([before, ports - before], -2) for part in (own, across))
    first, last = (line(*rows) for rows in zip(near_rows, own_rows, across_rows, strict=True))
    turned, outputs = across.mT, far[..., far.shape[-1] - (own.shape[-1] - ports) :]
    middle = [turned[..., :before], far[..., kept] - other[..., :count], turned[..., before:]]
    middle.append(outputs - other[..., count:])
    return torch.cat([first, torch.cat(middle, -1), last], -2)
