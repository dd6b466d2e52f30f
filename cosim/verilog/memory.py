"""Variables that are read before they are set: of the same evaluation, or carried between time points.

A variable that follows from unknowns of the same evaluation (an integral or a node further down) is an
algebraic unknown itself. Every other one is carried from the last accepted time point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cosim.devices.ir import BOUND_STEP, RETAKE
from cosim.verilog.circuit import Circuit
from cosim.verilog.regions import live_items
from cosim.verilog.scope import Term
from cosim.verilog.ssa import Builder, Conditional, Loop, Merge, Operation, Region, Value, walk

__all__ = ["Carried", "Memory", "settle"]

_UNKNOWN, _OUTSIDE, _TIME = 1, 2, 4  # bits of a set of dependences; those above belong to the variables


@dataclass(frozen=True, slots=True)
class Carried:
    """A kept variable: what it is read as, at the start, and after an accepted point."""

    name: str
    value: Value
    initial: Value
    next: Value
    place: str = ""  # where it is declared; "" for one that no file declares
    discrete: bool = False  # a switch: voltages choose it among values that parameters set
    steps: bool = False  # a real one that moves on from what it was, by no time

    @property
    def note(self) -> str:
        """What a user of the file should know."""
        moves = f"{self.name} moves on at each accepted time point, however long the step"
        if self.steps:
            return f"{self.place}: {moves}: its course follows the engine's steps, not $abstime"
        how = "it is carried from the last accepted time point"
        return f"{self.place}: {self.name} is read before it is set: {how}"


@dataclass(frozen=True, slots=True)
class Memory:
    """carried: from point to point. same: what stands for a variable of the same evaluation."""

    carried: tuple[Carried, ...]
    same: Mapping[Value, Value]


def settle(circuit: Circuit, variables: Iterable[Carried]) -> Memory:
    """Tell what the equations need apart; variables of the same evaluation become unknowns of ``circuit``."""
    variables = _needed(circuit, tuple(variables))
    if not variables:
        return Memory((), {})
    depends = _Dependences(circuit, variables)
    depends.region(circuit.builder.root)
    compared = _compared(circuit.builder.root)
    same: dict[Value, Value] = {}
    open_ = [
        v
        for v in variables
        if v.place and v.value.type == "real" and not {(v.value, v.next), (v.next, v.value)} & compared
    ]
    known = _UNKNOWN
    while ready := [v for v in open_ if depends.of(v.next) and not depends.of(v.next) & ~known]:
        for variable in ready:
            known |= depends.bit[variable.value]
            same[variable.value] = _unknown(circuit, variable, same)
        open_ = [v for v in open_ if v.value not in same]
    return Memory(_described(circuit, [v for v in variables if v.value not in same], depends), same)


def _described(circuit: Circuit, variables: Sequence[Carried], depends: _Dependences) -> tuple[Carried, ...]:
    """Which are switches and which move on by points; not what an event sets, which has a place in time."""
    origins, timed = _origins(circuit.builder.root), depends.timed(variables)
    events = depends.of(*(v.value for v in variables if not v.place))
    found = []
    for v in variables:
        needs, discrete = depends.of(v.next), _is_discrete(v.next, v.value, origins, circuit.builder)
        free = v.place != "" and v.value not in timed and not needs & events
        moves = v.value.type == "real" and needs & depends.bit[v.value] > 0
        found.append(replace(v, discrete=free and discrete, steps=free and moves and not discrete))
    return tuple(found)


def _unknown(circuit: Circuit, variable: Carried, same: Mapping[Value, Value]) -> Value:
    """What a variable is in the same evaluation: an unknown, with an equation where it is not one already."""
    value = same.get(variable.next, variable.next)
    if any(value is probe.value for probe in circuit.probes.values()):
        return value
    index, unknown = circuit.new_implicit()
    circuit.add_to_row(index, circuit.difference(unknown, Term(value)))
    return unknown


def _needed(circuit: Circuit, variables: tuple[Carried, ...]) -> tuple[Carried, ...]:
    """Those that an equation reads, or another needed variable does, and those that limit the steps."""
    roots = [value for row in circuit.rows.values() for value in (*row.resist, *row.react)]
    found: tuple[Carried, ...] = ()
    while True:
        _, used = live_items(circuit.builder.root, roots)
        needed = tuple(v for v in variables if v.value in used or v.name in (BOUND_STEP, RETAKE))
        if needed == found:
            return found
        found = needed
        roots += [variable.next for variable in found]


def _origins(region: Region) -> dict[Value, Merge]:
    """Values that a condition chose."""
    return {
        merge.result: merge for item in walk(region) if isinstance(item, Conditional) for merge in item.merges
    }


def _is_discrete(value: Value, itself: Value, origins: Mapping[Value, Merge], builder: Builder) -> bool:
    pending, seen = [value], set()
    while pending:
        one = pending.pop()
        if one is itself or one in seen or one.literal is not None or not builder.varies(one):
            continue
        if one not in origins:
            return False
        seen.add(one)
        pending += [origins[one].then, origins[one].other]
    return True


def _compared(region: Region) -> set[tuple[Value, ...]]:
    """Pairs that are subtracted or compared: where one is the other's old value, they are never the same."""
    return {
        item.operands
        for item in walk(region)
        if isinstance(item, Operation) and item.opcode[1:] in ("sub", "lt", "gt", "le", "ge", "eq", "ne")
    }


class _Dependences:
    """What each value depends on, conditions included, as a set of bits."""

    def __init__(self, circuit: Circuit, variables: Iterable[Carried]) -> None:
        self.bit = {variable.value: 8 << k for k, variable in enumerate(variables)}
        self._sets: dict[Value, int] = dict(self.bit)
        for (kind, _), value in circuit.inputs.items():
            if kind in ("abstime", "integrating", "starting"):
                self._sets[value] = _OUTSIDE | (_TIME if kind == "abstime" else 0)
        for probe in circuit.probes.values():
            inside = not any(circuit.nodes[index].terminal for index, _ in probe.parts)
            self._sets[probe.value] = _UNKNOWN if inside else _OUTSIDE

    def of(self, *values: Value) -> int:
        total = 0
        for value in values:
            total |= self._sets.get(value, 0)
        return total

    def timed(self, variables: Sequence[Carried]) -> set[Value]:
        """Those that depend on time, also by way of others."""
        found: set[Value] = set()
        reached = _TIME
        while more := {v.value for v in variables if self.of(v.next) & reached} - found:
            found |= more
            for value in more:
                reached |= self.bit[value]
        return found

    def region(self, region: Region) -> None:
        for item in region.items:
            if isinstance(item, Operation):
                if item.result is not None:
                    self._sets[item.result] = self.of(*item.operands)
            elif isinstance(item, Conditional):
                self.region(item.then)
                self.region(item.other)
                for merge in item.merges:
                    self._sets[merge.result] = self.of(item.condition, merge.then, merge.other)
            else:
                self._loop(item)

    def _loop(self, item: Loop) -> None:
        before = None
        while before != (before := self.of(*(merge.result for merge in item.merges), item.condition)):
            for merge in item.merges:
                found = self.of(item.condition, merge.then, merge.other, merge.result)
                self._sets[merge.result] = found
            self.region(item.head)
            self.region(item.body)
