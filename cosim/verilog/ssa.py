"""Structured SSA: straight code, conditionals and loops as a tree, built with folding and sharing.

A value is defined once, and is known in the region that defines it and in the regions inside. What is
known while building (``literal``) is computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from cosim.devices.interp import SCALAR
from cosim.devices.ir import OPCODES, Scalar, Type
from cosim.errors import ModelError

__all__ = [
    "DERIVATIVE",
    "Builder",
    "Conditional",
    "Item",
    "Loop",
    "Merge",
    "Operation",
    "Region",
    "Value",
    "walk",
]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One value. ``literal`` where it is known."""

    name: str
    type: Type
    literal: Scalar | None = None

    def is_literal(self, number: float) -> bool:
        return self.literal is not None and not isinstance(self.literal, str) and self.literal == number


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One instruction; ``result`` is None for an effect."""

    result: Value | None
    opcode: str
    operands: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """``result`` is ``then`` or ``other``: by a condition, or before the first turn and after each turn."""

    result: Value
    then: Value
    other: Value


@dataclass(slots=True, eq=False)
class Region:
    items: list[Item] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Conditional:
    condition: Value
    then: Region
    other: Region
    merges: list[Merge] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Loop:
    """``merges`` hold the loop's variables: before the first turn, and after each turn."""

    merges: list[Merge]
    head: Region  # computes the condition
    condition: Value
    body: Region


Item: TypeAlias = Operation | Conditional | Loop

_VARYING = frozenset({"analysis", "simparam"})  # what the simulator says, at each evaluation
DERIVATIVE = "ddx"  # (value, probe): until derivatives are taken; not an opcode of DeviceIR
_NOT_FOLDED = frozenset({"idiv", "irem", "ficast"})  # may be errors: they stay in the code


class Builder:
    """Emits into the innermost open region; equal operations on equal operands are one value."""

    def __init__(self, prefix: str = "v", varying: Iterable[Value] = ()) -> None:
        self.root = Region()
        self._prefix = prefix
        self._count = 0
        self._regions = [self.root]
        self._known: list[dict[tuple[str, tuple[str, ...]], Value]] = [{}]
        self._literals: dict[tuple[str, str], Value] = {}
        self._varying = set(varying)

    @property
    def depth(self) -> int:
        """How many regions are open; 1 outside of every conditional and loop."""
        return len(self._regions)

    @property
    def region(self) -> Region:
        """The innermost open region."""
        return self._regions[-1]

    def fresh(self, kind: Type, *, varying: bool = False) -> Value:
        """A new value; ``varying`` if it changes while the parameters stay."""
        self._count += 1
        value = Value(f"{self._prefix}{self._count}", kind)
        if varying:
            self._varying.add(value)
        return value

    def varies(self, *values: Value) -> bool:
        """Whether any of the values changes while the parameters stay."""
        return not self._varying.isdisjoint(values)

    def literal(self, value: Scalar) -> Value:
        """A known value."""
        kinds: dict[type, Type] = {bool: "boolean", int: "integer", float: "real", str: "string"}
        kind = kinds[type(value)]
        key = (kind, repr(value))
        if key not in self._literals:
            self._literals[key] = Value(f"{self._prefix}k{len(self._literals)}", kind, value)
        return self._literals[key]

    @property
    def literals(self) -> list[Value]:
        return list(self._literals.values())

    def append(self, item: Item) -> None:
        self._regions[-1].items.append(item)

    @contextmanager
    def inside(self, region: Region) -> Iterator[None]:
        """What is emitted here goes into ``region``."""
        self._regions.append(region)
        self._known.append({})
        try:
            yield
        finally:
            self._regions.pop()
            self._known.pop()

    def emit(self, opcode: str, *operands: Value) -> Value:
        """The value of ``opcode`` on ``operands``; new code only where nothing simpler is equal."""
        literals = [value.literal for value in operands]
        if opcode in SCALAR and None not in literals:
            folded = _fold(opcode, literals)
            if folded is not None:
                return self.literal(folded)
        simpler = _simplify(self, opcode, operands)
        if simpler is not None:
            return simpler
        key = (opcode, tuple(value.name for value in operands))
        for known in reversed(self._known):
            if key in known:
                return known[key]
        kind = "real" if opcode == DERIVATIVE else OPCODES[opcode].result
        assert kind is not None
        result = self.fresh(kind, varying=self.varies(*operands) or opcode in _VARYING)
        self.append(Operation(result, opcode, operands))
        self._known[-1][key] = result
        return result

    def effect(self, opcode: str, *operands: Value) -> None:
        self.append(Operation(None, opcode, operands))

    def merge(self, conditional: Conditional, then: Value, other: Value) -> Value:
        """The value behind ``conditional`` that is ``then`` or ``other``."""
        if then is other:
            return then
        for known in conditional.merges:
            if known.then is then and known.other is other:
                return known.result
        result = self.fresh(then.type, varying=self.varies(conditional.condition, then, other))
        conditional.merges.append(Merge(result, then, other))
        return result

    def choose(self, condition: Value, then: Value, other: Value) -> Value:
        """``condition ? then : other`` of values that are both known here."""
        if condition.literal is not None:
            return then if condition.literal else other
        key = ("choose", (condition.name, then.name, other.name))
        for known in reversed(self._known):
            if key in known:
                return known[key]
        conditional = Conditional(condition, Region(), Region())
        self.append(conditional)
        self._known[-1][key] = self.merge(conditional, then, other)
        return self._known[-1][key]


def walk(region: Region) -> Iterator[Item]:
    """Every item below ``region``, each before what is inside it."""
    pending = list(reversed(region.items))
    while pending:
        item = pending.pop()
        yield item
        if isinstance(item, Conditional):
            pending.extend(reversed(item.then.items + item.other.items))
        elif isinstance(item, Loop):
            pending.extend(reversed(item.head.items + item.body.items))


def _fold(opcode: str, literals: list[Scalar | None]) -> Scalar | None:
    if opcode in _NOT_FOLDED:
        try:
            return SCALAR[opcode](*literals)
        except ModelError:
            return None  # an error only if control comes here
    return SCALAR[opcode](*literals)


def _simplify(builder: Builder, opcode: str, operands: tuple[Value, ...]) -> Value | None:
    """An equal value, for finite operands: x + 0, x * 1, x * 0, --x."""
    if opcode in ("fadd", "iadd"):
        a, b = operands
        return b if a.is_literal(0) else a if b.is_literal(0) else None
    if opcode == "fsub":
        a, b = operands
        if b.is_literal(0):
            return a
        return builder.emit("fneg", b) if a.is_literal(0) else None
    if opcode == "fmul":
        return _simplify_product(builder, *operands)
    if opcode == "fdiv":
        a, b = operands
        if b.is_literal(1):
            return a
        return a if a.is_literal(0) and not (b.is_literal(0) or _is_nan(b)) else None
    if opcode == "pow" and operands[1].is_literal(1):
        return operands[0]
    return None


def _simplify_product(builder: Builder, a: Value, b: Value) -> Value | None:
    for one, other in ((a, b), (b, a)):
        if one.is_literal(1):
            return other
        if one.is_literal(0) and (other.literal is None or not _is_nan(other)):
            return builder.literal(0.0)
        if one.is_literal(-1):
            return builder.emit("fneg", other)
    return None


def _is_nan(value: Value) -> bool:
    return isinstance(value.literal, float) and not math.isfinite(value.literal)
