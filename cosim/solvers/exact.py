"""Newton where rounding stops the others: floating lines, broken lines, cells that short their drivers.

Each step solves two meshes without a subtraction (``mesh``): cells as their chords f(e)/e, whose
solution obeys Kirchhoff's laws to the last digit whatever floats, and Newton's step with the cells' slopes
for what the device's equations leave. Chords at the voltages after the step are taken where they leave
less than before it: far from the solution of steep cells they may lead astray.
The column currents are those of the chords. They count once ``linear``'s elimination, which shares no code
with this one, agrees with them for the chords at the voltages that were found.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cosim.nodes import Nodes
from cosim.solvers.acceptance import Verdict, rounding_unit
from cosim.solvers.mesh import solve_mesh
from cosim.solvers.network import ALL, Network
from cosim.solvers.star_mesh import StarMesh

__all__ = ["Exact", "adjoint_voltages", "chord_nodes", "solve_exact"]

_LEAK = 1e-10  # of each cell's slope, from its nodes to 0 V in corrections, or rounding moves what floats
_SHORTEST = 1e-3  # step length below which no correction helps
_CONVERGED = 1e-14  # of the sum of all cell currents
_STEPPED = 1e-8  # the same after a step, whose leak may be all that is left


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Single vectors, each a system of its own; cells ``(systems, rows, columns)`` in the tile's order."""

    volts: torch.Tensor  # across the cells
    sensed: torch.Tensor  # (systems, columns) A
    verdict: Verdict  # (systems,)
    iterations: torch.Tensor  # (systems,)


@dataclass(frozen=True, kw_only=True)
class _Guess:
    """Cell voltages and currents that obey Kirchhoff's laws, and what the device's equations say of them."""

    volts: torch.Tensor
    current: torch.Tensor
    sensed: torch.Tensor
    cell_current: torch.Tensor  # by the device's equations, as the slope
    slope: torch.Tensor

    @property
    def residual(self) -> torch.Tensor:
        return self.cell_current - self.current

    @property
    def merit(self) -> torch.Tensor:
        return self.residual.abs().sum((-2, -1))

    def converged(self, relative: float) -> torch.Tensor:
        """True where no more than this of the sum of all cell currents is left."""
        return self.merit <= relative * self.cell_current.abs().sum((-2, -1))

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
    chorded = moving.clone()  # obeys Kirchhoff's laws to the last digit: the leak is not in it
    for _ in range(max_steps):
        moving &= torch.isfinite(now.merit) & ~(chorded & now.converged(_CONVERGED))
        if not bool(moving.any()):
            break
        new, shorter = _stepped(network, now, drive, moving)
        chords = _from_volts(network, new.volts, drive)
        improved = chords.merit < 0.9999 * now.merit
        ended = ~shorter | new.converged(_STEPPED)
        now = now.replaced(new.replaced(chords, improved | ended), moving)
        iterations += moving
        moving &= improved | ~(ended & chorded)
        chorded = improved | ended
    now = _from_volts(network, now.volts, drive)
    return Exact(
        volts=now.volts,
        sensed=now.sensed,
        verdict=_compare(network, now, drive, now.converged(1e3 * _CONVERGED)),
        iterations=iterations,
    )


def _stepped(
    network: Network, old: _Guess, drive: torch.Tensor, moving: torch.Tensor
) -> tuple[_Guess, torch.Tensor]:
    """After the longest part of Newton's step that shrinks the merit, and where there is one."""
    slope = old.slope.clamp(min=0)
    step, _ = solve_mesh(slope, network.segments, 0 * drive, -old.residual, leak=_LEAK)
    flow = slope * step + old.residual
    now, waiting, length = old, moving, 1.0
    while bool(waiting.any()) and length >= _SHORTEST:
        new = _guess(network, old.volts + length * step, old.current + length * flow)
        better = waiting & (new.merit < 0.9999 * old.merit)
        now, waiting = now.replaced(new, better), waiting & ~better
        length /= 4
    return now, moving & ~waiting


def _from_volts(network: Network, volts: torch.Tensor, drive: torch.Tensor) -> _Guess:
    return _chords(network, _chord(volts, *_law(network, volts)), drive)


def _chords(network: Network, chord: torch.Tensor, drive: torch.Tensor) -> _Guess:
    volts, sensed = solve_mesh(chord, network.segments, drive)
    return _guess(network, volts, chord * volts, sensed)


def _guess(
    network: Network, volts: torch.Tensor, current: torch.Tensor, sensed: torch.Tensor | None = None
) -> _Guess:
    cell_current, slope = _law(network, volts)
    return _Guess(
        volts=volts,
        current=current,
        sensed=current.sum(-2) if sensed is None else sensed,
        cell_current=cell_current,
        slope=slope,
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
def chord_nodes(network: Network, volts: torch.Tensor) -> Nodes:
    """Inside networks with a batch of one vector, for cells at ``volts (systems, rows, columns)``."""
    chord = _chord(volts, *_law(network, volts))
    drive = network.upright(network.drive)[:, :, :, 0]
    mesh = StarMesh(chord, network.segments, keep=True)
    return Nodes.at(network.segments, drive, chord, *mesh.voltages(pad(drive, (0, chord.shape[-1]))))


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
