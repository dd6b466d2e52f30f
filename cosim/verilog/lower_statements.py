"""Lowering: statements."""

from __future__ import annotations

from dataclasses import replace

from cosim.devices.ir import Scalar, Type
from cosim.verilog.expressions import MOST_ELEMENTS
from cosim.verilog.lower_events import is_start
from cosim.verilog.lower_expressions import flat
from cosim.verilog.lower_names import Key
from cosim.verilog.lower_operators import OperatorLowering
from cosim.verilog.refusals import unknown_call
from cosim.verilog.scope import Constant, Scope, Slot, Term, size
from cosim.verilog.ssa import Loop, Merge, Region, Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import (
    AnalogFunction,
    Assign,
    Binary,
    Block,
    Call,
    CallStatement,
    Case,
    Contribute,
    Event,
    Expression,
    For,
    If,
    Indirect,
    Name,
    Null,
    Number,
    Range,
    Repeat,
    Statement,
    Variable,
    While,
)

__all__ = ["StatementLowering", "assignments"]

_TYPES: dict[str, Type] = {"real": "real", "integer": "integer", "string": "string", "genvar": "integer"}
_MOST_STATEMENTS = 50_000
_PATIENCE = 1000  # turns, before a loop is asked whether it goes on for ever


class StatementLowering(OperatorLowering):
    """Carries an environment through statements; contributions are entries of it like variables."""

    _calling: tuple[str, ...] = ()
    _written = 0  # statements so far

    # --- declarations -------------------------------------------------------------------------

    def declare(
        self,
        variable: Variable,
        prefix: str = "",
        *,
        local: bool = False,
        kept: bool = False,
        changes: bool = True,
    ) -> None:
        """``kept``: something else sets it as well, so that its initial value holds at the start only."""
        token = variable.token
        bounds = self.bounds(variable.dimensions, token)
        slot = Slot(prefix + token.text, _TYPES[variable.type], bounds, local, token.where, changes)
        self.scope.declare(token, slot)
        if variable.initial is None:
            return
        for key, term in self._elements(slot, variable.initial, token):
            if not kept:
                self.write(slot, key, term)
            elif self.builder.varies(term.value) or term.charge is not None:
                raise refusal(token, f"{token.text} starts from what changes: set it in @(initial_step)")
            else:
                self.initial[key] = term.value

    def bounds(self, ranges: tuple[Range, ...], place: Token) -> tuple[tuple[int, int], ...]:
        found = tuple((self.whole(r.first, place), self.whole(r.last, place)) for r in ranges)
        if size(found) > MOST_ELEMENTS:
            raise refusal(place, f"{place.text} has {size(found)} elements: {MOST_ELEMENTS} are possible")
        return found

    def whole(self, expression: Expression, place: Token) -> int:
        """An integer that is known while compiling."""
        value = self.value(expression)
        if value.literal is None or isinstance(value.literal, str):
            raise refusal(place, "a size must be a number that is known before the run, such as [0:3]")
        return int(value.literal)

    # --- statements ---------------------------------------------------------------------------

    def statement(self, node: Statement) -> None:
        self._written += 1
        if self._written > _MOST_STATEMENTS:
            raise refusal(
                node.token,
                f"more than {_MOST_STATEMENTS} statements, loops and functions written out: shorten a loop",
            )
        match node:
            case Null():
                return
            case Assign():
                self._assign(node)
            case Contribute():
                self._contribute(node)
            case Block():
                self._block(node)
            case If():
                self._if(node)
            case Case():
                self._case(node)
            case For() | While() | Repeat():
                self._loop(node)
            case Event():
                self.event(node)
            case CallStatement():
                self._call_statement(node.call)
            case Indirect():
                self._indirect(node)

    def _block(self, node: Block) -> None:
        outer, self.scope = self.scope, Scope(self.scope)
        prefix = f"{self.prefix}{node.name or f'line {node.token.line}'}."
        for parameter in node.parameters:
            assert parameter.default is not None
            value = self.value(parameter.default)
            kind = parameter.type or value.type
            self.scope.declare(
                parameter.token, Constant((self.arithmetic.to_type(value, kind, parameter.token),))
            )
        for variable in node.variables:
            self.declare(variable, prefix)
        for statement in node.body:
            self.statement(statement)
        self.scope = outer

    def _assign(self, node: Assign) -> None:
        token = node.target.token
        slot = self.scope.find(token.text)
        if not isinstance(slot, Slot):
            what = "is not declared" if slot is None else "is not a variable: it cannot be set"
            raise parse_error(token, f"{token.text} {what}")
        if isinstance(node.target, Name):
            for key, term in self._elements(slot, node.value, token):
                self.write(slot, key, term)
            return
        if not slot.bounds:
            raise parse_error(token, f"{token.text} is not an array")
        term = self.typed(self.term(node.value), slot.type, token)
        position = self.position(node.target, slot.bounds)
        if position.literal is not None:
            self.write(slot, slot.key(int(position.literal)), term)
            return
        value = self.plain(term)
        for k, key in enumerate(slot.keys):
            here = self.builder.emit("ieq", position, self.builder.literal(k))
            old = self.plain(self.read(slot, key))
            self.write(slot, key, Term(self.builder.choose(here, value, old)))

    def _elements(self, slot: Slot, value: Expression, place: Token) -> list[tuple[str, Term]]:
        """A value for a scalar, ``'{...}`` for the elements of an array: each with its key."""
        items = flat(value) if slot.bounds else [value]
        if items is None or len(items) != size(slot.bounds):
            raise parse_error(place, f"array {place.text} needs '{{...}} with {size(slot.bounds)} values")
        terms = [self.typed(self.term(item), slot.type, place) for item in items]
        return list(zip(slot.keys, terms, strict=True))

    def _contribute(self, node: Contribute) -> None:
        token = node.access.token
        self._check_target(token)
        self._add(node.access, self.typed(self.term(node.value), "real", token))

    def _check_target(self, token: Token) -> None:
        """Of a contribution: an access function, outside of functions and events."""
        if token.text not in self.access:
            raise parse_error(
                token, f"{token.text} is not an access function: '<+' and ':' need V(...) or I(...)"
            )
        if self._calling:
            raise parse_error(token, "an analog function cannot contribute: return the value")
        if self._in_event is not None:
            raise refusal(token, "a contribution inside an event: set a variable there, contribute outside")

    def _add(self, access: Call, term: Term) -> None:
        """Add ``term`` to the flow or potential of a branch; the last of the two kinds rules."""
        branch, turned = self.access_branch(access)
        if turned:
            charge = None if term.charge is None else self.builder.emit("fneg", term.charge)
            term = Term(self.builder.emit("fneg", term.value), charge)
        kind = self.access[access.token.text]
        other = "flow" if kind == "potential" else "potential"
        old = self.entry((kind, branch.name))
        rules = self.entry(("rules", branch.name)).value
        zero = Term(self.builder.literal(0.0))
        if rules.literal is not (kind == "potential"):
            self.environment[other, branch.name] = zero
        value = self.builder.emit("fadd", old.value, term.value)
        charges = [t.charge for t in (old, term) if t.charge is not None]
        charge = self.builder.emit("fadd", *charges) if len(charges) == 2 else charges[0] if charges else None
        self.environment[kind, branch.name] = Term(value, charge)
        self.environment["rules", branch.name] = Term(self.builder.literal(kind == "potential"))

    def _indirect(self, node: Indirect) -> None:
        """A source whose value is an unknown; its equation is the one given."""
        self._check_target(node.access.token)
        circuit = self.circuit_of(node.access.token)
        index, value = circuit.new_implicit()
        left, right = (
            self.typed(self.term(side), "real", node.access.token) for side in (node.left, node.right)
        )
        minus = _operator(node.token, "-")
        self.environment["equation", index] = self._binary(minus, left, right)
        self._add(node.access, Term(value))

    # --- conditions ---------------------------------------------------------------------------

    def _if(self, node: If) -> None:
        condition = self.arithmetic.boolean(self.value(node.condition), node.token)
        if condition.literal is not None:
            taken = node.then if condition.literal else node.other
            if taken is not None:
                self.nested(taken)
            return

        def then() -> None:
            self.nested(node.then)

        def other() -> None:
            if node.other is not None:
                self.nested(node.other)

        self.branch(condition, then, other)

    def nested(self, node: Statement) -> None:
        self._depth += 1
        if self._depth > 200:
            raise refusal(node.token, "conditions are nested more than 200 deep: use case, or an array")
        self.statement(node)
        self._depth -= 1

    def _case(self, node: Case) -> None:
        selector = self.value(node.selector)
        default = next((arm for labels, arm in node.arms if not labels), None)
        arms = [(labels, arm) for labels, arm in node.arms if labels]
        self._case_arms(node.token, selector, arms, default)

    def _case_arms(
        self,
        token: Token,
        selector: Value,
        arms: list[tuple[tuple[Expression, ...], Statement]],
        default: Statement | None,
    ) -> None:
        """The first arm with an equal label, else ``default``; each turn decides one arm."""
        if not arms:
            if default is not None:
                self.nested(default)
            return
        labels, arm = arms[0]
        equal = self.builder.literal(False)
        for label in labels:
            same = self.arithmetic.binary(_operator(token, "=="), selector, self.value(label))
            equal = self.builder.choose(equal, self.builder.literal(True), same)
        if equal.literal is not None:
            if equal.literal:
                self.nested(arm)
            else:
                self._case_arms(token, selector, arms[1:], default)
            return

        def then() -> None:
            self.nested(arm)

        def other() -> None:
            self._case_arms(token, selector, arms[1:], default)

        self._depth += 1
        self.branch(equal, then, other)
        self._depth -= 1

    # --- loops --------------------------------------------------------------------------------

    def _loop(self, node: For | While | Repeat) -> None:
        """Written out while its condition is known; else a loop of the compiled code."""
        if isinstance(node, Repeat):
            self._repeat(node)
            return
        if isinstance(node, For):
            self._assign(node.before)
        turns, known = 0, {}
        while True:
            condition = self.arithmetic.boolean(self.value(node.condition), node.token)
            if condition.literal is None:
                break
            if not condition.literal:
                return
            turns += 1
            if turns >= _PATIENCE and known == (known := self._known()):
                raise refusal(node.token, "this loop never ends: nothing that it counts changes")
            self.nested(node.body)
            if isinstance(node, For):
                self._assign(node.after)
        self._running_loop(node)

    def _known(self) -> dict[Key, Scalar]:
        """The variables whose values are known now."""
        found = ((key, term.value.literal) for key, term in self.environment.items())
        return {key: literal for key, literal in found if literal is not None}

    def _repeat(self, node: Repeat) -> None:
        """As many turns as the count says when the loop starts."""
        token = node.token
        count = self.arithmetic.integer(self.value(node.count), token)
        if count.literal is not None:
            for _ in range(int(count.literal)):
                self.nested(node.body)
            return
        outer, self.scope = self.scope, Scope(self.scope)
        left = replace(token, kind="name")  # "repeat": no variable of a file has this name
        self.declare(Variable(left, "integer"), f"{self.prefix}line {token.line}.", local=True)
        slot = self.scope.symbols[left.text]
        assert isinstance(slot, Slot)
        self.write(slot, slot.name, Term(count))
        turn = Assign(Name(left), Binary(_operator(token, "-"), Name(left), Number(token, 1)))
        condition = Binary(_operator(token, ">"), Name(left), Number(token, 0))
        self._loop(While(token, condition, Block(token, "", (), (), (node.body, turn))))
        self.scope = outer

    def _running_loop(self, node: For | While) -> None:
        """A loop whose number of turns shows only in the run."""
        merges = {}
        for key in self._assigned(node):
            start = self.environment.get(key) or self.default(key)
            merges[key] = (start, self.builder.fresh(start.value.type, varying=True))
            self.environment[key] = Term(merges[key][1])
        before = dict(self.environment)
        head, body = Region(), Region()
        with self.builder.inside(head):
            condition = self.arithmetic.boolean(self.value(node.condition), node.token)
        outer, self.uncertain = self.uncertain, True
        with self.builder.inside(body):
            self.nested(node.body)
            if isinstance(node, For):
                self._assign(node.after)
            self.uncertain = outer
            changed = self.environment
            last = {key: self._loop_value(key, changed, node.token) for key in merges}
        for key in changed:
            local = isinstance(key, str) and key not in before  # of a block inside: set anew at each turn
            if changed.get(key) != before.get(key) and key not in merges and not local:
                raise refusal(
                    node.token, "a loop without a fixed number of turns cannot contribute or differentiate"
                )
        self.environment = before
        self.builder.append(
            Loop(
                [Merge(v, start.value, last[key]) for key, (start, v) in merges.items()],
                head,
                condition,
                body,
            )
        )

    def _loop_value(self, key: Key, environment: dict[Key, Term], place: Token) -> Value:
        term = environment[key]
        if term.charge is not None:
            raise refusal(place, "ddt in a loop without a fixed number of turns: take it out of the loop")
        return term.value

    def _assigned(self, node: For | While) -> list[str]:
        """Keys of all variables that the loop sets."""
        keys: dict[str, None] = {}
        for assign in assignments(node):
            slot = self.scope.find(assign.target.token.text)
            if isinstance(slot, Slot):
                for key in slot.keys:
                    self.read(slot, key)
                    keys[key] = None
        return list(keys)

    # --- calls --------------------------------------------------------------------------------

    def _call_statement(self, call: Call) -> None:
        name = call.token.text
        if self.system_task(call):
            return
        if isinstance(self.scope.find(name), AnalogFunction):
            self.term(call)
        else:
            raise unknown_call(call.token)


def _operator(place: Token, text: str) -> Token:
    """An operator that the language implies, with the place of what implies it."""
    return replace(place, kind="operator", text=text)


def assignments(node: Statement, *, starts: bool = True) -> list[Assign]:
    """Every assignment below ``node``; without ``starts`` those that are not of the start alone."""
    found: list[Assign] = []
    pending: list[Statement | None] = [node]
    while pending:
        item = pending.pop()
        match item:
            case Assign():
                found.append(item)
            case Block():
                pending.extend(item.body)
            case If():
                pending += [item.then, item.other]
            case Case():
                pending.extend(arm for _, arm in item.arms)
            case For():
                pending += [item.before, item.after, item.body]
            case While() | Repeat():
                pending.append(item.body)
            case Event() if starts or not is_start(item):
                pending.append(item.body)
    return found
