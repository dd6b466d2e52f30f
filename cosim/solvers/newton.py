"""Nonlinear cells of any device in the exact wire network: Newton-Krylov, batched over vectors and tiles.

On the CPU, compiled code takes one vector after the other in the cache of each core: Newton
steps by conjugate gradients, which need the wires as running sums only, and no factorisation. The
vectors that it gives up, and all of them where there is no compiled code, are solved in torch: those of a
tile share one linear network in float32 as the preconditioner of their steps, those that stall get a
float64 network of their own at every step. Where lines float, rounding stops all of these, and an
elimination without subtractions takes over (``exact``). Whatever found the currents, ``acceptance`` measures
what they leave of Kirchhoff's law with the device's own equations, and ``status`` tells no more than that.
All of it in float64: inputs in float32 are solved in float64, and the currents rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cosim.arrays import Array
from cosim.checks import as_flag, as_integer, as_number
from cosim.crossbar import Solution, Status, Tile
from cosim.errors import SpecError
from cosim.nodes import Nodes
from cosim.solvers.acceptance import TIGHTEST
from cosim.solvers.exact import chord_nodes
from cosim.solvers.implicit import attach
from cosim.solvers.iteration import Found, Newton
from cosim.solvers.kernel import compiles
from cosim.solvers.lines import OPEN, Lines
from cosim.solvers.mesh import mesh_bytes
from cosim.solvers.network import DeviceCells, Network, arrange
from cosim.solvers.preconditioner import Preconditioner

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["solve_newton"]

DEFAULT_MEMORY = 2 << 30  # bytes
_FAST_MEMORY = 1 << 25  # bytes: factors of one group of tiles, about a third-level cache
_VECTORS = 64  # in a chunk, at least: enough to pay for reading the factors
_CELLS = 1 << 20  # in the vectors of a chunk; more cost memory and save no time
_CELL_BYTES = 160  # per cell and vector: five float64 arrays and a dozen float32 ones, with room


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Solved vectors of some tiles; every field ``(tiles, batch, ...)``."""

    currents: torch.Tensor
    status: torch.Tensor
    residual: torch.Tensor
    error_bound: torch.Tensor
    iterations: torch.Tensor
    inside: dict[str, torch.Tensor]  # the tensors of ``Nodes``, where they were asked for

    @classmethod
    def join(cls, parts: list[_Result], dim: int) -> _Result:
        if len(parts) == 1:
            return parts[0]
        return cls(
            **{name: torch.cat([part.numbers[name] for part in parts], dim) for name in parts[0].numbers},
            inside={name: torch.cat([part.inside[name] for part in parts], dim) for name in parts[0].inside},
        )

    @property
    def numbers(self) -> dict[str, torch.Tensor]:
        """Every field but ``inside``."""
        return {name: value for name, value in vars(self).items() if name != "inside"}

    def rounded(self, dtype: torch.dtype) -> _Result:
        """In ``dtype``, and the bound with it."""
        if dtype == self.currents.dtype:
            return self
        currents = self.currents.to(dtype)
        lost = (currents.detach() - self.currents.detach()).abs().amax(-1)
        bound = (self.error_bound + lost).to(dtype)
        return replace(
            self,
            currents=currents,
            residual=self.residual.to(dtype),
            error_bound=torch.nextafter(bound, torch.full_like(bound, torch.inf)),
            inside={name: value.to(dtype) for name, value in self.inside.items()},
        )


def solve_newton(
    tile: Tile,
    voltages: Array,
    *,
    nodes: bool = False,
    tolerance: float = 1e-10,
    max_iterations: int = 100,
    memory: int = DEFAULT_MEMORY,
) -> Solution:
    """Column currents with the device's own equations in every cell and the wire network exact.

    Differentiable in voltages, state or conductance, device parameters and wire resistances that are
    tensors, by the implicit function theorem: memory does not grow with the iterations.

    nodes: also give ``solution.nodes``, voltages and currents inside the tile, and ``solution.power``.
    tolerance: error allowed in a column current, relative to the largest column current of its
    vector. A solved vector has an ``error_bound`` within it, or within 1e-11 where it is less; float32
    currents are rounded on top. max_iterations: Newton steps of one vector with factors of
    its own. memory: bytes allowed for factors and for cell arrays.

    stats, each ``(*tiles, batch)``: ``residual`` A, the largest KCL error at any node;
    ``error_bound`` A, their sum and what rounding can hide, which bounds the error of every current while
    no cell has a negative slope; ``relative_residual``, the residual over the largest current;
    ``iterations``. A vector that rounding keeps from the tolerance has the status INEXACT.

    Where a line hangs on its cells alone, or has an open segment, nodes have no gradients: SpecError.

    Raises SpecError for a tolerance outside (0, 1), and for a tile that needs factors (no compiled code
    takes it) beyond ``memory``.
    """
    nodes, tolerance = as_flag(nodes, "nodes"), as_number(tolerance, "tolerance", above=0, below=1)
    max_iterations = as_integer(max_iterations, "max_iterations", at_least=1)
    memory = as_integer(memory, "memory", at_least=1)
    tensor = tile.check_voltages(voltages)
    lead = torch.broadcast_shapes(tile.shape[:-2], tensor.shape[:-2]) + tensor.shape[-2:-1]
    network, chord = _network(tile, tensor, tolerance)
    with torch.autocast(tensor.device.type, enabled=False):  # half precision does not hold currents
        result = _solve_in_chunks(network, chord, max_iterations, memory, nodes)
        result = result.rounded(torch.promote_types(tile.state.dtype, tensor.dtype))
    parts, inner = (
        {name: value.reshape(lead + value.shape[2:]) for name, value in found.items()}
        for found in (result.numbers, result.inside)
    )
    currents, status = (parts.pop(name) for name in ("currents", "status"))
    inside = Nodes(**inner, segments=tile.wires.spread(*tile.shape[-2:], like=currents)) if nodes else None
    largest = currents.detach().abs().amax(-1)
    parts["relative_residual"] = torch.where(largest > 0, parts["residual"] / largest, parts["residual"])
    return Solution(currents=currents, status=status, engine="newton", stats=parts, nodes=inside)


def _network(tile: Tile, voltages: torch.Tensor, tolerance: float) -> tuple[Network, torch.Tensor]:
    """The tile and its inputs with one tile axis, and the chord conductances ``(tiles, rows, columns)``.

    A tile without leading axes takes all vectors as one batch.
    """
    dtype = torch.float64
    rows, columns = tile.shape[-2:]
    turned = columns > rows  # the dense blocks are as wide as a row
    lead = torch.broadcast_shapes(tile.shape[:-2], voltages.shape[:-2]) if tile.shape[:-2] else ()
    batch = voltages.shape[-2] if lead else voltages.shape[:-1].numel()
    drive = voltages.expand(*lead, *voltages.shape[-2:]) if lead else voltages
    drive = drive.to(dtype).reshape(math.prod(lead), batch, rows)
    with torch.no_grad():
        chord = tile.conductance.to(dtype).clamp(min=0)
    state = tile.state.to(dtype)
    state, chord = (arrange(x.expand(*lead, rows, columns), lead, turned) for x in (state, chord))
    parameters = {
        name: arrange(value.to(dtype), lead, turned) for name, value in _tensors(tile.device).items()
    }
    segments = tile.wires.spread(rows, columns, like=state)
    network = Network(
        cells=DeviceCells(device=tile.device, state=state, parameters=parameters),
        segments=segments.tiles(lead),
        lines=Lines.of(segments.closed(OPEN), lead, turned),
        drive=drive.flip(-1)[:, None] if turned else drive.mT[..., None],
        shape=(columns, rows) if turned else (rows, columns),
        turned=turned,
        ideal=tile.wires.ideal,
        tolerance=tolerance,
    )
    return network, chord.squeeze(-2)


def _tensors(device: Device) -> dict[str, torch.Tensor]:
    """Parameters that are tensors: one value per cell, or one that a gradient is asked for."""
    return {name: value for name, value in device.parameters.items() if isinstance(value, torch.Tensor)}


def _solve_in_chunks(
    network: Network, chord: torch.Tensor, max_iterations: int, memory: int, nodes: bool
) -> _Result:
    """Groups of tiles, then of vectors, so that a group fits in memory and, if it can, in the cache."""
    rows, columns = network.shape
    need = Preconditioner.nbytes(rows, columns, torch.float64)
    if need > memory and not compiles(network):
        shape = f"{columns}x{rows}" if network.turned else f"{rows}x{columns}"
        raise SpecError(f"a {shape} tile needs {need} bytes of factors, memory={memory}: raise memory=")
    on_cpu = chord.device.type == "cpu"  # a GPU wants as much at once as memory holds
    tiles = max(1, (min(memory, _FAST_MEMORY) if on_cpu else memory // 2) // need)
    systems = max(1, memory // (2 * need)) if need <= memory else 0
    meshes = memory // mesh_bytes(rows, columns)
    groups = []
    for first in range(0, len(chord), tiles):
        guess = chord[first : first + tiles]
        newton = Newton(guess=guess, max_steps=max_iterations, systems=systems, meshes=meshes)
        most = memory // (2 * _CELL_BYTES * guess.numel())
        size = max(1, min(most, max(_VECTORS, _CELLS // guess.numel())) if on_cpu else most)
        batches = [
            _solve(network.pick(slice(first, first + tiles), slice(start, start + size)), newton, nodes)
            for start in range(0, max(1, network.drive.shape[2]), size)
        ]
        groups.append(_Result.join(batches, 1))
    return _Result.join(groups, 0)


def _solve(network: Network, newton: Newton, nodes: bool) -> _Result:
    """One batch of vectors, with gradients if anything asks for one."""
    with torch.no_grad():
        found = newton.solve(network, max(network.tolerance, TIGHTEST))
    current, sensed = found.current, found.sensed
    if torch.is_grad_enabled() and network.requires_grad:
        current, sensed = attach(network, found, newton)
    currents = torch.where(found.accepted[..., None], sensed, torch.nan)
    return _Result(
        currents=currents,
        status=_status(found),
        residual=found.verdict.residual,
        error_bound=found.verdict.error,
        iterations=found.iterations,
        inside=_inside(network, found, current, newton.meshes) if nodes else {},
    )


def _inside(network: Network, found: Found, current: torch.Tensor, meshes: int) -> dict[str, torch.Tensor]:
    """The tensors of ``Nodes``: from the cell currents, or from chords where these do not tell them."""
    opened = torch.stack([torch.isinf(part).any() for part in network.segments.tensors]).any()
    chorded = found.accepted & (found.exact | opened)
    cells = torch.where((found.accepted & ~chorded)[..., None, None], network.upright(current), torch.nan)
    drive = network.upright(network.drive)[..., 0]
    tensors = Nodes.of(network.segments, drive, cells).tensors
    pairs = chorded.nonzero()
    if not len(pairs):
        return tensors
    if current.requires_grad:
        raise SpecError(
            "nodes=True has no gradients for a tile with lines that are open, or nearly: solve it under "
            "torch.no_grad()"
        )
    for tiles, vectors in (some.unbind(1) for some in pairs.split(max(1, meshes))):
        own = network.apart(tiles, vectors)
        volts = own.voltage(current[tiles, :, vectors].unsqueeze(2))
        if found.volts is not None:
            exact = found.exact[tiles, vectors][:, None, None, None]
            volts = torch.where(exact, found.volts[tiles, :, vectors].unsqueeze(2), volts)
        for name, value in chord_nodes(own, own.upright(volts)[:, 0]).tensors.items():
            tensors[name][tiles, vectors] = value[:, 0]
    return tensors


def _status(found: Found) -> torch.Tensor:
    verdict = found.verdict
    status = torch.full_like(found.iterations, int(Status.NOT_CONVERGED))
    status[verdict.error <= 10 * verdict.rounding] = int(
        Status.INEXACT
    )  # a better point would look no better
    status[~verdict.finite] = int(Status.NOT_FINITE)
    status[found.accepted] = int(Status.SOLVED)
    return status
