"""A second elimination without subtractions, to check ``star_mesh`` by: one vector, node after node.

Row by row from the far ends of the bit lines to the sense nodes, with nothing but the voltages that all
drivers have at once. It shares no step with the pairwise joining of blocks: another order, other
stored quantities (drivers are Norton sources), and the currents themselves instead of a matrix.
"""

from __future__ import annotations

import torch

from cosim.wires import Segments

__all__ = ["swept_currents"]

_SHORT = 1e25  # siemens of 0 ohm over the largest other conductance


@torch.no_grad()
def swept_currents(conductance: torch.Tensor, segments: Segments, voltages: torch.Tensor) -> torch.Tensor:
    """Column currents ``(tiles, columns)`` A of cells ``(tiles, rows, columns)`` S.

    voltages: of the drivers, ``(rows,)`` V, all above 0.
    """
    sweep = _Sweep(conductance, segments)
    for row, volt in enumerate(voltages.tolist()):
        sweep.add_word_line(row, volt)
        sweep.step_down(row)
    return sweep.sensed


class _Sweep:
    """The bit lines at one row, seen from below: what they are connected to above.

    mesh: ``(tiles, columns, 2 columns)`` S, between them, and from them to the sense nodes through far
    ends; ground ``(tiles, columns)`` S to the drivers; source: A, what these feed in; sensed: A, so far.
    """

    def __init__(self, conductance: torch.Tensor, segments: Segments) -> None:
        g, word, bit = torch.broadcast_tensors(conductance, segments.word, segments.bit)
        ohms = [part for part in vars(segments).values() if part is not None]
        highest = [g.amax(), *((1 / part[part > 0]).amax() for part in ohms if bool((part > 0).any()))]
        self._short = float(_SHORT * torch.stack(highest).amax())
        self._cells, self._word, self._bit = g, self._siemens(word), self._siemens(bit)
        tiles, self._rows, columns = g.shape
        self._word_far = self._far(segments.word_far, g[..., 0])
        self.mesh = g.new_zeros(tiles, columns, 2 * columns)
        self.mesh.diagonal(columns, -2, -1).copy_(self._far(segments.bit_far, g[:, 0]))
        self.ground, self.source, self.sensed = (torch.zeros_like(g[:, 0]) for _ in range(3))

    def _siemens(self, ohm: torch.Tensor) -> torch.Tensor:
        return torch.where(ohm > 0, ohm.reciprocal(), self._short)

    def _far(self, ohm: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(like) if ohm is None else self._siemens(ohm).expand_as(like)

    def add_word_line(self, row: int, volt: float) -> None:
        """Eliminate the nodes of a word line from the driver on."""
        columns = self._cells.shape[-1]
        star = torch.zeros_like(self.ground)
        ground = self._word[:, row, :1]
        source = ground * volt
        for k in range(columns):
            star[:, k] += self._cells[:, row, k]
            if k + 1 < columns:
                ahead = self._word[:, row, k + 1 : k + 2]
            else:
                end = self._word_far[:, row, None]
                ground, source, ahead = ground + end, source + end * volt, torch.zeros_like(end)
            total = star.sum(-1, keepdim=True) + ahead + ground
            weight = _quotient(star, total)
            self.mesh[..., :columns] += star.unsqueeze(-1) * weight.unsqueeze(-2)
            self.ground += weight * ground
            self.source += weight * source
            onward = _quotient(ahead, total)
            star, ground, source = star * onward, ground * onward, source * onward

    def step_down(self, row: int) -> None:
        """Eliminate the bit line nodes of a row; those of the next take their places."""
        columns = self._cells.shape[-1]
        last = row + 1 == self._rows
        for j in range(columns):
            below = self._bit[:, row, j, None]
            star = self.mesh[:, j].clone()
            star[:, j] = 0.0
            if last:
                star[:, columns + j] += below[:, 0]
                below = torch.zeros_like(below)
            ground, source = self.ground[:, j, None], self.source[:, j, None]
            total = star.sum(-1, keepdim=True) + below + ground
            weight = _quotient(star, total)
            onward = _quotient(below, total)
            ground, source = ground.clone(), source.clone()
            self.mesh += star[:, :columns, None] * weight.unsqueeze(-2)
            self.mesh[:, j] = star * onward
            self.mesh[:, :, j] = star[:, :columns] * onward
            self.ground += weight[:, :columns] * ground
            self.source += weight[:, :columns] * source
            self.sensed += weight[:, columns:] * source
            self.ground[:, j], self.source[:, j] = (ground * onward)[:, 0], (source * onward)[:, 0]


def _quotient(part: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Of a node that nothing leads to: 0."""
    return part / torch.where(total > 0, total, 1.0)
