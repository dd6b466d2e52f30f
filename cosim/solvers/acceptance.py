"""What cell currents are worth: Kirchhoff's laws and the device's equations, written apart from every solver.

Volts follow from the wire currents of ``Segments``, amperes from the device in torch; no compiled code
runs, and none of the arrays that a solver works with are read. What the cells should draw less what
they do, and what rounding can hide of it, added up over the cells, bounds the error of every column
current while no slope is negative: a current source beside a cell sends no more than itself through any
sense node.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.solvers.lines import OPEN
from cosim.solvers.network import ALL, Network
from cosim.wires import Segments

__all__ = ["TIGHTEST", "Verdict", "judge", "own_resistance", "rounding_unit"]

TIGHTEST = 1e-11  # of the largest column current: tolerances below are pursued, not promised
_CACHED = 1 << 16  # cells at once on a CPU


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of cell currents, each ``(tiles, batch)``.

    residual: A, what the worst cell draws too much or too little. error: A, bound of the error of a
    column current. rounding: the part of it that may be nothing but rounding. largest: A, column current.
    """

    residual: torch.Tensor
    error: torch.Tensor
    rounding: torch.Tensor
    largest: torch.Tensor

    @property
    def finite(self) -> torch.Tensor:
        return torch.isfinite(self.error)

    def within(self, tolerance: float) -> torch.Tensor:
        return self.finite & (self.error <= tolerance * self.largest)


@torch.no_grad()
def judge(network: Network, current: torch.Tensor) -> Verdict:
    """Of cell currents ``(tiles, rows, batch, columns)``."""
    tiles, _, batch, _ = current.shape
    parts = {name: current.new_zeros(tiles, batch) for name in ("residual", "error", "rounding", "largest")}
    cells = network.shape[0] * network.shape[1]
    most = max(1, _CACHED // cells) if current.device.type == "cpu" else batch
    for tile in range(tiles):
        for start in range(0, batch, most):
            some = slice(tile, tile + 1), slice(start, start + most)
            found = _judge(network.pick(*some), current[some[0], :, some[1]])
            for name, value in vars(found).items():
                parts[name][some] = value
    return Verdict(**parts)


def _judge(network: Network, current: torch.Tensor) -> Verdict:
    amperes, drive = network.upright(current), network.upright(network.drive)
    segments = network.segments.closed(OPEN)
    volts = drive - segments.drop(amperes)
    device_current, slope = network.cells.law(network.sideways(volts), ALL, ALL)
    residual = (network.upright(device_current) - amperes).abs_()
    magnitude, steepness = amperes.abs(), network.upright(slope).abs()
    word, bit = own_resistance(segments)
    # no current moves a node more than the node that it is drawn from
    reach = drive.abs() + (magnitude * word).sum(-1, keepdim=True) + (magnitude * bit).sum(-2, keepdim=True)
    rounding = rounding_unit(volts) * ((steepness * reach).sum((-2, -1)) + magnitude.sum((-2, -1)))
    return Verdict(
        residual=residual.amax((-2, -1)),
        error=residual.sum((-2, -1)) + rounding,
        rounding=rounding,
        largest=amperes.sum(-2).abs().amax(-1),
    )


def rounding_unit(cells: torch.Tensor) -> float:
    """What sums along both lines of ``(..., rows, columns)`` are rounded by: a random walk of its steps."""
    return torch.finfo(cells.dtype).eps * (2 + (cells.shape[-2] + cells.shape[-1]) ** 0.5)


def own_resistance(segments: Segments) -> tuple[torch.Tensor, torch.Tensor]:
    """From the nodes of each cell to both ends of its word, its bit line: ohm, ``(tiles or 1, 1, ...)``."""
    word = _to_both_ends(segments.word, segments.word_far)
    bit = _to_both_ends(segments.bit.mT.flip(-1), segments.bit_far).flip(-1).mT
    return word.unsqueeze(-3), bit.unsqueeze(-3)


def _to_both_ends(segment: torch.Tensor, far: torch.Tensor | None) -> torch.Tensor:
    near = segment.cumsum(-1)
    if far is None:
        return near
    behind = segment[..., 1:].flip(-1).cumsum(-1).flip(-1)
    rest = torch.nn.functional.pad(behind, (0, 1)) + far.unsqueeze(-1)
    return 1 / (1 / near + 1 / rest)
