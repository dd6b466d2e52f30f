"""Geometry: one weight matrix cut into tiles.

Cells ``(groups, rows, columns)`` fill tiles of one shape from the top left; ``(groups, R, C, height,
width)`` is R tiles down and C across. Cells beyond the matrix are at their lowest conductance, their
rows are driven with 0 V and their columns are not read, but they are there, wires and all. The
columns of one output are never split, so a few columns of a tile may stay idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from cosim.errors import SpecError

__all__ = ["Tiling"]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How cells ``(groups, rows, columns)`` lie in tiles of ``height`` x ``width``.

    used: columns of a tile that hold weights, a multiple of the columns of one output.

    >>> tiling = Tiling.of((1, 10, 6), tile_shape=(4, 5), per_output=2)
    >>> tiling.down, tiling.across, tiling.tiles, tiling.used
    (3, 2, 6, 4)
    """

    groups: int
    rows: int
    columns: int
    height: int
    width: int
    used: int

    @classmethod
    def of(cls, shape: tuple[int, ...], *, tile_shape: tuple[int, int], per_output: int) -> Tiling:
        """SpecError where a tile has not the columns of one output."""
        height, width = tile_shape
        if width < per_output:
            raise SpecError(
                f"tile_shape {tuple(tile_shape)} has {width} columns, but one output needs {per_output}"
            )
        groups, rows, columns = shape
        used = width // per_output * per_output
        return cls(groups=groups, rows=rows, columns=columns, height=height, width=width, used=used)

    @property
    def down(self) -> int:
        """Tiles that share the inputs of one output."""
        return math.ceil(self.rows / self.height)

    @property
    def padded_rows(self) -> int:
        """Rows of all tiles down; one tile is not padded."""
        return self.rows if self.down == 1 else self.down * self.height

    @property
    def across(self) -> int:
        return math.ceil(self.columns / self.used)

    @property
    def tiles(self) -> int:
        return self.groups * self.down * self.across

    @property
    def cells(self) -> int:
        """Cells that hold a weight."""
        return self.groups * self.rows * self.columns

    @property
    def utilisation(self) -> float:
        """Share of all cells that hold a weight."""
        return self.cells / (self.tiles * self.height * self.width)

    def cut(self, cells: torch.Tensor, fill: float) -> torch.Tensor:
        """``(groups, rows, columns)``, rows any number up to all, as ``(groups, R, C, height, width)``."""
        down = math.ceil(cells.shape[-2] / self.height)
        spare = (0, self.across * self.used - self.columns, 0, down * self.height - cells.shape[-2])
        whole = pad(cells, spare, value=fill)
        whole = whole.unflatten(-1, (self.across, self.used)).unflatten(-3, (down, self.height))
        return pad(whole.transpose(-2, -3), (0, self.width - self.used), value=fill)

    def join(self, tiles: torch.Tensor) -> torch.Tensor:
        """``(groups, R, C, n, width)`` as ``(groups, R, n, columns)``; n is anything."""
        return tiles[..., : self.used].transpose(-2, -3).flatten(-2)[..., : self.columns]

    def split_rows(self, values: torch.Tensor) -> torch.Tensor:
        """``(groups, n, rows)`` as ``(groups, R, n, height)``, padded with 0; one tile is not padded."""
        if self.down == 1:
            return values[:, None]
        if self.padded_rows != self.rows:
            values = pad(values, (0, self.padded_rows - self.rows))
        return values.unflatten(-1, (self.down, self.height)).transpose(1, 2)
