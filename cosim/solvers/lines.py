"""The wires as a Newton iteration sees them: cell currents in, voltages taken from the cells out.

A current drawn at node l of a line lowers node k, nearer to the driver, by ``near_k rest_l / (near +
rest)`` volts per ampere: what lies between the near end and k, and between l and the far end. So the
drop is two running sums of positive multiples of the currents, right for any resistances; sums of what
the segments carry would cancel where an end is nearly open, or a segment nearly broken.

Cell arrays are ``(tiles, rows, batch, columns)``: every row is one matrix of vectors by columns, which
is what the dense products of a row want, and the work along a row stays in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.wires import Segments

__all__ = ["OPEN", "Arms", "Lines", "turn"]

OPEN = 1e150  # ohm, for inf: a product with it must not be undefined


def turn(cells: torch.Tensor) -> torch.Tensor:
    """Exchange word and bit lines of ``(..., rows, columns)``: mirror along the anti-diagonal."""
    return cells.flip(-1, -2).mT


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Wire segments in ohm; a tile axis of 1 serves every tile. Each may be 0.

    word: the segment before each cell, bit: the one after it. A far end that is None is open.
    """

    word: torch.Tensor  # (tiles or 1, rows, 1, columns)
    bit: torch.Tensor  # (tiles or 1, rows, 1, columns)
    word_far: torch.Tensor | None  # (tiles or 1, rows, 1, 1)
    bit_far: torch.Tensor | None  # (tiles or 1, 1, 1, columns)

    @classmethod
    def of(cls, segments: Segments, lead: tuple[int, ...], turned: bool) -> Lines:
        """From segments whose leading axes broadcast with those of the tiles; turned: see ``turn``."""

        def flat(value: torch.Tensor) -> torch.Tensor:
            if value.shape[:-2].numel() == 1:
                return value.reshape(1, *value.shape[-2:])
            return value.expand(*lead, *value.shape[-2:]).reshape(-1, *value.shape[-2:])

        word, bit = flat(segments.word), flat(segments.bit)
        word_far = None if segments.word_far is None else flat(segments.word_far.unsqueeze(-1))
        bit_far = None if segments.bit_far is None else flat(segments.bit_far.unsqueeze(-2))
        if turned:
            word, bit = turn(bit), turn(word)
            word_far, bit_far = (None if far is None else turn(far) for far in (bit_far, word_far))
        return cls(
            word=word.unsqueeze(-2),
            bit=bit.unsqueeze(-2),
            word_far=None if word_far is None else word_far.unsqueeze(-2),
            bit_far=None if bit_far is None else bit_far.unsqueeze(-2),
        )

    def pick(self, tiles: slice | torch.Tensor) -> Lines:
        """The lines of some tiles."""
        return Lines(
            word=_pick(self.word, tiles),
            bit=_pick(self.bit, tiles),
            word_far=None if self.word_far is None else _pick(self.word_far, tiles),
            bit_far=None if self.bit_far is None else _pick(self.bit_far, tiles),
        )

    def word_arms(self, rows: slice = slice(None)) -> Arms:
        """Of the word lines, ``(tiles or 1, rows, 1, columns)``."""
        return Arms.of(self.word[:, rows], None if self.word_far is None else self.word_far[:, rows], 3)

    def bit_arms(self) -> Arms:
        """Of the bit lines, in the same shape; their near end is behind the last row."""
        return Arms.of(self.bit.flip(1), self.bit_far, 1).flip(1)

    def word_drop(self, current: torch.Tensor, tiles: slice, rows: slice) -> torch.Tensor:
        """Volts from the drivers to the word line nodes, for the cell currents of some rows."""
        arms = self.pick(tiles).word_arms(rows)
        seen = current if arms.rest is None else current * arms.rest
        before, beyond = (current * arms.near).cumsum(-1), seen.flip(-1).cumsum(-1).flip(-1)
        return arms.drop(before, beyond - seen)

    def bit_drop(self, current: torch.Tensor) -> torch.Tensor:
        """Volts from the bit line nodes to the sense nodes, for all cell currents."""
        arms = self.bit_arms()
        seen = current if arms.rest is None else current * arms.rest
        before = _running_sum(current * arms.near, backwards=True)
        return arms.drop(before, _running_sum(seen) - seen)

    def drop(self, current: torch.Tensor) -> torch.Tensor:
        """Volts that the wires take from every cell; differentiable in the resistances."""
        return self.word_drop(current, slice(None), slice(None)) + self.bit_drop(current)


def _pick(part: torch.Tensor, tiles: slice | torch.Tensor) -> torch.Tensor:
    return part if len(part) == 1 else part[tiles]


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Resistances from the nodes of lines to their two ends, one of them over that of the whole line.

    What a current into node l does to node k is ``near_k rest_l`` volts per ampere where k is the nearer
    one, ``near_l rest_k`` where l is. A rest of None is 1 everywhere: the far ends are open.
    """

    near: torch.Tensor
    rest: torch.Tensor | None

    @classmethod
    def of(cls, segment: torch.Tensor, far: torch.Tensor | None, dim: int) -> Arms:
        """The first node of ``dim`` is behind the near end."""
        near = segment.cumsum(dim)
        if far is None:
            return cls(near=near, rest=None)
        first, behind = segment.split([1, segment.shape[dim] - 1], dim)
        behind = torch.cat([behind, torch.zeros_like(first)], dim)
        rest = behind.flip(dim).cumsum(dim).flip(dim) + far
        total = first + rest.narrow(dim, 0, 1)
        # a line without any resistance has no say in where its current comes from
        whole = torch.where(total > 0, total, 1.0)
        stronger = first <= far  # its arm stays in ohm: the other may be all that there is
        return cls(
            near=torch.where(stronger, near, near / whole), rest=torch.where(stronger, rest / whole, rest)
        )

    def flip(self, dim: int) -> Arms:
        return Arms(near=self.near.flip(dim), rest=None if self.rest is None else self.rest.flip(dim))

    def drop(self, before: torch.Tensor, beyond: torch.Tensor) -> torch.Tensor:
        """Volts, for the sums of ``near`` times current up to each node, of ``rest`` times it beyond."""
        beyond = beyond * self.near
        return beyond + (before if self.rest is None else before * self.rest)


def _running_sum(cells: torch.Tensor, *, backwards: bool = False) -> torch.Tensor:
    """Cumulative sum over the rows."""
    if cells.is_cuda or cells.requires_grad:
        return cells.flip(1).cumsum(1).flip(1) if backwards else cells.cumsum(1)
    # on the CPU, torch sums along an outer axis ten times slower than rows can be added
    total = cells.clone() if not backwards else cells
    order = range(cells.shape[1] - 2, -1, -1) if backwards else range(1, cells.shape[1])
    for row in order:
        total[:, row].add_(total[:, row + 1 if backwards else row - 1])
    return total
