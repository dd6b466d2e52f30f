"""The crossbar: wires, one tile of memristive cells, and the result of solving it.

Convention, everywhere in cosim: rows are inputs (word lines), columns are outputs (bit lines).
The device's terminal p is on the word line, n on the bit line. Word line i is driven at column 0
through ``source`` ohm, then ``row`` ohm per segment; bit line j ends below the last row through
``sense`` ohm into 0 V, with ``column`` ohm per segment. The far ends are open. A current is
positive into the sense node. Where a resistance is 0 the two nodes are one node.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch

from cosim.arrays import (
    Array,
    Conductance,
    Currents,
    State,
    Voltages,
    as_read_voltage,
    as_tensor,
    check_finite,
    out_of_memory,
    own,
)
from cosim.checks import as_instance, as_shape, shown
from cosim.devices.ir import RANDOM_INSTANCE
from cosim.devices.memory import starts_itself
from cosim.errors import SolveError, SpecError
from cosim.nodes import Nodes, Power
from cosim.wires import Wires

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["Solution", "Status", "Tile", "Wires"]


class Tile:
    """A crossbar tile: one device model, the state of every cell, and the wires.

    device: a ``cosim.Device``; terminal p on the row, n on the column.
    conductance: ``(*tiles, rows, columns)`` S, the chord I(v_read)/v_read of each cell; or
    state: the same shape in the unit of the device's state; or, for a device without state,
    shape: ``(*tiles, rows, columns)``. Exactly one of the three. Cells differ where parameters of
    the device are tensors, which broadcast to the shape of the tile. temperature: K, of every cell, in
    place of the device's.

    Raises SpecError if not exactly one is given, if a value is not finite, if the device cannot
    reach a conductance, or if a parameter does not fit the shape.

    >>> import cosim
    >>> tile = Tile(cosim.Device("vteam"), conductance=[[1e-3, 2e-2]], wires=Wires(row=2.0))
    >>> tile.shape, tile.conductance.tolist()
    ((1, 2), [[0.001, 0.02]])
    """

    state: State  # zeros where the device has none

    def __init__(
        self,
        device: Device,
        *,
        conductance: Array | None = None,
        state: Array | None = None,
        shape: Sequence[int] | None = None,
        wires: Wires | None = None,
        v_read: float = 0.1,
        temperature: float | None = None,
    ) -> None:
        if wires is not None:
            as_instance(wires, "wires", Wires, "cosim.Wires(row=, column=), or None for ideal wires")
        _check_choice(device, conductance, state, shape)
        device.check_cell()
        self.device = device = device if temperature is None else device.replace(temperature=temperature)
        self.wires = Wires() if wires is None else wires
        self.v_read = as_read_voltage(v_read)
        self._conductance: Conductance | None = None
        if shape is not None:
            cells = _no_state(device, shape)
            if device.state_parameter is not None:  # the file says where every cell starts
                cells = cells + device.check_state(None)
        elif state is not None:
            cells = own(check_finite(as_tensor(state, "state"), "state"))
        else:
            cells = own(check_finite(as_tensor(conductance, "conductance"), "conductance"))
        if cells.ndim < 2 or 0 in cells.shape:
            raise SpecError(
                f"a tile of shape {tuple(cells.shape)} is not (*tiles, rows, columns) with at least one cell"
            )
        self.device = device = _numbered(device, tuple(cells.shape))
        _check_parameters(device, tuple(cells.shape))
        if conductance is not None:
            self._conductance = cells
            cells = device.state_for(cells, v_read=self.v_read)
        self.state = cells if device.state_parameter is None else device.check_state(cells)
        _check_wires(self.wires, self.shape)

    @property
    def conductance(self) -> Conductance:
        """Chord I(v_read)/v_read of every cell, ``(*tiles, rows, columns)`` S."""
        if self._conductance is not None:
            return self._conductance
        state = None if self.device.state_parameter is None else self.state
        conductance = self.device.conductance(state, v_read=self.v_read).expand(self.shape)
        sources = (self.state, *self.device.parameters.values())
        # kept only where no gradient can be asked for: a graph serves one backward pass
        if not any(isinstance(source, torch.Tensor) and source.requires_grad for source in sources):
            self._conductance = conductance
        return conductance

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*tiles, rows, columns)``."""
        return tuple(self.state.shape)

    @property
    def rows(self) -> int:
        return self.state.shape[-2]

    @property
    def columns(self) -> int:
        return self.state.shape[-1]

    def check_voltages(self, voltages: Array) -> Voltages:
        """``voltages`` as ``(*tiles, batch, rows)``; one vector ``(rows,)`` becomes a batch of 1."""
        tensor = check_finite(as_tensor(voltages, "voltages", like=self.state), "voltages")
        if tensor.ndim == 1:
            tensor = tensor[None]
        if tensor.ndim == 0 or tensor.shape[-1] != self.rows:
            raise SpecError(
                f"voltages of shape {tuple(tensor.shape)} do not fit a tile with {self.rows} rows: "
                f"the last axis must be {self.rows}"
            )
        try:
            torch.broadcast_shapes(tensor.shape[:-2], self.shape[:-2])
        except RuntimeError as error:
            raise SpecError(
                f"voltages of shape {tuple(tensor.shape)} do not fit a tile of shape {self.shape}: "
                "the axes before (batch, rows) must broadcast with those before (rows, columns)"
            ) from error
        return tensor.to(device=self.state.device)

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.shape)
        return f"Tile({self.device!r}, {shape}, {self.wires}, v_read={self.v_read})"


def _check_choice(device: Device, conductance: Any, state: Any, shape: Any) -> None:
    """Raise SpecError unless exactly one of the three is given, and the device can take it."""
    if not hasattr(device, "state_parameter"):
        name = str(device) if isinstance(device, str | PathLike) else "vteam"
        raise SpecError(f"device is {shown(device)}: give cosim.Device({shown(name)})")
    if sum(given is not None for given in (conductance, state, shape)) != 1:
        raise SpecError("Tile needs exactly one of conductance=, state= and shape=")
    if device.state_parameter is None and shape is None:
        raise SpecError(
            f"{device.name} has no state to set its cells by: give shape=(rows, columns), and let them "
            "differ by parameters that are tensors; or declare a state with Device(..., state=, state_range=)"
        )
    if device.state_parameter is not None and shape is not None and not starts_itself(device.memory):
        raise SpecError(f"{device.name} has a state: give conductance= or state=, which have the shape")


def _numbered(device: Device, shape: tuple[int, ...]) -> Device:
    """``device`` with a number of its own for each cell, where the model draws random numbers by it."""
    if RANDOM_INSTANCE not in device.parameters or RANDOM_INSTANCE in device.given:
        return device
    cells = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    return device.replace(**{RANDOM_INSTANCE: cells})


def _no_state(device: Device, shape: Sequence[int]) -> State:
    """Zeros of ``shape``, where the parameters of ``device`` lie."""
    sizes = as_shape(shape, "shape", ("*tiles", "rows", "columns"))
    places = [value.device for value in device.given.values() if isinstance(value, torch.Tensor)]
    with out_of_memory(f"a tile of shape {sizes}"):
        return torch.zeros(sizes, dtype=torch.float64, device=places[0] if places else None)


def _check_parameters(device: Device, shape: tuple[int, ...]) -> None:
    """Raise SpecError unless every parameter that is a tensor broadcasts to ``shape``."""
    for name, value in device.given.items():
        if not isinstance(value, torch.Tensor):
            continue
        try:
            fits = torch.broadcast_shapes(value.shape, shape) == shape
        except RuntimeError:
            fits = False
        if not fits:
            raise SpecError(
                f"parameter {name} of {device.name} has the shape {tuple(value.shape)}: it does not "
                f"broadcast to the cells of the tile, {shape}"
            )


def _check_wires(wires: Wires, shape: tuple[int, ...]) -> None:
    """Raise SpecError unless every resistance fits a tile of ``shape``."""
    if wires.uniform:
        return
    segments = wires.spread(*shape[-2:])
    parts = (segments.word[..., 0], segments.bit[..., 0], segments.word_far, segments.bit_far)
    for part in parts:
        lead = () if part is None else part.shape[:-1]
        try:
            fits = torch.broadcast_shapes(lead, shape[:-2]) == shape[:-2]
        except RuntimeError:
            fits = False
        if not fits:
            raise SpecError(
                f"{wires} do not fit a tile of shape {shape}: leading axes {tuple(lead)} do not broadcast"
            )


class Status(enum.IntEnum):
    """What became of one vector of a batch. 0 is solved; the rest name the failure.

    >>> Status.SINGULAR.remedy
    'connect every node: check for lines without any conducting cell'
    """

    SOLVED = 0
    NOT_CONVERGED = 1
    SINGULAR = 2
    NOT_FINITE = 3
    NOT_RUN = 4
    INEXACT = 5

    @property
    def remedy(self) -> str:
        return _REMEDIES[self]


_REMEDIES = {
    Status.SOLVED: "none needed",
    Status.NOT_CONVERGED: "raise max_iterations or memory, or lower the voltages",
    Status.SINGULAR: "connect every node: check for lines without any conducting cell",
    Status.NOT_FINITE: "the device equations overflow at these voltages: lower them",
    Status.INEXACT: "rounding leaves more than the tolerance, see stats['error_bound']: raise tolerance",
    Status.NOT_RUN: "the run stopped before this vector: see stats for the reason",
}


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Column currents of a batch of input vectors.

    currents: ``(*tiles, batch, columns)`` A, positive into the sense node; NaN where unsolved.
    status: ``(*tiles, batch)`` integers of ``Status``.
    stats: what the engine measured (residual in A, iterations, seconds, ...).
    nodes: voltages and currents inside the tile, where they were asked for.

    >>> solution = Solution(currents=torch.zeros(2, 3), status=torch.tensor([0, 1]), engine="newton")
    >>> solution.solved.tolist()
    [True, False]
    """

    currents: Currents
    status: torch.Tensor
    engine: str
    stats: Mapping[str, Any] = field(default_factory=dict)
    nodes: Nodes | None = None

    @property
    def power(self) -> Power:
        """Power of cells, wires and sources per vector; SpecError unless the nodes were asked for."""
        if self.nodes is None:
            raise SpecError("power needs what is inside the tile: solve with nodes=True")
        return self.nodes.power

    @property
    def solved(self) -> torch.Tensor:
        """``(*tiles, batch)`` booleans: True where the vector is solved."""
        return self.status == int(Status.SOLVED)

    def check(self) -> Solution:
        """Return self, or raise SolveError that names how many vectors failed and the remedy."""
        failed = ~self.solved
        if not bool(failed.any()):
            return self
        first = tuple(int(i) for i in failed.nonzero()[0])
        status = Status(int(self.status[first]))
        raise SolveError(
            f"engine {self.engine!r} failed for {int(failed.sum())} of {failed.numel()} vectors, "
            f"first at {list(first)}: {status.name}; {status.remedy}",
            solution=self,
        )
