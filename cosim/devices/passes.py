"""Pure passes over DeviceIR: specialise, unroll, turn branches into selects, fold, share, drop.

``Tracer`` walks a function with some inputs known. What is known is computed at once; a branch whose
condition is known is followed, so loops with known bounds unroll; any other branch becomes selects.
The result is straight-line code, which the torch printer prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import networkx as nx

from cosim.devices.interp import SCALAR
from cosim.devices.ir import OPCODES, Branch, Constant, Function, Input, Instruction, Jump, Scalar, Type
from cosim.errors import ModelError

__all__ = ["Effect", "Known", "Operand", "Straight", "Tracer", "fix_inputs", "live"]

_VISITS = 20_000  # blocks; a loop that needs more is not a loop with constant bounds


@dataclass(frozen=True)
class Known:
    """A value that is known while compiling."""

    literal: Scalar

    def __hash__(self) -> int:  # 0.0 and -0.0, 1 and True are different values here
        return hash((type(self.literal), repr(self.literal)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Known)
            and type(self.literal) is type(other.literal)
            and repr(self.literal) == repr(other.literal)
        )


Operand: TypeAlias = Known | str


@dataclass(frozen=True)
class Straight:
    """One instruction of straight-line code. Opcodes: those of the table, ``select`` and ``band``."""

    result: str
    opcode: str
    operands: tuple[Operand, ...]
    type: Type


@dataclass(frozen=True)
class Effect:
    opcode: str
    argument: Scalar
    when: Operand


# Where a branch is not taken its operands are arbitrary: an operand of these opcodes is replaced by a
# harmless one, because a NaN there would poison the gradient of the side that is taken.
_SAFE_OPERAND: dict[str, tuple[int, Scalar]] = {
    "fdiv": (1, 1.0),
    "frem": (1, 1.0),
    "idiv": (1, 1),
    "irem": (1, 1),
    "ln": (0, 1.0),
    "log": (0, 1.0),
    "sqrt": (0, 1.0),
    "pow": (0, 1.0),
    "exp": (0, 0.0),
    "sinh": (0, 0.0),
    "cosh": (0, 0.0),
    "tan": (0, 0.0),
    "asin": (0, 0.0),
    "acos": (0, 0.0),
    "acosh": (0, 2.0),
    "atanh": (0, 0.0),
    "hypot": (0, 1.0),
    "atan2": (0, 1.0),
    "ficast": (0, 0.0),
}


class Tracer:
    """Builds straight-line code. ``positive``: names of values known to be above 0 (running time)."""

    def __init__(self, positive: Iterable[str] = ()) -> None:
        self.code: list[Straight] = []
        self.effects: list[Effect] = []
        self._memo: dict[tuple[str, tuple[Operand, ...]], Operand] = {}
        self._line: dict[str, Straight] = {}
        self._types: dict[str, Type] = {}
        self._positive = frozenset(positive)
        self._visits = 0

    def declare(self, name: str, type_: Type) -> str:
        """A value that stays unknown, under its own name."""
        self._types[name] = type_
        return name

    def type_of(self, operand: Operand) -> Type:
        if isinstance(operand, str):
            return self._types[operand]
        kinds: dict[type, Type] = {bool: "boolean", int: "integer", float: "real", str: "string"}
        return kinds[type(operand.literal)]

    def line(self, operand: Operand) -> Straight | None:
        """The instruction that makes ``operand``, if one does."""
        return self._line.get(operand) if isinstance(operand, str) else None

    # --- single instructions ------------------------------------------------------------------------

    def emit(self, opcode: str, *operands: Operand, when: Operand = Known(True)) -> Operand:
        """The value of ``opcode`` on ``operands``; new code only where nothing simpler is equal."""
        if all(isinstance(v, Known) for v in operands) and opcode in SCALAR:
            return Known(SCALAR[opcode](*(v.literal for v in operands if isinstance(v, Known))))
        simple = _SIMPLER[opcode](self, *operands) if opcode in _SIMPLER else None
        if simple is not None:
            return simple
        if opcode in _SAFE_OPERAND and isinstance(when, str):
            operands = self._guard(opcode, operands, when)
        key = (opcode, operands)
        if key not in self._memo:
            name = f"t{len(self.code)}"
            type_ = self.type_of(operands[1]) if opcode == "select" else _result_type(opcode)
            self._types[name] = type_
            self._line[name] = Straight(name, opcode, operands, type_)
            self.code.append(self._line[name])
            self._memo[key] = name
        return self._memo[key]

    def _guard(self, opcode: str, operands: tuple[Operand, ...], when: str) -> tuple[Operand, ...]:
        position, harmless = _SAFE_OPERAND[opcode]
        if isinstance(operands[position], Known):
            return operands
        replaced = list(operands)
        replaced[position] = self.emit("select", when, operands[position], Known(harmless))
        return tuple(replaced)

    # --- whole functions ----------------------------------------------------------------------------

    def trace(
        self,
        function: Function,
        read: Callable[[Input], Operand],
        call: Callable[[str, tuple[Operand, ...]], Operand],
    ) -> dict[str, Operand]:
        """Values of ``function``, inputs from ``read``, analysis() and $simparam from ``call``."""
        values: dict[str, Operand] = {c.value: Known(c.literal) for c in function.constants}
        values |= {i.value: read(i) for i in function.inputs}
        walk = _Walk(self, function, values, call)
        walk.run(function.blocks[0].name, {}, None, Known(True))
        return values

    def visit(self) -> None:
        self._visits += 1
        if self._visits > _VISITS:
            raise ModelError(
                "a loop whose bound depends on a voltage or a per-cell parameter cannot be unrolled for "
                "torch: give it a constant bound and an if inside"
            )


class _Walk:
    """One walk through the blocks of a function."""

    def __init__(
        self,
        tracer: Tracer,
        function: Function,
        values: dict[str, Operand],
        call: Callable[[str, tuple[Operand, ...]], Operand],
    ) -> None:
        self.tracer = tracer
        self.values = values
        self.call = call
        self.blocks = {block.name: block for block in function.blocks}
        graph = nx.DiGraph()
        for block in function.blocks:
            graph.add_edges_from((target, block.name) for target in block.successors())
            if not block.successors():
                graph.add_edge("", block.name)  # "" is the end of the function
        self.join = nx.immediate_dominators(graph, "")

    def run(
        self, name: str, phis: Mapping[str, Operand], stop: str | None, when: Operand, depth: int = 0
    ) -> dict[str, Operand]:
        """Walk from ``name`` to ``stop``; the values that the phis of ``stop`` take on this way."""
        if depth > 100:
            raise ModelError("the branches of the model are nested too deeply for torch (100 levels)")
        arrived = dict(phis)
        while name != stop:
            self.tracer.visit()
            self.values |= arrived
            block = self.blocks[name]
            for code in block.code:
                self.execute(code, when)
            if isinstance(block.end, Jump):
                arrived = self.arrival(name, block.end.target)
                name = block.end.target
            elif isinstance(block.end, Branch):
                name, arrived = self.branch(name, block.end, when, depth)
            else:
                name = ""
            if name == "":
                return {}
        return arrived

    def arrival(self, source: str, target: str) -> dict[str, Operand]:
        return {phi.result: self.values[dict(phi.incoming)[source]] for phi in self.blocks[target].phis}

    def branch(self, name: str, end: Branch, when: Operand, depth: int) -> tuple[str, dict[str, Operand]]:
        condition = self.values[end.condition]
        if isinstance(condition, Known):
            target = end.true if condition.literal else end.false
            return target, self.arrival(name, target)
        tracer, join = self.tracer, self.join[name]
        sides = []
        for target, taken in ((end.true, condition), (end.false, tracer.emit("bnot", condition))):
            side = tracer.emit("band", when, taken)
            sides.append(self.run(target, self.arrival(name, target), join or None, side, depth + 1))
        if join == "":
            return "", {}
        merged = {key: tracer.emit("select", condition, sides[0][key], sides[1][key]) for key in sides[0]}
        return join, merged

    def execute(self, code: Instruction, when: Operand) -> None:
        operands = tuple(self.values[v] for v in code.operands)
        if code.result is None:
            (argument,) = operands
            assert isinstance(argument, Known)
            self.tracer.effects.append(Effect(code.opcode, argument.literal, when))
        elif code.opcode in ("analysis", "simparam"):
            self.values[code.result] = self.call(code.opcode, operands)
        else:
            self.values[code.result] = self.tracer.emit(code.opcode, *operands, when=when)


def fix_inputs(function: Function, known: Mapping[str, Scalar]) -> Function:
    """``function`` whose inputs with these values are constants."""
    fixed = [source for source in function.inputs if source.value in known]
    return replace(
        function,
        inputs=tuple(source for source in function.inputs if source.value not in known),
        constants=(*function.constants, *(Constant(s.value, s.type, known[s.value]) for s in fixed)),
    )


def live(code: Iterable[Straight], roots: Iterable[Operand]) -> list[Straight]:
    """The part of ``code`` that ``roots`` need, in order."""
    needed = {root for root in roots if isinstance(root, str)}
    kept = []
    for line in reversed(list(code)):
        if line.result in needed:
            kept.append(line)
            needed |= {v for v in line.operands if isinstance(v, str)}
    return kept[::-1]


def _result_type(opcode: str) -> Type:
    if opcode == "band":
        return "boolean"
    result = OPCODES[opcode].result
    assert result is not None
    return result


# --- simplifications: each returns an equal operand, or None ------------------------------------------


def _is(operand: Operand, literal: float) -> bool:
    return (
        isinstance(operand, Known) and operand.literal == literal and not math.isnan(float(operand.literal))
    )


def _fadd(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    return b if _is(a, 0.0) else a if _is(b, 0.0) else None


def _fsub(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    if _is(b, 0.0):
        return a
    return t.emit("fneg", b) if _is(a, 0.0) else None


def _fmul(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    if _is(a, 0.0) or _is(b, 0.0):
        return Known(0.0)  # the other factor is taken to be finite
    if _is(a, 1.0):
        return b
    if _is(b, 1.0):
        return a
    if _is(a, -1.0):
        return t.emit("fneg", b)
    return t.emit("fneg", a) if _is(b, -1.0) else None


def _fdiv(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    if _is(a, 0.0) and not _is(b, 0.0):
        return Known(0.0)
    return a if _is(b, 1.0) else None


def _undo(opcode: str) -> Callable[..., Operand | None]:
    def simplify(t: Tracer, a: Operand) -> Operand | None:
        line = t.line(a)
        return line.operands[0] if line is not None and line.opcode == opcode else None

    return simplify


def _pow(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    if _is(b, 0.0):
        return Known(1.0)
    return a if _is(b, 1.0) else None


def _select(t: Tracer, c: Operand, a: Operand, b: Operand) -> Operand | None:
    if isinstance(c, Known):
        return a if c.literal else b
    if a == b:
        return a
    if t.type_of(a) == "boolean":
        either = [t.emit("band", c, a), t.emit("band", t.emit("bnot", c), b)]
        inverted = [t.emit("bnot", v) for v in either]
        return t.emit("bnot", t.emit("band", *inverted))
    return None


def _band(t: Tracer, a: Operand, b: Operand) -> Operand | None:
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Known):
            return other if one.literal else Known(False)
    return a if a == b else None


def _time_runs(result: bool) -> Callable[..., Operand | None]:
    def simplify(t: Tracer, a: Operand, b: Operand) -> Operand | None:
        return Known(result) if a in t._positive and _is(b, 0.0) else None

    return simplify


_SIMPLER: dict[str, Callable[..., Operand | None]] = {
    "fadd": _fadd,
    "fsub": _fsub,
    "fmul": _fmul,
    "fdiv": _fdiv,
    "fneg": _undo("fneg"),
    "pow": _pow,
    "select": _select,
    "band": _band,
    "bnot": _undo("bnot"),
    "fgt": _time_runs(True),
    "fne": _time_runs(True),
    "fle": _time_runs(False),
    "feq": _time_runs(False),
}
