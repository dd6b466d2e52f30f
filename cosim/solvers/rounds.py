"""Rounds of joining over a whole tile whose sides need not be powers of two.

Along each axis the blocks form groups of equal ones: a first group of any count, and at most one
further block of another size. Arrays of a tile are grids ``[group of rows][group of columns]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import torch

from cosim.solvers.blocks import Block, Joint

__all__ = ["Blocks", "Grid", "Interface", "Round", "Trim", "join_round", "trim_border"]

T = TypeVar("T")
Blocks: TypeAlias = list[list[Block]]
Grid: TypeAlias = list[list[torch.Tensor]]
Inside: TypeAlias = "tuple[torch.Tensor, torch.Tensor] | None"  # V and J of the interfaces
Join: TypeAlias = (
    "Callable[..., tuple[Block, Interface | None]]"  # blocks.join, or another with its arguments
)
Source: TypeAlias = tuple[int, slice]  # some blocks of one group


class Interface(Protocol):
    """What a join keeps of the ports that it took away, for the way back."""

    @property
    def nbytes(self) -> int: ...

    def down(self, ports: torch.Tensor, inside: Inside) -> tuple[torch.Tensor, torch.Tensor]:
        """From the ports of the joined block to those of both parts."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One round along one axis, in one row (``word``) or column of groups."""

    word: bool
    counts: tuple[int, ...]  # blocks of each group before the round
    ports: tuple[int, ...]  # and their ports
    sources: tuple[tuple[Source, ...], ...]  # of each group after it: one, or near and far
    joints: tuple[Interface | None, ...]

    def up(self, line: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[Inside]]:
        """y0 of the joined blocks, and what ``down`` needs to know of the interfaces."""
        outputs, insides = [], []
        for sources, joint in zip(self.sources, self.joints, strict=True):
            parts = [_blocks_of(line[n], part, self.word) for n, part in sources]
            assert joint is None or isinstance(joint, Joint), "these blocks have no voltages in series"
            output, inside = (parts[0], None) if joint is None else joint.up(*parts)
            outputs.append(output)
            insides.append(inside)
        return outputs, insides

    def down(self, line: Sequence[torch.Tensor], insides: Sequence[Inside]) -> list[torch.Tensor]:
        """Inputs u of the parts from those of the joined blocks."""
        shape, batch = list(line[0].shape[:-2]), line[0].shape[-1]
        inputs = []
        for count, ports in zip(self.counts, self.ports, strict=True):
            shape[-1 if self.word else -2] = count
            inputs.append(line[0].new_empty(*shape, ports, batch))
        for sources, joint, values, inside in zip(self.sources, self.joints, line, insides, strict=True):
            parts = [values] if joint is None else joint.down(values, inside)
            for (n, where), part in zip(sources, parts, strict=True):
                _blocks_of(inputs[n], where, self.word).copy_(part)
        return inputs


def _blocks_of(array: torch.Tensor, part: slice, word: bool) -> torch.Tensor:
    return array[..., part, :, :] if word else array[..., part, :, :, :]


def _sources(counts: Sequence[int]) -> tuple[tuple[Source, ...], ...]:
    """The groups after a round along an axis with ``counts`` blocks in its groups.

    Where two blocks are left, they become two groups, so that each can be rid of its outer ports.
    """
    if list(counts) == [2]:
        return ((0, slice(0, 1)),), ((0, slice(1, 2)),)
    whole = counts[0] // 2 * 2
    groups: list[tuple[Source, ...]] = []
    if whole:
        groups.append(((0, slice(0, whole, 2)), (0, slice(1, whole, 2))))
    rest: list[Source] = [(0, slice(whole, None))] if counts[0] % 2 else []
    rest += [(1, slice(0, 1))] if len(counts) == 2 else []
    if rest:
        groups.append(tuple(rest))
    return tuple(groups)


def _join_line(line: Sequence[Block], *, word: bool, keep: bool, join: Join) -> tuple[list[Block], _Line]:
    counts = tuple(block.matrix.shape[-3 if word else -4] for block in line)
    sources = _sources(counts)
    blocks, joints = [], []
    for group in sources:
        parts = [
            Block(matrix=_blocks_of(line[n].matrix, where, word), sides=line[n].sides) for n, where in group
        ]
        block, joint = (parts[0], None) if len(parts) == 1 else join(*parts, word=word, keep=keep)
        blocks.append(block)
        joints.append(joint)
    ports = tuple(block.sides.count for block in line)
    return blocks, _Line(word=word, counts=counts, ports=ports, sources=sources, joints=tuple(joints))


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of joins along one axis of the tile."""

    word: bool
    lines: tuple[_Line, ...]

    @property
    def nbytes(self) -> int:
        return sum(joint.nbytes for line in self.lines for joint in line.joints if joint is not None)

    def up(self, grid: Grid) -> tuple[Grid, list[list[Inside]]]:
        pairs = [line.up(v) for line, v in zip(self.lines, _along(grid, self.word), strict=True)]
        return _along([outputs for outputs, _ in pairs], self.word), [insides for _, insides in pairs]

    def down(self, grid: Grid, insides: list[list[Inside]] | None) -> Grid:
        """insides: what ``up`` found; None for inputs at the border only."""
        values = _along(grid, self.word)
        known = [[None] * len(line) for line in values] if insides is None else insides
        parts = [line.down(v, k) for line, v, k in zip(self.lines, values, known, strict=True)]
        return _along(parts, self.word)


def join_round(blocks: Blocks, *, word: bool, keep: bool, join: Join) -> tuple[Blocks, Round]:
    """Join neighbours in every row of blocks (``word``), or in every column, by ``join``."""
    pairs = [_join_line(line, word=word, keep=keep, join=join) for line in _along(blocks, word)]
    joined = _along([line for line, _ in pairs], word)
    return joined, Round(word=word, lines=tuple(plan for _, plan in pairs))


def _along(grid: list[list[T]], word: bool) -> list[list[T]]:
    """The rows of the grid, or its columns; its own inverse."""
    return grid if word else [list(line) for line in zip(*grid, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Trim:
    """Ports at the border of the tile that nothing is connected to, taken away."""

    kept: dict[tuple[int, int], tuple[int, torch.Tensor]]  # by group: ports before, those that stay
    nbytes: int = 0

    def up(self, grid: Grid) -> tuple[Grid, None]:
        out = [list(line) for line in grid]
        for (r, c), (_, kept) in self.kept.items():
            out[r][c] = grid[r][c].index_select(-2, kept)
        return out, None

    def down(self, grid: Grid, insides: None) -> Grid:
        out = [list(line) for line in grid]
        for (r, c), (count, kept) in self.kept.items():
            ports = grid[r][c]
            empty = ports.new_zeros(*ports.shape[:-2], count, ports.shape[-1])
            out[r][c] = empty.index_copy(-2, kept, ports)
        return out


def trim_border(blocks: Blocks, sides: frozenset[str]) -> tuple[Blocks, Trim]:
    """Take the ports of these sides of the tile away, where a group has nothing but such blocks."""
    out = [list(line) for line in blocks]
    kept = {}
    for r, line in enumerate(blocks):
        for c, block in enumerate(line):
            cut = {side for side in _border(blocks, r, c) & sides if getattr(block.sides, side)}
            if cut:
                out[r][c], ports = block.without(cut)
                kept[r, c] = block.sides.count, ports
    return out, Trim(kept=kept)


def _border(blocks: Blocks, r: int, c: int) -> set[str]:
    """Sides on which all blocks of a group are at the border of the tile."""
    rows, columns = blocks[r][c].matrix.shape[-4:-2]
    sides = set()
    if columns == 1:
        sides |= {"left"} if c == 0 else set()
        sides |= {"right"} if c == len(blocks[0]) - 1 else set()
    if rows == 1:
        sides |= {"bottom"} if r == 0 else set()
        sides |= {"top"} if r == len(blocks) - 1 else set()
    return sides
