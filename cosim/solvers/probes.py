"""An independent check of G_eff: currents chosen first, then the sources that cause them.

For any currents of the cells, Kirchhoff's laws give the voltages in series with the cells that cause
them beside given drivers: one pass over the wires. The factored network must answer to these
sources with the column sums of the chosen currents. Nothing of the factorisation goes into what is
expected, and the random vector costs one column beside the hundreds of a factorisation.

A single wrong entry of G_eff always shows in full: every driver is at 1 V or more. Several in one
column may cancel: with probability 1/t at most, less than 1/t of the largest of them is left. So with a
limit of 1e-10 an error of 1e-6 of the largest current is missed once in 10,000 times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.wires import Segments

__all__ = ["Probes"]


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Random sources of which the answer is known; one vector, batch is 1.

    voltages: ``(batch, rows)`` V, of the drivers, uniform over 1 to 2 V of both signs.
    drops: ``(*tiles, batch, rows, columns)`` V, in series with the cells.
    sensed, delivered: ``(*tiles, batch, columns)`` and ``(*tiles, batch, rows)`` A, the exact answer.
    """

    voltages: torch.Tensor
    drops: torch.Tensor
    sensed: torch.Tensor
    delivered: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, conductance: torch.Tensor, segments: Segments) -> Probes:
        """For cells ``(*tiles, rows, columns)`` S; the same random numbers for every tile."""
        rows, columns = conductance.shape[-2:]
        generator = torch.Generator().manual_seed(0)
        random = 2 * torch.rand(1, rows, columns + 1, generator=generator).to(conductance) - 1
        voltages, random_factor = random[..., 0] + random[..., 0].sign(), random[..., 1:]
        cell = _typical_voltage(conductance, segments, voltages, random_factor)
        current = cell * conductance.unsqueeze(-3)
        drops = cell + segments.drop(current) - voltages.unsqueeze(-1)
        return cls(voltages=voltages, drops=drops, sensed=current.sum(-2), delivered=current.sum(-1))

    @torch.no_grad()
    def residual(
        self,
        transfer: torch.Tensor,
        admittance: torch.Tensor,
        response: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Worst error of a current over the largest that the drivers cause, ``(*tiles,)``.

        response: currents of columns and drivers that ``drops`` cause.
        """
        sensed, delivered = self.voltages @ transfer, self.voltages @ admittance
        # a wrong matrix may be far too large, so what it gives is no scale on its own; between drivers
        # that cells short there are no smaller currents to compare with
        scale = torch.minimum(_largest(sensed), _largest(self.sensed))
        errors = sensed + response[0] - self.sensed, delivered + response[1] - self.delivered
        return torch.maximum(_ratio(errors[0], scale), _ratio(errors[1], _largest(delivered)))


def _largest(currents: torch.Tensor) -> torch.Tensor:
    return currents.abs().amax((-2, -1))


def _ratio(errors: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    error = _largest(errors)
    return torch.where(error > 0, error / scale, error)


def _typical_voltage(
    conductance: torch.Tensor, segments: Segments, voltages: torch.Tensor, random_factor: torch.Tensor
) -> torch.Tensor:
    """Of each cell, ``(*tiles, batch, rows, columns)`` V: about what the drivers cause.

    Two parts. Between the drivers of each column, as if it were one node: where cells short drivers,
    the currents between these are the largest that there are, and rounding of them counts. And a
    ``random_factor`` of what each cell has alone behind its wires, divided by what all together drop there.
    """
    word = _path(segments.word, segments.word_far)
    bit = _path(segments.bit.mT.flip(-1), segments.bit_far).flip(-1).mT
    behind = conductance / (1 + conductance * word)
    pulled = (behind * bit).unsqueeze(-3)
    drive = voltages.unsqueeze(-1)
    column = (pulled * drive).sum(-2, keepdim=True) / (1 + pulled.sum(-2, keepdim=True))
    alone = 1 / (1 + conductance * (word + bit))
    together = segments.drop((conductance * alone).unsqueeze(-3))
    between = (drive - column) / (1 + conductance * word).unsqueeze(-3)
    return between + random_factor * alone.unsqueeze(-3) / (1 + together)


def _path(segment: torch.Tensor, far: torch.Tensor | None) -> torch.Tensor:
    """Resistance from each cell to the near end of its line, the far end beside it if there is one."""
    near = segment.cumsum(-1)
    if far is None:
        return near
    total = near[..., -1:] + far.unsqueeze(-1)
    return near * (1 - near / torch.where(total > 0, total, 1.0))
