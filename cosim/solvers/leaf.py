"""The first rounds of joining, written out entry by entry: blocks of 2 x 4 cells.

For ports in twos, an array operation on each entry of H over all blocks at once is many times faster
than products of tiny matrices. The cells themselves can be carried along like ports that never go
away: a voltage in series with the cell goes in, its current comes out. ``blocks`` has the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cosim.solvers.blocks import Block, Sides

__all__ = ["LEAF", "Leaf"]

LEAF = (2, 4)  # rows, columns of a leaf


@dataclass(frozen=True, kw_only=True)
class _Small:
    """H of equal small blocks: ``entries[i][j]`` is ``(*systems, grid rows, grid columns)``.

    Ports are in the order of ``blocks.Block``. More rows, behind them, are the currents of ``cells``;
    more columns the voltages in series with them. outputs: y0 of each port for given voltages in
    series with all cells, ``(batch, *systems, grid rows, grid columns)``.
    """

    entries: list[list[torch.Tensor]]
    sides: Sides
    cells: tuple[tuple[int, int], ...]  # place of every cell carried: row (upwards), column
    outputs: list[torch.Tensor] | None

    def every_other(self, first: int, *, word: bool) -> _Small:
        part = (..., slice(first, None, 2)) if word else (..., slice(first, None, 2), slice(None))
        return replace(
            self,
            entries=[[entry[part] for entry in line] for line in self.entries],
            outputs=None if self.outputs is None else [entry[part] for entry in self.outputs],
        )

    def moved(self, rows: int, columns: int) -> _Small:
        return replace(self, cells=tuple((r + rows, c + columns) for r, c in self.cells))

    def apart_from(self, ports: Sequence[int]) -> tuple[list[int], list[int]]:
        """All other rows and columns."""
        rows, columns = range(len(self.entries)), range(len(self.entries[0]))
        return [i for i in rows if i not in ports], [j for j in columns if j not in ports]

    def pick(self, rows: Sequence[int], columns: Sequence[int]) -> list[list[torch.Tensor]]:
        return [[self.entries[i][j] for j in columns] for i in rows]


def _cell(
    g: torch.Tensor,
    word: torch.Tensor,
    bit: torch.Tensor,
    drops: torch.Tensor | None,
    *,
    keep: bool,
    series: bool,
) -> _Small:
    """Cells of g siemens with the segments before and below them."""
    g, word, bit = torch.broadcast_tensors(g, word, bit)
    g_word, g_bit = g * word, g * bit
    loaded = 1 + g_word + g_bit
    a = g / loaded
    word_gain = (1 + g_bit) / loaded  # voltage behind the segment over that before it
    bit_gain = (1 + g_word) / loaded
    top, right = a * bit, a * word
    across, less = -top * word, -a
    entries = [
        [a, top, word_gain, less, a],
        [top, -bit * bit_gain, across, bit_gain, top],
        [word_gain, across, -word * word_gain, right, -right],
        [less, bit_gain, right, a, less],
        [a, top, -right, less, a],
    ]
    rows, columns = (5 if keep else 4), (5 if series else 4)
    return _Small(
        entries=[line[:columns] for line in entries[:rows]],
        sides=Sides(left=1, top=1, right=1, bottom=1),
        cells=((0, 0),) if keep else (),
        outputs=None if drops is None else [gain.detach() * drops for gain in (a, top, -right, less)],
    )


def _join(near: _Small, far: _Small, *, word: bool) -> _Small:
    """Neighbours as one; see ``blocks.join``."""
    cut = _ports(near.sides.span("right" if word else "top"))
    far_cut = _ports(far.sides.span("left" if word else "bottom"))[::-1]
    near_rows, near_columns = near.apart_from(cut)
    far_rows, far_columns = far.apart_from(far_cut)
    z = [[-entry for entry in line] for line in near.pick(cut, cut)]
    y = far.pick(far_cut, far_cut)
    k = _inverse(_product(z, y))
    volts = _product(k, near.pick(cut, near_columns))
    amperes = _product(_transposed(k), far.pick(far_cut, far_columns))

    near_out, far_out = near.pick(near_rows, cut), far.pick(far_rows, far_cut)
    own = _updated(near.pick(near_rows, near_columns), near_out, _product(y, volts), 1)
    other = _updated(far.pick(far_rows, far_columns), far_out, _product(z, amperes), -1)
    across = _product(near_out, amperes)
    # the same the other way round; computed only for rows that are no columns of far
    back = [[across[i][j] for i in range(len(near_columns))] for j in range(len(far_columns))]
    back += _product(far_out[len(far_columns) :], volts)
    raw = [[*a, *b] for a, b in zip((*own, *back), (*across, *other), strict=True)]

    def order(near_count: int, far_count: int) -> list[int]:
        """Ports: near's before the cut, far's, near's behind it; then the cells of both."""
        first, near_ports = cut[0], near.sides.count - len(cut)
        far_end = near_count + far.sides.count - len(far_cut)
        ports = [*range(first), *range(near_count, far_end), *range(first, near_ports)]
        return [*ports, *range(near_ports, near_count), *range(far_end, near_count + far_count)]

    rows, columns = order(len(near_rows), len(far_rows)), order(len(near_columns), len(far_columns))
    ports = order(near.sides.count - len(cut), far.sides.count - len(far_cut))
    outputs = _joined_outputs(near, far, cut, far_cut, z, y, k)
    return _Small(
        entries=[[raw[i][j] for j in columns] for i in rows],
        sides=near.sides.joined(far.sides, word=word),
        cells=near.cells + far.cells,
        outputs=None if outputs is None else [outputs[i] for i in ports],
    )


@torch.no_grad()
def _joined_outputs(
    near: _Small,
    far: _Small,
    cut: list[int],
    far_cut: list[int],
    z: list[list[torch.Tensor]],
    y: list[list[torch.Tensor]],
    k: list[list[torch.Tensor]],
) -> list[torch.Tensor] | None:
    """y0 of near's ports that stay, then of far's."""
    if near.outputs is None or far.outputs is None:
        return None
    v0 = _product(k, [[near.outputs[i]] for i in cut])
    j0 = _product(_transposed(k), [[far.outputs[i]] for i in far_cut])
    volts = _updated([[v] for [v] in v0], z, j0, -1)
    amperes = _updated([[j] for [j] in j0], y, v0, 1)
    found = []
    for block, own, shared, inside in (
        (near, near.outputs, cut, amperes),
        (far, far.outputs, far_cut, volts),
    ):
        rows = [i for i in range(block.sides.count) if i not in shared]
        base = [[own[i]] for i in rows]
        found += _updated(base, block.pick(rows, shared), inside, 1)
    return [line[0] for line in found]


def _ports(span: slice) -> list[int]:
    return list(range(span.start, span.stop))


def _transposed(a: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    return [list(line) for line in zip(*a, strict=True)]


def _dot(xs: Sequence[torch.Tensor], ys: Sequence[torch.Tensor]) -> torch.Tensor:
    total = xs[0] * ys[0]
    for x, y in zip(xs[1:], ys[1:], strict=True):
        total.addcmul_(x, y)
    return total


def _product(a: list[list[torch.Tensor]], b: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    columns = _transposed(b)
    return [[_dot(line, column) for column in columns] for line in a]


def _updated(
    base: list[list[torch.Tensor]],
    outputs: list[list[torch.Tensor]],
    inside: list[list[torch.Tensor]],
    sign: int,
) -> list[list[torch.Tensor]]:
    """``base + sign * outputs inside``; symmetric where rows are columns too: each entry once."""
    columns = _transposed(inside)
    out = [list(line) for line in base]
    for i, line in enumerate(out):
        for j, column in enumerate(columns):
            if j < i < len(columns):
                line[j] = out[j][i]
            else:
                line[j] = torch.add(line[j], _dot(outputs[i], column), alpha=sign)
    return out


def _inverse(a: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """Of I + a, for 1 or 2 ports."""
    if len(a) == 1:
        return [[1 / (1 + a[0][0])]]
    (w, x), (y, z) = a
    w, z = 1 + w, 1 + z
    one = 1 / torch.addcmul(w * z, x, y, value=-1)
    return [[z * one, -x * one], [-y * one, w * one]]


class Leaf:
    """All cells of some tiles as leaves; rows count upwards.

    g, word, bit: ``(*systems, rows, columns)``, both multiples of ``LEAF``. ``take_block`` hands over
    the grid of leaves. With ``keep``, ``currents`` gives those of the cells; with ``series`` also for
    voltages in series with them, which ``outputs`` passes to the ports. For given voltages ``drops
    (*systems, rows, columns, batch)`` the leaves have y0.
    """

    def __init__(
        self,
        g: torch.Tensor,
        word: torch.Tensor,
        bit: torch.Tensor,
        *,
        keep: bool,
        series: bool,
        drops: torch.Tensor | None = None,
    ) -> None:
        batch_first = None if drops is None else drops.movedim(-1, 0)
        small = _cell(g, word, bit, batch_first, keep=keep, series=series)
        for by_word, rows, columns in ((True, 0, 1), (False, 1, 0), (True, 0, 2)):
            near, far = (small.every_other(n, word=by_word) for n in (0, 1))
            small = _join(near, far.moved(rows, columns), word=by_word)
        n = small.sides.count
        ports, cells = range(n), range(n, len(small.entries))
        entries = small.pick(ports, ports)
        if small.outputs is not None:
            entries = [[*line, *y0] for line, y0 in zip(entries, small.outputs, strict=True)]
        self._block: Block | None = Block(matrix=_stack(entries), sides=small.sides)
        self._places = small.cells
        # currents of the cells per input of the ports, and per volt in series with the cells
        self._gain = _stack(small.pick(cells, ports)) if keep else None
        self._own = _stack(small.pick(cells, cells)) if series else None

    def take_block(self) -> Block:
        """The leaves; once, because their matrices are not needed after the first round."""
        assert self._block is not None, "taken before"
        block, self._block = self._block, None
        return block

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self._gain, self._own) if part is not None)

    def outputs(self, h: torch.Tensor) -> torch.Tensor:
        """y0 of the leaves for voltages in series with the cells, ``(*systems, rows, columns, batch)``."""
        assert self._gain is not None, "factored with keep=False"
        return self._gain.mT @ self._gather(h)

    def currents(self, ports: torch.Tensor, h: torch.Tensor | None) -> torch.Tensor:
        """Of the cells, ``(*systems, rows, columns, batch)``, for the inputs of the leaves and h."""
        assert self._gain is not None, "factored with keep=False"
        found = self._gain @ ports
        if h is not None:
            assert self._own is not None, "factored with series=False"
            found = found + self._own @ self._gather(h)
        *lead, rows, columns, _, batch = found.shape
        out = found.new_empty(*lead, rows, LEAF[0], columns, LEAF[1], batch)
        for n, (r, c) in enumerate(self._places):
            out[..., :, r, :, c, :] = found[..., n, :]
        return out.flatten(-5, -4).flatten(-3, -2)

    def _gather(self, h: torch.Tensor) -> torch.Tensor:
        """Cells of each leaf side by side, ``(*systems, grid rows, grid columns, cells, batch)``."""
        parts = [h[..., r :: LEAF[0], c :: LEAF[1], :] for r, c in self._places]
        return torch.stack(parts, -2)


def _stack(entries: list[list[torch.Tensor]]) -> torch.Tensor:
    flat = torch.stack([entry for line in entries for entry in line], -1)
    return flat.unflatten(-1, (len(entries), len(entries[0])))
