"""Lowering: what names stand for, and the elements of arrays and buses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from cosim.verilog.arithmetic import Arithmetic
from cosim.verilog.circuit import Circuit
from cosim.verilog.scope import Branch, Bus, Constant, Net, PortBranch, Scope, Slot, Term, size
from cosim.verilog.ssa import Builder, Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import Call, Expression, Indexed, Name, Parameter, PortFlow

__all__ = ["Key", "NameLowering"]

# a variable's element; or ("flow" | "potential" | "rules", branch); or ("equation", unknown)
Key: TypeAlias = str | tuple[str, str] | tuple[str, int]


class NameLowering:
    """What names stand for in one environment: the values of all variables at this point.

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

    def value(self, expression: Expression) -> Value:
        raise NotImplementedError

    def plain(self, term: Term) -> Value:
        raise NotImplementedError

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
