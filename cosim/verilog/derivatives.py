"""Exact derivatives: forward differentiation of structured SSA, sparse, with respect to the probes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cosim.verilog.circuit import Probe
from cosim.verilog.rules import RULES, Code
from cosim.verilog.ssa import DERIVATIVE, Builder, Conditional, Loop, Merge, Operation, Region, Value, walk

__all__ = ["Differentiated", "differentiate"]

Slopes = dict[str, Value]  # by the name of the probe; absent: 0


class _Differentiator:
    """Rebuilds a region in a new builder, each value with its slopes behind it."""

    def __init__(self, builder: Builder, probes: Mapping[str, Probe], stands: Mapping[Value, Value]) -> None:
        self.builder = builder
        self.values: dict[Value, Value] = dict(stands)
        self.slopes: dict[Value, Slopes] = {p.value: {n: builder.literal(1.0)} for n, p in probes.items()}
        self.slopes |= {old: self.slopes[new] for old, new in stands.items()}
        self._code = Code(builder)
        self.resolved = False  # whether a ddx got its value here; its own slopes are missing then
        self._open: set[Value] = set()  # values that a ddx is part of
        self._by_node: dict[str, list[tuple[str, float]]] = {}
        for name, probe in probes.items():
            for index, sign in probe.parts:
                self._by_node.setdefault(f"#{index}", []).append((name, sign))

    def value(self, old: Value) -> Value:
        """The new value; inputs are the same in all builders."""
        return self.values.get(old, old) if old.literal is None else self.builder.literal(old.literal)

    def region(self, region: Region) -> None:
        for item in region.items:
            if isinstance(item, Operation):
                self.operation(item)
            elif isinstance(item, Conditional):
                self.conditional(item)
            else:
                self.loop(item)

    def operation(self, item: Operation) -> None:
        if item.result is None:
            self.builder.effect(item.opcode, *(self.value(v) for v in item.operands))
            return
        operands = tuple(self.value(v) for v in item.operands)
        waits = not self._open.isdisjoint(item.operands)
        if waits or item.opcode == DERIVATIVE:
            self._open.add(item.result)
        if item.opcode == DERIVATIVE and not waits:
            self.values[item.result] = self._ddx(item)
            self.resolved = True
            return
        result = self.builder.emit(item.opcode, *operands)
        self.values[item.result] = result
        inner = [self.slopes.get(v, {}) for v in item.operands]
        if not any(inner) or item.opcode not in RULES or result.literal is not None:
            return
        rule = RULES[item.opcode]
        slopes: Slopes = {}
        for name in dict.fromkeys(name for slopes_of in inner for name in slopes_of):
            slope = rule(self._code, result, operands, [s.get(name) for s in inner])
            if slope is not None:
                slopes[name] = slope
        if slopes:
            self.slopes[item.result] = slopes

    def _ddx(self, item: Operation) -> Value:
        """The derivative asked for."""
        value, by = item.operands
        slopes = self.slopes.get(value, {})
        wanted = str(by.literal)
        parts = self._by_node.get(wanted, []) if wanted.startswith("#") else [(wanted, 1.0)]
        total = self.builder.literal(0.0)
        for name, sign in parts:
            if name in slopes:
                term = self.builder.emit("fmul", self.builder.literal(sign), slopes[name])
                total = self.builder.emit("fadd", total, term)
        return total

    def conditional(self, item: Conditional) -> None:
        new = Conditional(self.value(item.condition), Region(), Region())
        for source, target in ((item.then, new.then), (item.other, new.other)):
            with self.builder.inside(target):
                self.region(source)
        if new.then.items or new.other.items:
            self.builder.append(new)
            join = functools.partial(self.builder.merge, new)
        else:
            join = functools.partial(self.builder.choose, new.condition)
        zero = self.builder.literal(0.0)
        for merge in item.merges:
            if not self._open.isdisjoint((item.condition, merge.then, merge.other)):
                self._open.add(merge.result)
            self.values[merge.result] = join(self.value(merge.then), self.value(merge.other))
            sides = [self.slopes.get(v, {}) for v in (merge.then, merge.other)]
            slopes = {
                name: join(sides[0].get(name, zero), sides[1].get(name, zero))
                for name in dict.fromkeys([*sides[0], *sides[1]])
            }
            if slopes:
                self.slopes[merge.result] = slopes

    def loop(self, item: Loop) -> None:
        needs = self._loop_slopes(item)
        zero = self.builder.literal(0.0)
        pending = []
        for merge in item.merges:
            value = self.builder.fresh(merge.result.type, varying=True)
            self.values[merge.result] = value
            pending.append((value, self.value(merge.then), merge, ""))
            start = self.slopes.get(merge.then, {})
            slopes = {}
            for name in needs[merge.result]:
                slopes[name] = self.builder.fresh("real", varying=True)
                pending.append((slopes[name], start.get(name, zero), merge, name))
            if slopes:
                self.slopes[merge.result] = slopes
        head, body = Region(), Region()
        with self.builder.inside(head):
            self.region(item.head)
        with self.builder.inside(body):
            self.region(item.body)
        new = [
            Merge(
                value,
                start,
                self.value(merge.other) if not name else self.slopes.get(merge.other, {}).get(name, zero),
            )
            for value, start, merge, name in pending
        ]
        self.builder.append(Loop(new, head, self.value(item.condition), body))

    def _loop_slopes(self, item: Loop) -> dict[Value, list[str]]:
        """Which probes each variable of a loop may depend on: the least set that every turn keeps."""
        depends: dict[Value, set[str]] = {v: set(s) for v, s in self.slopes.items()}
        for merge in item.merges:
            depends[merge.result] = set(depends.get(merge.then, ()))
        size = -1
        while size != (size := sum(map(len, depends.values()))):
            for part in (item.head, item.body):
                for inner in walk(part):
                    _spread(inner, depends)
            for merge in item.merges:
                depends[merge.result] |= depends.get(merge.other, set())
        return {merge.result: sorted(depends[merge.result]) for merge in item.merges}


def _spread(item: Operation | Conditional | Loop, depends: dict[Value, set[str]]) -> None:
    if isinstance(item, Operation):
        if item.result is not None:
            depends[item.result] = set().union(*(depends.get(v, ()) for v in item.operands))
        return
    for merge in item.merges:
        sides = (depends.get(merge.then, set()), depends.get(merge.other, set()))
        depends[merge.result] = depends.get(merge.result, set()) | sides[0] | sides[1]


@dataclass(frozen=True)
class Differentiated:
    """Code with derivatives: the new value of an old one, and the slopes of an old one by each probe."""

    builder: Builder
    values: Mapping[Value, Value]
    slopes: Mapping[Value, Slopes]


def differentiate(
    region: Region,
    probes: Mapping[str, Probe],
    outputs: Iterable[Value],
    varying: Iterable[Value],
    stands: Mapping[Value, Value],
) -> Differentiated:
    """``region`` again, with the slopes of its values behind them; every ddx in it is resolved.

    varying: the inputs that change while the parameters stay. stands: inputs that probes stand for.
    """
    current = {value: value for value in outputs}
    turn = 0
    while True:
        builder = Builder(f"d{turn}_", varying)
        run = _Differentiator(builder, probes, stands)
        run.region(region)
        slopes = {old: run.slopes.get(value, {}) for old, value in current.items()}
        current = {old: run.value(value) for old, value in current.items()}
        if not run.resolved:
            return Differentiated(builder, current, slopes)
        region = builder.root
        turn += 1
