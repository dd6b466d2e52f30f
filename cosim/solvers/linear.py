"""Linear cells: the ideal product, and the exact wire network as a matrix of the same size."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from cosim.arrays import Array, Conductance, Currents, Voltages, as_tensor, check_positive
from cosim.crossbar import Solution, Status, Tile, Wires
from cosim.errors import SpecError
from cosim.solvers.elimination import Elimination

__all__ = ["LinearNetwork", "solve_ideal", "solve_linear"]

DEFAULT_MEMORY = 1 << 30  # bytes of factors held at once


@dataclass(frozen=True, kw_only=True)
class LinearNetwork:
    """Tiles of linear cells in their wires, reduced to one matrix per tile.

    transfer: G_eff, ``(*tiles, rows, columns)`` S: the currents are ``voltages @ transfer``.
    relative_residual: ``(*tiles,)``, KCL residual over the largest current for one random input
    vector per tile (node voltages and ``transfer`` against the cell law); None if not checked.

    >>> network = LinearNetwork.factor([[1e-3, 1e-3]], Wires(row=500.0, source=0.0))
    >>> network.transfer.tolist()
    [[0.001, 0.0006666666666666666]]
    """

    transfer: Conductance
    relative_residual: torch.Tensor | None

    @classmethod
    def factor(
        cls, conductance: Array, wires: Wires, *, check: bool = True, memory: int = DEFAULT_MEMORY
    ) -> LinearNetwork:
        """G_eff of cells ``(*tiles, rows, columns)`` S; differentiable in the conductances.

        ``memory`` (bytes) bounds the factors that the check holds: tiles are taken in chunks.
        Raises SpecError for a conductance below 0 or not finite, and for a tile whose factors
        exceed ``memory`` (``check=False`` needs none).
        """
        cells = check_positive(as_tensor(conductance, "conductance"), "conductance", zero=True)
        if cells.ndim < 2 or 0 in cells.shape:
            raise SpecError(f"conductance of shape {tuple(cells.shape)} is not (*tiles, rows, columns)")
        if wires.ideal:
            return cls(transfer=cells, relative_residual=cells.new_zeros(cells.shape[:-2]) if check else None)
        tiles = cells.reshape(-1, *cells.shape[-2:])
        parts = [_factor_tiles(part, wires, check) for part in tiles.split(_chunk(cells, memory, check))]
        transfer = torch.cat([part for part, _ in parts]).reshape(cells.shape)
        residual = [part for _, part in parts if part is not None]
        return cls(
            transfer=transfer,
            relative_residual=torch.cat(residual).reshape(cells.shape[:-2]) if residual else None,
        )

    def currents(self, voltages: Voltages) -> Currents:
        """``(*tiles, batch, rows)`` V to ``(*tiles, batch, columns)`` A."""
        return voltages @ self.transfer


def _chunk(cells: torch.Tensor, memory: int, check: bool) -> int:
    """Tiles to factor at once."""
    rows, columns = cells.shape[-2:]
    short = min(rows, columns)
    # working blocks of one tile; the check keeps one block per line on top
    blocks = 8 + (max(rows, columns) if check else 0)
    need = cells.element_size() * short * (short * blocks + 8 * max(rows, columns))
    if need > memory:
        hint = "raise memory= or pass check=False" if check else "raise memory="
        raise SpecError(f"a {rows}x{columns} tile needs {need} bytes of factors, memory={memory}: {hint}")
    return memory // need


def _factor_tiles(cells: torch.Tensor, wires: Wires, check: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    network = Elimination(cells, wires, inject=True, keep=check)
    assert network.transfer is not None
    if not check:
        return network.transfer, None
    with torch.no_grad():
        return network.transfer, _relative_residual(cells, network)


def _relative_residual(cells: torch.Tensor, network: Elimination) -> torch.Tensor:
    """Worst KCL error of a random vector, over the largest column current; ``(tiles,)``."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(cells.shape[-2], generator=generator, dtype=torch.float64).to(cells)
    drops = probe[:, None].expand(cells.shape)[:, None]
    voltage, current = (part[:, 0] for part in network.solve(drops))
    nodes = (cells * voltage - current).abs().flatten(1).amax(1)
    columns = current.sum(-2)
    largest = columns.abs().amax(1)
    assert network.transfer is not None
    terminals = (probe @ network.transfer - columns).abs().amax(1)
    return torch.where(largest > 0, torch.maximum(nodes, terminals) / largest, torch.zeros_like(largest))


def solve_linear(
    tile: Tile, voltages: Array, *, check: bool = True, memory: int = DEFAULT_MEMORY
) -> Solution:
    """Cells replaced by their chord conductance at ``v_read``, the wire network exact.

    check: compute the KCL residual of a random vector per tile; a tile beyond the square root of
    the rounding error is marked in ``status``. memory: bytes of factors held at once.
    """
    tensor = tile.check_voltages(voltages)
    start = time.perf_counter()
    network = LinearNetwork.factor(tile.conductance, tile.wires, check=check, memory=memory)
    setup = time.perf_counter() - start
    transfer, tensor = _same_dtype(network.transfer, tensor)
    currents = tensor @ transfer
    status = _status(currents)
    stats: dict[str, object] = {"setup_seconds": setup}
    if network.relative_residual is not None:
        residual = network.relative_residual
        limit = math.sqrt(torch.finfo(residual.dtype).eps)
        wrong = (~(residual <= limit))[..., None] & (status == int(Status.SOLVED))
        status = torch.where(wrong, int(Status.SINGULAR), status)
        stats["relative_residual"] = residual
    return Solution(currents=currents, status=status, engine="linear", stats=stats)


def solve_ideal(tile: Tile, voltages: Array) -> Solution:
    """``V @ G`` with the chord conductance at ``v_read``: no wires, linear cells."""
    tensor = tile.check_voltages(voltages)
    start = time.perf_counter()
    conductance, tensor = _same_dtype(tile.conductance, tensor)
    setup = time.perf_counter() - start
    currents = tensor @ conductance
    return Solution(
        currents=currents, status=_status(currents), engine="ideal", stats={"setup_seconds": setup}
    )


def _same_dtype(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _status(currents: torch.Tensor) -> torch.Tensor:
    finite = torch.isfinite(currents.detach()).all(-1)
    return torch.where(finite, int(Status.SOLVED), int(Status.NOT_FINITE))
