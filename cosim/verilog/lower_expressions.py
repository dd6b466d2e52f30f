"""Lowering, first part: expressions of the syntax tree -> SSA terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from cosim.devices.tokens import Token, parse_error, refusal
from cosim.verilog.arithmetic import FUNCTION_NAMES, Arithmetic
from cosim.verilog.circuit import Circuit
from cosim.verilog.refusals import unknown_call
from cosim.verilog.scope import Branch, Bus, Constant, Net, PortBranch, Scope, Slot, Term, size
from cosim.verilog.ssa import Builder, Conditional, Region, Value
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

__all__ = ["ExpressionLowering", "Key", "flat"]

# a variable's element; or ("flow" | "potential" | "rules", branch); or ("equation", unknown)
Key: TypeAlias = str | tuple[str, str] | tuple[str, int]

_SHORT_CIRCUIT = frozenset({"&&", "||"})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
_INTEGER_CALLS = frozenset({"analysis", "$param_given", "$port_connected", "$clog2"})
_DEEPEST = 100  # choices, calls and conditions within one another


class ExpressionLowering:
    """Values of expressions in one environment: the values of all variables at this point.

    ``access`` maps an access function to ("potential" or "flow"). Without a ``circuit`` only what is
    constant for the whole run is allowed (defaults and ranges of parameters).
    """

    def __init__(self, builder: Builder, circuit: Circuit | None, access: dict[str, str], notes: list[str]):
        self.builder = builder
        self.circuit = circuit
        self.access = access
        self.notes = notes
        self.arithmetic = Arithmetic(builder)
        self.scope = Scope()
        self.environment: dict[Key, Term] = {}
        self.slots: dict[str, Slot] = {}  # by the keys of their elements
        self.initial: dict[str, Value] = {}  # of kept variables, by the same keys
        self.parameters: dict[str, Value] = {}  # resolved values
        self.given: Callable[[str], Value] | None = None
        self.prefix = ""  # of names in an instance
        self.module = ""  # whose statements these are
        self.uncertain = False  # inside a condition that changes in a run
        self._depth = 0

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
        for key in [*first, *(key for key in second if key not in first)]:
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
        return Term(self.builder.literal(False if kind == "rules" else 0.0))

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

    # --- names --------------------------------------------------------------------------------

    def _name(self, token: Token) -> Term:
        symbol = self.scope.find(token.text)
        if isinstance(symbol, Slot):
            if symbol.bounds:
                raise parse_error(token, f"{token.text} is an array: name one element, {token.text}[k]")
            return self.read(symbol, symbol.name)
        if isinstance(symbol, Constant):
            if symbol.bounds:
                raise parse_error(token, f"{token.text} is an array: name one element, {token.text}[k]")
            return Term(symbol.elements[0])
        if isinstance(symbol, Parameter):
            return Term(self.parameter(token, symbol))
        if symbol is None:
            raise parse_error(token, f"{token.text} is not declared")
        kind = "net" if isinstance(symbol, Net) else "branch" if isinstance(symbol, Branch) else "function"
        raise parse_error(token, f"{token.text} is a {kind}: it has no value of its own")

    def parameter(self, token: Token, symbol: Parameter) -> Value:
        if symbol.token.text not in self.parameters:
            raise parse_error(token, f"parameter {token.text} is used before its declaration")
        return self.parameters[symbol.token.text]

    def read(self, slot: Slot, key: str) -> Term:
        """A variable; where nothing has set it yet, the value that it is kept at."""
        if key not in self.environment:
            self.slots[key] = slot
            self.environment[key] = self.unset(slot, key)
        return self.environment[key]

    def write(self, slot: Slot, key: str, term: Term) -> None:
        self.slots[key] = slot
        self.environment[key] = term

    def unset(self, slot: Slot, key: str) -> Term:
        if slot.local:
            return Term(
                self.builder.literal("" if slot.type == "string" else 0.0 if slot.type == "real" else 0)
            )
        assert self.circuit is not None
        return Term(self.circuit.input("kept", key, slot.type))

    def _element(self, node: Indexed) -> Term:
        symbol = self.scope.find(node.token.text)
        if not isinstance(symbol, Slot | Constant) or not symbol.bounds:
            raise parse_error(node.token, f"{node.token.text} is not an array")
        position = self.position(node, symbol.bounds)
        count = size(symbol.bounds)
        if position.literal is not None:
            k = int(position.literal)
            self.check_bounds(node, k, count)
            return self._element_at(symbol, k)
        value = self.plain(self._element_at(symbol, count - 1))
        for k in reversed(range(count - 1)):
            here = self.builder.emit("ieq", position, self.builder.literal(k))
            value = self.builder.choose(here, self.plain(self._element_at(symbol, k)), value)
        return Term(value)

    def _element_at(self, symbol: Slot | Constant, position: int) -> Term:
        if isinstance(symbol, Constant):
            return Term(symbol.elements[position])
        return self.read(symbol, symbol.key(position))

    def position(self, node: Indexed, bounds: Sequence[tuple[int, int]]) -> Value:
        """Where an element lies, counted from 0, rows first."""
        if len(node.index) != len(bounds):
            raise parse_error(node.token, f"{node.token.text} has {len(bounds)} dimensions")
        emit, literal = self.builder.emit, self.builder.literal
        total = literal(0)
        for expression, (first, last) in zip(node.index, bounds, strict=True):
            index = self.arithmetic.integer(self.value(expression), node.token)
            low, size = min(first, last), abs(last - first) + 1
            if index.literal is not None and not low <= int(index.literal) < low + size:
                raise parse_error(
                    node.token, f"index {index.literal} of {node.token.text} is outside [{first}:{last}]"
                )
            offset = emit("isub", index, literal(low))
            total = emit("iadd", emit("imul", total, literal(size)), offset)
        return total

    def check_bounds(self, node: Indexed, position: int, count: int) -> None:
        if not 0 <= position < count:
            raise parse_error(node.token, f"an index of {node.token.text} is outside its bounds")

    # --- access -------------------------------------------------------------------------------

    def net(self, expression: Expression | None, place: Token) -> Net:
        """The net that an argument of an access function names."""
        if not isinstance(expression, Name | Indexed):
            raise parse_error(place, f"{place.text}() takes nets or a branch")
        symbol = self.scope.find(expression.token.text)
        if isinstance(symbol, Bus):
            return self._bus_net(expression, symbol)
        if isinstance(expression, Indexed):
            raise parse_error(expression.token, f"{expression.token.text} is not a bus")
        if not isinstance(symbol, Net):
            raise parse_error(expression.token, f"{expression.token.text} is not a net")
        return symbol

    def _bus_net(self, expression: Name | Indexed, bus: Bus) -> Net:
        name = expression.token.text
        if not isinstance(expression, Indexed):
            raise parse_error(expression.token, f"{name} is a bus: name one of its nets, {name}[k]")
        position = self.position(expression, bus.bounds)
        if position.literal is None:
            raise refusal(expression.token, f"the index of bus {name} must be known before the run")
        return bus.nets[int(position.literal)]

    def access_branch(self, call: Call) -> tuple[Branch, bool]:
        """The branch that an access function names, and whether it runs the other way."""
        circuit = self.circuit_of(call.token)
        arguments = call.arguments
        if not 1 <= len(arguments) <= 2:
            raise parse_error(call.token, f"{call.token.text}() takes one or two nets, or a branch")
        first = arguments[0]
        if len(arguments) == 1 and isinstance(first, Name):
            symbol = self.scope.find(first.token.text)
            if isinstance(symbol, Branch):
                return circuit.branch(symbol.first, symbol.second, symbol.name)
        nets = [self.net(argument, call.token) for argument in arguments]
        return circuit.branch(nets[0], nets[1] if len(nets) == 2 else Net("", None))

    def circuit_of(self, token: Token) -> Circuit:
        if self.circuit is None:
            raise parse_error(token, f"{token.text} cannot stand in a parameter: it changes during the run")
        return self.circuit

    def _access(self, call: Call) -> Value:
        circuit = self.circuit_of(call.token)
        potential = self.access[call.token.text] == "potential"
        first = call.arguments[0] if call.arguments else None
        symbol = self.scope.find(first.token.text) if isinstance(first, Name) else None
        if isinstance(symbol, PortBranch) and not potential:
            return circuit.port_flow(symbol.net)
        branch, turned = self.access_branch(call)
        value = circuit.voltage(branch.first, branch.second) if potential else circuit.flow(branch)
        return self.builder.emit("fneg", value) if turned else value

    def _port_flow(self, node: PortFlow) -> Value:
        circuit = self.circuit_of(node.token)
        net = self.net(node.port, node.token)
        if net.index is None or not circuit.nodes[net.index].terminal:
            raise parse_error(node.token, f"{net.name} is not a port: I(<port>) needs one")
        return circuit.port_flow(net)

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
        given = [argument for argument in call.arguments if argument is not None]
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
    return items
