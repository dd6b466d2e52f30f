"""``Crossbar``: the devices of one crossbar as an array and as a matrix of conductances."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cosim.arrays import check_positive
from cosim.crossbar import Tile as CircuitTile
from cosim.devices.device import Device
from cosim.engines import solve
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cells import CellView, OwnCells, Store, arguments_of, nominal_device
from cosim.memtorch.bh.crossbar.lent import lend
from cosim.memtorch.bh.crossbar.Tile import check_converter, converted, gen_tiles, join_tiles
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.bh.StochasticParameter import Dict2Obj
from cosim.nn.cells import conductance_range

__all__ = ["Crossbar", "Scheme", "init_crossbar", "nominal_resistances", "simulate_matmul"]


class Scheme(enum.Enum):
    """How a weight is held: in two crossbars, or in one."""

    SingleColumn = 1
    DoubleColumn = 2


class Crossbar:
    """Devices in rows (inputs) and columns (outputs).

    ``devices`` is an array of views, ``conductance_matrix`` the conductances (S); both show the same cells,
    so there is nothing to bring up to date. With tile_shape both are ``(tiles, rows, columns)``.

    >>> from cosim.memtorch.bh.memristor import VTEAM
    >>> crossbar = Crossbar(VTEAM, {"r_off": 200, "r_on": 100}, (2, 3))
    >>> crossbar.write_conductance_matrix(torch.full((2, 3), 0.008, dtype=torch.float64))
    >>> round(crossbar.devices[1, 2].get_resistance(), 9)
    125.0
    """

    def __init__(
        self,
        memristor_model: type[Memristor],
        memristor_model_params: Mapping[str, Any] | None,
        shape: tuple[int, int],
        tile_shape: tuple[int, int] | None = None,
    ) -> None:
        if len(shape) != 2:
            raise SpecError(f"shape is {shape}: a crossbar has rows and columns")
        self._attach(OwnCells(memristor_model, memristor_model_params, (shape[0], shape[1])), tile_shape)

    def _attach(self, store: Store, tile_shape: tuple[int, int] | None) -> None:
        self.store, self.tile_shape = store, tile_shape
        self.rows, self.columns = (int(n) for n in store.read().shape[-2:])

    @classmethod
    def over(cls, store: Store, tile_shape: tuple[int, int] | None = None) -> Crossbar:
        """A crossbar that shows the cells of ``store``."""
        crossbar = cls.__new__(cls)
        crossbar._attach(store, tile_shape)
        return crossbar

    @property
    def conductance_matrix(self) -> torch.Tensor:
        """The conductances (S) as they are now; what is assigned, or written into it, goes to the cells.

        Tiles are filled up with zeros. Raises SpecError for a value that is negative or not finite.
        """
        return lend(self._read, self._write)

    @conductance_matrix.setter
    def conductance_matrix(self, conductance: torch.Tensor) -> None:
        shape = self._read().shape
        if tuple(conductance.shape) != tuple(shape):
            raise SpecError(
                f"conductance_matrix of shape {tuple(conductance.shape)} does not fit {tuple(shape)}"
            )
        self._write(conductance)

    def _read(self) -> torch.Tensor:
        matrix = self.store.read().detach()
        return matrix if self.tile_shape is None else gen_tiles(matrix, self.tile_shape)[0]

    def _write(self, conductance: torch.Tensor) -> None:
        check_positive(conductance, "conductance_matrix", zero=True)
        if self.tile_shape is not None:
            conductance = join_tiles(conductance, (self.rows, self.columns))
        self.store.write(conductance)

    @property
    def max_abs_conductance(self) -> float:
        """The largest conductance (S)."""
        return float(self.store.read().abs().max())

    @property
    def devices(self) -> np.ndarray:
        """Views of the devices, in an array of the shape of ``conductance_matrix`` without tiles."""
        shape = tuple(self.store.read().shape)
        ends = conductance_range(self.store.device, self.store.v_read)
        low, high = (end.detach().cpu().expand(shape).reshape(-1).tolist() for end in ends)
        found = np.empty(math.prod(shape), dtype=object)
        for k, place in enumerate(np.ndindex(shape)):
            found[k] = CellView(self.store, place, (low[k], high[k]))
        return found.reshape(shape)

    def update(self, from_devices: bool = True, parallelize: bool = False) -> None:
        """Nothing: devices and matrix show the same cells. The arguments are those of MemTorch."""

    def write_conductance_matrix(
        self,
        conductance_matrix: torch.Tensor,
        transistor: bool = True,
        programming_routine: Callable[..., Any] | None = None,
        programming_routine_params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write conductances (S), clipped per device: directly (1T1R), or device by device (1R).

        Raises SpecError without a routine where there are no transistors.
        """
        if transistor:
            self.conductance_matrix = conductance_matrix
            return
        if programming_routine is None:
            raise SpecError("transistor=False needs a programming_routine, such as naive_program")
        if self.tile_shape is not None:
            conductance_matrix = join_tiles(conductance_matrix, (self.rows, self.columns))
        for place in np.ndindex(tuple(conductance_matrix.shape)):
            wanted = float(conductance_matrix[place])
            programming_routine(self, place, wanted, **(programming_routine_params or {}))


def init_crossbar(
    weights: torch.Tensor,
    memristor_model: type[Memristor],
    memristor_model_params: Mapping[str, Any] | None,
    transistor: bool,
    mapping_routine: Callable[..., Any],
    programming_routine: Callable[..., Any] | None,
    programming_routine_params: Mapping[str, Any] | None = None,
    p_l: float | None = None,
    scheme: Scheme = Scheme.DoubleColumn,
    tile_shape: tuple[int, int] | None = (128, 128),
) -> tuple[list[Crossbar], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Crossbars that hold ``weights`` (outputs, inputs), and what combines their results.

    Returns ([positive, negative], difference), or ([single], difference to the middle).
    """
    flat = weights.detach().reshape(weights.shape[0], -1)
    shape = (flat.shape[1], flat.shape[0])
    count = 2 if scheme is Scheme.DoubleColumn else 1
    crossbars = [Crossbar(memristor_model, memristor_model_params, shape, tile_shape) for _ in range(count)]
    r_on, r_off = nominal_resistances(memristor_model, memristor_model_params)
    mapped = mapping_routine(flat, r_on, r_off, scheme=scheme, p_l=p_l)
    parts = mapped if scheme is Scheme.DoubleColumn else (mapped,)
    for crossbar, part in zip(crossbars, parts, strict=True):
        matrix = part.T if tile_shape is None else gen_tiles(part.T, tile_shape)[0]
        crossbar.write_conductance_matrix(matrix, transistor, programming_routine, programming_routine_params)
    middle = 0.5 * (1 / r_on + 1 / r_off)
    if scheme is Scheme.DoubleColumn:
        return crossbars, lambda first, second: first - second
    return crossbars, lambda first, _=None: first - middle


def nominal_resistances(model: type[Memristor], params: Mapping[str, Any] | None) -> tuple[float, float]:
    """r_on and r_off (ohm) of the device with its means: what weights are mapped to."""
    v_read = model.read_voltage_of(Dict2Obj(arguments_of(model, params)))
    low, high = conductance_range(nominal_device(model, params), v_read)
    return 1 / float(high), 1 / float(low)


def simulate_matmul(
    input: torch.Tensor,
    crossbar: Crossbar,
    nl: bool = True,
    tiles_map: torch.Tensor | None = None,
    crossbar_shape: tuple[int, int] | None = None,
    max_input_voltage: float | None = None,
    ADC_resolution: int | None = None,
    ADC_overflow_rate: float = 0.0,
    quant_method: str | None = None,
) -> torch.Tensor:
    """Currents (A) of the columns for voltages ``(batch, rows)``, each device with its own I-V curve.

    No wires; the states stay. max_input_voltage (V): what the drivers clip at.
    ADC_resolution, ADC_overflow_rate, quant_method: each vector of a tile's columns is converted in its own
    range. nl: a table or every device, which is the same here; tiles_map, crossbar_shape: the crossbar knows
    its tiles. Returns ``(batch, columns)``.
    """
    check_converter(ADC_resolution, quant_method)
    volts = input if max_input_voltage is None else input.clamp(-max_input_voltage, max_input_voltage)
    store = crossbar.store
    low, high = conductance_range(store.device, store.v_read)
    # conductances in float32 may lie a rounding outside what the device reaches
    cells = torch.minimum(torch.maximum(store.read().double(), low), high)
    height, width = crossbar.tile_shape or (crossbar.rows, crossbar.columns)
    result = input.new_zeros(input.shape[0], crossbar.columns)
    for top in range(0, crossbar.rows, height):
        rows = slice(top, top + height)
        tile = CircuitTile(_part(store.device, rows), conductance=cells[rows], v_read=store.v_read)
        currents = solve(tile, volts[:, rows].double(), engine="newton").currents.to(input)
        for left in range(0, crossbar.columns, width):
            columns = slice(left, left + width)
            result[:, columns] += converted(
                currents[:, columns], ADC_resolution, ADC_overflow_rate, quant_method
            )
    return result


def _part(device: Device, rows: slice) -> Device:
    """The device with the per-cell parameters of some rows."""
    own = {n: v[rows] for n, v in device.given.items() if isinstance(v, torch.Tensor) and v.ndim}
    return device.replace(**own) if own else device
