"""Matrices cut into tiles of one shape, and their products tile by tile."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

from cosim.errors import SpecError
from cosim.memtorch.bh.Quantize import quantize
from cosim.solvers.linear import LinearNetwork
from cosim.wires import Wires

__all__ = [
    "Tile",
    "check_converter",
    "converted",
    "gen_tiles",
    "join_tiles",
    "tile_matmul",
    "tiled_inference",
]


class Tile:
    """One tile: an array ``(rows, columns)`` that fills ``tile_shape``.

    >>> tile = Tile((2, 2))
    >>> tile.update_array(torch.ones(1, 2))
    >>> tile.array.tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """

    def __init__(self, tile_shape: tuple[int, int], patch_num: int | None = None) -> None:
        self.tile_shape, self.patch_num = _shape(tile_shape), patch_num
        self.array = torch.zeros(self.tile_shape)

    def update_array(self, new_array: torch.Tensor) -> None:
        """Take ``new_array``, filled up with zeros; SpecError if it is too large."""
        rows, columns = self.tile_shape
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
    height, width = _shape(tile_shape)
    if tensor.ndim != 2:
        raise SpecError(f"a tensor of shape {tuple(tensor.shape)} cannot be cut: it must have two axes")
    if input:
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
    source_resistance: float | None = None,
    line_resistance: float | None = None,
    ADC_resolution: int | None = None,
    ADC_overflow_rate: float = 0.0,
    quant_method: str | None = None,
    use_bindings: bool = True,
) -> torch.Tensor:
    """A (batch, rows) times B (rows, columns) from their tiles; partial sums are quantised one by one.

    With resistances (ohm) B holds conductances (S) and A voltages (V). Each partial sum, a vector of one
    tile's columns, has its own range, as in MemTorch. Returns ``(batch, columns)``.

    >>> a, b = torch.rand(2, 3), torch.rand(3, 5)
    >>> cut = (*gen_tiles(a, (2, 4), input=True), a.shape, *gen_tiles(b, (2, 4)), b.shape)
    >>> torch.allclose(tile_matmul(*cut), a @ b)
    True
    """
    _check_shapes(mat_a_shape, mat_b_shape)
    check_converter(ADC_resolution, quant_method)
    down, across = mat_b_tiles_map.shape
    wires = (source_resistance or 0.0, line_resistance or 0.0)
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
    **options: object,
) -> torch.Tensor:
    """``input`` (batch, rows) times a tiled weight; the options are those of ``tile_matmul``."""
    cut = gen_tiles(input, tile_shape, input=True)
    return tile_matmul(
        *cut,
        (input.shape[0], input.shape[1]),
        weight_tiles,
        weight_tiles_map,
        weight_shape,
        **options,  # type: ignore[arg-type]  # checked there
    )


def _product(inputs: torch.Tensor, tile: torch.Tensor, wires: tuple[float, float]) -> torch.Tensor:
    if not any(wires):
        return inputs @ tile
    source, line = wires
    network = Wires(row=line, column=line, source=source, sense=source)
    transfer = LinearNetwork.factor(tile.double(), network).transfer
    return inputs @ transfer.to(inputs)


def _shape(tile_shape: tuple[int, int]) -> tuple[int, int]:
    if len(tile_shape) != 2 or not all(isinstance(n, int) and n > 0 for n in tile_shape):
        raise SpecError(f"tile_shape is {tile_shape!r}: two integers above 0, rows and columns")
    return tile_shape[0], tile_shape[1]


def _check_shapes(a: tuple[int, int], b: tuple[int, int]) -> None:
    if a[1] != b[0]:
        raise SpecError(f"matrices of shape {tuple(a)} and {tuple(b)} cannot be multiplied")


def converted(
    currents: torch.Tensor, resolution: int | None, overflow_rate: float, method: str | None
) -> torch.Tensor:
    """``currents`` (batch, columns) as converters give them, each vector in a range of its own."""
    if resolution is None:
        return currents
    return torch.stack([quantize(row, resolution, overflow_rate, method) for row in currents])


def check_converter(resolution: int | None, method: str | None) -> None:
    if (resolution is None) != (method is None):
        raise SpecError(
            f"ADC_resolution={resolution!r}, quant_method={method!r}: give both for an ADC, neither for none"
        )
