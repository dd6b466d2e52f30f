"""Lowering: events, which set variables at the start or at times of their own."""

from __future__ import annotations

from cosim.devices.ir import Type
from cosim.verilog.lower_names import Key
from cosim.verilog.lower_tasks import TaskLowering
from cosim.verilog.scope import Slot, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, refusal
from cosim.verilog.tree import Event, Statement

__all__ = ["EventLowering", "is_start"]

_STARTS = frozenset({"initial_step", "initial_instance", "initial"})


def is_start(node: Event) -> bool:
    """The event happens while time stands still, and at no other time."""
    return all(event.token.text in _STARTS for event in node.events)


class EventLowering(TaskLowering):
    """What a statement sets when an event happens."""

    _in_event: Token | None = None

    def statement(self, node: Statement) -> None:
        raise AssertionError(node)

    def entry(self, key: Key) -> Term:
        """What ``key`` stands for here."""
        return self.environment.get(key) or self.default(key)

    def accepted_steps(self) -> Value:
        """How many time points of the run were accepted before this one; 0 where time stands still."""
        return self.hidden("$steps", "integer")

    def hidden(self, key: str, kind: Type) -> Value:
        """A variable that no file declares, as it was kept; 0 at the start."""
        return self.plain(self.read(Slot(key, kind), key))

    def finish(self) -> None:
        """What the hidden variables of the whole model are behind this time point."""
        one = self.builder.literal(1)
        if "$steps" in self.slots:
            self.environment["$steps"] = Term(self.builder.emit("iadd", self.accepted_steps(), one))

    def event(self, node: Event) -> None:
        if all(event.token.text == "final_step" for event in node.events):
            self.notes.append(f"{node.token.where}: @(final_step) is dropped: nothing happens after the run")
            return
        if not is_start(node):
            event = next(e.token for e in node.events if e.token.text not in _STARTS)
            raise refusal(event, f"event {event.text} is not supported yet")
        outer, self._in_event = self._in_event, node.token
        self._start(node)
        self._in_event = outer

    def _start(self, node: Event) -> None:
        """What depends on parameters alone is the initial value; all else a condition sets at the start."""
        assert self.circuit is not None
        before, notes, sites = dict(self.environment), list(self.notes), self.sites
        outer, self.in_start = self.in_start, True
        self.statement(node.body)
        after, self.environment = self.environment, dict(before)
        changed = {key: term for key, term in after.items() if term != before.get(key)}
        starting = self.circuit.input("starting", "starting", "boolean")
        if any(self.builder.varies(term.value) or term.charge is not None for term in changed.values()):
            self.notes[:], self.sites = notes, sites  # the same calls again
            self.branch(starting, lambda: self.statement(node.body), lambda: None)
        self.in_start = outer
        for key, term in changed.items():
            if not isinstance(key, str) or self.builder.varies(term.value) or term.charge is not None:
                continue
            self.initial[key] = term.value
            if self.slots[key].changes:
                old = before.get(key) or self.default(key)
                term = Term(self.builder.choose(starting, term.value, self.plain(old)))
            self.environment[key] = term
