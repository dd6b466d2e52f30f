"""Lowering: laplace filters, as a chain of unknowns that are each other's derivatives."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

from cosim.verilog.lower_calls import CallLowering
from cosim.verilog.scope import Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, parse_error, refusal, words
from cosim.verilog.tree import Call, Expression

__all__ = ["FilterLowering"]

_FILTERS = words("laplace_nd laplace_np laplace_zd laplace_zp")
_Complex: TypeAlias = tuple[Value, Value]


class FilterLowering(CallLowering):
    """``laplace_*``: y = N(s)/D(s) u, by coefficients (n, d) or by zeros and poles (z, p)."""

    def system_call(self, call: Call) -> Term | None:
        if call.token.text not in _FILTERS:
            return super().system_call(call)
        circuit, token = self.circuit_of(call.token), call.token
        if not 3 <= len(call.arguments) <= 4 or call.arguments[0] is None:
            raise parse_error(token, f"{token.text} takes an expression and two arrays, and a tolerance")
        of_numerator, of_denominator = token.text[-2:]
        numerator = self._polynomial(call.arguments[1], token, roots=of_numerator == "z")
        denominator = self._polynomial(call.arguments[2], token, roots=of_denominator == "p")
        if len(numerator) > len(denominator):
            raise refusal(token, f"{token.text} with more zeros than poles: a derivative of its input is ddt")
        given = self.real_of(call.arguments[0], token)
        if len(denominator) == 1:
            emit = self.builder.emit
            return Term(emit("fmul", emit("fdiv", numerator[0], denominator[0]), given))
        unit, scale = self._scales(denominator)
        numerator, denominator = (self._scaled(p, unit, scale) for p in (numerator, denominator))
        unknowns = [circuit.new_implicit() for _ in denominator[1:]]
        self._chain(unknowns, denominator, given, unit)
        return Term(self._output(numerator, denominator, [value for _, value in unknowns], given))

    # --- polynomials --------------------------------------------------------------------------

    def _polynomial(self, given: Expression | None, place: Token, *, roots: bool) -> list[Value]:
        """Coefficients, lowest first, without zeros at the end."""
        values = [] if given is None else [self.arithmetic.real(v, place) for v in self.elements(given)]
        if self.builder.varies(*values):
            raise refusal(place, f"the coefficients of {place.text} must not change during a run")
        if roots:
            found = self._from_roots(values, place)
        else:
            found = values or [self.builder.literal(1.0)]
        while len(found) > 1 and found[-1].is_literal(0.0):
            found.pop()
        return found

    def _from_roots(self, values: list[Value], place: Token) -> list[Value]:
        """The product of 1 - s/root, or of s for a root at 0; roots are pairs of real and imaginary part."""
        if len(values) % 2:
            raise parse_error(place, f"{place.text} takes a real and an imaginary part of each root")
        one, zero = self.builder.literal(1.0), self.builder.literal(0.0)
        product: list[_Complex] = [(one, zero)]
        for k in range(0, len(values), 2):
            constant, slope = self._factor(values[k], values[k + 1])
            low = [self._times((constant, zero), factor) for factor in product] + [(zero, zero)]
            high = [(zero, zero)] + [self._times(slope, factor) for factor in product]
            product = [self._plus(a, b) for a, b in zip(low, high, strict=True)]
        return [real for real, _ in product]

    def _factor(self, real: Value, imaginary: Value) -> tuple[Value, _Complex]:
        """Constant term and slope of one root's factor."""
        builder, emit = self.builder, self.builder.emit
        one, zero = builder.literal(1.0), builder.literal(0.0)
        square = emit("fadd", emit("fmul", real, real), emit("fmul", imaginary, imaginary))
        at_origin = emit("feq", square, zero)
        safe = builder.choose(at_origin, one, square)
        slope = (emit("fneg", emit("fdiv", real, safe)), emit("fdiv", imaginary, safe))
        return builder.choose(at_origin, zero, one), (builder.choose(at_origin, one, slope[0]), slope[1])

    def _times(self, a: _Complex, b: _Complex) -> _Complex:
        emit = self.builder.emit
        real = emit("fsub", emit("fmul", a[0], b[0]), emit("fmul", a[1], b[1]))
        return real, emit("fadd", emit("fmul", a[0], b[1]), emit("fmul", a[1], b[0]))

    def _plus(self, a: _Complex, b: _Complex) -> _Complex:
        return self.builder.emit("fadd", a[0], b[0]), self.builder.emit("fadd", a[1], b[1])

    # --- the chain ----------------------------------------------------------------------------

    def _scales(self, denominator: list[Value]) -> tuple[Value, Value]:
        """A unit of time in which the coefficients are alike, and the lowest one that is not 0."""
        builder, emit = self.builder, self.builder.emit
        order = len(denominator) - 1
        unit, scale = builder.literal(1.0), denominator[-1]
        for k in reversed(range(order)):
            absent = emit("feq", denominator[k], builder.literal(0.0))
            safe = builder.choose(absent, builder.literal(1.0), denominator[k])
            ratio = self.arithmetic.magnitude(emit("fdiv", denominator[-1], safe))
            root = emit("pow", ratio, builder.literal(1.0 / (order - k)))
            unit = builder.choose(absent, unit, root)
            scale = builder.choose(absent, scale, denominator[k])
        return unit, scale

    def _scaled(self, polynomial: list[Value], unit: Value, scale: Value) -> list[Value]:
        """Coefficients for s in units of 1/``unit``, over ``scale``."""
        emit = self.builder.emit
        found, power = [], scale
        for coefficient in polynomial:
            found.append(emit("fdiv", coefficient, power))
            power = emit("fmul", power, unit)
        return found

    def _chain(
        self, unknowns: list[tuple[int, Value]], denominator: list[Value], given: Value, unit: Value
    ) -> None:
        """D(s) z_1 = u with z_{k+1} = unit dz_k/dt; where time stands still every derivative is 0."""
        builder, emit = self.builder, self.builder.emit
        first, last = unknowns[0], unknowns[-1]
        total = emit("fneg", given)
        for (_, value), coefficient in zip(unknowns, denominator[:-1], strict=True):
            total = emit("fadd", total, emit("fmul", coefficient, value))
        charge = emit("fmul", emit("fmul", denominator[-1], unit), last[1])
        if not denominator[0].is_literal(1.0):  # it may be 0: then the filter integrates, from 0
            assert self.circuit is not None
            running = self.circuit.input("integrating", "integrating", "boolean")
            settles = emit("fne", denominator[0], builder.literal(0.0))
            moves = builder.choose(settles, builder.literal(True), running)
            total = builder.choose(moves, total, first[1])
            charge = builder.choose(moves, charge, builder.literal(0.0))
        self.environment["equation", first[0]] = Term(total, charge)
        for before, (index, value) in pairwise(unknowns):
            follows = emit("fneg", emit("fmul", unit, before[1]))
            self.environment["equation", index] = Term(value, follows)

    def _output(
        self, numerator: list[Value], denominator: list[Value], states: list[Value], given: Value
    ) -> Value:
        """N(s) z_1, its highest derivative taken from the equation of the chain."""
        emit = self.builder.emit
        total = self.builder.literal(0.0)
        if len(numerator) == len(denominator):
            direct = emit("fdiv", numerator[-1], denominator[-1])
            total = emit("fmul", direct, given)
            parts = zip(numerator[:-1], denominator[:-1], strict=True)
            numerator = [emit("fsub", n, emit("fmul", direct, d)) for n, d in parts]
        for coefficient, state in zip(numerator, states, strict=False):
            total = emit("fadd", total, emit("fmul", coefficient, state))
        return total
