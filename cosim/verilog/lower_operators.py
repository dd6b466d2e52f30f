"""Lowering: analog operators that remember the last accepted time point, by hidden variables."""

from __future__ import annotations

from cosim.verilog.lower_events import EventLowering
from cosim.verilog.scope import Slot, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import parse_error
from cosim.verilog.tree import Call

__all__ = ["OperatorLowering"]

_SHORTEST = 1e-15  # s, of an edge that the file gives no time


class OperatorLowering(EventLowering):
    """``slew``, ``transition``, and the reset of ``idt``.

    Each is exact in the values at accepted time points; what happens between two of them is not seen.
    """

    def system_call(self, call: Call) -> Term | None:
        match call.token.text:
            case "slew":
                return Term(self._slew(call))
            case "transition":
                return Term(self._transition(call))
            case "idt" if len(call.arguments) > 2:
                return Term(self._idt_with_reset(call))
        return super().system_call(call)

    # --- what is remembered ---------------------------------------------------------------------

    def _keep(self, key: str, value: Value) -> None:
        self.write(Slot(key, "real"), key, Term(value))

    def _clipped(self, value: Value, low: Value, high: Value) -> Value:
        emit, choose = self.builder.emit, self.builder.choose
        value = choose(emit("flt", value, low), low, value)
        return choose(emit("fgt", value, high), high, value)

    # --- operators ------------------------------------------------------------------------------

    def _slew(self, call: Call) -> Value:
        """The input, moved from the last value at no more than the rates given."""
        self.circuit_of(call.token)
        emit, literal = self.builder.emit, self.builder.literal
        given, *rates = [self.real_of(a, call.token) for a in self.arguments_of(call, 1, 3)]
        if not rates:
            return given
        up = rates[0]
        down = rates[1] if len(rates) > 1 else emit("fneg", up)
        (key,) = self._remember("slewed")
        before = self.hidden(key)
        passed = emit("fsub", self.now, self.last_time)
        low, high = (emit("fadd", before, emit("fmul", rate, passed)) for rate in (down, up))
        limited = self._clipped(given, low, high)
        value = self.builder.choose(self.starting, given, limited)
        self._keep(key, value)
        self._refuse_sign(call, emit("fle", up, literal(0.0)), "rising")
        self._refuse_sign(call, emit("fge", down, literal(0.0)), "falling")
        return value

    def _refuse_sign(self, call: Call, wrong: Value, which: str) -> None:
        if wrong.literal:
            sign = "above 0" if which == "rising" else "below 0"
            raise parse_error(call.token, f"the {which} rate of slew must be {sign}")

    def _transition(self, call: Call) -> Value:
        """Straight edges between the values of a piecewise constant input.

        An edge starts at the accepted time point at which the input is seen to have changed.
        """
        self.circuit_of(call.token)
        emit, literal, choose = self.builder.emit, self.builder.literal, self.builder.choose
        given, *times = [self.real_of(a, call.token) for a in self.arguments_of(call, 1, 5)]
        self.notes.append(
            f"{call.token.where}: an edge of transition starts at the accepted point that sees a change"
        )
        delay = times[0] if times else literal(0.0)
        rise = times[1] if len(times) > 1 else literal(0.0)
        fall = times[2] if len(times) > 2 else rise
        keys = self._remember("from to since")
        start, goal, since = (self.hidden(key) for key in keys)
        duration = choose(emit("fgt", goal, start), rise, fall)
        duration = choose(emit("flt", duration, literal(_SHORTEST)), literal(_SHORTEST), duration)
        passed = emit("fsub", emit("fsub", self.now, since), delay)
        share = self._clipped(emit("fdiv", passed, duration), literal(0.0), literal(1.0))
        moving = emit("fadd", start, emit("fmul", share, emit("fsub", goal, start)))
        value = choose(self.starting, given, moving)
        changed = choose(self.starting, literal(True), emit("fne", given, goal))
        for key, new, old in zip(keys, (value, given, self.now), (start, goal, since), strict=True):
            self._keep(key, choose(changed, new, old))
        return value

    def _idt_with_reset(self, call: Call) -> Value:
        """An integral that runs on, less what it was at the last reset."""
        emit, choose = self.builder.emit, self.builder.choose
        arguments = self.arguments_of(call, 3, 5)
        initial = self.real_of(arguments[1], call.token)
        reset = self.arithmetic.boolean(self.value(arguments[2]), call.token)
        integral = self.plain(self.integral(Call(call.token, tuple(arguments[:2]))))
        (key,) = self._remember("reset")
        offset = self.hidden(key)
        value = choose(reset, initial, emit("fsub", integral, offset))
        self._keep(key, choose(reset, emit("fsub", integral, initial), offset))
        return value
