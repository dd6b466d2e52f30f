"""Newton where rounding stops the others: floating lines, broken lines, cells that short their drivers.

Each step solves two meshes without a subtraction (``mesh``): cells as their chords f(e)/e, whose
solution obeys Kirchhoff's laws to the last digit whatever floats, then what the chords left wrong, with
the cells' slopes.
The column currents are those of the chords. They count once ``linear``'s elimination, which shares no code
with this one, agrees with them for the chords at the voltages that were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cosim.solvers.acceptance import Verdict, rounding_unit
from cosim.solvers.mesh import solve_mesh
from cosim.solvers.network import ALL, Network
from cosim.solvers.star_mesh import StarMesh

__all__ = ["Exact", "adjoint_voltages", "solve_exact"]

_LEAK = 1e-10  # of each cell's slope, from its nodes to 0 V in corrections, or rounding moves what floats
_SHORTEST = 1e-3  # step length below which no correction helps
_CONVERGED = 1e-14  # of the sum of all cell currents


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Single vectors, each a system of its own; cells ``(systems, rows, columns)`` in the tile's order."""

    volts: torch.Tensor  # across the cells
    sensed: torch.Tensor  # (systems, columns) A
    verdict: Verdict  # (systems,)
    iterations: torch.Tensor  # (systems,)


@dataclass(frozen=True, kw_only=True)
class _Guess:
    """Solved chords, and what the device's equations say of the voltages."""

    volts: torch.Tensor
    sensed: torch.Tensor
    cell_current: torch.Tensor
    slope: torch.Tensor
    residual: torch.Tensor  # device current less chord current, A

    @property
    def merit(self) -> torch.Tensor:
        return self.residual.abs().sum((-2, -1))

    def replaced(self, other: _Guess, where: torch.Tensor) -> _Guess:
        parts = {
            name: torch.where(where.reshape(-1, *[1] * (value.ndim - 1)), getattr(other, name), value)
            for name, value in vars(self).items()
        }
        return _Guess(**parts)


@torch.no_grad()
def solve_exact(network: Network, guess: torch.Tensor, current: torch.Tensor, max_steps: int) -> Exact:
    """Of networks with a batch of one vector, from the better one of two starts.

    guess: chord conductances, in the order of the tile. current: a cell array of ``network``.
    """
    drive = network.upright(network.drive)[:, 0, :, 0]
    now = _chords(network, guess, drive)
    other = _from_volts(
        network, network.upright(network.voltage(current))[:, 0].nan_to_num(0.0, 0.0, 0.0), drive
    )
    now = now.replaced(other, (other.merit < now.merit) | ~torch.isfinite(now.merit))
    iterations = torch.ones(len(drive), dtype=torch.long, device=drive.device)
    moving = torch.ones_like(iterations, dtype=torch.bool)
    for _ in range(max_steps):
        scale = now.cell_current.abs().sum((-2, -1))
        moving &= torch.isfinite(now.merit) & (now.merit > _CONVERGED * scale)
        if not bool(moving.any()):
            break
        step, _ = solve_mesh(now.slope.clamp(min=0), network.segments, 0 * drive, -now.residual, leak=_LEAK)
        length, waiting, old = 1.0, moving.clone(), now
        while bool(waiting.any()) and length >= _SHORTEST:
            new = _from_volts(network, old.volts + length * step, drive)
            better = waiting & (new.merit < 0.9999 * old.merit)
            now = now.replaced(new, better)
            waiting &= ~better
            length /= 4
        iterations += moving
        moving &= ~waiting
    converged = now.merit <= 1e3 * _CONVERGED * now.cell_current.abs().sum((-2, -1))
    return Exact(
        volts=now.volts,
        sensed=now.sensed,
        verdict=_compare(network, now, drive, converged),
        iterations=iterations,
    )


def _from_volts(network: Network, volts: torch.Tensor, drive: torch.Tensor) -> _Guess:
    cell_current, slope = _law(network, volts)
    return _chords(network, _chord(volts, cell_current, slope), drive)


def _chords(network: Network, chord: torch.Tensor, drive: torch.Tensor) -> _Guess:
    volts, sensed = solve_mesh(chord, network.segments, drive)
    cell_current, slope = _law(network, volts)
    return _Guess(
        volts=volts,
        sensed=sensed,
        cell_current=cell_current,
        slope=slope,
        residual=cell_current - chord * volts,
    )


def _law(network: Network, volts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    cell_current, slope = network.cells.law(network.sideways(volts.unsqueeze(1)), ALL, ALL)
    return network.upright(cell_current)[:, 0], network.upright(slope)[:, 0].expand_as(volts)


def _chord(volts: torch.Tensor, cell_current: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Current over voltage; the slope where that is no conductance."""
    some = torch.where(volts != 0, volts, 1.0)
    chord = cell_current / some
    passive = (volts != 0) & (chord >= 0) & torch.isfinite(chord)
    return torch.where(passive, chord, slope.nan_to_num(0.0, 0.0, 0.0).clamp(min=0))


def _compare(network: Network, found: _Guess, drive: torch.Tensor, converged: torch.Tensor) -> Verdict:
    """With ``linear``: for passive chords every current is a sum over drivers, and rounding shows in that."""
    chord = _chord(found.volts, found.cell_current, found.slope)
    transfer = StarMesh(chord, network.segments).transfer
    inputs = torch.stack([drive, drive.abs()], 1)
    expected, summed = (inputs @ transfer).unbind(1)
    rounding = rounding_unit(chord) * summed.abs().amax(-1)
    error = 2 * (found.sensed - expected).abs().amax(-1) + rounding
    merit = torch.where(converged, 0.0, found.merit)
    return Verdict(
        residual=found.residual.abs().amax((-2, -1)),
        error=error + merit,
        rounding=rounding,
        largest=found.sensed.abs().amax(-1),
    )


@torch.no_grad()
def adjoint_voltages(network: Network) -> torch.Tensor:
    """Voltages of linear cells in series with ``network.drive``, to 1e-8 of these; a batch of one vector.

    NaN where a slope is negative.
    """
    series = network.upright(network.drive)[:, 0]
    slope = _law(network, torch.zeros_like(series))[1]
    rows = series.new_zeros(series.shape[:2])
    across, _ = solve_mesh(slope.clamp(min=0), network.segments, rows, -slope * series, leak=100 * _LEAK)
    found = torch.where((slope >= 0).all(-1).all(-1)[:, None, None], across + series, torch.nan)
    return network.sideways(found.unsqueeze(1))
