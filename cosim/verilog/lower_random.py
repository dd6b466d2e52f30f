"""Lowering: random numbers, one for each call, instance and accepted time point.

A number is a function of the seed, the instance, the place of the call and the count of accepted points:
Newton's iterations and rejected steps draw nothing new, runs repeat, and all engines draw alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cosim.devices.ir import RANDOM_INSTANCE, Type
from cosim.verilog.lower_tables import TableLowering
from cosim.verilog.scope import Slot, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import Call, Expression, Name

__all__ = ["RANDOM_PARAMETERS", "RandomLowering"]

# further parameters of a model that draws: name, type, what it is
RANDOM_PARAMETERS: tuple[tuple[str, Type, str], ...] = (
    ("random_seed", "integer", "seed of the random numbers of all instances"),
    (RANDOM_INSTANCE, "real", "number of the instance: others draw other numbers"),
)
_MOST_TERMS = 200
_REAL = ("uniform", "normal", "exponential", "poisson", "chi_square", "t", "erlang")


class RandomLowering(TableLowering):
    """``$random``, ``$rdist_*`` and ``$dist_*``; the seed argument is read, and not set."""

    sites = 0  # draws so far
    in_start = False  # inside what is done while time stands still only

    def accepted_steps(self) -> Value:
        raise NotImplementedError

    def system_call(self, call: Call) -> Term | None:
        name = call.token.text
        if name in ("$random", "$urandom", "$arandom"):
            return Term(self._whole_number(call))
        kind = name.removeprefix("$r").removeprefix("$").removeprefix("dist_")
        if kind not in _REAL or "dist_" not in name:
            return super().system_call(call)
        value = self._distributed(call, kind, whole=name.startswith("$dist_"))
        return Term(value)

    # --- sources --------------------------------------------------------------------------------

    def _source(self, call: Call, seed: Expression | None) -> Callable[[], Value]:
        """Draws in (0, 1) of one call, each time another one."""
        circuit, emit, literal = self.circuit_of(call.token), self.builder.emit, self.builder.literal
        given = circuit.input("parameter", "random_seed", "integer")
        instance = emit("ficast", circuit.input("parameter", RANDOM_INSTANCE))
        own = self._seed(seed, call.token)
        if not own.is_literal(0):
            given = emit("ixor", given, emit("imul", own, literal(0x9E3779B1 - 2**32)))
        step = literal(0) if self.in_start else self.accepted_steps()

        def draw() -> Value:
            self.sites += 1
            return emit("uniform", given, instance, literal(self.sites), step)

        return draw

    def _seed(self, seed: Expression | None, place: Token) -> Value:
        """The seed argument where it is known before the run; a variable that is not set is 0."""
        slot = self.scope.find(seed.token.text) if isinstance(seed, Name) else None
        zero = self.builder.literal(0)
        if seed is None or (isinstance(slot, Slot) and slot.name not in self.environment):
            return zero
        value = self.value(seed)
        if value.type != "integer" or self.builder.varies(value):
            self.notes.append(f"{place.where}: the seed of {place.text} changes in a run: it is left out")
            return zero
        return value

    # --- numbers --------------------------------------------------------------------------------

    def _whole_number(self, call: Call) -> Value:
        emit, literal = self.builder.emit, self.builder.literal
        arguments = self.arguments_of(call, 0, 2)
        draw = self._source(call, arguments[0] if arguments else None)()
        least = 0.0 if call.token.text == "$urandom" else -(2.0**31)
        span = 2.0**31 if call.token.text == "$urandom" else 2.0**32
        return emit("ficast", emit("floor", emit("fadd", literal(least), emit("fmul", literal(span), draw))))

    def _distributed(self, call: Call, kind: str, *, whole: bool) -> Value:
        emit, token = self.builder.emit, call.token
        count = 3 if kind in ("uniform", "normal", "erlang") else 2
        seed, *arguments = self.arguments_of(call, count, count + 1)[:count]
        values = [self.real_of(argument, token) for argument in arguments]
        draw = self._source(call, seed)
        if kind == "uniform" and whole:
            span = emit("fadd", emit("fsub", values[1], values[0]), self.builder.literal(1.0))
            return emit("ficast", emit("floor", emit("fadd", values[0], emit("fmul", span, draw()))))
        if kind == "uniform":
            value = emit("fadd", values[0], emit("fmul", emit("fsub", values[1], values[0]), draw()))
        elif kind == "normal":
            value = emit("fadd", values[0], emit("fmul", values[1], self._normal(draw)))
        elif kind == "exponential":
            value = emit("fmul", emit("fneg", values[0]), emit("ln", draw()))
        elif kind == "erlang":
            value = emit("fdiv", emit("fmul", values[1], self._waits(draw, values[0], token)), values[0])
        elif kind == "poisson":
            value = self._poisson(draw, values[0], token)
        else:
            square = self._squares(draw, values[0], token)
            mean = emit("fdiv", square, values[0])
            value = square if kind == "chi_square" else emit("fdiv", self._normal(draw), emit("sqrt", mean))
        return emit("ficast", value) if whole else value

    def _normal(self, draw: Callable[[], Value]) -> Value:
        """Box and Muller's."""
        emit, literal = self.builder.emit, self.builder.literal
        radius = emit("sqrt", emit("fmul", literal(-2.0), emit("ln", draw())))
        return emit("fmul", radius, emit("cos", emit("fmul", literal(2 * math.pi), draw())))

    def _terms(self, count: Value, place: Token) -> int:
        if count.literal is None or isinstance(count.literal, str) or not 1 <= count.literal <= _MOST_TERMS:
            raise refusal(place, f"the degree of {place.text} must be a number from 1 to {_MOST_TERMS}")
        if count.literal != int(count.literal):
            raise parse_error(place, f"the degree of {place.text} must be a whole number")
        return int(count.literal)

    def _waits(self, draw: Callable[[], Value], count: Value, place: Token) -> Value:
        """The sum of exponential waiting times of mean 1."""
        total = self.builder.literal(0.0)
        for _ in range(self._terms(count, place)):
            total = self.builder.emit("fsub", total, self.builder.emit("ln", draw()))
        return total

    def _squares(self, draw: Callable[[], Value], count: Value, place: Token) -> Value:
        total = self.builder.literal(0.0)
        for _ in range(self._terms(count, place)):
            normal = self._normal(draw)
            total = self.builder.emit("fadd", total, self.builder.emit("fmul", normal, normal))
        return total

    def _poisson(self, draw: Callable[[], Value], mean: Value, place: Token) -> Value:
        """How many partial sums of the distribution lie below one draw."""
        emit, literal = self.builder.emit, self.builder.literal
        if mean.literal is None or isinstance(mean.literal, str) or not 0 < mean.literal <= 50:
            raise refusal(place, f"the mean of {place.text} must be a number above 0, up to 50")
        average = float(mean.literal)
        number, total, term, sum_ = draw(), literal(0.0), math.exp(-average), 0.0
        for k in range(int(average + 12 * math.sqrt(average) + 20)):
            sum_ += term
            total = emit("fadd", total, emit("bfcast", emit("fgt", number, literal(sum_))))
            term *= average / (k + 1)
        return total
