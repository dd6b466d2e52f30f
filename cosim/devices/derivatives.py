"""Exact derivatives: a DeviceIR with residuals only -> the same with its Jacobian.

Forward differentiation of the SSA: beside each value that depends on an unknown stands its tangent.
Where a derivative is infinite or undefined at a point whose value is finite (sqrt at 0), it is finite
here, the one of a point beside it, so that 0 times it is 0 and Newton's method goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from cosim.devices.ir import (
    BESIDE,
    Block,
    Constant,
    DeviceIR,
    Function,
    Input,
    Instruction,
    JacobianEntry,
    Phi,
    Residual,
    Return,
    node_pair,
)
from cosim.devices.pruning import prune
from cosim.errors import ModelError

__all__ = ["RULES", "with_jacobian"]

_Tangent: TypeAlias = str | None  # the name of a value; None is 0

_ONE, _ZERO = "one", "zero"
_LOG10_E = 0.4342944819032518


def with_jacobian(ir: DeviceIR) -> DeviceIR:
    """``ir`` with the derivative of every residual by every unknown, whatever it had before."""
    roots = [v for residual in ir.residuals for v in (residual.resist, residual.react) if v is not None]
    blocks, needed = prune(ir.evaluate.blocks, roots)
    run = _Differentiation(replace(ir.evaluate, blocks=blocks))
    blocks, entries = run.blocks(), run.jacobian(ir)
    blocks = tuple(replace(b, code=(*b.code, *run.sums.code)) if b.end == Return() else b for b in blocks)
    outputs = [v for entry in entries for v in (entry.resist, entry.react) if v is not None]
    blocks, needed = prune(blocks, [*roots, *outputs])
    evaluate = Function(
        tuple(i for i in ir.evaluate.inputs if i.value in needed),
        tuple(c for c in (*ir.evaluate.constants, *run.constants.values()) if c.value in needed),
        blocks,
    )
    return replace(ir, evaluate=evaluate, jacobian=entries)


class _Code:
    """Instructions at the end of one block; the same one is written once."""

    def __init__(self, owner: _Differentiation) -> None:
        self._owner = owner
        self._known: dict[tuple[str, tuple[str, ...]], str] = {}
        self.code: list[Instruction] = []

    def add(self, instruction: Instruction) -> None:
        self.code.append(instruction)

    def op(self, opcode: str, *operands: str) -> str:
        key = (opcode, operands)
        if key not in self._known:
            self._known[key] = self._owner.name(operands)
            self.code.append(Instruction(self._known[key], opcode, operands))
        return self._known[key]

    @property
    def one(self) -> str:
        return _ONE

    def number(self, value: float) -> str:
        return self._owner.constant(value)

    def times(self, factor: str, tangent: _Tangent) -> _Tangent:
        if tangent is None or factor == _ONE:
            return tangent
        return factor if tangent == _ONE else self.op("fmul", factor, tangent)

    def over(self, tangent: _Tangent, divisor: str) -> _Tangent:
        return None if tangent is None else self.op("fdiv", tangent, divisor)

    def negative(self, tangent: _Tangent) -> _Tangent:
        return None if tangent is None else self.op("fneg", tangent)

    def plus(self, a: _Tangent, b: _Tangent) -> _Tangent:
        if a is None or b is None:
            return b if a is None else a
        return self.op("fadd", a, b)

    def minus(self, a: _Tangent, b: _Tangent) -> _Tangent:
        if a is None or b is None:
            return self.negative(b) if a is None else a
        return self.op("fsub", a, b)


class _Differentiation:
    """Tangents of the values of one function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._unknowns = [i for i in function.inputs if i.kind in ("voltage", "unknown")]
        self._literals = {c.value: float(c.literal) for c in function.constants if c.type == "real"}
        self.constants: dict[float, Constant] = {
            0.0: Constant(_ZERO, "real", 0.0),
            1.0: Constant(_ONE, "real", 1.0),
        }
        self._names = 0
        self._depends = self._dependence()
        self.moving = {value for value, unknowns in self._depends.items() if unknowns}
        self._tangents: dict[tuple[str, int], _Tangent] = {
            (source.value, k): _ONE for k, source in enumerate(self._unknowns)
        }
        self.sums = _Code(self)  # what stands at the end of the function

    def name(self, operands: Sequence[str] | None = None) -> str:
        """A new name; the value follows an unknown if one of its operands does, or they are not known yet."""
        self._names += 1
        if operands is None or not self.moving.isdisjoint(operands):
            self.moving.add(f"d{self._names}")
        return f"d{self._names}"

    def constant(self, value: float) -> str:
        if value not in self.constants:
            self.constants[value] = Constant(self.name(()), "real", value)
        return self.constants[value].value

    def _dependence(self) -> dict[str, frozenset[int]]:
        """Value -> the unknowns that it follows; through a loop, after a few rounds."""
        nothing: frozenset[int] = frozenset()
        depends = {source.value: frozenset([k]) for k, source in enumerate(self._unknowns)}
        changed = True
        while changed:
            changed = False
            for block in self._function.blocks:
                pairs = [(phi.result, [v for _, v in phi.incoming]) for phi in block.phis]
                pairs += [(c.result, c.operands) for c in block.code if c.opcode in RULES and c.result]
                for result, operands in pairs:
                    found = nothing.union(*(depends.get(v, nothing) for v in operands))
                    if found != depends.get(result, nothing):
                        depends[result] = found
                        changed = True
        return depends

    def tangent(self, value: str, unknown: int) -> _Tangent:
        """The derivative of ``value``; defined before it is known where a loop leads back."""
        key = (value, unknown)
        if unknown not in self._depends.get(value, ()):
            return None
        if key not in self._tangents:
            self._tangents[key] = self.name()
        return self._tangents[key]

    def blocks(self) -> tuple[Block, ...]:
        """The function's blocks with the tangents of everything."""
        return tuple(self._block(block) for block in self._function.blocks)

    def _block(self, block: Block) -> Block:
        phis = list(block.phis)
        for phi in block.phis:
            for k in sorted(self._depends.get(phi.result, ()) if phi.type == "real" else ()):
                incoming = tuple((source, self.tangent(v, k) or _ZERO) for source, v in phi.incoming)
                phis.append(Phi(str(self.tangent(phi.result, k)), "real", incoming))
        code = _Code(self)
        for instruction in block.code:
            code.add(instruction)
            for k in sorted(self._depends.get(instruction.result or "", ())):
                self._differentiate(code, instruction, k)
        return replace(block, phis=tuple(phis), code=tuple(code.code))

    def _differentiate(self, code: _Code, instruction: Instruction, unknown: int) -> None:
        value = str(instruction.result)
        tangents = [self.tangent(v, unknown) for v in instruction.operands]
        found = RULES[instruction.opcode](code, value, instruction.operands, tangents, self._literals)
        key = (value, unknown)
        if key not in self._tangents:
            self._tangents[key] = found
        elif self._tangents[key] is not None:  # a loop has used the name already
            zero = found if found is not None else _ZERO
            code.add(Instruction(self._tangents[key], "fadd", (zero, _ZERO)))

    def jacobian(self, ir: DeviceIR) -> tuple[JacobianEntry, ...]:
        """Entries by row and column, their sums in ``sums``."""
        if sum(block.end == Return() for block in self._function.blocks) != 1:
            raise ModelError(f"{ir.name}: the equations end in more than one place")
        index = {node.name: k for k, node in enumerate(ir.nodes)}
        cells: dict[tuple[int, int], dict[str, str]] = {}
        for row, residual in enumerate(ir.residuals):
            for kind in ("resist", "react"):
                for column, value in self._row(residual, kind, index).items():
                    cells.setdefault((row, column), {})[kind] = value
        return tuple(
            JacobianEntry(row, column, entry.get("resist"), entry.get("react"))
            for (row, column), entry in sorted(cells.items())
        )

    def _row(self, residual: Residual, kind: str, index: dict[str, int]) -> dict[int, str]:
        value, code = getattr(residual, kind), self.sums
        found: dict[int, _Tangent] = {}
        for k, source in enumerate(self._unknowns):
            tangent = None if value is None else self.tangent(value, k)
            if tangent is None:
                continue
            entry = code.op("finite", tangent) if tangent in self.moving else tangent
            for node, positive in _ends(source):
                at = index[node]
                found[at] = code.plus(found.get(at), entry if positive else code.negative(entry))
        return {at: entry for at, entry in found.items() if entry is not None}


def _ends(source: Input) -> list[tuple[str, bool]]:
    """The nodes of an unknown, and whether its value rises with theirs."""
    if source.kind == "unknown":
        return [(source.name, True)]
    first, second = node_pair(source.name)
    return [(first, True), *([(second, False)] if second is not None else [])]


# --- rules ------------------------------------------------------------------------------------------------
# rule(code, value, operands, their tangents, real literals by name) -> tangent of value

_Rule: TypeAlias = Callable[[_Code, str, Sequence[str], Sequence[_Tangent], dict[str, float]], _Tangent]


def _sum(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    return code.plus(d[0], d[1])


def _difference(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    return code.minus(d[0], d[1])


def _product(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    return code.plus(code.times(x[1], d[0]), code.times(x[0], d[1]))


def _quotient(
    code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: dict[str, float]
) -> _Tangent:
    if d[1] is None:  # a divisor that is 0 at every voltage leaves no value either
        return code.over(d[0], x[1])
    divisor = _nonzero(code, x[1])
    return code.over(code.minus(d[0], code.times(code.op("fdiv", x[0], divisor), d[1])), divisor)


def _remainder(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    """a - n*b with a whole n, which stays while a and b move."""
    whole = None if d[1] is None else code.op("fdiv", code.op("fsub", x[0], value), _nonzero(code, x[1]))
    return d[0] if whole is None else code.minus(d[0], code.times(whole, d[1]))


def _power(
    code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: dict[str, float]
) -> _Tangent:
    exponent = known.get(x[1])
    if exponent is not None and exponent >= 1:
        slope = code.op("fmul", x[1], code.op("pow", x[0], code.number(exponent - 1)))
    else:
        slope = code.op("pow_slope", x[0], x[1], value)
    by_base = code.times(slope, d[0])
    if d[1] is None:
        return by_base
    return code.plus(by_base, code.times(code.op("fmul", value, code.op("ln_positive", x[0])), d[1]))


def _hypot(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    length = _nonzero(code, value)
    a, b = (
        None if t is None else code.times(code.op("fdiv", v, length), t) for v, t in zip(x, d, strict=True)
    )
    return code.plus(a, b)


def _angle(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
    square = code.op("fadd", code.op("fmul", x[0], x[0]), code.op("fmul", x[1], x[1]))
    turned = code.minus(code.times(x[1], d[0]), code.times(x[0], d[1]))
    return code.over(turned, _nonzero(code, square))


def _nonzero(code: _Code, value: str, floor: float = BESIDE) -> str:
    return code.op("nonzero", value, code.number(floor))


def _one_minus_square(code: _Code, x: str) -> str:
    """(1 - x)(1 + x), which keeps its digits at both ends."""
    return code.op("fmul", code.op("fsub", code.one, x), code.op("fadd", code.one, x))


def _over_root(square: Callable[[_Code, str], str], sign: int = 1) -> _Rule:
    """Slope 1/sqrt(square), or its negative."""

    def rule(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
        found = code.over(d[0], _nonzero(code, code.op("sqrt", square(code, x[0]))))
        return found if sign > 0 else code.negative(found)

    return rule


def _by_slope(slope: Callable[[_Code, str, str], str]) -> _Rule:
    """slope(code, x, value): the derivative of a function of one operand."""

    def rule(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
        return code.times(slope(code, x[0], value), d[0])

    return rule


def _by_divisor(divisor: Callable[[_Code, str, str], str]) -> _Rule:
    """divisor(code, x, value): one over the derivative of a function of one operand."""

    def rule(code: _Code, value: str, x: Sequence[str], d: Sequence[_Tangent], known: object) -> _Tangent:
        return code.over(d[0], divisor(code, x[0], value))

    return rule


def _square_plus_one(code: _Code, x: str) -> str:
    return code.op("fadd", code.one, code.op("fmul", x, x))


RULES: dict[str, _Rule] = {
    "fadd": _sum,
    "fsub": _difference,
    "fmul": _product,
    "fdiv": _quotient,
    "frem": _remainder,
    "pow": _power,
    "hypot": _hypot,
    "atan2": _angle,
    "fneg": lambda code, value, x, d, known: code.negative(d[0]),
    "exp": _by_slope(lambda code, x, y: y),
    "ln": _by_divisor(lambda code, x, y: _nonzero(code, x)),
    "log": lambda code, value, x, d, known: code.over(
        code.times(code.number(_LOG10_E), d[0]), _nonzero(code, x[0])
    ),
    "sqrt": lambda code, value, x, d, known: code.over(
        code.times(code.number(0.5), d[0]), _nonzero(code, value)
    ),
    "sin": _by_slope(lambda code, x, y: code.op("cos", x)),
    "cos": _by_slope(lambda code, x, y: code.op("fneg", code.op("sin", x))),
    "tan": _by_slope(lambda code, x, y: _square_plus_one(code, y)),
    "sinh": _by_slope(lambda code, x, y: code.op("cosh", x)),
    "cosh": _by_slope(lambda code, x, y: code.op("sinh", x)),
    "tanh": _by_slope(lambda code, x, y: _one_minus_square(code, y)),
    "asin": _over_root(_one_minus_square),
    "acos": _over_root(_one_minus_square, -1),
    "atan": _by_divisor(lambda code, x, y: _square_plus_one(code, x)),
    "asinh": _over_root(_square_plus_one),
    "acosh": _over_root(
        lambda code, x: code.op("fmul", code.op("fsub", x, code.one), code.op("fadd", x, code.one))
    ),
    "atanh": _by_divisor(lambda code, x, y: _nonzero(code, _one_minus_square(code, x))),
}
