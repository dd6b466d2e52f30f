"""Nonlinear cells of any device in the exact wire network: chord iteration, then damped Newton.

The unknowns are the cell voltages e. With the cell currents f(e), the wires leave
``gap = e + f(e) R_word + R_bit f(e) - v`` volts at every cell; the resistances may be 0. A step solves
the network with the cells' slopes exactly (``Elimination``). While it converges, all vectors of a
tile share one factorisation; vectors that stall get their own, with step halving.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cosim.arrays import Array
from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.errors import SpecError
from cosim.solvers.elimination import Elimination, line_resistance

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["solve_newton"]

DEFAULT_MEMORY = 1 << 30  # bytes of factors, and of cell arrays, held at once
_EVALUATION = 1 << 18  # cells per call of the device, so that its temporaries stay small
_SHARED = 3  # shared factorisations tried before vectors get their own
_CHORD_STEPS = 40
_SLOW = 0.7  # a chord step that leaves more than this share of the gap is slow
_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Cell voltages of some vectors, ``(tiles, batch, rows, columns)``, and what follows from them."""

    voltage: torch.Tensor
    current: torch.Tensor
    slope: torch.Tensor
    gap: torch.Tensor
    merit: torch.Tensor  # (tiles, batch) V, norm of the gap; inf where anything overflows
    converged: torch.Tensor  # (tiles, batch)

    @property
    def active(self) -> torch.Tensor:
        """Vectors that a further step can improve."""
        return ~self.converged & torch.isfinite(self.merit)

    def pick(self, tiles: slice, vectors: torch.Tensor) -> _Point:
        return _Point(**{name: value[tiles, vectors] for name, value in vars(self).items()})

    def replaced(self, other: _Point, where: torch.Tensor) -> _Point:
        """``other`` where the mask ``(tiles, batch)`` is true, self elsewhere."""
        if bool(where.all()):
            return other
        mask = {2: where, 4: where[..., None, None]}
        parts = vars(other).items()
        return _Point(**{name: torch.where(mask[v.ndim], v, getattr(self, name)) for name, v in parts})


@dataclass(frozen=True, kw_only=True)
class _Network:
    """Some tiles, flattened to one axis, with the inputs of a batch of vectors."""

    device: Device
    state: torch.Tensor  # (tiles, rows, columns)
    chord: torch.Tensor  # (tiles, rows, columns) S, at the read voltage: for the first guess
    drive: torch.Tensor  # (tiles, batch, rows) V
    wires: Wires
    word: torch.Tensor  # (columns, columns) ohm shared by the paths to two cells of a word line
    bit: torch.Tensor  # (rows, rows) ohm, of a bit line
    tolerance: float

    def pick(self, tiles: slice, vectors: torch.Tensor | slice) -> _Network:
        return replace(
            self,
            device=_restricted(self.device, self.state.shape, tiles),
            state=self.state[tiles],
            chord=self.chord[tiles],
            drive=self.drive[tiles, vectors],
        )

    def cells(self, voltage: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Currents and slopes of the cells; the device sees ``(batch, tiles, rows, columns)``."""
        size = max(1, _EVALUATION // self.state.numel())
        parts = [
            self.device.current_and_slope(part, self.state) for part in voltage.transpose(0, 1).split(size)
        ]
        current, slope = (torch.cat(pair).transpose(0, 1) for pair in zip(*parts, strict=True))
        return current, slope

    def drop(self, current: torch.Tensor) -> torch.Tensor:
        """Voltage that the wires between driver, cell and sense node take, per cell."""
        return current @ self.word + self.bit @ current

    def point(self, voltage: torch.Tensor) -> _Point:
        current, slope = self.cells(voltage)
        gap = voltage + self.drop(current) - self.drive[..., None]
        merit = gap.flatten(2).norm(dim=2)
        finite = torch.isfinite(merit) & torch.isfinite(slope).all(-1).all(-1)
        # slope times gap is the current that the cell law and Kirchhoff disagree about
        error = (slope * gap).abs().sum((-2, -1))
        return _Point(
            voltage=voltage,
            current=current,
            slope=slope,
            gap=gap,
            merit=torch.where(finite, merit, torch.inf),
            converged=finite & (error <= self.limit(current, slope)),
        )

    def limit(self, current: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """Error in A at which a vector counts as solved: the tolerance, or the rounding floor."""
        largest = current.sum(-2).abs().amax(-1)
        rounding = 4 * torch.finfo(current.dtype).eps * self.drive.abs().amax(-1)
        return self.tolerance * largest + rounding * slope.abs().sum((-2, -1))


def _restricted(device: Device, shape: tuple[int, ...], tiles: slice) -> Device:
    """The device with parameters that differ between tiles cut to some tiles of ``shape``."""
    if tiles == slice(None) and len(shape) <= 3:
        return device
    cut = {}
    for name, value in device.parameters.items():
        if isinstance(value, torch.Tensor) and value.ndim > 2:
            cut[name] = value.expand(*shape[:-2], *value.shape[-2:]).flatten(0, -3)[tiles]
    return device.replace(**cut) if cut else device


def _start(network: _Network) -> _Point:
    """The solution with linear cells; the unloaded cells (0 V) where the device overflows there."""
    drive = network.drive[..., None].expand(*network.drive.shape, network.state.shape[-1])
    if network.wires.ideal:
        return network.point(drive)
    point = network.point(Elimination(network.chord.clamp(min=0), network.wires).solve(drive)[0])
    overflow = torch.isinf(point.merit)
    if bool(overflow.any()):
        point = point.replaced(network.point(torch.zeros_like(point.voltage)), overflow)
    return point


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """What happened to each vector, ``(tiles, batch)``; updated in place."""

    iterations: torch.Tensor
    singular: torch.Tensor
    stuck: torch.Tensor  # no step of any length shrinks the gap


def _iterate_shared(network: _Network, point: _Point, progress: _Progress) -> _Point:
    """Chord steps, all vectors of a tile with one factorisation at the middle of their slopes."""
    for _ in range(_SHARED):
        active = point.active
        if not bool(active.any()):
            break
        mask = active[..., None, None]
        high = torch.where(mask, point.slope, -torch.inf).amax(1)
        low = torch.where(mask, point.slope, torch.inf).amin(1)
        middle = torch.where(active.any(1)[:, None, None], (high + low) / 2, 0)
        shared = Elimination(middle, network.wires, keep_lines=True)
        for _ in range(_CHORD_STEPS):
            active = point.active
            progress.iterations.add_(active)
            new = network.point(point.voltage - shared.solve(point.gap)[0])
            fast = active & (new.merit < _SLOW * point.merit)
            point = point.replaced(new, active & ((new.merit < point.merit) | new.converged))
            if not bool((fast & point.active).any()):
                break
    return point


def _iterate_own(
    network: _Network,
    point: _Point,
    progress: _Progress,
    tile: int,
    vectors: torch.Tensor,
    max_iterations: int,
) -> None:
    """Newton on some vectors of one tile, each with its own factorisation; in place."""
    one = slice(tile, tile + 1)
    local = network.pick(one, slice(None))
    for _ in range(max_iterations):
        active = point.active[tile, vectors] & ~progress.stuck[tile, vectors]
        vectors = vectors[active]
        if not len(vectors):
            break
        progress.iterations[tile, vectors] += 1
        part = point.pick(one, vectors)
        system = Elimination(part.slope[0], network.wires)
        step = system.solve(part.gap[0][:, None])[0][:, 0][None]
        new, moved = _descend(local.pick(slice(None), vectors), part, step)
        progress.singular[tile, vectors] = ~torch.isfinite(step).flatten(2).all(-1)[0]
        progress.stuck[tile, vectors] = ~moved[0]
        for name, value in vars(point).items():
            value[tile, vectors] = getattr(new, name)[0]


def _descend(network: _Network, point: _Point, step: torch.Tensor) -> tuple[_Point, torch.Tensor]:
    """The point after the longest step that shrinks the gap, and which vectors found one."""
    moved = torch.zeros_like(point.converged)
    share = 1.0
    for _ in range(_HALVINGS):
        new = network.point(point.voltage - share * step)
        good = ~moved & ((new.merit <= (1 - 1e-4 * share) * point.merit) | new.converged)
        point = point.replaced(new, good)
        moved |= good
        if bool(moved.all()):
            break
        share /= 2
    return point, moved


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Solved vectors of some tiles; every field ``(tiles, batch, ...)``."""

    currents: torch.Tensor
    status: torch.Tensor
    residual: torch.Tensor
    error_bound: torch.Tensor
    iterations: torch.Tensor

    @classmethod
    def join(cls, parts: list[_Result], dim: int) -> _Result:
        return cls(**{name: torch.cat([vars(part)[name] for part in parts], dim) for name in vars(parts[0])})


def _solve(network: _Network, max_iterations: int, memory: int) -> _Result:
    """All vectors of some tiles, whose arrays and shared factors fit in memory."""
    point = _start(network)
    none = torch.zeros_like(point.converged)
    progress = _Progress(iterations=none.long(), singular=none.clone(), stuck=none.clone())
    if not network.wires.ideal:
        point = _iterate_shared(network, point, progress)
        own = max(1, memory // _factor_bytes(network.state))
        for tile in point.active.any(1).nonzero()[:, 0].tolist():
            for vectors in point.active[tile].nonzero()[:, 0].split(own):
                _iterate_own(network, point, progress, tile, vectors, max_iterations)
    return _result(network, point, progress)


def _result(network: _Network, point: _Point, progress: _Progress) -> _Result:
    """Currents with what Kirchhoff's current law leaves at the node voltages that they cause."""
    current, _ = network.cells(network.drive[..., None] - network.drop(point.current))
    wrong = (current - point.current).abs()
    bound = wrong.sum((-2, -1))
    solved = point.converged & (bound <= 2 * network.limit(point.current, point.slope))
    status = torch.full_like(progress.iterations, int(Status.NOT_CONVERGED))
    status[progress.singular] = int(Status.SINGULAR)
    status[torch.isinf(point.merit)] = int(Status.NOT_FINITE)
    status[solved] = int(Status.SOLVED)
    return _Result(
        currents=torch.where(solved[..., None], point.current.sum(-2), torch.nan),
        status=status,
        residual=wrong.amax((-2, -1)),
        error_bound=bound,
        iterations=progress.iterations,
    )


def _factor_bytes(state: torch.Tensor) -> int:
    """Bytes of the factors of one system with cells like these."""
    short, long = sorted(state.shape[-2:])
    return state.element_size() * short * (short * (long + 8) + 16 * long)


def solve_newton(
    tile: Tile,
    voltages: Array,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    memory: int = DEFAULT_MEMORY,
) -> Solution:
    """Column currents with the device's own equations in every cell and the wire network exact.

    tolerance: error allowed in a column current, relative to the largest column current of its
    vector; never tighter than rounding. max_iterations: Newton steps of one vector after the
    shared steps. memory: bytes of factors and of cell arrays held at once.

    stats, each ``(*tiles, batch)``: ``residual`` A, the largest KCL error at any node;
    ``error_bound`` A, their sum, which bounds the error of every current while no cell has a
    negative slope; ``relative_residual``, the residual over the largest current; ``iterations``.

    Raises SpecError where a gradient is asked for, for a tolerance outside (0, 1), and for a tile
    whose factors exceed ``memory``.
    """
    if not 0 < tolerance < 1:
        raise SpecError(f"tolerance is {tolerance}: it must lie between 0 and 1")
    if max_iterations < 1:
        raise SpecError(f"max_iterations is {max_iterations}: it must be 1 or more")
    tensor = tile.check_voltages(voltages)
    _refuse_gradients(tile, tensor)
    with torch.no_grad():
        network = _network(tile, tensor, tolerance)
        result = _solve_in_chunks(network, max_iterations, memory)
    lead = torch.broadcast_shapes(tile.shape[:-2], tensor.shape[:-2]) + tensor.shape[-2:-1]
    parts = {name: value.reshape(lead + value.shape[2:]) for name, value in vars(result).items()}
    currents, status = parts.pop("currents"), parts.pop("status")
    largest = currents.abs().amax(-1)
    parts["relative_residual"] = torch.where(largest > 0, parts["residual"] / largest, parts["residual"])
    return Solution(currents=currents, status=status, engine="newton", stats=parts)


def _refuse_gradients(tile: Tile, voltages: torch.Tensor) -> None:
    """Until newton has an adjoint, a detached result would be a silently wrong gradient."""
    given = {"voltages": voltages, "state": tile.state, **tile.device.parameters}
    if not (tile.state.requires_grad or not torch.is_grad_enabled()):
        given["conductance"] = tile.conductance
    for name, value in given.items():
        if isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise SpecError(
                f"engine 'newton' gives no gradients and {name} requires one: use engine=\"linear\", "
                "or detach it, or call under torch.no_grad()"
            )


def _network(tile: Tile, voltages: torch.Tensor, tolerance: float) -> _Network:
    """The tile and its inputs with one tile axis; a tile without one takes all vectors as one batch."""
    dtype = torch.promote_types(tile.state.dtype, voltages.dtype)
    rows, columns = tile.shape[-2:]
    lead = torch.broadcast_shapes(tile.shape[:-2], voltages.shape[:-2]) if tile.shape[:-2] else ()
    batch = voltages.shape[-2] if lead else voltages.shape[:-1].numel()
    shape = (*lead, rows, columns)
    drive = voltages.expand(*lead, *voltages.shape[-2:]) if lead else voltages
    state = tile.state.to(dtype).expand(shape).reshape(-1, rows, columns)
    wires = tile.wires
    return _Network(
        device=_restricted(tile.device, shape, slice(None)),
        state=state,
        chord=tile.conductance.to(dtype).expand(shape).reshape(-1, rows, columns),
        drive=drive.to(dtype).reshape(lead.numel() if lead else 1, batch, rows),
        wires=wires,
        word=line_resistance(columns, wires.row, float(wires.source or 0.0), like=state),
        bit=line_resistance(rows, wires.column, float(wires.sense or 0.0), like=state).flip(0, 1),
        tolerance=tolerance,
    )


def _solve_in_chunks(network: _Network, max_iterations: int, memory: int) -> _Result:
    """Tiles, then vectors, in chunks that fit in memory."""
    need = 2 * _factor_bytes(network.state)
    if need > memory and not network.wires.ideal:
        rows, columns = network.state.shape[-2:]
        raise SpecError(
            f"a {rows}x{columns} tile needs {need} bytes of factors, memory={memory}: raise memory="
        )
    tiles = max(1, memory // need)
    cells = network.state[:tiles].numel() * network.state.element_size()
    vectors = max(1, memory // (24 * cells))
    rows = []
    for first in range(0, len(network.state), tiles):
        part = slice(first, first + tiles)
        whole = network.pick(part, slice(None))
        batches = [
            _solve(whole.pick(slice(None), slice(start, start + vectors)), max_iterations, memory)
            for start in range(0, network.drive.shape[1], vectors)
        ]
        rows.append(_Result.join(batches, 1))
    return _Result.join(rows, 0)
