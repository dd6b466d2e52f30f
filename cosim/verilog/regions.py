"""Structured SSA -> two functions of blocks: what is constant for an instance, and what is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cosim.devices import ir
from cosim.verilog.ssa import Conditional, Item, Loop, Merge, Operation, Region, Value

__all__ = ["flatten", "hoist", "live_items"]

_MAY_FAIL = frozenset({"idiv", "irem", "ficast"})  # not computed where control might not come


def hoist(region: Region, varies: Callable[[Value], bool], setup: Region) -> tuple[Region, set[Value]]:
    """Move what does not vary from ``region`` into ``setup``: what is left, and the values moved.

    A condition that varies disappears in ``setup``: both of its sides are computed there.
    """
    moved: set[Value] = set()
    left_behind: set[Value] = set()  # that do not vary, but may fail where control might not come

    def constant(value: Value) -> bool:
        return value.literal is not None or (value not in left_behind and not varies(value))

    def walk(source: Region, target: Region, certain: bool) -> Region:
        left = Region()
        for item in source.items:
            if isinstance(item, Operation):
                movable = all(map(constant, item.operands)) and (certain or item.opcode not in _MAY_FAIL)
                movable = movable and (certain if item.result is None else not varies(item.result))
                (target if movable else left).items.append(item)
                if item.result is not None:
                    (moved if movable else left_behind).add(item.result)
            elif isinstance(item, Conditional) and constant(item.condition):
                split_conditional(item, target, left, certain)
            elif isinstance(item, Conditional):
                then, other = (walk(side, target, False) for side in (item.then, item.other))
                left.items.append(Conditional(item.condition, then, other, item.merges))
                left_behind.update(merge.result for merge in item.merges)
            else:
                left.items.append(item)
        return left

    def split_conditional(item: Conditional, target: Region, left: Region, certain: bool) -> None:
        constant_part = Conditional(item.condition, Region(), Region())
        sides = [
            walk(side, into, certain)
            for side, into in ((item.then, constant_part.then), (item.other, constant_part.other))
        ]
        target.items.append(constant_part)
        rest = []
        for merge in item.merges:
            if constant(merge.then) and constant(merge.other) and not varies(merge.result):
                constant_part.merges.append(merge)
                moved.add(merge.result)
            else:
                rest.append(merge)
                left_behind.add(merge.result)
        left.items.append(Conditional(item.condition, sides[0], sides[1], rest))

    return walk(region, setup, True), moved


def live_items(region: Region, roots: Iterable[Value]) -> tuple[Region, set[Value]]:
    """The part of ``region`` that ``roots`` and effects need, and every value that it uses."""
    needed = {value for value in roots if value.literal is None}
    return _live(region, needed), needed


def _live(region: Region, needed: set[Value]) -> Region:
    kept: list[Item] = []
    for item in reversed(region.items):
        if isinstance(item, Operation):
            if item.result is None or item.result in needed:
                kept.append(item)
                needed.update(value for value in item.operands if value.literal is None)
        elif isinstance(item, Conditional):
            merges = [merge for merge in item.merges if merge.result in needed]
            for merge in merges:
                needed.update(v for v in (merge.then, merge.other) if v.literal is None)
            then, other = _live(item.then, needed), _live(item.other, needed)
            if merges or then.items or other.items:
                kept.append(Conditional(item.condition, then, other, merges))
                if item.condition.literal is None:
                    needed.add(item.condition)
        else:
            loop = _live_loop(item, needed)
            if loop is not None:
                kept.append(loop)
    return Region(kept[::-1])


def _live_loop(item: Loop, needed: set[Value]) -> Loop | None:
    merges = [merge for merge in item.merges if merge.result in needed]
    if not merges:
        return None
    needed.add(item.condition)
    size = -1
    body = head = Region()
    while size != (size := len(needed)):  # a variable of the loop may need another one
        merges = [merge for merge in item.merges if merge.result in needed]
        for merge in merges:
            needed.update(v for v in (merge.then, merge.other) if v.literal is None)
        body = _live(item.body, needed)
        head = _live(item.head, needed)
    merges = [merge for merge in item.merges if merge.result in needed]
    return Loop(merges, head, item.condition, body)


def flatten(
    region: Region, inputs: tuple[ir.Input, ...], names: Mapping[Value, str], outputs: Iterable[Value]
) -> ir.Function:
    """``region`` as blocks. ``names``: values that stand under another name here."""
    flattener = _Flattener(names)
    for value in outputs:
        flattener.value(value)  # one that is known is a constant of the function
    return flattener.function(region, inputs)


class _Flattener:
    def __init__(self, names: Mapping[Value, str]) -> None:
        self.names = names
        self.blocks: list[ir.Block] = []
        self.constants: dict[str, ir.Constant] = {}
        self._name = "b0"
        self._count = 0
        self._phis: list[ir.Phi] = []
        self._code: list[ir.Instruction] = []

    def function(self, region: Region, inputs: tuple[ir.Input, ...]) -> ir.Function:
        self.region(region)
        self._end(ir.Return())
        return ir.Function(inputs, tuple(self.constants.values()), tuple(self.blocks))

    def value(self, value: Value) -> str:
        if value in self.names:
            return self.names[value]
        if value.literal is not None:
            self.constants.setdefault(value.name, ir.Constant(value.name, value.type, value.literal))
        return value.name

    def _label(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def _end(self, end: ir.Jump | ir.Branch | ir.Return) -> str:
        """Close the open block; its name."""
        self.blocks.append(ir.Block(self._name, tuple(self._phis), tuple(self._code), end))
        return self._name

    def _open(self, name: str, phis: Iterable[ir.Phi] = ()) -> None:
        self._name, self._phis, self._code = name, list(phis), []

    def region(self, region: Region) -> None:
        for item in region.items:
            if isinstance(item, Operation):
                result = None if item.result is None else item.result.name
                operands = tuple(self.value(v) for v in item.operands)
                self._code.append(ir.Instruction(result, item.opcode, operands))
            elif isinstance(item, Conditional):
                self.conditional(item)
            else:
                self.loop(item)

    def conditional(self, item: Conditional) -> None:
        then, other, join = self._label(), self._label(), self._label()
        self._end(ir.Branch(self.value(item.condition), then, other))
        ends = []
        for label, side in ((then, item.then), (other, item.other)):
            self._open(label)
            self.region(side)
            ends.append(self._end(ir.Jump(join)))
        self._open(join, [self._phi(merge, ends) for merge in item.merges])

    def loop(self, item: Loop) -> None:
        head, body, behind = self._label(), self._label(), self._label()
        before = self._end(ir.Jump(head))
        position = len(self.blocks)
        self._open(head)
        self.region(item.head)
        self._end(ir.Branch(self.value(item.condition), body, behind))
        self._open(body)
        self.region(item.body)
        turn = self._end(ir.Jump(head))
        first = self.blocks[position]
        phis = tuple(self._phi(merge, [before, turn]) for merge in item.merges)
        self.blocks[position] = ir.Block(first.name, phis, first.code, first.end)
        self._open(behind)

    def _phi(self, merge: Merge, ends: list[str]) -> ir.Phi:
        incoming = ((ends[0], self.value(merge.then)), (ends[1], self.value(merge.other)))
        return ir.Phi(merge.result.name, merge.result.type, incoming)
