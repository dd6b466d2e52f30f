"""Linear cells: the ideal product, and the exact wire network as a matrix of the same size."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from cosim.arrays import Array, Conductance, Currents, Voltages, as_tensor, check_positive
from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.errors import SpecError
from cosim.nodes import Nodes
from cosim.solvers.elimination import Elimination
from cosim.solvers.probes import Probes
from cosim.wires import Segments

__all__ = ["LinearNetwork", "solve_ideal", "solve_linear"]

DEFAULT_MEMORY = 2 << 30  # bytes: enough for one float64 tile of 1024x1024 with its check
_VECTOR_CELLS = 1 << 22  # cells of all vectors whose currents are computed at once
_CACHED = 1 << 17  # bytes of cells factored at once on a CPU: more are not faster, and take 70 times this
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
) -> tuple[LinearNetwork, torch.Tensor | None]:
    """The matrices of all tiles; with ``voltages (*tiles, batch, rows)`` also the currents of all cells."""
    lead = cells.shape[:-2]
    rows, columns = cells.shape[-2:]
    if wires.ideal:
        residual = cells.new_zeros(lead) if check else None
        network = LinearNetwork(
            transfer=cells, admittance=torch.diag_embed(cells.sum(-1)), relative_residual=residual
        )
        return network, None if voltages is None else cells.unsqueeze(-3) * voltages.unsqueeze(-1)
    segments = wires.spread(rows, columns, like=cells).tiles(lead)
    flat = cells.reshape(-1, rows, columns)
    inputs = None
    if voltages is not None:
        inputs = voltages.expand(*lead, *voltages.shape[-2:]).reshape(-1, *voltages.shape[-2:])
    step = _chunk(cells, memory, inputs is not None)
    parts = []
    with torch.autocast(cells.device.type, enabled=False):  # as in _times
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            vectors = None if inputs is None else inputs[part]
            parts.append(_factor_tiles(flat[part], segments.pick(part), check, vectors))
    joined = [None if pieces[0] is None else torch.cat(pieces) for pieces in zip(*parts, strict=True)]
    transfer, admittance, residual, current = (
        None if piece is None else piece.reshape((*lead, *piece.shape[1:])) for piece in joined
    )
    assert transfer is not None
    assert admittance is not None
    network = LinearNetwork(transfer=transfer, admittance=admittance, relative_residual=residual)
    return network, current


def _chunk(cells: torch.Tensor, memory: int, keep: bool) -> int:
    """Tiles to factor at once."""
    need = _chunk_bytes(cells, keep=keep)
    rows, columns = cells.shape[-2:]
    if need > memory:
        raise SpecError(f"a {rows}x{columns} tile needs {need} bytes, memory={memory}: raise memory=")
    step = memory // need
    if cells.device.type == "cpu":
        step = min(step, max(1, _CACHED // (rows * columns * cells.element_size())))
    return step


def _chunk_bytes(cells: torch.Tensor, *, keep: bool) -> int:
    """Bytes for one tile; the factors were measured: what the last rounds work on, what each keeps."""
    rows, columns = cells.shape[-2:]
    numbers = 6.5 * (2 * (rows + columns)) ** 2
    if keep:
        numbers += 12 * rows * columns * max(2.0, math.log2(max(rows, columns)))
    return int(cells.element_size() * numbers)


def _factor_tiles(
    cells: torch.Tensor, segments: Segments, check: bool, voltages: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    probes = Probes.of(cells, segments) if check else None
    drops = None if probes is None else probes.drops
    keep = voltages is not None
    network = Elimination(cells, segments, inject=True, keep=keep, series=False, drops=drops)
    residual = current = None
    if probes is not None and network.response is not None:
        residual = probes.residual(network.transfer, network.admittance, network.response)
    if voltages is not None:
        step = max(1, _VECTOR_CELLS // cells.numel())
        current = torch.cat([network.drive(part)[1] for part in voltages.split(step, 1)], 1)
    return network.transfer, network.admittance, residual, current


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
    own = cells.shape[:-2]
    more = len(lead) - len(own)
    inputs = voltages.expand(*lead, *voltages.shape[-2:])
    flat = inputs.movedim(tuple(range(more)), tuple(range(-2 - more, -2))).flatten(-2 - more, -2)
    network, current = _factor(cells.expand(*lead[more:], *cells.shape[-2:]), wires, check, memory, flat)
    assert current is not None
    batch = (*lead[:more], voltages.shape[-2])
    current = current.unflatten(-3, batch).movedim(tuple(range(-3 - more, -3)), tuple(range(more)))
    segments = wires.spread(*cells.shape[-2:], like=cells)
    return network, Nodes.of(segments, inputs, current)


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
