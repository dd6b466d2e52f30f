"""Lowering: analog functions, written out where they are called."""

from __future__ import annotations

import itertools

from cosim.verilog.lower_statements import StatementLowering
from cosim.verilog.scope import Scope, Slot, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import AnalogFunction, Call, Expression, Indexed, Name, Variable

__all__ = ["ModuleLowering"]


class ModuleLowering(StatementLowering):
    """Everything that stands in a module. Each call of a function has variables of its own."""

    placed = 0  # modules so far

    def user_function(self, call: Call, function: AnalogFunction) -> Value:
        """The body of the function in place, in a scope of its own; outputs are written back."""
        name = function.token.text
        if name in self._calling:
            raise refusal(call.token, f"analog function {name} calls itself")
        arguments = self.all_given(call)
        if len(arguments) != len(function.arguments):
            raise parse_error(
                call.token, f"{name} takes {len(function.arguments)} arguments, not {len(arguments)}"
            )
        self._depth += 1
        inputs = [
            None
            if formal.direction == "output"
            else self.elements(actual)
            if formal.dimensions
            else [self.value(actual)]
            for formal, actual in zip(function.arguments, arguments, strict=True)
        ]
        outer, self.scope = self.scope, Scope(self._module_scope())
        calling, self._calling = self._calling, (*self._calling, name)
        prefix = f"{self.prefix}{'/'.join(self._calling)}."
        own = [Variable(function.token, function.type)]
        own += [Variable(formal.token, formal.type, formal.dimensions) for formal in function.arguments]
        known = len(self.environment)
        for variable in [*own, *function.variables]:
            self.declare(variable, prefix, local=True)
        for formal, values in zip(function.arguments, inputs, strict=True):
            self._bind(formal.token, values)
        for statement in function.body:
            self.statement(statement)
        result = self.plain(self._name(function.token))
        outputs = [
            self._values(formal.token) if formal.direction != "input" else None
            for formal in function.arguments
        ]
        self._forget(prefix, len(self.environment) - known)
        self.scope, self._calling = outer, calling
        for actual, values in zip(arguments, outputs, strict=True):
            if values is not None:
                self._write_back(actual, values, call.token)
        self._depth -= 1
        return result

    def _module_scope(self) -> Scope:
        scope = self.scope
        while scope.outer is not None:
            scope = scope.outer
        return scope

    def _forget(self, prefix: str, most: int) -> None:
        """Drop the variables of a call: they are among the ``most`` keys that came last."""
        for key in list(itertools.islice(reversed(self.environment), most)):
            if isinstance(key, str) and key.startswith(prefix):
                del self.environment[key]

    def _bind(self, token: Token, values: list[Value] | None) -> None:
        slot = self.scope.symbols[token.text]
        assert isinstance(slot, Slot)
        if values is None:
            return
        keys = slot.keys
        if len(keys) != len(values):
            raise parse_error(
                token, f"argument {token.text} has {len(keys)} elements, {len(values)} were given"
            )
        for key, value in zip(keys, values, strict=True):
            self.write(slot, key, Term(self.arithmetic.to_type(value, slot.type, token)))

    def _values(self, token: Token) -> list[Value]:
        slot = self.scope.symbols[token.text]
        assert isinstance(slot, Slot)
        return [self.plain(self.read(slot, key)) for key in slot.keys]

    def _write_back(self, actual: Expression, values: list[Value], place: Token) -> None:
        slot = self.scope.find(actual.token.text) if isinstance(actual, Name | Indexed) else None
        if not isinstance(slot, Slot):
            raise parse_error(place, f"an output argument of {place.text} must be a variable")
        if isinstance(actual, Indexed):
            position = self.position(actual, slot.bounds)
            if position.literal is None:
                raise refusal(
                    place, "an output argument with an index that changes: use a variable in between"
                )
            keys = [slot.key(int(position.literal))]
        else:
            keys = slot.keys
        for key, value in zip(keys, values, strict=True):
            self.write(slot, key, Term(self.arithmetic.to_type(value, slot.type, place)))
