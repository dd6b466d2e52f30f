"""Which tiles the elimination by impedances loses digits of.

``blocks`` knows a line by its impedance towards its near end. Lines that conduct to each other much
better than to their near ends have impedances that are nearly equal, and what matters is their difference:
of the digits, as many are lost as the near end has more ohm than the smallest loop through cells.
"""

from __future__ import annotations

import torch

from cosim.wires import Segments

__all__ = ["stiff"]

# near end over smallest loop at which rounding may reach a hundredth of what ``linear`` accepts
_RATIO = {torch.float64: 1e4, torch.float32: 1e2}


@torch.no_grad()
def stiff(conductance: torch.Tensor, segments: Segments) -> torch.Tensor:
    """``(tiles,)``, True where too few digits may be left, for cells ``(tiles, rows, columns)`` S.

    An open segment on the way to a near end counts as well.

    >>> from cosim.wires import Wires
    >>> cells = torch.full((1, 2, 2), 1e-3)
    >>> [stiff(cells, Wires(sense=ohm).spread(2, 2).tiles((1,))).item() for ohm in (10.0, 1e12)]
    [False, True]
    """
    ohm = 1 / conductance
    word, bit, across = segments.word, segments.bit.mT.flip(-1), ohm.mT.flip(-1)
    towards = word.sum(-1).amax(-1), bit.sum(-1).amax(-1)
    near = torch.maximum(*torch.broadcast_tensors(*towards))
    loop = ohm + _way_back(ohm, word, segments.word_far)
    loop = loop + _way_back(across, bit, segments.bit_far).flip(-1).mT
    smallest = loop.amin((-2, -1))
    overflows = near * conductance.amax((-2, -1)) * torch.finfo(ohm.dtype).eps > 1
    return torch.isinf(near) | (near > _RATIO[ohm.dtype] * smallest) | overflows


def _way_back(cell: torch.Tensor, segment: torch.Tensor, far: torch.Tensor | None) -> torch.Tensor:
    """At least the resistance from each node of a line to one of its ends, or through another cell."""
    near = segment.cumsum(-1)
    end = near if far is None else torch.minimum(near, near[..., -1:] - near + far.unsqueeze(-1))
    inside = torch.full_like(segment[..., :1], torch.inf)
    before = torch.cat([inside, segment[..., 1:]], -1)
    behind = torch.cat([segment[..., 1:], inside], -1)
    two = torch.cat([cell, torch.full_like(cell[..., :1], torch.inf)], -1).topk(2, largest=False).values
    other = torch.where(cell == two[..., :1], two[..., 1:], two[..., :1])
    return torch.minimum(end, other + torch.minimum(before, behind))
