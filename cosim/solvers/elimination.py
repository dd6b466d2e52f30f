"""Exact elimination of the nodes of a tile, by joining neighbouring blocks of cells pair by pair.

Joining along rows and columns in turn keeps the blocks square: n x n cells cost of the order of n^3,
where elimination line by line costs n^4. See ``blocks`` for the equations.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from cosim.solvers.blocks import Block, join
from cosim.solvers.leaf import LEAF, Leaf
from cosim.solvers.rounds import Grid, Round, Trim, join_round, trim_border
from cosim.wires import Segments, Wires

__all__ = ["Elimination"]

_SIDES = frozenset({"left", "top", "right", "bottom"})


class Elimination:
    """Linear cells of conductance g in their wires, factored: ``solve`` gives the cell voltages.

    conductance: ``(*systems, rows, columns)`` S; the leading axes of the wires broadcast with it.
    With ``inject``: ``transfer (*systems, rows, columns)`` S from drivers to column currents, and
    ``admittance (*systems, rows, rows)`` S from drivers to the currents that they deliver.
    With ``keep`` what ``drive`` needs is kept, with ``series`` too what ``solve`` needs.
    drops: voltages in series with the cells, ``(*systems, batch, rows, columns)`` V; then ``response``
    has the currents of columns and drivers that they cause, without gradients and without ``keep``.
    """

    def __init__(
        self,
        conductance: torch.Tensor,
        wires: Wires | Segments,
        *,
        inject: bool = False,
        keep: bool = True,
        series: bool = True,
        drops: torch.Tensor | None = None,
    ) -> None:
        rows, columns = conductance.shape[-2:]
        segments = wires.spread(rows, columns, like=conductance) if isinstance(wires, Wires) else wires
        self._segments = segments
        # leaves tile the plane: further rows above and columns to the right, with nothing in them
        self._more = (-rows % LEAF[0], -columns % LEAF[1])
        cells = [self._padded(part).flip(-2) for part in (conductance, segments.word, segments.bit)]
        h = None if drops is None else self._padded(drops).flip(-2).movedim(-3, -1)
        self._leaf = Leaf(*cells, keep=keep, series=keep and series, drops=h)
        self._keep = keep
        self._stages: list[Round | Trim] = []
        outer = {"left", "bottom"} if inject else set()
        outer |= {"right"} if segments.word_far is not None else set()
        outer |= {"top"} if segments.bit_far is not None else set()
        whole = self._join_all(_SIDES - outer)
        self._ports = whole.sides.count
        self._far = _FarEnds(whole, segments, self._more) if outer & {"right", "top"} else None
        self._matrices = self._read_matrices(whole) if inject else None
        self.response = None if drops is None else self._read_response(whole)

    def _padded(self, cells: torch.Tensor) -> torch.Tensor:
        rows, columns = self._more
        return pad(cells, (0, columns, rows, 0)) if rows or columns else cells

    def _cut(self, cells: torch.Tensor) -> torch.Tensor:
        """Undo ``_padded``."""
        rows, columns = self._more
        return cells[..., rows:, : cells.shape[-1] - columns]

    def _join_all(self, loose: frozenset[str]) -> Block:
        """Join until one block is left; ``loose`` sides of the tile have nothing connected."""
        blocks = [[self._leaf.take_block()]]
        rows, columns = total = blocks[0][0].matrix.shape[-4:-2]
        while True:
            blocks, trim = trim_border(blocks, loose)
            self._stages += [trim] * self._keep
            if rows == columns == 1:
                break
            height, width = LEAF[0] * total[0] / rows, LEAF[1] * total[1] / columns
            word = rows == 1 or (columns > 1 and width <= height)
            blocks, joined = join_round(blocks, word=word, keep=self._keep, join=join)
            self._stages += [joined] * self._keep
            rows = sum(line[0].matrix.shape[-4] for line in blocks)
            columns = sum(block.matrix.shape[-3] for block in blocks[0])
        whole = blocks[0][0]
        return Block(matrix=whole.matrix[..., 0, 0, :, :], sides=whole.sides)

    @property
    def transfer(self) -> torch.Tensor:
        assert self._matrices is not None, "factored with inject=False"
        return self._matrices[0]

    @property
    def admittance(self) -> torch.Tensor:
        assert self._matrices is not None, "factored with inject=False"
        return self._matrices[1]

    def _read_matrices(self, whole: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """Drivers at 1 V each, sense nodes at 0 V."""
        outputs = whole.matrix[..., whole.sides.span("left")]
        leaving = None if self._far is None else self._far.leaving_per_volt
        transfer, admittance = (part.flip(-2) for part in self._terminals(whole, outputs, leaving))
        rows, _ = self._more
        return transfer[..., rows:, :], admittance[..., rows:, :]

    @torch.no_grad()
    def _read_response(self, whole: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """Drivers and sense nodes at 0 V."""
        outputs = whole.matrix[..., whole.sides.count :]
        leaving = None if self._far is None else self._far.leaving(outputs[..., self._far.ports, :])
        return self._terminals(whole, outputs, leaving)

    def _terminals(
        self, whole: Block, outputs: torch.Tensor, leaving: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Currents ``(*systems, batch, columns)`` into the sense nodes, ``(*systems, batch, rows)`` out of
        the drivers, for outputs of the ports ``(*systems, ports, batch)`` with open far ends.

        Ports count upwards on the left, leftwards below.
        """
        h, sides = whole.matrix, whole.sides
        left, bottom = sides.span("left"), sides.span("bottom")
        sensed, delivered = -outputs[..., bottom, :], outputs[..., left, :]
        if leaving is not None:
            assert self._far is not None
            sensed = sensed - h[..., bottom, self._far.ports] @ leaving
            delivered = delivered + h[..., left, self._far.ports] @ leaving
            if sides.top:
                sensed = sensed + leaving[..., : sides.top, :].flip(-2)
            if sides.right:
                delivered = delivered - leaving[..., sides.top :, :].flip(-2)
        rows, columns = self._more
        sensed = sensed.flip(-2)
        return sensed[..., : sensed.shape[-2] - columns, :].mT, delivered.flip(-2)[..., rows:, :].mT

    @property
    def nbytes(self) -> int:
        """Bytes that are kept for ``solve``."""
        return self._leaf.nbytes + sum(stage.nbytes for stage in self._stages)

    def solve(self, drops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltages V and currents A of the cells, both ``(*systems, batch, rows, columns)``.

        drops: h, V, the same shape: the voltage in series with each cell. The voltages e satisfy
        ``e + drop(g e) = h``, where drop is what the wires take from each cell.
        """
        h = self._padded(drops).flip(-2).movedim(-3, -1)  # (*systems, rows, columns, batch)
        grid: Grid = [[self._leaf.outputs(h)]]
        known = []
        for stage in self._stages:
            grid, insides = stage.up(grid)
            known.append(insides)
        ports = grid[0][0][..., 0, 0, :, :]
        inputs = torch.zeros_like(ports)
        if self._far is not None:
            inputs[..., self._far.ports, :] = self._far.leaving(ports[..., self._far.ports, :])
        return self._descend(inputs, known, h, drops)

    def drive(self, voltages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for drivers at ``voltages (*systems, batch, rows)`` V; half the work."""
        assert self._matrices is not None, "factored with inject=False"
        left = pad(voltages, (self._more[0], 0)).flip(-1).mT  # (*systems, drivers upwards, batch)
        inputs = left.new_zeros(*left.shape[:-2], self._ports, left.shape[-1])
        inputs[..., : left.shape[-2], :] = left
        if self._far is not None:
            inputs[..., self._far.ports, :] = self._far.leaving_per_volt @ left
        return self._descend(inputs, [None] * len(self._stages), None, voltages.unsqueeze(-1))

    def _descend(
        self, inputs: torch.Tensor, known: list, series: torch.Tensor | None, drops: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From the inputs of the tile ``(*systems, ports, batch)`` down to the cells."""
        assert self._keep, "factored with keep=False"
        grid = [[inputs[..., None, None, :, :]]]
        for stage, insides in zip(reversed(self._stages), reversed(known), strict=True):
            grid = stage.down(grid, insides)
        current = self._leaf.currents(grid[0][0], series)
        current = self._cut(current.movedim(-1, -3).flip(-2))
        return drops - self._segments.drop(current), current


class _FarEnds:
    """Far ends of the lines through their resistances to the drivers and to 0 V."""

    def __init__(self, whole: Block, segments: Segments, more: tuple[int, int]) -> None:
        """Ports of ``whole``: those at the top come before those on the right."""
        h, sides = whole.matrix, whole.sides
        self.ports = slice(sides.left, sides.left + sides.top + sides.right)
        ends = []
        if segments.bit_far is not None:
            ends += [[pad(part, (0, more[1])) for part in (segments.bit_far, segments.bit.sum(-2))]]
        if segments.word_far is not None:
            ends += [[pad(part, (more[0], 0)) for part in (segments.word_far, segments.word.sum(-1))]]
        lead = torch.broadcast_shapes(*(part.shape[:-1] for pair in ends for part in pair))
        pairs = zip(*ends, strict=True)
        ohm, along = (torch.cat([part.expand(*lead, -1) for part in parts], -1) for parts in pairs)
        # a line without any resistance is at one voltage anyway: its far end stays open
        self._open = ((ohm + along) == 0)[..., None] | torch.isinf(ohm)[..., None]
        closed = torch.where(self._open[..., 0], 1.0, ohm)
        alone = self._open | self._open.mT
        system = torch.diag_embed(closed) - torch.where(alone, 0.0, h[..., self.ports, self.ports])
        self._inverse = torch.linalg.inv_ex(system).inverse
        drives = h[..., self.ports, sides.span("left")]
        if sides.left and segments.word_far is not None:
            driver = torch.eye(sides.left, dtype=h.dtype, device=h.device).flip(-1)
            drives = torch.cat([drives[..., : sides.top, :], drives[..., sides.top :, :] - driver], -2)
        self.leaving_per_volt = self.leaving(drives)  # (*systems, far ports, drivers upwards)

    def leaving(self, volts: torch.Tensor) -> torch.Tensor:
        """Currents out of the far ends, for the voltages that open ends would have over their drivers."""
        return self._inverse @ torch.where(self._open, 0.0, volts)
