"""Cells of any law in their wires, for some tiles and a batch of vectors, and how wrong a guess is.

The unknowns are the cell currents c. The wires leave ``e = v - R c`` volts to each cell, exactly, and
the cells would draw ``f(e)``: what is left, ``c - f(e)`` ampere, is the error in Kirchhoff's current
law at the two nodes of the cell. Nothing is divided by a resistance, so each of them may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch

from cosim.devices.print_cells import LINEAR, CellLoop
from cosim.solvers.lines import Lines, turn
from cosim.solvers.preconditioner import chunks
from cosim.wires import Segments

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["ALL", "Cells", "DeviceCells", "LinearCells", "Network", "Point", "arrange"]

Index: TypeAlias = slice | torch.Tensor
ALL = slice(None)


class Cells(Protocol):
    """The law of the cells; arrays are ``(tiles, rows, batch, columns)``."""

    def law(self, voltage: torch.Tensor, tiles: slice, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Currents, A, and slopes, S, of a part of the cells."""
        ...

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that the law depends on."""
        ...

    @property
    def loop(self) -> CellLoop | None:
        """The law as C text, if there is one."""
        ...

    def fields(self) -> list[torch.Tensor]:
        """What ``loop`` reads per cell: no dimension, or four that broadcast with cell arrays."""
        ...

    def pick(self, tiles: Index, vectors: Index) -> Cells: ...

    def apart(self, tiles: torch.Tensor, vectors: torch.Tensor) -> Cells:
        """Of single vectors, each as a tile of its own."""
        ...


@dataclass(frozen=True, kw_only=True)
class DeviceCells:
    """Cells of one device; an axis of 1 in ``state`` and ``parameters`` serves all."""

    device: Device
    state: torch.Tensor
    parameters: Mapping[str, torch.Tensor]

    def law(self, voltage: torch.Tensor, tiles: slice, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        parameters = {name: _part(value, tiles, rows) for name, value in self.parameters.items()}
        return self.device.current_and_slope(voltage, _part(self.state, tiles, rows), parameters)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.state, *self.parameters.values()

    @property
    def loop(self) -> CellLoop | None:
        return self.device.cell_loop

    def fields(self) -> list[torch.Tensor]:
        return self.device.loop_fields(self.state, self.parameters)

    def pick(self, tiles: Index, vectors: Index) -> DeviceCells:
        parameters = {name: _some_tiles(value, tiles) for name, value in self.parameters.items()}
        return replace(self, state=_some_tiles(self.state, tiles), parameters=parameters)

    def apart(self, tiles: torch.Tensor, vectors: torch.Tensor) -> DeviceCells:
        return self.pick(tiles, vectors)


@dataclass(frozen=True, kw_only=True)
class LinearCells:
    """Cells of the conductance ``slope``, S, which may differ from vector to vector."""

    slope: torch.Tensor

    def law(self, voltage: torch.Tensor, tiles: slice, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        slope = self.slope[tiles, rows]
        return slope * voltage, slope

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (self.slope,)

    @property
    def loop(self) -> CellLoop:
        return LINEAR

    def fields(self) -> list[torch.Tensor]:
        return LINEAR.fields({"slope": self.slope})

    def pick(self, tiles: Index, vectors: Index) -> LinearCells:
        return LinearCells(slope=self.slope[tiles][:, :, vectors])

    def apart(self, tiles: torch.Tensor, vectors: torch.Tensor) -> LinearCells:
        return LinearCells(slope=self.slope[tiles, :, vectors].unsqueeze(2))


@dataclass(frozen=True, kw_only=True)
class Point:
    """A guess of the cell currents, what is wrong with it, and the way to it, per ``(tiles, batch)``."""

    current: torch.Tensor  # (tiles, rows, batch, columns) A
    residual: torch.Tensor  # the same: current - f(e), A; 0 in a vector that overflows the dtype
    slope: torch.Tensor  # the same: f'(e), S
    error: torch.Tensor  # A, sum of the residuals: bounds the error of every column current
    worst: torch.Tensor  # A, largest residual
    limit: torch.Tensor  # A, error at which a vector counts as solved
    finite: torch.Tensor
    shrunk: torch.Tensor  # error over that one step before
    iterations: torch.Tensor
    stuck: torch.Tensor  # no step of any length shrinks the error, or none can be computed in the dtype

    @property
    def converged(self) -> torch.Tensor:
        return self.finite & (self.error <= self.limit)

    @property
    def active(self) -> torch.Tensor:
        """Vectors that a further step can improve."""
        return self.finite & ~self.converged & ~self.stuck

    def pick(self, tiles: Index, vectors: Index) -> Point:
        parts = {name: value[tiles] for name, value in vars(self).items()}
        return Point(**{n: v[:, :, vectors] if v.ndim == 4 else v[:, vectors] for n, v in parts.items()})

    def put(self, tiles: Index, vectors: Index, part: Point) -> None:
        """In place, the values of some tiles (or all), or of some vectors (or all)."""
        for name, value in vars(self).items():
            new = getattr(part, name).to(value.dtype)
            where = (tiles, ALL, vectors) if value.ndim == 4 else (tiles, vectors)
            value[where] = new

    def put_apart(self, tiles: torch.Tensor, vectors: torch.Tensor, part: Point) -> None:
        """In place, the values of single vectors that ``part`` has as tiles."""
        for name, value in vars(self).items():
            new = getattr(part, name).to(value.dtype)
            if name == "iterations":
                new = new + value[tiles, vectors, None]
            if value.ndim == 4:
                value[tiles, :, vectors] = new[:, :, 0]
            else:
                value[tiles, vectors] = new[:, 0]

    def after(self, other: Point) -> Point:
        """This point as the one that a step from ``other`` has led to."""
        taken = other.active
        shrunk = self.error / torch.where(other.error > 0, other.error, 1.0)
        return replace(
            self,
            shrunk=torch.where(taken, shrunk, other.shrunk),
            iterations=other.iterations + taken,
            stuck=other.stuck.clone(),
            finite=self.finite & other.finite,
        )

    def stopped(self) -> Point:
        """The same, with no further steps."""
        return replace(self, stuck=torch.ones_like(self.stuck))

    def replaced(self, other: Point, where: torch.Tensor) -> Point:
        """``other`` where the mask ``(tiles, batch)`` is true, self elsewhere."""
        if bool(where.all()):
            return other
        mask = {2: where, 4: where[:, None, :, None]}
        parts = vars(other).items()
        return Point(**{name: torch.where(mask[v.ndim], v, getattr(self, name)) for name, v in parts})


@dataclass(frozen=True, kw_only=True)
class Network:
    """Tiles, with one axis for all of them, and the voltages in series with their cells."""

    cells: Cells
    segments: Segments  # with one axis for the tiles, or for all of them
    lines: Lines  # the same in the order of the arrays
    drive: torch.Tensor  # (tiles, rows or 1, batch, columns or 1) V
    shape: tuple[int, int]  # (rows, columns) as the arrays have them
    turned: bool  # word and bit lines exchanged, so that rows are the longer side
    ideal: bool  # no wire has any resistance
    tolerance: float  # of the largest column current

    @property
    def unloaded(self) -> torch.Tensor:
        """Cell voltages where no current flows, ``(tiles, rows, batch, columns)``."""
        rows, columns = self.shape
        return self.drive.expand(-1, rows, -1, columns)

    @property
    def dtype(self) -> torch.dtype:
        return self.drive.dtype

    @property
    def requires_grad(self) -> bool:
        """True when a gradient can be asked for of anything that the currents depend on."""
        parts = (self.drive, *self.cells.tensors, *vars(self.lines).values())
        return any(part is not None and part.requires_grad for part in parts)

    def pick(self, tiles: Index, vectors: Index) -> Network:
        return replace(
            self,
            cells=self.cells.pick(tiles, vectors),
            segments=self.segments.pick(tiles),
            lines=self.lines.pick(tiles),
            drive=self.drive[tiles][:, :, vectors],
        )

    def apart(self, tiles: torch.Tensor, vectors: torch.Tensor) -> Network:
        """Single vectors, each as a tile of its own with a batch of one."""
        return replace(
            self,
            cells=self.cells.apart(tiles, vectors),
            segments=self.segments.pick(tiles),
            lines=self.lines.pick(tiles),
            drive=self.drive[tiles, :, vectors].unsqueeze(2),
        )

    def columns(self, current: torch.Tensor) -> torch.Tensor:
        """Column currents ``(tiles, batch, columns)`` of cell currents."""
        return current.sum(3).flip(1).mT if self.turned else current.sum(1)

    def upright(self, cells: torch.Tensor) -> torch.Tensor:
        """A cell array as ``(tiles, batch, rows, columns)``, in the order of the tile."""
        cells = cells.transpose(1, 2)
        return turn(cells) if self.turned else cells

    def sideways(self, cells: torch.Tensor) -> torch.Tensor:
        """Undo ``upright``."""
        return (turn(cells) if self.turned else cells).transpose(1, 2)

    def voltage(self, current: torch.Tensor) -> torch.Tensor:
        """What the wires leave to the cells; differentiable in drive and resistances."""
        return self.drive - self.lines.drop(current)

    def evaluate(self, current: torch.Tensor, dtype: torch.dtype) -> Point:
        """How wrong the cell currents are; residual and slope in ``dtype``."""
        tiles, _, batch, _ = current.shape
        bit = self.lines.bit_drop(current)
        residual, slope = (torch.empty_like(current, dtype=dtype) for _ in range(2))
        error, worst, slopes = (current.new_zeros(tiles, batch) for _ in range(3))
        for some, rows in chunks(current):
            part = current[some, rows]
            volts = _part(self.drive, some, rows) - self.lines.word_drop(part, some, rows)
            device_current, part_slope = self.cells.law(volts.sub_(bit[some, rows]), some, rows)
            part_residual = part - device_current
            residual[some, rows], slope[some, rows] = part_residual, part_slope
            magnitude = part_residual.abs_()
            error[some] += magnitude.sum((1, 3))
            worst[some] = torch.maximum(worst[some], magnitude.amax((1, 3)))
            slopes[some] += part_slope.abs().sum((1, 3))
        finite = torch.isfinite(error) & torch.isfinite(slopes)
        fits = torch.maximum(error, slopes) <= torch.finfo(dtype).max
        if not bool(fits.all()):
            residual, slope = (torch.where(fits[:, None, :, None], x, 0.0) for x in (residual, slope))
        return Point(
            current=current,
            residual=residual,
            slope=slope,
            error=error,
            worst=worst,
            limit=self._limit(current, slopes),
            finite=finite,
            shrunk=torch.ones_like(error),
            iterations=torch.zeros_like(error, dtype=torch.long),
            stuck=~fits,
        )

    def _limit(self, current: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """The tolerance, or the rounding floor: slope times what a node voltage is rounded by."""
        largest = self.columns(current).abs().amax(-1)
        rounding = 4 * torch.finfo(current.dtype).eps * self.drive.abs().amax((1, 3))
        return self.tolerance * largest + rounding * slopes


def arrange(value: torch.Tensor, lead: tuple[int, ...], turned: bool) -> torch.Tensor:
    """One value for all cells, or ``(*tiles, rows, columns)``, as a cell array for every vector."""
    if value.ndim == 0:
        return value
    if value.ndim == 1:
        value = value[None]
    if value.shape[:-2].numel() == 1:
        value = value.reshape(1, *value.shape[-2:])
    else:
        value = value.expand(*lead, *value.shape[-2:]).reshape(-1, *value.shape[-2:])
    return (turn(value) if turned else value).unsqueeze(-2)


def _part(value: torch.Tensor, tiles: slice, rows: slice) -> torch.Tensor:
    if value.ndim == 0:
        return value
    value = value if len(value) == 1 else value[tiles]
    return value if value.shape[1] == 1 else value[:, rows]


def _some_tiles(value: torch.Tensor, tiles: Index) -> torch.Tensor:
    return value if value.ndim == 0 or len(value) == 1 else value[tiles]
