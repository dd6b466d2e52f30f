"""Operators and functions of Verilog-A on SSA values: types, promotion, and which opcode does what."""

from __future__ import annotations

from collections.abc import Sequence

from cosim.devices.ir import FUNCTIONS
from cosim.verilog.ssa import Builder, Value
from cosim.verilog.tokens import Token, parse_error, refusal

__all__ = ["FUNCTION_NAMES", "Arithmetic"]

_COMPARISONS = {
    "<": "lt",
    ">": "gt",
    "<=": "le",
    ">=": "ge",
    "==": "eq",
    "!=": "ne",
    "===": "eq",
    "!==": "ne",
}
_REAL = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv", "%": "frem"}
_INTEGER = {"+": "iadd", "-": "isub", "*": "imul", "/": "idiv", "%": "irem"}
_BITS = {"<<": "ishl", ">>": "ishr", "<<<": "ishl", "&": "iand", "|": "ior", "^": "ixor"}
_NEGATED_BITS = {"^~": "ixor", "~^": "ixor"}
_ONE_OPERAND = {**{name: name for name in FUNCTIONS}, "ln": "ln", "log": "log", "log10": "log"}
_TWO_OPERANDS = {"pow": "pow", "hypot": "hypot", "atan2": "atan2"}
_LIMEXP = 80.0  # limexp goes on as a straight line beyond this argument

FUNCTION_NAMES = frozenset({*_ONE_OPERAND, *_TWO_OPERANDS, "abs", "min", "max", "limexp", "clog2", "int"})


class Arithmetic:
    """Emits operators and functions, with the conversions that the language makes by itself."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    # --- conversions --------------------------------------------------------------------------

    def real(self, value: Value, place: Token) -> Value:
        return self._convert(value, place, {"integer": "ifcast", "boolean": "bfcast"}, "real")

    def integer(self, value: Value, place: Token) -> Value:
        return self._convert(value, place, {"real": "ficast", "boolean": "bicast"}, "integer")

    def boolean(self, value: Value, place: Token) -> Value:
        return self._convert(value, place, {"real": "fbcast", "integer": "ibcast"}, "boolean")

    def _convert(self, value: Value, place: Token, casts: dict[str, str], wanted: str) -> Value:
        if value.type == wanted:
            return value
        if value.type not in casts:
            text = "" if value.literal is None else f": {value.literal!r}"
            raise parse_error(place, f"a string stands where a number is needed{text}")
        return self.builder.emit(casts[value.type], value)

    def to_type(self, value: Value, kind: str, place: Token) -> Value:
        if kind == "string":
            if value.type != "string":
                raise parse_error(place, "a number stands where a string is needed")
            return value
        return self.real(value, place) if kind == "real" else self.integer(value, place)

    def _number(self, value: Value, place: Token) -> Value:
        return value if value.type in ("real", "integer") else self.integer(value, place)

    def common(self, values: Sequence[Value], place: Token) -> list[Value]:
        """The values in one type: string, or real if any is, else integer."""
        if all(value.type == "string" for value in values):
            return list(values)
        if any(value.type == "real" for value in values):
            return [self.real(value, place) for value in values]
        return [self.integer(value, place) for value in values]

    # --- operators ----------------------------------------------------------------------------

    def unary(self, token: Token, value: Value) -> Value:
        emit, operator = self.builder.emit, token.text
        if operator == "!":
            return emit("bnot", self.boolean(value, token))
        if operator in ("+", "-"):
            number = self._number(value, token)
            if operator == "+":
                return number
            return emit("fneg" if number.type == "real" else "ineg", number)
        if operator == "~":
            return emit("inot", self._whole(value, token))
        return self._reduction(operator, self._whole(value, token))

    def _reduction(self, operator: str, value: Value) -> Value:
        """All bits, any bit, or an odd number of bits; with ``~`` the opposite."""
        emit, literal = self.builder.emit, self.builder.literal
        kind = operator.strip("~")
        if kind == "^":
            for count in (16, 8, 4, 2, 1):
                value = emit("ixor", value, emit("ishr", value, literal(count)))
            found = emit("ibcast", emit("iand", value, literal(1)))
        else:
            found = emit("ieq", value, literal(-1)) if kind == "&" else emit("ine", value, literal(0))
        return emit("bnot", found) if "~" in operator else found

    def binary(self, token: Token, left: Value, right: Value) -> Value:
        emit, operator = self.builder.emit, token.text
        if operator in _COMPARISONS:
            a, b = self.common([left, right], token)
            prefix = {"real": "f", "integer": "i", "string": "s"}[a.type]
            if prefix == "s" and operator not in ("==", "!="):
                raise parse_error(token, f"strings can be compared with == and != only, not {operator!r}")
            return emit(prefix + _COMPARISONS[operator], a, b)
        if operator == "**":
            return self.power(token, left, right)
        if operator in _REAL:
            a, b = self.common([left, right], token)
            if a.type == "string":
                raise parse_error(token, f"a string cannot be an operand of {operator!r}")
            return emit((_REAL if a.type == "real" else _INTEGER)[operator], a, b)
        a, b = self._whole(left, token), self._whole(right, token)
        if operator in _BITS:
            return emit(_BITS[operator], a, b)
        if operator in _NEGATED_BITS:
            return emit("inot", emit("ixor", a, b))
        if operator == ">>>":
            return self._arithmetic_shift(a, b)
        raise refusal(token, f"operator {operator!r} is not supported")

    def power(self, token: Token, left: Value, right: Value) -> Value:
        """Real also of two integers: 2**-1 is 0.5."""
        return self.builder.emit("pow", self.real(left, token), self.real(right, token))

    def _whole(self, value: Value, token: Token) -> Value:
        if value.type == "real":
            raise parse_error(token, f"operands of {token.text!r} are integers, not reals")
        return self.integer(value, token)

    def _arithmetic_shift(self, a: Value, b: Value) -> Value:
        emit, literal = self.builder.emit, self.builder.literal
        negative = emit("ilt", a, literal(0))
        shifted = emit("inot", emit("ishr", emit("inot", a), b))
        return self.builder.choose(negative, shifted, emit("ishr", a, b))

    # --- functions ----------------------------------------------------------------------------

    def function(self, token: Token, name: str, values: list[Value]) -> Value:
        emit = self.builder.emit
        self._count(token, values, 2 if name in ("min", "max") or name in _TWO_OPERANDS else 1)
        if name in _ONE_OPERAND:
            return emit(_ONE_OPERAND[name], self.real(values[0], token))
        if name in _TWO_OPERANDS:
            return emit(_TWO_OPERANDS[name], *(self.real(value, token) for value in values))
        if name in ("min", "max"):
            a, b = self.common(values, token)
            compare = "lt" if name == "min" else "gt"
            return self.builder.choose(emit(("f" if a.type == "real" else "i") + compare, a, b), a, b)
        if name == "abs":
            return self.magnitude(self._number(values[0], token))
        if name == "clog2":
            return emit("clog2", self.integer(values[0], token))
        if name == "int":
            return self._truncate(self.real(values[0], token))
        return self.limexp(self.real(values[0], token))

    def magnitude(self, value: Value) -> Value:
        zero = self.builder.literal(0.0 if value.type == "real" else 0)
        negative = self.builder.emit("flt" if value.type == "real" else "ilt", value, zero)
        return self.builder.choose(negative, self.unary_minus(value), value)

    def unary_minus(self, value: Value) -> Value:
        return self.builder.emit("fneg" if value.type == "real" else "ineg", value)

    def _truncate(self, value: Value) -> Value:
        emit = self.builder.emit
        negative = emit("flt", value, self.builder.literal(0.0))
        return self.builder.choose(negative, emit("ceil", value), emit("floor", value))

    def limexp(self, value: Value) -> Value:
        """exp, continued as its tangent where it would leave the range of Newton's steps."""
        emit, limit = self.builder.emit, self.builder.literal(_LIMEXP)
        large = emit("fgt", value, limit)
        capped = self.builder.choose(large, limit, value)
        beyond = emit("fadd", emit("fsub", value, capped), self.builder.literal(1.0))
        return emit("fmul", emit("exp", capped), beyond)

    def _count(self, token: Token, values: list[Value], expected: int) -> None:
        if len(values) != expected:
            raise parse_error(token, f"{token.text} takes {expected} arguments, not {len(values)}")
