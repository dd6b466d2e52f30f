"""Definite assignment: no variable may be carried from one evaluation of a model to the next.

OpenVAF compiles a variable that is read before it is set as the constant 0, and runs an event
block at every evaluation. Both are found here, in the source, because the compiled form no
longer shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cosim.devices.syntax import (
    Assign,
    Block,
    Branching,
    Call,
    Contribute,
    Declaration,
    Event,
    Expression,
    Function,
    Loop,
    Module,
    Name,
    Null,
    Operation,
    Statement,
)
from cosim.devices.tokens import Token, refusal, words
from cosim.errors import ModelError

__all__ = ["check_module"]

# what has one value for the whole run, so that computing it again at every evaluation changes nothing
_CONSTANT_CALLS = words(
    "abs acos acosh asin asinh atan atan2 atanh ceil cos cosh exp floor hypot limexp ln log max min pow "
    "sin sinh sqrt tan tanh $abs $acos $acosh $asin $asinh $atan $atan2 $atanh $ceil $clog2 $cos $cosh "
    "$exp $floor $hypot $ln $log10 $max $min $pow $sin $sinh $sqrt $tan $tanh $temperature $vt "
    "$simparam $param_given $port_connected $mfactor"
)


def check_module(module: Module) -> None:
    """Raise ModelError where a value would be carried from one evaluation to the next."""
    functions = {function.token.text: function for function in module.functions}
    for function in module.functions:
        _check_function(function, functions)
    flow = _Flow(functions)
    scope = flow.declare(module.variables, {})
    statements = [*module.initial, *module.analog]
    flow.survey(statements, scope)
    state = flow.preset(scope, _State())
    for statement in statements:
        state = flow.run(statement, scope, state)


def _check_function(function: Function, functions: dict[str, Function]) -> None:
    """Locals of a function are static too: one call would see the values of the call before."""
    flow = _Flow(functions)
    arguments = [Declaration(token, False) for token in function.arguments]
    scope = flow.declare([Declaration(function.token, False), *arguments], {})
    given = zip(function.arguments, function.directions, strict=True)
    state = _State(frozenset(scope[token.text] for token, direction in given if direction != "output"))
    # `input a; real a;` declares one variable
    names = {token.text for token in (*function.arguments, function.token)}
    own = [d for d in function.block.declarations if d.token.text not in names]
    scope = flow.declare(own, scope)
    body = Block((), function.block.body)
    flow.survey([body], scope)
    flow.run(body, scope, flow.preset(scope, state))


@dataclass(eq=False, slots=True)
class _Variable:
    """A declared variable and where it is set: by its initialiser or an event, and by statements."""

    token: Token
    initial: bool
    value: Expression
    events: list[Token] = field(default_factory=list)
    statements: list[Token] = field(default_factory=list)

    @property
    def is_constant(self) -> bool:
        return not self.statements and (self.initial or bool(self.events))


_Scope = dict[str, _Variable]
_Test = tuple[str, bool, frozenset[_Variable]]  # text of a condition, its outcome, what it reads


@dataclass(frozen=True, slots=True)
class _State:
    """The variables that hold a value here; and those that do besides, given a test's outcome."""

    known: frozenset[_Variable] = frozenset()
    given: dict[_Test, _State] = field(default_factory=dict)

    def set(self, variable: _Variable) -> _State:
        return _State(self.known | {variable}, self.without_tests_of(frozenset({variable})).given)

    def without_tests_of(self, changed: frozenset[_Variable]) -> _State:
        """The state when the outcome of tests that read ``changed`` is open again."""
        kept = {
            test: then.without_tests_of(changed) if then.given else then
            for test, then in self.given.items()
            if changed.isdisjoint(test[2])
        }
        return _State(self.known, kept)

    def join(self, other: _State) -> _State:
        """What holds on both of two paths."""
        given = {}
        for test in self.given.keys() & other.given.keys():
            then = self.given[test]
            if then is not other.given[test]:  # else both paths have it from before they parted
                then = _State(self.assume(test).known & other.assume(test).known)
            given[test] = then
        return _State(self.known & other.known, given)

    def assume(self, test: _Test) -> _State:
        """The state behind a test that came out as it did before."""
        then = self.given.get(test)
        if then is None:
            return self
        return _State(self.known | then.known, {**self.given, **then.given})

    def remember(self, test: _Test, end: _State) -> None:
        """Keep what only the arm behind ``test`` knows."""
        new = {inner: then for inner, then in end.given.items() if inner not in self.given}
        self.given[test] = _State(end.known, new)


class _Flow:
    """Definite assignment: every variable must hold a value of this evaluation when it is read."""

    def __init__(self, functions: dict[str, Function]) -> None:
        self.functions = functions
        self.scopes: dict[int, _Scope] = {}
        self.once = ""  # what runs once in Verilog-A: the event or initialiser that is being read

    @contextmanager
    def _running_once(self, what: str) -> Iterator[None]:
        outer, self.once = self.once, what
        yield
        self.once = outer

    # --- which variables there are, and who sets them ----------------------------------------

    def declare(self, declarations: list[Declaration], scope: _Scope) -> _Scope:
        return scope | {d.token.text: _Variable(d.token, d.initial, d.value) for d in declarations}

    def survey(self, statements: list[Statement], scope: _Scope, event: bool = False) -> None:
        """Note for each variable the places that set it."""
        for statement in statements:
            match statement:
                case Block(declarations, body):
                    inner = self.declare(list(declarations), scope)
                    self.scopes[id(statement)] = inner
                    self.survey(list(body), inner, event)
                case Event(body=body):
                    self.survey([body], scope, True)
                case Branching(arms=arms):
                    self.survey(list(arms), scope, event)
                case Loop(before=before, body=body, after=after):
                    self.survey([before, body, after], scope, event)
                case Assign(target, _) if target.text in scope:
                    self._note(scope[target.text], target, event)
                case _:
                    pass
            for value in _expressions(statement):
                for token in self._outputs(value):
                    if token.text in scope:
                        self._note(scope[token.text], token, event)

    def _note(self, variable: _Variable, token: Token, event: bool) -> None:
        (variable.events if event else variable.statements).append(token)

    def _outputs(self, value: Expression) -> Iterator[Token]:
        for call in _calls(value):
            function = self.functions.get(call.token.text)
            directions = function.directions if function is not None else ()
            for argument, direction in zip(call.arguments, directions, strict=False):
                if direction != "input" and isinstance(argument, Name):
                    yield argument.token

    def preset(self, scope: _Scope, state: _State) -> _State:
        """Variables with an initialiser that nothing else sets hold it all the time."""
        for variable in scope.values():
            if variable.initial and variable.is_constant and not variable.events:
                with self._running_once(f"the initialiser of {variable.token.text}"):
                    self.read(variable.value, scope, state)
                state = state.set(variable)
        return state

    # --- one pass over the statements ----------------------------------------------------------

    def run(self, statement: Statement, scope: _Scope, state: _State) -> _State:
        match statement:
            case Block(_, body):
                inner = self.scopes[id(statement)]
                state = self.preset({n: v for n, v in inner.items() if scope.get(n) is not v}, state)
                for part in body:
                    state = self.run(part, inner, state)
            case Assign(target, value):
                state = self.read(value, scope, state)
                state = self._assign(target, scope, state)
            case Contribute(token, values):
                self._check_contribution(token)
                for value in values:
                    state = self.read(value, scope, state)
            case Branching():
                state = self._branch(statement, scope, state)
            case Loop():
                state = self._loop(statement, scope, state)
            case Event():
                state = self._event(statement, scope, state)
        return state

    def _branch(self, branching: Branching, scope: _Scope, state: _State) -> _State:
        state = self._read_test(branching.condition, branching, scope, state)
        for label in branching.labels:
            state = self.read(label, scope, state)
        if not branching.text:
            ends = [self.run(arm, scope, state) for arm in branching.arms]
            ends += [] if branching.complete and ends else [state]
            return _join(ends)
        reads = frozenset(scope[n.text] for n in _names(branching.condition) if n.text in scope)
        tests: list[_Test] = [(branching.text, outcome, reads) for outcome in (True, False)]
        ends = [
            self.run(arm, scope, state.assume(test)) for arm, test in zip(branching.arms, tests, strict=True)
        ]
        joined = _join(ends)
        if not reads & self._set_in(branching, scope):
            for test, end in zip(tests, ends, strict=True):
                joined.remember(test, end)
        return joined

    def _set_in(self, statement: Statement, scope: _Scope) -> frozenset[_Variable]:
        """The variables of ``scope`` that a statement may set."""
        found: set[str] = set()
        for part in _walk(statement):
            if isinstance(part, Assign):
                found.add(part.target.text)
            for value in _expressions(part):
                found |= {token.text for token in self._outputs(value)}
        return frozenset(scope[name] for name in found if name in scope)

    def _loop(self, loop: Loop, scope: _Scope, state: _State) -> _State:
        state = self.run(loop.before, scope, state)
        state = state.without_tests_of(self._set_in(loop, scope))  # another turn may see another outcome
        state = self._read_test(loop.condition, loop, scope, state)
        end = self.run(loop.after, scope, self.run(loop.body, scope, state))
        return end if loop.runs else state.join(end)

    def _read_test(self, condition: Expression, statement: Statement, scope: _Scope, state: _State) -> _State:
        """What decides whether an event block is reached must not change during the run."""
        if any(isinstance(part, Event) for part in _walk(statement)):
            with self._running_once("a condition around @(initial_step)"):
                return self.read(condition, scope, state)
        return self.read(condition, scope, state)

    def _event(self, event: Event, scope: _Scope, state: _State) -> _State:
        if all(isinstance(part, Null | Block) for part in _walk(event.body)):
            return state
        if event.kind == "final_step":
            raise refusal(
                event.token, "@(final_step) would run at every evaluation: only printing is possible in it"
            )
        if not event.plain:
            raise refusal(
                event.token, "@(initial_step(...)) with a list of analyses is not supported: use a parameter"
            )
        with self._running_once("analog initial" if event.kind == "initial" else "@(initial_step)"):
            return self.run(event.body, scope, state)

    def _assign(self, target: Token, scope: _Scope, state: _State) -> _State:
        variable = scope.get(target.text)
        if variable is None:
            return state
        if self.once and not variable.is_constant:
            again = variable.statements[0]
            raise refusal(
                target,
                f"{_carried(target)}: it is set in {self.once} and again in line {again.line}; {_REMEDY}",
            )
        return state.set(variable)

    def _check_contribution(self, token: Token) -> None:
        if self.once and token.text not in self.functions and token.kind != "system":
            raise refusal(token, f"contribution in {self.once}: move it out of the event")

    # --- expressions ---------------------------------------------------------------------------

    def read(self, value: Expression, scope: _Scope, state: _State) -> _State:
        """The state after the evaluation of ``value``; every variable in it must hold a value."""
        match value:
            case Name(token):
                self._read_name(token, scope, state)
            case Operation(operands, _, sure):
                for operand in operands[:sure]:
                    state = self.read(operand, scope, state)
                for operand in operands[sure:]:
                    self.read(operand, scope, state)
            case Call(token, arguments):
                state = self._call(token, arguments, scope, state)
        return state

    def _read_name(self, token: Token, scope: _Scope, state: _State) -> None:
        variable = scope.get(token.text)
        if variable is None:
            return
        if variable not in state.known:
            raise _unassigned(token, variable)
        if self.once and not variable.is_constant:
            raise refusal(token, f"{self.once} reads {token.text!r}, which changes during the run: {_REMEDY}")

    def _call(self, token: Token, arguments: tuple[Expression, ...], scope: _Scope, state: _State) -> _State:
        function = self.functions.get(token.text)
        if self.once and function is None and token.text not in _CONSTANT_CALLS | {"$discontinuity"}:
            raise refusal(token, f"{self.once} uses {token.text}, which changes during the run: {_REMEDY}")
        outputs: list[Token] = []
        for index, argument in enumerate(arguments):
            direction = function.directions[index : index + 1] if function is not None else ()
            if direction == ("output",) and isinstance(argument, Name):
                outputs.append(argument.token)
                continue
            state = self.read(argument, scope, state)
            if direction == ("inout",) and isinstance(argument, Name):
                outputs.append(argument.token)
        for output in outputs:
            state = self._assign(output, scope, state)
        return state


_REMEDY = "keep a state on an internal node (I(y) <+ ddt(C*V(y)) and its rate)"


def _carried(token: Token) -> str:
    return f"variable {token.text!r} would be carried from one evaluation to the next"


def _unassigned(token: Token, variable: _Variable) -> ModelError:
    places = sorted({t.line for t in (*variable.statements, *variable.events) if t.file == token.file})
    where = f"set in line {', '.join(map(str, places))}" if places else "never set"
    if variable.initial:
        where = "its initialiser holds only before the first evaluation"
    return refusal(
        token,
        f"{_carried(token)}: on some path it is read here before it is set ({where}); set it first on every "
        f"path, e.g. {token.text} = 0; at the top, or {_REMEDY}",
    )


def _join(states: list[_State]) -> _State:
    joined = states[0]
    for state in states[1:]:
        joined = joined.join(state)
    return joined


def _walk(statement: Statement) -> Iterator[Statement]:
    yield statement
    parts: tuple[Statement, ...] = ()
    match statement:
        case Block(_, body):
            parts = body
        case Branching(arms=arms):
            parts = arms
        case Loop(before=before, body=body, after=after):
            parts = (before, body, after)
        case Event(body=body):
            parts = (body,)
    for part in parts:
        yield from _walk(part)


def _expressions(statement: Statement) -> tuple[Expression, ...]:
    """The expressions of a statement itself, without those of its parts."""
    match statement:
        case Assign(_, value):
            return (value,)
        case Contribute(_, values):
            return values
        case Branching(condition=condition, labels=labels):
            return (condition, *labels)
        case Loop(condition=condition):
            return (condition,)
        case _:
            return ()


def _calls(value: Expression) -> Iterator[Call]:
    if isinstance(value, Call):
        yield value
        for argument in value.arguments:
            yield from _calls(argument)
    elif isinstance(value, Operation):
        for operand in value.operands:
            yield from _calls(operand)


def _names(value: Expression) -> Iterator[Token]:
    if isinstance(value, Name):
        yield value.token
    elif isinstance(value, Operation):
        for operand in value.operands:
            yield from _names(operand)
    elif isinstance(value, Call):
        for argument in value.arguments:
            yield from _names(argument)
