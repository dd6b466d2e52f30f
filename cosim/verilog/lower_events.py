"""Lowering: events, which set variables at the start, at given times, or where an expression crosses 0."""

from __future__ import annotations

from dataclasses import replace

from cosim.devices.ir import BOUND_STEP, RETAKE, Type
from cosim.verilog.lower_names import Key
from cosim.verilog.lower_tasks import TaskLowering
from cosim.verilog.scope import Slot, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import Call, Event, Statement, Text

__all__ = ["EventLowering", "is_start"]

_STARTS = frozenset({"initial_step", "initial_instance", "initial"})
_CROSSINGS = frozenset({"cross", "above"})
# how near to its place an event happens, where the file says nothing
_PART = 1e-4  # of the step that it ends
_TIME = 1e-9  # of the time since the start: closer, a difference of times is rounding
_LAST_TIME = "$last_time"  # s, of the last accepted point


def is_start(node: Event) -> bool:
    """The event happens while time stands still, and at no other time."""
    return all(event.token.text in _STARTS for event in node.events)


class EventLowering(TaskLowering):
    """What a statement sets when an event happens.

    An event within a step asks for the step again, shorter, so that it ends on the event.
    """

    _in_event: Token | None = None
    _remembered = 0  # events and operators so far

    def statement(self, node: Statement) -> None:
        raise AssertionError(node)

    def entry(self, key: Key) -> Term:
        """What ``key`` stands for here."""
        return self.environment.get(key) or self.default(key)

    # --- hidden variables -----------------------------------------------------------------------

    def accepted_steps(self) -> Value:
        """How many time points of the run were accepted before this one; 0 where time stands still."""
        return self.hidden("$steps", "integer")

    def hidden(self, key: str, kind: Type = "real") -> Value:
        """A variable that no file declares, as it was kept; 0 at the start."""
        return self.plain(self.read(Slot(key, kind), key))

    def _remember(self, names: str) -> tuple[str, ...]:
        """Keys of hidden variables that nothing else has."""
        self._remembered += 1
        return tuple(f"${name}{self._remembered}" for name in names.split())

    def finish(self) -> None:
        """What events set, and the hidden variables of the whole model, behind this time point."""
        emit = self.builder.emit
        for key in [key for key in self.environment if not isinstance(key, str) and key[0] == "happened"]:
            name = str(key[1])
            happened, later = self.environment[key].value, self.plain(self.entry(("later", name)))
            end = self.plain(self.entry(name))
            self.environment[name] = Term(self.builder.choose(happened, later, end))
        if "$steps" in self.slots:
            self.environment["$steps"] = Term(emit("iadd", self.accepted_steps(), self.builder.literal(1)))
        if _LAST_TIME in self.slots:
            self.environment[_LAST_TIME] = Term(self.now)

    @property
    def now(self) -> Value:
        """s, the time of this point."""
        assert self.circuit is not None
        return self.circuit.input("abstime", "$abstime")

    @property
    def last_time(self) -> Value:
        """s, the time of the last accepted point."""
        return self.hidden(_LAST_TIME)

    @property
    def starting(self) -> Value:
        """Whether time stands still."""
        assert self.circuit is not None
        return self.circuit.input("starting", "starting", "boolean")

    # --- statements -----------------------------------------------------------------------------

    def system_task(self, call: Call) -> bool:
        if call.token.text != BOUND_STEP:
            return super().system_task(call)
        self.circuit_of(call.token)
        bound = self.real_of(self.arguments_of(call, 1, 1)[0], call.token)
        some = self.builder.emit("fgt", bound, self.builder.literal(0.0))
        self._limit_step(BOUND_STEP, self.builder.choose(some, bound, self.builder.literal(float("inf"))))
        return True

    def system_call(self, call: Call) -> Term | None:
        if call.token.text != "last_crossing":
            return super().system_call(call)
        self.circuit_of(call.token)
        expression, *rest = self.arguments_of(call, 1, 2)
        direction = self.real_of(rest[0], call.token) if rest else self.builder.literal(0.0)
        (key,) = self._remember("event")
        crossed, time, _ = self._crossing(self.real_of(expression, call.token), direction)
        before = self.hidden(key)
        self.initial[key] = self.builder.literal(-1.0)  # it has not crossed yet
        self.environment[key] = Term(self.builder.choose(crossed, time, before))
        return self.environment[key]

    def event(self, node: Event) -> None:
        if all(event.token.text == "final_step" for event in node.events):
            self.notes.append(f"{node.token.where}: @(final_step) is dropped: nothing happens after the run")
            return
        outer, self._in_event = self._in_event, node.token
        starts = tuple(event for event in node.events if event.token.text in _STARTS)
        if starts:
            self._note_analyses(starts)
            self._start(replace(node, events=starts))
        for event in node.events:
            name = event.token.text
            if name in _CROSSINGS:
                self._at_crossing(event, node.body)
            elif name == "timer":
                self._at_time(event, node.body)
            elif name not in _STARTS and name != "final_step":
                known = "initial_step, initial_instance, cross, above, timer, final_step"
                raise refusal(event.token, f"event {name} is not known: cosim has {known}")
        self._in_event = outer

    def _note_analyses(self, starts: tuple[Call, ...]) -> None:
        """A start for some analyses is that of all: a read sees the state that a transient starts from."""
        for start in starts:
            named = {text.value for text in start.arguments if isinstance(text, Text)}
            if named and named.isdisjoint(("static", "dc", "op", "ic")):
                event = f"@({start.token.text}) for {', '.join(sorted(named))}"
                self.notes.append(f"{start.token.where}: {event} is the start of every analysis")

    def _start(self, node: Event) -> None:
        """What depends on parameters alone is the initial value; all else a condition sets at the start."""
        before, notes, sites = dict(self.environment), list(self.notes), self.sites
        outer, self.in_start = self.in_start, True
        self.statement(node.body)
        after, self.environment = self.environment, dict(before)
        changed = {key: term for key, term in after.items() if term != before.get(key)}
        if any(self.builder.varies(term.value) or term.charge is not None for term in changed.values()):
            self.notes[:], self.sites = notes, sites  # the same calls again
            self._when(self.starting, node.body)
        self.in_start = outer
        for key, term in changed.items():
            if not isinstance(key, str) or self.builder.varies(term.value) or term.charge is not None:
                continue
            self.initial[key] = term.value
            if self.slots[key].changes:
                old = before.get(key) or self.default(key)
                term = Term(self.builder.choose(self.starting, term.value, self.plain(old)))
            self.environment[key] = term

    def _when(self, condition: Value, body: Statement) -> None:
        if condition.literal is None:
            self.branch(condition, lambda: self.statement(body), lambda: None)
        elif condition.literal:
            self.statement(body)

    # --- crossings ------------------------------------------------------------------------------

    def _at_crossing(self, event: Call, body: Statement) -> None:
        """What it sets holds from the point of the crossing on, not at it.

        There the equations still have what it was before: otherwise the expression might not have crossed.
        """
        above = event.token.text == "above"
        arguments = [*event.arguments, None, None, None, None][: max(4, len(event.arguments))]
        if arguments[0] is None or len(event.arguments) > (3 if above else 4):
            wanted = "an expression" + ("" if above else ", a direction") + " and two tolerances"
            raise parse_error(event.token, f"{event.token.text} takes {wanted}")
        zero = self.builder.literal(0.0)
        value = self.real_of(arguments[0], event.token)
        rest = [zero if a is None else self.real_of(a, event.token) for a in arguments[1:]]
        direction, tolerances = (self.builder.literal(1.0), rest[:2]) if above else (rest[0], rest[1:3])
        crossed, time, old = self._crossing(value, direction)
        self._locate(crossed, time, (old, value), (tolerances[0], tolerances[1]))
        if above:
            positive = self.builder.emit("fge", value, zero)
            self._when(self._both(self.starting, positive), body)
        before = dict(self.environment)
        self._when(crossed, body)
        after, self.environment = self.environment, before
        for key, term in after.items():
            if isinstance(key, str) and term != before.get(key):
                old_happened, old_later = (
                    self.entry(("happened", key)).value,
                    self.plain(self.entry(("later", key))),
                )
                true = self.builder.literal(True)
                happened = self.builder.choose(crossed, true, old_happened)
                self.environment["happened", key] = Term(happened)
                later = self.builder.choose(crossed, self.plain(term), old_later)
                self.environment["later", key] = Term(later)

    def _crossing(self, value: Value, direction: Value) -> tuple[Value, Value, Value]:
        """Whether ``value`` went through 0 in this step, when by a straight line, and what it was before."""
        emit, choose, literal = self.builder.emit, self.builder.choose, self.builder.literal
        (key,), zero, false = self._remember("event"), literal(0.0), literal(False)
        before = self.hidden(key)
        self.environment[key] = Term(value)
        up = self._both(emit("flt", before, zero), emit("fge", value, zero))
        down = self._both(emit("fgt", before, zero), emit("fle", value, zero))
        up = choose(emit("fge", direction, zero), up, false)
        down = choose(emit("fle", direction, zero), down, false)
        crossed = choose(self.starting, false, choose(up, literal(True), down))
        last = self.last_time
        part = emit("fdiv", before, emit("nonzero", emit("fsub", before, value), literal(1.0)))
        return crossed, emit("fadd", last, emit("fmul", part, emit("fsub", self.now, last))), before

    def _locate(
        self, crossed: Value, time: Value, ends: tuple[Value, Value], tolerances: tuple[Value, Value]
    ) -> None:
        """Ask for a step that ends behind ``time``, by no more than a tolerance in time and in the value."""
        emit, choose, literal = self.builder.emit, self.builder.choose, self.builder.literal
        zero, step = literal(0.0), emit("fsub", self.now, self.last_time)
        least = emit("fmul", literal(_TIME), self.now)
        own = choose(emit("fgt", tolerances[0], zero), tolerances[0], emit("fmul", literal(_PART), step))
        change = emit("fsub", ends[1], ends[0])
        change = choose(emit("flt", change, zero), emit("fneg", change), change)
        by_value = emit("fdiv", emit("fmul", tolerances[1], step), emit("nonzero", change, literal(1.0)))
        tighter = self._both(emit("fgt", tolerances[1], zero), emit("flt", by_value, own))
        own = choose(tighter, by_value, own)
        near = choose(emit("flt", own, least), least, own)
        late = self._both(crossed, emit("fgt", emit("fsub", self.now, time), near))
        aim = emit("fsub", emit("fadd", time, emit("fmul", literal(0.5), near)), self.last_time)
        self._limit_step(RETAKE, choose(late, aim, literal(float("inf"))))

    def _both(self, one: Value, other: Value) -> Value:
        return self.builder.choose(one, other, self.builder.literal(False))

    def _limit_step(self, kind: str, limit: Value) -> None:
        old = self.entry(("limit", kind)).value
        shorter = self.builder.emit("flt", limit, old)
        self.environment["limit", kind] = Term(self.builder.choose(shorter, limit, old))

    # --- timers ---------------------------------------------------------------------------------

    def _at_time(self, event: Call, body: Statement) -> None:
        """At a start and, with a period, again and again: a step ends there, and what it sets holds there."""
        emit, choose, literal = self.builder.emit, self.builder.choose, self.builder.literal
        arguments = self.arguments_of(event, 1, 3)
        start = self.real_of(arguments[0], event.token)
        period = self.real_of(arguments[1], event.token) if len(arguments) > 1 else literal(0.0)
        again, one = emit("fgt", period, literal(0.0)), literal(1.0)
        (key,) = self._remember("event")
        count = self.hidden(key)
        due = emit("fadd", start, emit("fmul", count, period))
        once = choose(emit("fgt", count, literal(0.0)), literal(float("inf")), start)
        due = choose(again, due, once)
        near = emit("fmul", literal(_TIME), self.now)
        happens = emit("fge", emit("fadd", self.now, near), due)
        passed = emit("fdiv", emit("fsub", emit("fadd", self.now, near), start), emit("nonzero", period, one))
        following = choose(again, emit("fadd", emit("floor", passed), one), one)
        self.environment[key] = Term(choose(happens, following, count))
        last = self.last_time
        within = self._both(emit("fgt", due, last), emit("fgt", self.now, emit("fadd", due, near)))
        self._limit_step(RETAKE, choose(within, emit("fsub", due, last), literal(float("inf"))))
        self._when(happens, body)
