"""The wires of a tile: what a user states, and the same as one resistance per segment.

Word line i is driven at column 0 through ``source`` ohm, bit line j ends below the last row through
``sense`` ohm into 0 V. With ``source_far`` the same driver also feeds the other end of the word line,
with ``sense_far`` the bit line also ends above the first row in a node at 0 V.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.nn.functional import pad

from cosim.arrays import as_tensor, check_positive, own
from cosim.checks import shown
from cosim.errors import SpecError

__all__ = ["Segments", "Wires"]

Resistance: TypeAlias = float | torch.Tensor
_NAMES = ("row", "column", "source", "sense", "source_far", "sense_far")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Wires:
    """Wire resistances of a tile, in ohm; each may be 0 anywhere (the nodes are merged).

    row, column: per segment between neighbouring cells of a word line, of a bit line. A number; or
    one per line, ``(rows,)`` and ``(columns,)``; or one per segment with the axes of the tile,
    ``(*tiles, rows, columns - 1)`` and ``(*tiles, rows - 1, columns)``, where an axis of 1 broadcasts.
    source, sense: from the driver to the first cell, from the last cell to the sense node: a
    number, ``(*tiles, rows)``, ``(*tiles, columns)``; one segment (of ``row``, ``column``) unless given.
    source_far, sense_far: the same at the other ends, which are open unless given.
    ``inf`` is an open circuit, anywhere: at an end, or in a segment, which then parts its line.

    Tensors may require gradients. Raises SpecError for a value below 0 or NaN, or of a wrong shape.

    >>> Wires(row=2.0, column=1.0)
    Wires(row=2.0, column=1.0, source=2.0, sense=1.0)
    >>> Wires(row=[2.0, 3.0], source_far=5.0).source
    tensor([2., 3.], dtype=torch.float64)
    """

    row: Resistance = 0.0
    column: Resistance = 0.0
    source: Resistance | None = None
    sense: Resistance | None = None
    source_far: Resistance | None = None
    sense_far: Resistance | None = None

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if value is None and name in ("source", "sense"):
                value = _end_segment(self.row, 1) if name == "source" else _end_segment(self.column, 0)
            if value is not None or not name.endswith("_far"):
                value = _checked(value, name)
                never_there = name.endswith("_far") and isinstance(value, float) and math.isinf(value)
                object.__setattr__(self, name, None if never_there else value)

    @property
    def uniform(self) -> bool:
        """True when every resistance is a number."""
        return not any(isinstance(value, torch.Tensor) for _, value in self._items())

    @property
    def requires_grad(self) -> bool:
        """True when a gradient to any resistance can be asked for."""
        return any(isinstance(value, torch.Tensor) and value.requires_grad for _, value in self._items())

    @property
    def ideal(self) -> bool:
        """True when every resistance is 0 and none requires a gradient; far ends then do not matter."""
        near = (self.row, self.column, self.source, self.sense)
        return not (self.requires_grad or any(bool(torch.as_tensor(value).any()) for value in near))

    def spread(self, rows: int, columns: int, *, like: torch.Tensor | None = None) -> Segments:
        """One resistance per segment of a tile of ``rows`` x ``columns``, in the dtype of ``like``.

        Raises SpecError where a resistance does not fit the tile.
        """
        kind: dict[str, Any] = {"dtype": torch.float64}
        if like is not None:
            kind = {"dtype": like.dtype, "device": like.device}

        def full(name: str, shape: tuple[int, ...], axis: int = -1) -> torch.Tensor:
            value = torch.as_tensor(getattr(self, name), **kind)
            given = value
            if value.ndim == 1:  # one per line
                value = value.unsqueeze(axis) if len(shape) == 2 else value
            try:
                lead = value.shape[: max(0, value.ndim - len(shape))]
                return value.expand(*lead, *shape)
            except RuntimeError as error:
                axes = "x".join(map(str, shape))
                raise SpecError(
                    f"Wires.{name} of shape {tuple(given.shape)} does not fit a {rows}x{columns} tile: "
                    f"it must be a number, one per line, or broadcast to {axes}"
                ) from error

        row, source = full("row", (rows, columns - 1), 1), full("source", (rows,))
        column, sense = full("column", (rows - 1, columns), 0), full("sense", (columns,))
        return Segments(
            word=_join([source.unsqueeze(-1), row], -1),
            bit=_join([column, sense.unsqueeze(-2)], -2),
            word_far=None if self.source_far is None else full("source_far", (rows,)),
            bit_far=None if self.sense_far is None else full("sense_far", (columns,)),
        )

    def _items(self) -> list[tuple[str, Resistance]]:
        return [(name, getattr(self, name)) for name in _NAMES if getattr(self, name) is not None]

    def __repr__(self) -> str:
        parts = (f"{name}={_brief(value)}" for name, value in self._items())
        return f"Wires({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Wires):
            return NotImplemented
        mine, theirs = self._items(), other._items()
        return len(mine) == len(theirs) and all(
            name == name2 and type(a) is type(b) and torch.equal(torch.as_tensor(a), torch.as_tensor(b))
            for (name, a), (name2, b) in zip(mine, theirs, strict=True)
        )

    def __hash__(self) -> int:
        return hash(tuple((name, _brief(value)) for name, value in self._items()))


def _checked(value: Any, name: str) -> Resistance:
    """A number where nothing is lost by it, else a tensor of resistances."""
    label = f"Wires.{name}"
    try:
        value = as_tensor(value, label)
    except SpecError as error:
        raise SpecError(f"{label} is {shown(value)}: it must be a resistance in ohm") from error
    if isinstance(value, torch.Tensor) and (value.ndim > 0 or value.requires_grad):
        return own(_checked_tensor(as_tensor(value, label), label))
    number = float(value)
    if math.isnan(number) or number < 0:
        raise SpecError(f"{label} is {number} ohm: it must be 0 or more; inf is open")
    return number


def _checked_tensor(value: torch.Tensor, label: str) -> torch.Tensor:
    """Return ``value``, or raise SpecError that names the first entry that is no resistance."""
    check_positive(torch.where(torch.isposinf(value), 0.0, value), label, zero=True)
    return value


def _end_segment(value: Resistance, axis: int) -> Resistance:
    """The resistance of the segment next to the driver (axis 1, rows) or the sense node (axis 0)."""
    if not isinstance(value, torch.Tensor) or value.ndim < 2:
        return value
    if 0 in value.shape:
        name = "row" if axis else "column"
        raise SpecError(f"Wires.{name} of shape {tuple(value.shape)} has no segment: give source= and sense=")
    return value[..., 0] if axis else value[..., -1, :]


def _join(parts: list[torch.Tensor], dim: int) -> torch.Tensor:
    """The parts side by side along ``dim``, their leading axes broadcast."""
    lead = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))
    return torch.cat([part.expand(*lead, *part.shape[-2:]) for part in parts], dim)


def _brief(value: Resistance) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"tensor({', '.join(map(str, value.shape))})"


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Every wire segment of a tile, ohm; leading axes broadcast with those of the tile.

    word: ``(*tiles, rows, columns)``, the segment before each cell; in column 0 the source resistance.
    bit: the same shape, the segment below each cell; in the last row the sense resistance.
    word_far, bit_far: ``(*tiles, rows)``, ``(*tiles, columns)`` at the far ends; None: all open.
    ``inf`` in any of them is open.

    >>> segments = Wires(row=2.0, column=1.0, source=5.0).spread(2, 3)
    >>> segments.word.tolist()
    [[5.0, 2.0, 2.0], [5.0, 2.0, 2.0]]
    """

    word: torch.Tensor
    bit: torch.Tensor
    word_far: torch.Tensor | None
    bit_far: torch.Tensor | None

    def tiles(self, lead: tuple[int, ...]) -> Segments:
        """Leading axes ``lead`` as one; parts without leading axes of their own keep an axis of 1."""

        def flat(part: torch.Tensor, axes: int) -> torch.Tensor:
            own = part.shape[-axes:]
            return part[None] if part.ndim == axes else part.expand(*lead, *own).reshape(-1, *own)

        return Segments(
            word=flat(self.word, 2),
            bit=flat(self.bit, 2),
            word_far=None if self.word_far is None else flat(self.word_far, 1),
            bit_far=None if self.bit_far is None else flat(self.bit_far, 1),
        )

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The parts that are there."""
        return tuple(part for part in vars(self).values() if part is not None)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Segments:
        """The same with ``change`` of every part."""
        word_far, bit_far = (None if far is None else change(far) for far in (self.word_far, self.bit_far))
        return Segments(word=change(self.word), bit=change(self.bit), word_far=word_far, bit_far=bit_far)

    def pick(self, tiles: slice | torch.Tensor) -> Segments:
        """Of some tiles, after ``tiles``."""
        return self.map(lambda part: part if len(part) == 1 else part[tiles])

    def double(self) -> Segments:
        """In float64."""
        return self.map(torch.Tensor.double)

    def closed(self, ohm: float) -> Segments:
        """With ``ohm`` where a segment is open."""
        return self.map(lambda part: torch.where(torch.isinf(part), ohm, part))

    def flows(self, current: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Wire currents, A, for cell currents ``(*tiles, batch, rows, columns)``.

        word: towards higher columns, in the segment before each cell; bit: down, in the segment below
        each cell; both in the shape of ``current``. Then what the far ends take in, ``(*tiles, batch,
        rows)`` from the drivers and ``(*tiles, batch, columns)`` into the sense nodes.
        """
        word, word_far = _flow(current, self.word, self.word_far)
        if self.bit_far is None:  # the same as below, in a fifth of the time
            bit = torch.where(torch.isinf(self.bit).unsqueeze(-3), 0.0, current.cumsum(-2))
            return word, bit, word_far, torch.zeros_like(current[..., 0, :])
        bit, bit_far = _flow(current.mT.flip(-1), self.bit.mT.flip(-1), self.bit_far)
        return word, bit.flip(-1).mT, word_far, bit_far

    def ohmic_flows(
        self,
        word: torch.Tensor,
        bit: torch.Tensor,
        conductance: torch.Tensor,
        drivers: torch.Tensor,
        sense: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same for node voltages ``(*tiles, batch, rows, columns)``, and what the terminals are at.

        drivers ``(*tiles, batch, rows)`` V, sense ``(*tiles, batch, columns)`` V, conductance ``(*tiles,
        rows, columns)`` S. A segment that resists more than the cells of its line together has the
        current of its own voltage, one that resists less what Kirchhoff's law leaves: so few digits go.
        """
        word_flow, bit_flow, word_far, bit_far = self.flows(conductance.unsqueeze(-3) * (word - bit))
        along = torch.cat([drivers.unsqueeze(-1), word[..., :-1]], -1) - word
        down = bit - torch.cat([bit[..., 1:, :], sense.unsqueeze(-2)], -2)
        of_word, of_bit = conductance.sum(-1, keepdim=True), conductance.sum(-2, keepdim=True)
        word_flow = _by_ohm(along, self.word, of_word, word_flow)
        bit_flow = _by_ohm(down, self.bit, of_bit, bit_flow)
        if self.word_far is not None:
            word_far = _by_ohm(drivers - word[..., -1], self.word_far, of_word[..., 0], word_far, -2)
        if self.bit_far is not None:
            bit_far = _by_ohm(bit[..., 0, :] - sense, self.bit_far, of_bit[..., 0, :], bit_far, -2)
        return word_flow, bit_flow, word_far, bit_far

    def drop(self, current: torch.Tensor) -> torch.Tensor:
        """Voltage that the wires take from each cell, V, for ``current (*tiles, batch, rows, columns)`` A."""
        word, bit, _, _ = self.flows(current)
        return self.word_drop(word) + self.bit_drop(bit)

    def word_drop(self, flow: torch.Tensor) -> torch.Tensor:
        """From the driver to each cell's word line node, for the word currents of ``flows``."""
        return (flow * self.word.unsqueeze(-3)).cumsum(-1)

    def bit_drop(self, flow: torch.Tensor) -> torch.Tensor:
        """From each cell's bit line node to the sense node, for the bit currents of ``flows``."""
        return (flow * self.bit.unsqueeze(-3)).flip(-2).cumsum(-2).flip(-2)


def _flow(
    current: torch.Tensor, segment: torch.Tensor, far: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Currents in the segments before nodes that draw ``current``, and what the far end feeds in.

    The near end is before node 0. Both ends are at one voltage, so the drops along the line sum to 0.
    """
    opened = torch.isinf(segment)
    if far is None:
        flow = torch.where(opened.unsqueeze(-3), 0.0, _beyond(current))
        return flow, torch.zeros_like(current[..., 0])
    broken = opened.any(-1) | torch.isinf(far)
    # beside an open segment all others are as good as none
    segment = torch.where(broken.unsqueeze(-1), opened.to(segment), segment)
    far = torch.where(broken, torch.isinf(far).to(far), far)
    along = segment.cumsum(-1)
    rest = _beyond(pad(segment[..., 1:], (0, 1))) + far.unsqueeze(-1)
    along, rest = along.unsqueeze(-3), rest.unsqueeze(-3)
    total = along[..., :1] + rest[..., :1]
    # a line without any resistance has no say in where its current comes from: the near end
    whole = torch.where(total > 0, total, 1.0)
    fed = current * (along / whole)
    near = current * torch.where(total > 0, rest / whole, 1.0)
    # what cells beyond take from the near end, less what those before take from the far end: each
    # exact, where the sum of all currents beyond less all that is fed would cancel
    before = pad(fed.cumsum(-1)[..., :-1], (1, 0))
    return _beyond(near) - before, fed.sum(-1)


def _by_ohm(
    volts: torch.Tensor, ohm: torch.Tensor, line: torch.Tensor, otherwise: torch.Tensor, axis: int = -3
) -> torch.Tensor:
    """``volts / ohm`` where that is the better current, beside cells of ``line`` siemens."""
    ohm, better = ohm.unsqueeze(axis), (ohm * line >= 1).unsqueeze(axis)
    return torch.where(better, volts / torch.where(better, ohm, 1.0), otherwise)


def _beyond(current: torch.Tensor) -> torch.Tensor:
    """Sum from each node to the last."""
    return current.flip(-1).cumsum(-1).flip(-1)
