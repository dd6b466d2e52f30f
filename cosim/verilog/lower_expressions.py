"""Lowering: expressions of the syntax tree -> SSA terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from cosim.verilog.arithmetic import FUNCTION_NAMES
from cosim.verilog.expressions import MOST_ELEMENTS
from cosim.verilog.lower_names import Key, NameLowering
from cosim.verilog.refusals import unknown_call
from cosim.verilog.scope import Constant, Slot, Term, size
from cosim.verilog.ssa import Conditional, Region, Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import (
    AnalogFunction,
    Binary,
    Call,
    Choice,
    Expression,
    Indexed,
    Name,
    Number,
    Parameter,
    PortFlow,
    Text,
    Unary,
    Vector,
)

__all__ = ["ExpressionLowering", "flat"]

_SHORT_CIRCUIT = frozenset({"&&", "||"})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
_INTEGER_CALLS = frozenset({"analysis", "$param_given", "$port_connected", "$clog2"})
_DEEPEST = 100  # choices, calls and conditions within one another


class ExpressionLowering(NameLowering):
    """Values of expressions, and what both sides of a condition leave."""

    _depth = 0

    # --- expressions --------------------------------------------------------------------------

    def value(self, expression: Expression) -> Value:
        """The value of ``expression``; a derivative in it becomes an unknown."""
        return self.plain(self.term(expression))

    def plain(self, term: Term) -> Value:
        if term.charge is None:
            return term.value
        assert self.circuit is not None
        index, value = self.circuit.new_implicit()
        # where control does not come here, the unknown is 0: see ``default``
        self.environment["equation", index] = self.circuit.difference(value, term)
        return value

    def term(self, expression: Expression) -> Term:
        """The term of ``expression``; operators are taken from a stack, so depth costs nothing."""
        pending: list[tuple[Expression, bool]] = [(expression, False)]
        done: list[Term] = []
        while pending:
            node, ready = pending.pop()
            if isinstance(node, Unary):
                if ready:
                    done.append(self._unary(node.token, done.pop()))
                else:
                    pending += [(node, True), (node.operand, False)]
            elif isinstance(node, Binary) and node.token.text not in _SHORT_CIRCUIT:
                if ready:
                    right = done.pop()
                    done.append(self._binary(node.token, done.pop(), right))
                else:
                    pending += [(node, True), (node.right, False), (node.left, False)]
            else:
                done.append(self._nested(node))
        return done[0]

    def _nested(self, node: Expression) -> Term:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise parse_error(node.token, f"nested more than {_DEEPEST} deep: use variables in between")
        try:
            return self._leaf(node)
        finally:
            self._depth -= 1

    def _leaf(self, node: Expression) -> Term:
        match node:
            case Number():
                return Term(self.builder.literal(node.value))
            case Text():
                return Term(self.builder.literal(node.value))
            case Name():
                return self._name(node.token)
            case Indexed():
                return self._element(node)
            case Choice():
                return self._choice(node)
            case Binary():
                return Term(self._logical(node))
            case PortFlow():
                return Term(self._port_flow(node))
            case Call():
                return self._call(node)
            case Vector(items=items) if items and all(self.type_of(item) == "string" for item in items):
                return Term(self._joined(node.token, items))
            case Vector():
                raise parse_error(node.token, "an array stands where one value is needed")
        raise AssertionError(node)

    def _joined(self, token: Token, items: tuple[Expression, ...]) -> Value:
        """``{"a", "b"}`` of strings that are known."""
        texts = [self.value(item).literal for item in items]
        if None in texts:
            raise refusal(token, "strings can be joined only where they are known before the run")
        return self.builder.literal("".join(map(str, texts)))

    def _unary(self, token: Token, term: Term) -> Term:
        if token.text == "-" and term.charge is not None:
            return Term(self.arithmetic.unary(token, term.value), self.builder.emit("fneg", term.charge))
        if token.text == "+" and term.charge is not None:
            return term
        return Term(self.arithmetic.unary(token, self.plain(term)))

    def _binary(self, token: Token, left: Term, right: Term) -> Term:
        if left.charge is None and right.charge is None:
            return Term(self.arithmetic.binary(token, left.value, right.value))
        emit, operator = self.builder.emit, token.text
        if operator in ("+", "-"):
            charges = [t.charge or self.builder.literal(0.0) for t in (left, right)]
            value = self.arithmetic.binary(token, left.value, right.value)
            return Term(value, emit("fadd" if operator == "+" else "fsub", *charges))
        if operator == "*" and left.charge is None:
            left, right = right, left
        steady = right.charge is None and not self.builder.varies(right.value)
        if operator in ("*", "/") and steady and left.charge is not None:
            factor = self.arithmetic.real(right.value, token)
            opcode = "fmul" if operator == "*" else "fdiv"
            return Term(emit(opcode, left.value, factor), emit(opcode, left.charge, factor))
        return Term(self.arithmetic.binary(token, self.plain(left), self.plain(right)))

    def _choice(self, node: Choice) -> Term:
        condition = self.arithmetic.boolean(self.value(node.condition), node.token)
        if condition.literal is not None:
            return self.term(node.then if condition.literal else node.other)
        kind = self.type_of(node)
        return self.branch(
            condition,
            lambda: self.typed(self.term(node.then), kind, node.token),
            lambda: self.typed(self.term(node.other), kind, node.token),
        )

    def typed(self, term: Term, kind: str, place: Token) -> Term:
        """``term`` as a value of the type ``kind``."""
        if term.charge is not None and kind == "real":
            return Term(self.arithmetic.real(term.value, place), term.charge)
        return Term(self.arithmetic.to_type(self.plain(term), kind, place))

    def type_of(self, expression: Expression) -> str:
        """The type of an expression: real, integer or string."""
        pending: list[Expression | None] = [expression]
        kinds: set[str] = set()
        while pending:
            node = pending.pop()
            match node:
                case Unary() if node.token.text != "!":
                    pending.append(node.operand)
                case Binary() if node.token.text in _ARITHMETIC:
                    pending += [node.left, node.right]
                case Choice():
                    pending += [node.then, node.other]
                case Call() if node.token.text.removeprefix("$") in ("abs", "min", "max"):
                    pending.extend(node.arguments)
                case _:
                    kinds.add(self._leaf_type(node))
        return "string" if "string" in kinds else "real" if "real" in kinds else "integer"

    def _leaf_type(self, node: Expression | None) -> str:
        match node:
            case Number():
                return "integer" if isinstance(node.value, int) else "real"
            case Vector(items=(Text(), *_)):
                return "string"
            case Text():
                return "string"
            case Unary() | Binary():
                return "real" if node.token.text == "**" else "integer"
            case Call() | Name() | Indexed():
                symbol = self.scope.find(node.token.text)
                if isinstance(symbol, Slot | AnalogFunction):
                    return symbol.type
                if isinstance(symbol, Constant):
                    return symbol.elements[0].type
                if isinstance(symbol, Parameter):
                    return self.parameter(node.token, symbol).type
                if node.token.text == "$simparam$str":
                    return "string"
                return "integer" if node.token.text in _INTEGER_CALLS else "real"
        return "real"

    # --- control flow -------------------------------------------------------------------------

    def branch(
        self, condition: Value, then: Callable[[], Term | None], other: Callable[[], Term | None]
    ) -> Term:
        """Both sides of a condition, each in an environment of its own; then what either leaves.

        What both return is merged as well: a term where they return terms of one type.
        """
        conditional = Conditional(condition, Region(), Region())
        before = self.environment
        outer, self.uncertain = self.uncertain, self.uncertain or self.builder.varies(condition)
        sides = []
        for region, side in ((conditional.then, then), (conditional.other, other)):
            self.environment = dict(before)
            with self.builder.inside(region):
                sides.append((side(), self.environment))
        self.environment, self.uncertain = before, outer
        self.builder.append(conditional)
        (a, first), (b, second) = sides
        moved = [key for side in (first, second) for key, term in side.items() if before.get(key) is not term]
        for key in dict.fromkeys(moved):
            if first.get(key) != second.get(key):
                self.environment[key] = self._merge_key(conditional, key, first, second)
            else:
                self.environment[key] = first[key]
        return Term(self.builder.literal(0)) if a is None or b is None else self._join(conditional, a, b)

    def _merge_key(
        self, conditional: Conditional, key: Key, first: dict[Key, Term], second: dict[Key, Term]
    ) -> Term:
        terms = [first.get(key) or self.default(key), second.get(key) or self.default(key)]
        return self._join(conditional, *terms)

    def default(self, key: Key) -> Term:
        """What ``key`` stands for where nothing has set it."""
        if isinstance(key, str):
            return self.unset(self.slots[key], key)
        kind, name = key
        if kind == "equation":
            assert self.circuit is not None
            return Term(self.circuit.input("unknown", self.circuit.nodes[int(name)].name))
        if kind == "later":
            return self.default(str(name))
        values = {"rules": False, "happened": False, "limit": math.inf}
        return Term(self.builder.literal(values.get(kind, 0.0)))

    def _join(self, conditional: Conditional, then: Term, other: Term) -> Term:
        value = self.builder.merge(conditional, then.value, other.value)
        if then.charge is None and other.charge is None:
            return Term(value)
        charges = [term.charge or self.builder.literal(0.0) for term in (then, other)]
        return Term(value, self.builder.merge(conditional, *charges))

    def _logical(self, node: Binary) -> Value:
        """``&&`` and ``||``: the right side counts only where the left one leaves it open."""
        chain = [node.right]
        left: Expression = node.left
        while isinstance(left, Binary) and left.token.text == node.token.text:
            chain.append(left.right)
            left = left.left
        result = self.arithmetic.boolean(self.value(left), node.token)
        for right in reversed(chain):
            result = self._shortcircuit_of(node.token, result, right)
        return result

    def _shortcircuit_of(self, token: Token, left: Value, right: Expression) -> Value:
        both = token.text == "&&"
        if left.literal is not None:
            return self.arithmetic.boolean(self.value(right), token) if left.literal is both else left
        decided = self.builder.literal(not both)

        def evaluate() -> Term:
            return Term(self.arithmetic.boolean(self.value(right), token))

        def skip() -> Term:
            return Term(decided)

        return self.branch(left, *((evaluate, skip) if both else (skip, evaluate))).value

    # --- calls --------------------------------------------------------------------------------

    def _call(self, call: Call) -> Term:
        name = call.token.text
        function = self.scope.find(name)
        if isinstance(function, AnalogFunction):
            return Term(self.user_function(call, function))
        if name in self.access:
            return Term(self._access(call))
        if (term := self.system_call(call)) is not None:
            return term
        plain = name.removeprefix("$")
        if plain in FUNCTION_NAMES:
            values = [self.value(argument) for argument in self.all_given(call)]
            return Term(self.arithmetic.function(call.token, plain, values))
        raise unknown_call(call.token)

    def system_call(self, call: Call) -> Term | None:
        """An analog operator or a system function; None if ``call`` is neither."""
        return None

    def user_function(self, call: Call, function: AnalogFunction) -> Value:
        raise refusal(call.token, "an analog function cannot set a parameter: write the expression")

    def all_given(self, call: Call) -> list[Expression]:
        given = [argument for argument in call.arguments if argument is not None]
        if len(given) != len(call.arguments):
            raise parse_error(call.token, f"an argument of {call.token.text} is empty")
        return given

    def elements(self, expression: Expression) -> list[Value]:
        """The values of an array, named or written out."""
        symbol = self.scope.find(expression.token.text) if isinstance(expression, Name) else None
        if isinstance(symbol, Slot | Constant) and symbol.bounds:
            return [self.plain(self._element_at(symbol, k)) for k in range(size(symbol.bounds))]
        items = flat(expression)
        if items is None:
            raise parse_error(expression.token, "an array is needed here: its name, or '{a, b, ...}")
        return [self.value(item) for item in items]

    def give_up(self, token: Token, message: str) -> None:
        """Where control comes here the model has no solution, for a reason with its place in the file."""
        place = f"{Path(token.file).name}:{token.line}"
        self.builder.effect("fatal", self.builder.literal(f"{place}: {message}"))

    def arguments_of(self, call: Call, least: int, most: int) -> list[Expression]:
        given = self.all_given(call)  # an empty one in between would move the others
        if not least <= len(given) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise parse_error(call.token, f"{call.token.text} takes {wanted} arguments, not {len(given)}")
        return given

    def real_of(self, expression: Expression, place: Token) -> Value:
        return self.arithmetic.real(self.value(expression), place)


def flat(value: Expression) -> list[Expression] | None:
    """The values of a (nested) vector, rows first."""
    if not isinstance(value, Vector):
        return None
    items: list[Expression] = []
    for item in value.items:
        items.extend(flat(item) or [item])
        if len(items) > MOST_ELEMENTS:
            raise refusal(value.token, f"an array of more than {MOST_ELEMENTS} elements")
    return items
