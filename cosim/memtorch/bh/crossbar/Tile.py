"""Matrices cut into tiles of one shape, and their products tile by tile."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import pad

from cosim.arrays import as_tensor
from cosim.checks import as_flag, as_number, as_shape
from cosim.errors import SpecError
from cosim.memtorch.bh.Quantize import quantize
from cosim.solvers.linear import LinearNetwork
from cosim.wires import Wires

__all__ = [
    "Tile",
    "check_converter",
    "checked_resistances",
    "checked_tile_shape",
    "converted",
    "gen_tiles",
    "join_tiles",
    "tile_matmul",
    "tiled_inference",
]


_Cut = tuple[torch.Tensor, torch.Tensor, tuple[int, int]]


class Tile:
    """One tile: an array ``(rows, columns)`` that fills ``tile_shape``.

    >>> tile = Tile((2, 2))
    >>> tile.update_array(torch.ones(1, 2))
    >>> tile.array.tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, tile_shape: tuple[int, int], patch_num: int | None = None) -> None:
        self.tile_shape, self.patch_num = checked_tile_shape(tile_shape), patch_num
        self.array = torch.zeros(self.tile_shape)

    def update_array(self, new_array: torch.Tensor) -> None:
        """Take ``new_array``, filled up with zeros; SpecError if it is too large."""
        rows, columns = self.tile_shape
        new_array = as_tensor(new_array, "new_array")
        if new_array.ndim != 2 or new_array.shape[0] > rows or new_array.shape[1] > columns:
            raise SpecError(
                f"an array of shape {tuple(new_array.shape)} does not fit a tile {rows}x{columns}"
            )
        self.array = pad(new_array, (0, columns - new_array.shape[1], 0, rows - new_array.shape[0]))


def gen_tiles(
    tensor: torch.Tensor, tile_shape: tuple[int, int], input: bool = False, use_bindings: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """``tensor`` (rows, columns) as tiles filled up with zeros, and the number of each tile by its place.

    A weight gives ``(tiles, *tile_shape)`` and a map (tile rows, tile columns). An input (batch, rows)
    gives ``(tiles, batch, tile rows)`` and a map (tiles,). use_bindings: there is one implementation.

    >>> tiles, places = gen_tiles(torch.ones(3, 5), (2, 4))
    >>> tiles.shape, places.tolist()
    (torch.Size([4, 2, 4]), [[0, 1], [2, 3]])
    """
    height, width = checked_tile_shape(tile_shape)
    as_flag(use_bindings, "use_bindings")
    tensor = tensor if isinstance(tensor, torch.Tensor) else as_tensor(tensor, "tensor")
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise SpecError(f"a tensor of shape {tuple(tensor.shape)} cannot be cut: it must have two axes")
    if as_flag(input, "input"):
        count = math.ceil(tensor.shape[1] / height)
        whole = pad(tensor, (0, count * height - tensor.shape[1]))
        return whole.unflatten(1, (count, height)).transpose(0, 1).contiguous(), torch.arange(count)
    down, across = math.ceil(tensor.shape[0] / height), math.ceil(tensor.shape[1] / width)
    whole = pad(tensor, (0, across * width - tensor.shape[1], 0, down * height - tensor.shape[0]))
    tiles = whole.unflatten(1, (across, width)).unflatten(0, (down, height)).transpose(1, 2)
    return tiles.reshape(-1, height, width), torch.arange(down * across).reshape(down, across)


def join_tiles(tiles: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The matrix of ``shape`` that tiles ``(tiles, rows, columns)`` were cut from."""
    down, across = (math.ceil(n / m) for n, m in zip(shape, tiles.shape[1:], strict=True))
    whole = tiles.reshape(down, across, *tiles.shape[1:]).transpose(1, 2)
    return whole.reshape(down * tiles.shape[1], across * tiles.shape[2])[: shape[0], : shape[1]]


def tile_matmul(
    mat_a_tiles: torch.Tensor,
    mat_a_tiles_map: torch.Tensor,
    mat_a_shape: tuple[int, int],
    mat_b_tiles: torch.Tensor,
    mat_b_tiles_map: torch.Tensor,
    mat_b_shape: tuple[int, int],
    ADC_resolution: int | None = None,
    ADC_overflow_rate: float = 0.0,
    quant_method: str | None = None,
    *,
    source_resistance: float | None = None,
    line_resistance: float | None = None,
    use_bindings: bool = True,
) -> torch.Tensor:
    """A (batch, rows) times B (rows, columns) from their tiles; partial sums are quantised one by one.

    With resistances (ohm) B holds conductances (S) and A voltages (V). Each partial sum, a vector of one
    tile's columns, has its own range, as in MemTorch. use_bindings: as ``gen_tiles``.
    Returns ``(batch, columns)``.

    >>> a, b = torch.rand(2, 3), torch.rand(3, 5)
    >>> cut = (*gen_tiles(a, (2, 4), input=True), a.shape, *gen_tiles(b, (2, 4)), b.shape)
    >>> torch.allclose(tile_matmul(*cut), a @ b)
    True
    """
    as_flag(use_bindings, "use_bindings")
    check_converter(ADC_resolution, quant_method)
    a, b = (mat_a_tiles, mat_a_tiles_map, mat_a_shape), (mat_b_tiles, mat_b_tiles_map, mat_b_shape)
    _check_tiles(a, b)
    down, across = mat_b_tiles_map.shape
    wires = checked_resistances(source_resistance, line_resistance)
    result = mat_a_tiles.new_zeros((mat_a_shape[0], across * mat_b_tiles.shape[2]))
    for i in range(down):
        inputs = mat_a_tiles[int(mat_a_tiles_map[i])]
        for j in range(across):
            part = _product(inputs, mat_b_tiles[int(mat_b_tiles_map[i, j])], wires)
            columns = slice(j * mat_b_tiles.shape[2], (j + 1) * mat_b_tiles.shape[2])
            result[:, columns] += converted(part, ADC_resolution, ADC_overflow_rate, quant_method)
    return result[:, : mat_b_shape[1]]


def tiled_inference(
    input: torch.Tensor,
    weight_tiles: torch.Tensor,
    weight_tiles_map: torch.Tensor,
    weight_shape: tuple[int, int],
    tile_shape: tuple[int, int],
    **options: Any,
) -> torch.Tensor:
    """``input`` (batch, rows) times a tiled weight; the options are those of ``tile_matmul``."""
    cut = (*gen_tiles(input, tile_shape, input=True), (input.shape[0], input.shape[1]))
    return tile_matmul(*cut, weight_tiles, weight_tiles_map, weight_shape, **options)


def _product(inputs: torch.Tensor, tile: torch.Tensor, wires: tuple[float, float]) -> torch.Tensor:
    if not any(wires):
        return inputs @ tile
    source, line = wires
    network = Wires(row=line, column=line, source=source, sense=source)
    transfer = LinearNetwork.factor(tile.double(), network).transfer
    return inputs @ transfer.to(inputs)


def checked_tile_shape(tile_shape: Any) -> tuple[int, int]:
    """Rows and columns, or SpecError."""
    rows, columns = as_shape(tile_shape, "tile_shape", ("rows", "columns"))
    return rows, columns


def _check_tiles(a: _Cut, b: _Cut) -> None:
    """SpecError where two matrices in tiles cannot be multiplied: (tiles, map, shape) of each."""
    for name, (tiles, places, shape), axes in (("a", a, 1), ("b", b, 2)):
        as_shape(shape, f"mat_{name}_shape", ("rows", "columns"))
        kinds = isinstance(tiles, torch.Tensor) and isinstance(places, torch.Tensor)
        if not kinds or tiles.ndim != 3 or places.ndim != axes or places.is_complex():
            raise SpecError(f"mat_{name}: give the tiles, the map and the shape that gen_tiles was given")
        used = places.flatten().tolist()
        if any(n != int(n) or not 0 <= n < len(tiles) for n in used):
            raise SpecError(f"mat_{name}_tiles_map names tiles {used}: there are {len(tiles)}, from 0")
    if a[2][1] != b[2][0]:
        raise SpecError(f"matrices of shape {tuple(a[2])} and {tuple(b[2])} cannot be multiplied")
    if len(a[1]) != len(b[1]) or a[0].shape[1:] != (a[2][0], b[0].shape[1]):
        raise SpecError(
            f"tiles of shape {tuple(a[0].shape)} and {tuple(b[0].shape)} do not fit: "
            "cut both with one tile_shape"
        )


def checked_resistances(source: float | None, line: float | None) -> tuple[float, float]:
    """Source and line resistance (ohm), None as 0; SpecError below 0."""
    found = []
    for name, value in (("source_resistance", source), ("line_resistance", line)):
        found.append(0.0 if value is None else as_number(value, f"{name} (ohm)", at_least=0))
    return found[0], found[1]


def converted(
    currents: torch.Tensor, resolution: int | None, overflow_rate: float, method: str | None
) -> torch.Tensor:
    """``currents`` (batch, columns) as converters give them, each vector in a range of its own."""
    if resolution is None:
        return currents
    return torch.stack([quantize(row, resolution, overflow_rate, method) for row in currents])


def check_converter(resolution: int | None, method: str | None) -> None:
    """SpecError unless an ADC has both, or neither."""
    if (resolution is None) != (method is None):
        raise SpecError(
            f"ADC_resolution={resolution!r}, quant_method={method!r}: give both for an ADC, neither for none"
        )
