"""Lowering: system tasks, what a model says beside its equations."""

from __future__ import annotations

from cosim.verilog.lower_random import RandomLowering
from cosim.verilog.ssa import Region
from cosim.verilog.tokens import parse_error, words
from cosim.verilog.tree import Call, Name, Number, Text

__all__ = ["TaskLowering"]

_PRINTS = words(
    "$strobe $display $monitor $write $debug $info $warning $fdisplay $fwrite $fstrobe $fmonitor $fdebug "
    "$fclose $fflush $dumpvars $dumpfile"
)
_ENDS = words("$finish $stop $fatal $error")
_STRENGTHS = words("$fatal $finish $stop")  # a number comes first, which says how much is printed


class TaskLowering(RandomLowering):
    """A task that ends the run is an error where parameters alone lead to it."""

    _said: tuple[Region, str] | None = None  # the last text printed, and where

    def system_task(self, call: Call) -> bool:
        """Whether ``call`` is a system task, which is done then."""
        name = call.token.text
        if name in _PRINTS:
            self._said = (self.builder.region, _text(call))
            self.notes.append(f"{call.token.where}: {name} is dropped: nothing is printed during a solve")
        elif name in _ENDS:
            self._end(call)
        elif name != "$discontinuity":
            return False
        return True

    def _end(self, call: Call) -> None:
        name, token = call.token.text, call.token
        if self.uncertain and name != "$fatal":
            self.notes.append(f"{token.where}: {name} under a condition that changes in a run is dropped")
            return
        said = self._said[1] if self._said is not None and self._said[0] is self.builder.region else ""
        text = _text(call) or said
        self.give_up(token, f"{name}{': ' if text else ''}{text}")


def _text(call: Call) -> str:
    """What a task prints, with the names of what stands in for its values."""
    arguments = list(call.arguments)
    if arguments and call.token.text in _STRENGTHS and isinstance(arguments[0], Number):
        arguments = arguments[1:]
    if not arguments:
        return ""
    text, *values = arguments
    if not isinstance(text, Text):
        if call.token.text in _ENDS:
            raise parse_error(call.token, f"{call.token.text} takes a number and a text")
        return ""
    found = text.value
    for value in values:
        name = value.token.text if isinstance(value, Name | Number | Text) else "..."
        before, sign, behind = found.partition("%")
        if not sign:
            break
        found = f"{before}<{name}>{behind.lstrip('0123456789.+- lh')[1:]}"
    return " ".join(found.split())
