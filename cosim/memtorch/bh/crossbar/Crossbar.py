"""``Crossbar``: the devices of one crossbar as an array and as a matrix of conductances."""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch

from cosim.arrays import as_tensor, check_finite, check_positive
from cosim.checks import as_callable, as_flag, as_number, as_shape
from cosim.crossbar import Tile as CircuitTile
from cosim.devices.device import Device
from cosim.engines import solve
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cell_model import cell_model
from cosim.memtorch.bh.crossbar.cells import CellView, OwnCells, Store
from cosim.memtorch.bh.crossbar.lent import lend
from cosim.memtorch.bh.crossbar.Tile import (
    check_converter,
    checked_tile_shape,
    converted,
    gen_tiles,
    join_tiles,
)
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.nn.cells import conductance_range

__all__ = ["Crossbar", "Scheme", "check_scheme", "init_crossbar", "routine_params", "simulate_matmul"]


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
        rows, columns = as_shape(shape, "shape", ("rows", "columns"))
        cells = OwnCells(cell_model(memristor_model, memristor_model_params), (rows, columns))
        self._attach(cells, tile_shape)
        self._like = torch.empty(0)

    def _attach(self, store: Store, tile_shape: tuple[int, int] | None) -> None:
        self.store = store
        self.tile_shape = None if tile_shape is None else checked_tile_shape(tile_shape)
        self.rows, self.columns = (int(n) for n in store.read().shape[-2:])
        self._like: torch.Tensor | None = None  # dtype and device that the matrix is shown in; as stored

    @classmethod
    def over(cls, store: Store, tile_shape: tuple[int, int] | None = None) -> Crossbar:
        """A crossbar that shows the cells of ``store``."""
        crossbar = cls.__new__(cls)
        crossbar._attach(store, tile_shape)
        return crossbar

    @property
    def conductance_matrix(self) -> torch.Tensor:
        """The conductances (S) as they are now; what is assigned, or written into it, goes to the cells.

        Tiles are filled up with zeros. Of a crossbar of a layer it has the dtype and the device of the
        weights; of any other those of the last matrix assigned, at first torch's defaults.
        Raises SpecError for a value that is negative or not finite.
        """
        return lend(self._read, self._write)

    @conductance_matrix.setter
    def conductance_matrix(self, conductance: torch.Tensor) -> None:
        given = as_tensor(conductance, "conductance_matrix")
        shape = self._read().shape
        if tuple(given.shape) != tuple(shape):
            raise SpecError(f"conductance_matrix of shape {tuple(given.shape)} does not fit {tuple(shape)}")
        self._write(given, torch.ones(shape, dtype=torch.bool, device=given.device))
        if self._like is not None:
            self._like = given.new_empty(0)

    def _read(self) -> torch.Tensor:
        matrix = self.store.read().detach()
        if self._like is not None:
            matrix = matrix.to(self._like)
        return matrix if self.tile_shape is None else gen_tiles(matrix, self.tile_shape)[0]

    def _write(self, conductance: torch.Tensor, changed: torch.Tensor) -> None:
        """Conductances (S) into the cells where ``changed``; the others keep all their digits."""
        check_positive(conductance, "conductance_matrix", zero=True)
        if self.tile_shape is not None:
            size = (self.rows, self.columns)
            conductance, changed = join_tiles(conductance, size), join_tiles(changed, size)
        kept = self.store.read()
        self.store.write(torch.where(changed.to(kept.device), conductance.to(kept), kept))

    @property
    def max_abs_conductance(self) -> float:
        """The largest conductance (S)."""
        return float(self.store.read().abs().max())

    @property
    def devices(self) -> np.ndarray:
        """Views of the devices, in an array of the shape of ``conductance_matrix`` without tiles."""
        shape = tuple(self.store.read().shape)
        ends = conductance_range(self.store.device, self.store.model.v_read)
        low, high = (end.detach().cpu().expand(shape).reshape(-1).tolist() for end in ends)
        found = np.empty(math.prod(shape), dtype=object)
        for k, place in enumerate(np.ndindex(shape)):
            found[k] = CellView(self.store, place, (low[k], high[k]))
        return found.reshape(shape)

    def device(self, place: tuple[int, ...]) -> CellView:
        """The view of one device; SpecError for a place that does not exist."""
        shape = tuple(self.store.read().shape)
        at = tuple(place) if isinstance(place, Sequence | np.ndarray) else ()
        inside = len(at) == len(shape) and all(
            isinstance(k, Integral) and 0 <= k < n for k, n in zip(at, shape, strict=False)
        )
        if not inside:
            raise SpecError(
                f"point is {place!r}: give {len(shape)} whole numbers, each from 0 and below {shape}"
            )
        ends = conductance_range(self.store.device, self.store.model.v_read)
        low, high = (float(end.detach().cpu().expand(shape)[at]) for end in ends)
        return CellView(self.store, at, (low, high))

    def update(self, from_devices: bool = True, parallelize: bool = False) -> None:
        """Nothing to do: devices and matrix show the same cells, in both directions and all at once."""
        as_flag(from_devices, "from_devices")
        as_flag(parallelize, "parallelize")

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
        as_flag(transistor, "transistor")
        if transistor:
            self.conductance_matrix = conductance_matrix
            return
        if not callable(programming_routine):
            raise SpecError(
                f"transistor=False with programming_routine={programming_routine!r}: it needs a "
                "programming_routine, such as naive_program"
            )
        targets = as_tensor(conductance_matrix, "conductance_matrix")
        if tuple(targets.shape) != tuple(self._read().shape):
            raise SpecError(
                f"conductance_matrix of shape {tuple(targets.shape)} does not fit {tuple(self._read().shape)}"
            )
        if self.tile_shape is not None:
            targets = join_tiles(targets, (self.rows, self.columns))
        params = routine_params(programming_routine, programming_routine_params)
        for place in np.ndindex(tuple(targets.shape)):
            programming_routine(self, place, float(targets[place]), **params)


def routine_params(routine: Callable[..., Any], params: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """``programming_routine_params``; SpecError for one that the routine does not take."""
    given = {} if params is None else params
    if not isinstance(given, Mapping):
        raise SpecError(f"programming_routine_params is {params!r}: give a dictionary")
    takes = inspect.signature(routine).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        for name in given:
            if name not in takes:
                raise SpecError(
                    f"programming_routine_params: {routine.__name__} has no argument {name!r}; it has: "
                    f"{', '.join(takes)}"
                )
    return given


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
) -> tuple[list[Crossbar], Callable[..., Any]]:
    """Crossbars that hold ``weights`` (outputs, inputs), and the function that computes with them.

    Returns ``(crossbars, out)``, the crossbars [positive, negative] or [single]. ``out(crossbars,
    operation)`` applies ``operation`` to each crossbar and subtracts: the results of both, or of one whose
    cells are all in the middle. For it to be the signed result, ``operation`` must be linear in the cells.

    >>> from cosim.memtorch.bh.memristor import VTEAM
    >>> from cosim.memtorch.map.Parameter import naive_map
    >>> w, x = torch.tensor([[1.0, -0.5, 0.25]]), torch.tensor([[1.0, 2.0, 4.0]])
    >>> crossbars, out = init_crossbar(w, VTEAM, {}, True, naive_map, None, tile_shape=None)
    >>> siemens = out(crossbars, lambda crossbar: x @ crossbar.conductance_matrix)
    >>> round(float(siemens / (1 / 50 - 1 / 1000)), 6)
    1.0
    """
    given = as_tensor(weights, "weights").detach()
    if given.ndim < 2 or 0 in given.shape:
        raise SpecError(f"weights of shape {tuple(given.shape)}: give (outputs, inputs)")
    check_scheme(scheme)
    as_callable(mapping_routine, "mapping_routine", "a function, such as naive_map")
    flat = given.reshape(given.shape[0], -1)
    model = cell_model(memristor_model, memristor_model_params)
    low, high = (float(end) for end in conductance_range(model.nominal(), model.v_read))
    mapped = mapping_routine(flat, 1 / high, 1 / low, scheme=scheme, p_l=p_l)
    parts = tuple(mapped) if scheme is Scheme.DoubleColumn else (mapped,)
    shape = (flat.shape[1], flat.shape[0])
    crossbars = []
    for part in parts:
        crossbar = Crossbar(memristor_model, memristor_model_params, shape, tile_shape)
        crossbar._like = given.new_empty(0)
        matrix = part.T if tile_shape is None else gen_tiles(part.T, tile_shape)[0]
        crossbar.write_conductance_matrix(matrix, transistor, programming_routine, programming_routine_params)
        crossbars.append(crossbar)
    if scheme is Scheme.DoubleColumn:
        return crossbars, lambda crossbars, operation: operation(crossbars[0]) - operation(crossbars[1])
    middle = Crossbar.over(OwnCells(model, shape, spread=False), tile_shape)
    middle.store.write(torch.full(shape, 0.5 * (low + high)))
    middle._like = given.new_empty(0)
    return crossbars, lambda crossbars, operation: operation(crossbars[0]) - operation(middle)


def check_scheme(scheme: Any) -> None:
    if not isinstance(scheme, Scheme):
        raise SpecError(f"scheme is {scheme!r}: give a memtorch.bh.Scheme")


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
    range. nl: True for a table of the curve, False for every device; the curve is exact, so they agree.
    tiles_map, crossbar_shape: must be those of the crossbar, which knows its tiles. Returns ``(batch,
    columns)``. Raises SpecError for shapes that do not fit, and for a class in Python with another curve.
    """
    volts = _driven(input, crossbar, max_input_voltage)
    _check_tiling(crossbar, tiles_map, crossbar_shape)
    check_converter(ADC_resolution, quant_method)
    as_flag(nl, "nl")
    store, v_read = crossbar.store, crossbar.store.model.v_read
    store.model.check_curve()
    low, high = conductance_range(store.device, v_read)
    # conductances in float32 may lie a rounding outside what the device reaches
    cells = torch.minimum(torch.maximum(store.read().double(), low), high)
    height, width = crossbar.tile_shape or (crossbar.rows, crossbar.columns)
    result = volts.new_zeros(len(volts), crossbar.columns)
    for top in range(0, crossbar.rows, height):
        rows = slice(top, top + height)
        tile = CircuitTile(_part(store.device, rows), conductance=cells[rows], v_read=v_read)
        currents = solve(tile, volts[:, rows].double(), engine="newton").currents.to(volts)
        for left in range(0, crossbar.columns, width):
            columns = slice(left, left + width)
            result[:, columns] += converted(
                currents[:, columns], ADC_resolution, ADC_overflow_rate, quant_method
            )
    return result


def _driven(input: Any, crossbar: Any, max_input_voltage: float | None) -> torch.Tensor:
    """Voltages ``(batch, rows)`` as the drivers give them."""
    if not isinstance(crossbar, Crossbar):
        raise SpecError(f"crossbar is {crossbar!r}: give a memtorch.bh.crossbar.Crossbar")
    volts = check_finite(as_tensor(input, "input"), "input")
    if volts.ndim != 2 or volts.shape[1] != crossbar.rows:
        raise SpecError(f"input has shape {tuple(volts.shape)}: give (batch, {crossbar.rows})")
    if max_input_voltage is None:
        return volts
    limit = as_number(max_input_voltage, "max_input_voltage (V)", above=0)
    return volts.clamp(-limit, limit)


def _check_tiling(crossbar: Crossbar, tiles_map: Any, crossbar_shape: Any) -> None:
    """SpecError where the caller's idea of the tiles is not the crossbar's."""
    shape, axes = (crossbar.rows, crossbar.columns), ("rows", "columns")
    if crossbar_shape is not None and as_shape(crossbar_shape, "crossbar_shape", axes) != shape:
        raise SpecError(f"crossbar_shape is {crossbar_shape!r}: this crossbar is {shape[0]}x{shape[1]}")
    if tiles_map is None:
        return
    height, width = crossbar.tile_shape or shape
    wanted = torch.arange(math.ceil(shape[0] / height) * math.ceil(shape[1] / width))
    given = as_tensor(tiles_map, "tiles_map")
    if not torch.equal(given.flatten().cpu().to(wanted), wanted):
        raise SpecError(
            f"tiles_map is {given.tolist()}: this crossbar has tiles 0 to {len(wanted) - 1} in order"
        )


def _part(device: Device, rows: slice) -> Device:
    """The device with the per-cell parameters of some rows."""
    own = {n: v[rows] for n, v in device.given.items() if isinstance(v, torch.Tensor) and v.ndim}
    return device.replace(**own) if own else device
