"""Lowering, fourth part: $table_model, as polynomials between its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from cosim.verilog.lower_filters import FilterLowering
from cosim.verilog.scope import Constant, Slot, Term
from cosim.verilog.ssa import Conditional, Region, Value
from cosim.verilog.tables import Axis, columns_of, control, read_table
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import Call, Expression, Name, Vector

__all__ = ["TableLowering"]

_Points = list[tuple[tuple[float, ...], float]]


class TableLowering(FilterLowering):
    """A table is a function of its inputs: a search by halves, then one polynomial."""

    def system_call(self, call: Call) -> Term | None:
        if call.token.text != "$table_model":
            return super().system_call(call)
        self.circuit_of(call.token)
        arguments, token = self.all_given(call), call.token
        count = next((k for k, a in enumerate(arguments) if self._is_data(a)), len(arguments))
        if count == 0 or count == len(arguments):
            raise parse_error(token, "$table_model takes inputs, then a file or arrays, and a control string")
        inputs = [self.real_of(argument, token) for argument in arguments[:count]]
        data = arguments[count:]
        first = self.value(data[0]) if not self._is_array(data[0]) else None
        used = 1 if first is not None else count + 1
        text = self._control(data[used:], token)
        axes, selector = control(text, count, token)
        wanted = [axis for axis in axes if axis.kind != "ignored"]
        if first is not None:
            points = columns_of(read_table(str(first.literal), token), axes, selector, token)
            return Term(self._table(inputs, wanted, points, token))
        columns = [self._column(data[k], token) if k < len(data) else [] for k in range(used)]
        if len({len(column) for column in columns}) != 1 or not columns[0]:
            raise parse_error(token, f"$table_model with {count} inputs takes {used} arrays of one length")
        return Term(self._of_arrays(inputs, wanted, columns, token))

    # --- arguments ----------------------------------------------------------------------------

    def _is_array(self, argument: Expression) -> bool:
        symbol = self.scope.find(argument.token.text) if isinstance(argument, Name) else None
        return isinstance(argument, Vector) or (isinstance(symbol, Slot | Constant) and bool(symbol.bounds))

    def _is_data(self, argument: Expression) -> bool:
        return self._is_array(argument) or self.type_of(argument) == "string"

    def _control(self, rest: list[Expression], place: Token) -> str:
        if not rest:
            return ""
        value = self.value(rest[0])
        if len(rest) > 1 or not isinstance(value.literal, str):
            raise parse_error(place, '$table_model ends in a control string that is known, such as "1L"')
        return value.literal

    def _column(self, argument: Expression, place: Token) -> list[Value]:
        if not self._is_array(argument):
            raise parse_error(place, "$table_model takes an array for each input, and one of values")
        return [self.arithmetic.real(value, place) for value in self.elements(argument)]

    # --- tables -------------------------------------------------------------------------------

    def _of_arrays(
        self, inputs: list[Value], axes: list[Axis], columns: list[list[Value]], place: Token
    ) -> Value:
        places, values = columns[:-1], columns[-1]
        if all(v.literal is not None for column in columns for v in column):
            rows = [[float(v.literal or 0.0) for v in row] for row in zip(*columns, strict=True)]
            points = [(tuple(row[:-1]), row[-1]) for row in rows]
            return self._table(inputs, axes, points, place)
        if len(inputs) > 1:
            raise refusal(place, "a table of several inputs needs numbers that are known before the run")
        self.notes.append(f"{place.where}: the points of $table_model are taken to be in rising order")
        return self._curve(inputs[0], axes[0], places[0], [lambda v=v: v for v in values], place)

    def _table(self, inputs: list[Value], axes: list[Axis], points: _Points, place: Token) -> Value:
        """The first input is the outermost: for each of its values there is a table of the others."""
        if not inputs:
            return self.builder.literal(points[0][1])
        lines: dict[float, _Points] = {}
        for (first, *others), value in points:
            lines.setdefault(first, []).append((tuple(others), value))
        if len(inputs) == 1 and any(len(line) > 1 for line in lines.values()):
            raise refusal(place, "$table_model has two values for the same point")
        literal = self.builder.literal

        def line(at: float) -> Callable[[], Value]:
            return lambda: self._table(inputs[1:], axes[1:], lines[at], place)

        ordered = sorted(lines)
        return self._curve(
            inputs[0], axes[0], [literal(at) for at in ordered], [line(at) for at in ordered], place
        )

    def _curve(
        self,
        x: Value,
        axis: Axis,
        places: list[Value],
        values: Sequence[Callable[[], Value]],
        place: Token,
    ) -> Value:
        """A function of ``x`` through points; the values are made only where they are needed."""
        builder, emit = self.builder, self.builder.emit
        if len(places) == 1 and axis.kind != "closest":
            axis = Axis("closest", axis.low, axis.high)  # one point says nothing of a slope
        for code, opcode, end in ((axis.low, "flt", places[0]), (axis.high, "fgt", places[-1])):
            outside = emit(opcode, x, end)
            if code == "C":
                x = builder.choose(outside, end, x)
            elif code == "E":
                self._refuse_outside(outside, place)
        if axis.kind == "closest":
            half = builder.literal(0.5)
            middles = [emit("fmul", half, emit("fadd", a, b)) for a, b in pairwise(places)]
            return self._pick(x, middles, [lambda v=v: (v(),) for v in values])[0]
        if axis.kind == "linear":
            return self._linear(x, places, values)
        return self._cubic(x, places, [value() for value in values])

    def _refuse_outside(self, outside: Value, place: Token) -> None:
        conditional = Conditional(outside, Region(), Region())
        with self.builder.inside(conditional.then):
            self.give_up(place, "$table_model: an input is outside the table (control string: E)")
        self.builder.append(conditional)

    def _pick(
        self, x: Value, bounds: list[Value], leaves: Sequence[Callable[[], tuple[Value, ...]]]
    ) -> tuple[Value, ...]:
        """What the leaf gives whose interval holds ``x``; ``bounds`` lie between the leaves."""
        if len(leaves) == 1:
            return leaves[0]()
        builder, middle = self.builder, len(leaves) // 2
        below = builder.emit("flt", x, bounds[middle - 1])
        sides = ((bounds[: middle - 1], leaves[:middle]), (bounds[middle:], leaves[middle:]))
        if below.literal is not None:
            return self._pick(x, *sides[0 if below.literal else 1])
        conditional = Conditional(below, Region(), Region())
        found = []
        for region, side in zip((conditional.then, conditional.other), sides, strict=True):
            with builder.inside(region):
                found.append(self._pick(x, *side))
        builder.append(conditional)
        return tuple(builder.merge(conditional, a, b) for a, b in zip(*found, strict=True))

    def _linear(self, x: Value, places: list[Value], values: Sequence[Callable[[], Value]]) -> Value:
        emit = self.builder.emit

        def leaf(k: int) -> Callable[[], tuple[Value, ...]]:
            def make() -> tuple[Value, ...]:
                first, second = values[k](), values[k + 1]()
                slope = emit("fdiv", emit("fsub", second, first), emit("fsub", places[k + 1], places[k]))
                return places[k], first, slope

            return make

        at, first, slope = self._pick(x, places[1:-1], [leaf(k) for k in range(len(places) - 1)])
        return emit("fadd", first, emit("fmul", slope, emit("fsub", x, at)))

    def _cubic(self, x: Value, places: list[Value], values: list[Value]) -> Value:
        """The natural spline; beyond its ends the straight line that touches it there."""
        add, minus, times, over = self._arithmetic()
        zero, half, sixth = (self.builder.literal(number) for number in (0.0, 0.5, 1 / 6))
        widths = [minus(b, a) for a, b in pairwise(places)]
        slopes = [over(minus(b, a), width) for (a, b), width in zip(pairwise(values), widths, strict=True)]
        bends = self._bends(widths, slopes)
        leaves = []
        # value = y + t*(b + t*(c + t*d)), t from the left point
        for k, width in enumerate(widths):
            b = minus(slopes[k], times(times(sixth, width), add(add(bends[k], bends[k]), bends[k + 1])))
            d = over(times(sixth, minus(bends[k + 1], bends[k])), width)
            leaves.append((places[k], values[k], b, times(half, bends[k]), d))
        end = add(slopes[-1], times(times(sixth, widths[-1]), bends[-2]))
        leaves = [(places[0], values[0], leaves[0][2], zero, zero), *leaves]
        leaves.append((places[-1], values[-1], end, zero, zero))
        at, y, b, c, d = self._pick(x, places, [lambda leaf=leaf: leaf for leaf in leaves])
        t = minus(x, at)
        return add(y, times(t, add(b, times(t, add(c, times(t, d))))))

    def _arithmetic(self) -> Iterator[Callable[..., Value]]:
        """Plus, minus, times, over."""
        return (partial(self.builder.emit, opcode) for opcode in ("fadd", "fsub", "fmul", "fdiv"))

    def _bends(self, widths: list[Value], slopes: list[Value]) -> list[Value]:
        """Second derivatives at the points, 0 at both ends: a tridiagonal system, eliminated downwards."""
        add, minus, times, over = self._arithmetic()
        zero, two, six = (self.builder.literal(number) for number in (0.0, 2.0, 6.0))
        rows: list[tuple[Value, Value]] = []  # diagonal and right side
        for k, (a, b) in enumerate(pairwise(widths)):
            diagonal, side = times(two, add(a, b)), times(six, minus(slopes[k + 1], slopes[k]))
            if rows:
                factor = over(a, rows[-1][0])
                diagonal = minus(diagonal, times(factor, a))
                side = minus(side, times(factor, rows[-1][1]))
            rows.append((diagonal, side))
        bends = [zero]
        for (diagonal, side), width in zip(reversed(rows), reversed(widths), strict=False):
            bends.append(over(minus(side, times(width, bends[-1])), diagonal))
        return [zero, *reversed(bends)]
