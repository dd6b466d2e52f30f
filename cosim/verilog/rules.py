"""What the derivative of each opcode is.

Where a derivative is infinite or undefined at a point whose value is finite (sqrt at 0), it is finite
here, the one of a point beside it, so that 0 times it is 0 and Newton's method goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from cosim.devices.ir import BESIDE
from cosim.verilog.ssa import Builder, Value

__all__ = ["RULES", "Code"]

Tangent: TypeAlias = Value | None  # None is 0

_LOG10_E = 0.4342944819032518


class Code:
    """What the rules write with: operations on tangents, behind the code of ``builder``."""

    def __init__(self, builder: Builder) -> None:
        self.op = builder.emit
        self.number = builder.literal
        self.one = builder.literal(1.0)

    def times(self, factor: Value, tangent: Tangent) -> Tangent:
        return None if tangent is None else self.op("fmul", factor, tangent)

    def over(self, tangent: Tangent, divisor: Value) -> Tangent:
        return None if tangent is None else self.op("fdiv", tangent, divisor)

    def negative(self, tangent: Tangent) -> Tangent:
        return None if tangent is None else self.op("fneg", tangent)

    def plus(self, a: Tangent, b: Tangent) -> Tangent:
        if a is None or b is None:
            return b if a is None else a
        return self.op("fadd", a, b)

    def minus(self, a: Tangent, b: Tangent) -> Tangent:
        if a is None or b is None:
            return self.negative(b) if a is None else a
        return self.op("fsub", a, b)


# rule(code, value, operands, their tangents) -> tangent of value
_Rule: TypeAlias = Callable[[Code, Value, Sequence[Value], Sequence[Tangent]], Tangent]


def _sum(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    return code.plus(d[0], d[1])


def _difference(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    return code.minus(d[0], d[1])


def _product(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    return code.plus(code.times(x[1], d[0]), code.times(x[0], d[1]))


def _quotient(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    if d[1] is None:  # a divisor that is 0 at every voltage leaves no value either
        return code.over(d[0], x[1])
    divisor = _nonzero(code, x[1])
    return code.over(code.minus(d[0], code.times(code.op("fdiv", x[0], divisor), d[1])), divisor)


def _remainder(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    """a - n*b with a whole n, which stays while a and b move."""
    whole = None if d[1] is None else code.op("fdiv", code.op("fsub", x[0], value), _nonzero(code, x[1]))
    return d[0] if whole is None else code.minus(d[0], code.times(whole, d[1]))


def _power(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    exponent = x[1].literal
    if isinstance(exponent, float) and exponent >= 1:
        slope = code.op("fmul", x[1], code.op("pow", x[0], code.number(exponent - 1)))
    else:
        slope = code.op("pow_slope", x[0], x[1], value)
    by_base = code.times(slope, d[0])
    if d[1] is None:
        return by_base
    return code.plus(by_base, code.times(code.op("fmul", value, code.op("ln_positive", x[0])), d[1]))


def _hypot(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    length = _nonzero(code, value)
    a, b = (
        None if t is None else code.times(code.op("fdiv", v, length), t) for v, t in zip(x, d, strict=True)
    )
    return code.plus(a, b)


def _angle(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
    square = code.op("fadd", code.op("fmul", x[0], x[0]), code.op("fmul", x[1], x[1]))
    turned = code.minus(code.times(x[1], d[0]), code.times(x[0], d[1]))
    return code.over(turned, _nonzero(code, square))


def _nonzero(code: Code, value: Value, floor: float = BESIDE) -> Value:
    return code.op("nonzero", value, code.number(floor))


def _one_minus_square(code: Code, x: Value) -> Value:
    """(1 - x)(1 + x), which keeps its digits at both ends."""
    return code.op("fmul", code.op("fsub", code.one, x), code.op("fadd", code.one, x))


def _over_root(square: Callable[[Code, Value], Value], sign: int = 1) -> _Rule:
    """Slope 1/sqrt(square), or its negative."""

    def rule(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
        found = code.over(d[0], _nonzero(code, code.op("sqrt", square(code, x[0]))))
        return found if sign > 0 else code.negative(found)

    return rule


def _by_slope(slope: Callable[[Code, Value, Value], Value]) -> _Rule:
    """slope(code, x, value): the derivative of a function of one operand."""

    def rule(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
        return code.times(slope(code, x[0], value), d[0])

    return rule


def _by_divisor(divisor: Callable[[Code, Value, Value], Value]) -> _Rule:
    """divisor(code, x, value): one over the derivative of a function of one operand."""

    def rule(code: Code, value: Value, x: Sequence[Value], d: Sequence[Tangent]) -> Tangent:
        return code.over(d[0], divisor(code, x[0], value))

    return rule


def _square_plus_one(code: Code, x: Value) -> Value:
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
    "fneg": lambda code, value, x, d: code.negative(d[0]),
    "exp": _by_slope(lambda code, x, y: y),
    "ln": _by_divisor(lambda code, x, y: _nonzero(code, x)),
    "log": lambda code, value, x, d: code.over(code.times(code.number(_LOG10_E), d[0]), _nonzero(code, x[0])),
    "sqrt": lambda code, value, x, d: code.over(code.times(code.number(0.5), d[0]), _nonzero(code, value)),
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
