"""The wires as a Newton iteration sees them: cell currents in, voltages taken from the cells out.

Cell arrays are ``(tiles, rows, batch, columns)``: every row is one matrix of vectors by columns, which
is what the dense products of a row want, and the work along a row stays in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.wires import Segments

__all__ = ["Lines", "turn"]


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

    def word_share(self, rows: slice = slice(None)) -> torch.Tensor | None:
        """Of the current of each cell, what comes through the far end of its word line; None: open."""
        if self.word_far is None:
            return None
        along = self.word[:, rows].cumsum(-1)
        return _share(along, along[..., -1:] + self.word_far[:, rows])

    def bit_share(self) -> torch.Tensor | None:
        """The same of the bit lines."""
        if self.bit_far is None:
            return None
        along = self.bit.flip(1).cumsum(1).flip(1)
        return _share(along, along[:, :1] + self.bit_far)

    def word_drop(self, current: torch.Tensor, tiles: slice, rows: slice) -> torch.Tensor:
        """Volts from the drivers to the word line nodes, for the cell currents of some rows."""
        lines = self.pick(tiles)
        segment = lines.word[:, rows]
        summed = current.cumsum(-1)
        # what the segment before a cell carries: its own current and that of the cells behind it
        flow = (current - summed).add_(summed[..., -1:])
        share = lines.word_share(rows)
        if share is not None:
            flow = flow - (current * share).sum(-1, keepdim=True)
        return (segment * flow).cumsum(-1)

    def bit_drop(self, current: torch.Tensor) -> torch.Tensor:
        """Volts from the bit line nodes to the sense nodes, for all cell currents."""
        flow = _running_sum(current)
        share = self.bit_share()
        if share is not None:
            flow = flow - (current * share).sum(1, keepdim=True)
        return _running_sum(self.bit * flow, backwards=True)

    def drop(self, current: torch.Tensor) -> torch.Tensor:
        """Volts that the wires take from every cell; differentiable in the resistances."""
        return self.word_drop(current, slice(None), slice(None)) + self.bit_drop(current)


def _pick(part: torch.Tensor, tiles: slice | torch.Tensor) -> torch.Tensor:
    return part if len(part) == 1 else part[tiles]


def _share(along: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Near end to cell over the whole line: both ends are at one voltage."""
    # a line without any resistance has no say in where its current comes from: the near end
    return torch.where(total > 0, along / torch.where(total > 0, total, 1.0), 0.0)


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
