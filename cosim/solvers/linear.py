"""Linear cells: the ideal product, and the exact wire network as a matrix of the same size."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cosim.arrays import Array, Conductance, Currents, Voltages, as_tensor, check_positive
from cosim.checks import as_flag, as_integer
from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.errors import SpecError
from cosim.nodes import Nodes
from cosim.solvers.elimination import Elimination
from cosim.solvers.probes import Probes
from cosim.solvers.star_mesh import StarMesh, star_mesh_matrices
from cosim.solvers.stiffness import stiff
from cosim.solvers.sweep import swept_currents
from cosim.wires import Segments

__all__ = ["LinearNetwork", "solve_ideal", "solve_linear"]

DEFAULT_MEMORY = 2 << 30  # bytes: enough for one float64 tile of 1024x1024 with its check
_VECTOR_CELLS = 1 << 22  # cells of all vectors whose currents are computed at once
_CACHED = 1 << 17  # bytes of cells factored at once on a CPU: more are not faster, and take 70 times this
_OPEN = 1e30  # ohm, of an open segment where impedances must be finite
# relative residual that marks a tile: far above rounding where no cell shorts long wires (1e-14, 1e-6)
_LIMITS = {torch.float64: 1e-10, torch.float32: 3e-4}


@dataclass(frozen=True, kw_only=True)
class LinearNetwork:
    """Tiles of linear cells in their wires, reduced to one matrix per tile.

    transfer: G_eff, ``(*tiles, rows, columns)`` S: the currents are ``voltages @ transfer``.
    admittance: ``(*tiles, rows, rows)`` S, symmetric: the drivers deliver ``voltages @ admittance``.
    relative_residual: ``(*tiles,)``, error of both matrices for random vectors, over the largest
    current (``probes``: against Kirchhoff's laws and the cells); None if not checked.

    >>> network = LinearNetwork.factor([[1e-3, 1e-3]], Wires(row=500.0, source=0.0))
    >>> network.transfer.tolist()
    [[0.001, 0.0006666666666666666]]
    """

    transfer: Conductance
    admittance: torch.Tensor
    relative_residual: torch.Tensor | None

    @classmethod
    def factor(
        cls, conductance: Array, wires: Wires, *, check: bool = True, memory: int = DEFAULT_MEMORY
    ) -> LinearNetwork:
        """G_eff of cells ``(*tiles, rows, columns)`` S; differentiable in conductances and resistances.

        ``memory`` (bytes) bounds what is held while factoring: tiles go in chunks that fit. A graph
        for gradients comes on top. A cell of 0 S is open; a shorted one may have 1e9 S and is exact.
        Raises SpecError for a conductance below 0 or not finite, for wires that do not fit, and for a
        tile that exceeds ``memory`` on its own.
        """
        cells = check_positive(as_tensor(conductance, "conductance"), "conductance", zero=True)
        if cells.ndim < 2 or 0 in cells.shape:
            raise SpecError(f"conductance of shape {tuple(cells.shape)} is not (*tiles, rows, columns)")
        return _factor(cells, wires, check, memory)[0]

    @property
    def solved(self) -> torch.Tensor:
        """``(*tiles,)``, True where the check found the matrices right; SpecError without it."""
        if self.relative_residual is None:
            raise SpecError("the matrices were not checked: factor with check=True")
        return self.relative_residual <= _LIMITS[self.relative_residual.dtype]

    def currents(self, voltages: Voltages) -> Currents:
        """``(*tiles, batch, rows)`` V to ``(*tiles, batch, columns)`` A."""
        return _times(voltages, self.transfer)

    def source_power(self, voltages: Voltages) -> torch.Tensor:
        """What the drivers deliver, ``(*tiles, batch)`` W: all that cells and wires dissipate."""
        return (_times(voltages, self.admittance) * voltages).sum(-1)


def _factor(
    cells: torch.Tensor, wires: Wires, check: bool, memory: int, voltages: torch.Tensor | None = None
) -> tuple[LinearNetwork, Nodes | None]:
    """The matrices of all tiles; with ``voltages (*tiles, batch, rows)`` also what is inside."""
    lead = cells.shape[:-2]
    rows, columns = cells.shape[-2:]
    segments = wires.spread(rows, columns, like=cells)
    if wires.ideal:
        residual = cells.new_zeros(lead) if check else None
        network = LinearNetwork(
            transfer=cells, admittance=torch.diag_embed(cells.sum(-1)), relative_residual=residual
        )
        if voltages is None:
            return network, None
        return network, Nodes.of(segments, voltages, cells.unsqueeze(-3) * voltages.unsqueeze(-1))
    tiles, flat = segments.tiles(lead), cells.reshape(-1, rows, columns)
    inputs = None
    if voltages is not None:
        inputs = voltages.expand(*lead, *voltages.shape[-2:]).reshape(-1, *voltages.shape[-2:])
    hard = stiff(flat, tiles).expand(len(flat))
    parts = []
    with torch.autocast(cells.device.type, enabled=False):  # as in _times
        ways = (_factor_tiles, ~hard, cells.dtype), (_factor_stiff_tiles, hard, torch.float64)
        for factor, chosen, dtype in ways:
            where = chosen.nonzero()[:, 0]
            step = _chunk(cells, dtype, memory, inputs is not None) if len(where) else 1
            for some in where.split(step):
                if len(some):
                    vectors = None if inputs is None else inputs[some]
                    parts.append(factor(flat[some], tiles.pick(some), check, vectors))
    joined = {name: _joined([part[name] for part in parts], hard, lead) for name in parts[0]}
    network = LinearNetwork(
        transfer=joined.pop("transfer"),
        admittance=joined.pop("admittance"),
        relative_residual=joined.pop("relative_residual", None),
    )
    return network, Nodes(**joined, segments=segments) if joined else None


def _joined(pieces: list[torch.Tensor], hard: torch.Tensor, lead: tuple[int, ...]) -> torch.Tensor:
    """Of all tiles in their order, from those that are not ``hard`` and then those that are."""
    whole = torch.cat(pieces)
    if bool(hard.any()) and not bool(hard.all()):
        whole = whole[hard.to(torch.int8).argsort(stable=True).argsort()]
    return whole.reshape((*lead, *whole.shape[1:]))


def _chunk(cells: torch.Tensor, dtype: torch.dtype, memory: int, keep: bool) -> int:
    """Tiles to factor at once in ``dtype``."""
    need = _chunk_bytes(cells, dtype, keep=keep)
    rows, columns = cells.shape[-2:]
    if need > memory:
        raise SpecError(f"a {rows}x{columns} tile needs {need} bytes, memory={memory}: raise memory=")
    step = memory // need
    if cells.device.type == "cpu":
        step = min(step, max(1, _CACHED // (rows * columns * dtype.itemsize)))
    return step


def _chunk_bytes(cells: torch.Tensor, dtype: torch.dtype, *, keep: bool) -> int:
    """Bytes for one tile; the factors were measured: what the last rounds work on, what each keeps."""
    rows, columns = cells.shape[-2:]
    numbers = 6.5 * (2 * (rows + columns)) ** 2
    if keep:
        numbers += 12 * rows * columns * max(2.0, math.log2(max(rows, columns)))
    return int(dtype.itemsize * numbers)


def _factor_tiles(
    cells: torch.Tensor, segments: Segments, check: bool, voltages: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Fields of ``LinearNetwork``, and with ``voltages`` those of ``Nodes``."""
    probes = Probes.of(cells, segments) if check else None
    drops = None if probes is None else probes.drops
    keep = voltages is not None
    network = Elimination(cells, segments, inject=True, keep=keep, series=False, drops=drops)
    found = {"transfer": network.transfer, "admittance": network.admittance}
    if probes is not None and network.response is not None:
        residual = probes.residual(network.transfer, network.admittance, network.response)
        found["relative_residual"] = residual
    if voltages is not None:
        step = max(1, _VECTOR_CELLS // cells.numel())
        current = torch.cat([network.drive(part)[1] for part in voltages.split(step, 1)], 1)
        found |= Nodes.of(segments, voltages, current).tensors
    return found


def _factor_stiff_tiles(
    cells: torch.Tensor, segments: Segments, check: bool, voltages: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The same without subtractions, in float64, which has the range of exponents that this needs."""
    wide, ohms = cells.double(), segments.double()
    transfer, admittance = star_mesh_matrices(wide, ohms)
    found = {"transfer": transfer, "admittance": admittance}
    if check:
        found["relative_residual"] = _disagreement(wide, ohms, transfer, admittance)
    if voltages is not None:
        if torch.is_grad_enabled() and any(x.requires_grad for x in (cells, voltages, *segments.tensors)):
            raise SpecError(
                "nodes=True has no gradients for a tile with lines that are open, or nearly: solve it under "
                "torch.no_grad()"
            )
        mesh = StarMesh(wide, ohms, keep=True)
        volts = voltages.double()
        word, bit = mesh.voltages(pad(volts, (0, cells.shape[-1])))
        found |= Nodes.at(ohms, volts, wide, word, bit).tensors
    return {name: part.to(cells.dtype) for name, part in found.items()}


@torch.no_grad()
def _disagreement(
    cells: torch.Tensor, segments: Segments, transfer: torch.Tensor, admittance: torch.Tensor
) -> torch.Tensor:
    """Between these matrices and another elimination, ``(tiles,)`` over the largest current.

    That by impedances where it has the digits, with open segments as large ones; else a sweep for random
    voltages, beside the drivers' currents at equal voltages: they are what flows into the sense nodes.
    """
    other = Elimination(cells, segments.closed(_OPEN), inject=True, keep=False, series=False)
    error = _ratio(other.transfer - transfer, transfer)
    error = torch.maximum(error, _ratio(other.admittance - admittance, admittance))
    doubtful = (~(error <= _LIMITS[cells.dtype])).nonzero()[:, 0]
    if len(doubtful):
        generator = torch.Generator().manual_seed(0)
        volts = 1 + torch.rand(cells.shape[-2], generator=generator).to(cells)
        swept = swept_currents(cells[doubtful], segments.pick(doubtful), volts)
        g, y = transfer[doubtful], admittance[doubtful]
        found = _ratio(volts @ g - swept, swept)
        error[doubtful] = torch.maximum(found, _ratio(y.sum(-1) - g.sum(-1), y))
    return error


def _ratio(error: torch.Tensor, currents: torch.Tensor) -> torch.Tensor:
    largest = error.abs().flatten(1).amax(-1)
    return torch.where(largest == 0, largest, largest / currents.abs().flatten(1).amax(-1))


def solve_linear(
    tile: Tile,
    voltages: Array,
    *,
    nodes: bool = False,
    check: bool = True,
    memory: int = DEFAULT_MEMORY,
) -> Solution:
    """Cells replaced by their chord conductance at ``v_read``, the wire network exact.

    nodes: also give ``solution.nodes``, voltages and currents inside the tile, and ``solution.power``.
    check: compare random vectors with Kirchhoff's laws (``probes``); a tile whose error is beyond
    1e-10 (float32: 3e-4) of the largest current is marked in ``status``. memory: bytes allowed while
    factoring.
    """
    nodes, check = as_flag(nodes, "nodes"), as_flag(check, "check")
    memory = as_integer(memory, "memory", at_least=1)
    tensor = tile.check_voltages(voltages)
    start = time.perf_counter()
    cells, tensor = _same_dtype(tile.conductance, tensor)
    check_positive(cells, "conductance", zero=True)
    if nodes:
        network, inside = _with_nodes(cells, tile.wires, tensor, check, memory)
    else:
        network, inside = LinearNetwork.factor(cells, tile.wires, check=check, memory=memory), None
    setup = time.perf_counter() - start
    currents = network.currents(tensor)
    status = _status(currents)
    stats: dict[str, object] = {"setup_seconds": setup}
    if network.relative_residual is not None:
        wrong = ~network.solved[..., None] & (status == int(Status.SOLVED))
        status = torch.where(wrong, int(Status.SINGULAR), status)
        stats["relative_residual"] = network.relative_residual
    return Solution(currents=currents, status=status, engine="linear", stats=stats, nodes=inside)


def _with_nodes(
    cells: torch.Tensor, wires: Wires, voltages: torch.Tensor, check: bool, memory: int
) -> tuple[LinearNetwork, Nodes]:
    """Leading axes that only the voltages have are vectors of the same tile."""
    lead = torch.broadcast_shapes(cells.shape[:-2], voltages.shape[:-2])
    own = len(cells.shape[:-2])
    more = len(lead) - own
    inputs = voltages.expand(*lead, *voltages.shape[-2:])
    flat = inputs.movedim(tuple(range(more)), tuple(range(-2 - more, -2))).flatten(-2 - more, -2)
    network, nodes = _factor(cells.expand(*lead[more:], *cells.shape[-2:]), wires, check, memory, flat)
    assert nodes is not None
    batch = (*lead[:more], voltages.shape[-2])
    return network, nodes.map(
        lambda x: x.unflatten(own, batch).movedim(tuple(range(own, own + more)), tuple(range(more)))
    )


def solve_ideal(tile: Tile, voltages: Array) -> Solution:
    """``V @ G`` with the chord conductance at ``v_read``: no wires, linear cells."""
    tensor = tile.check_voltages(voltages)
    start = time.perf_counter()
    conductance, tensor = _same_dtype(tile.conductance, tensor)
    setup = time.perf_counter() - start
    currents = _times(tensor, conductance)
    return Solution(
        currents=currents, status=_status(currents), engine="ideal", stats={"setup_seconds": setup}
    )


def _times(voltages: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The product in full precision: half of it, as autocast would have, does not hold currents."""
    with torch.autocast(voltages.device.type, enabled=False):
        return voltages @ matrix


def _same_dtype(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _status(currents: torch.Tensor) -> torch.Tensor:
    finite = torch.isfinite(currents.detach()).all(-1)
    return torch.where(finite, int(Status.SOLVED), int(Status.NOT_FINITE))
