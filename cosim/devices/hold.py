"""A start that holds: one unknown of a model stays where it is told to until time runs.

An operating point relaxes a state to where its equation rests. A read must see the state that it was given,
and a transient must start there, in every engine, so the equation itself is exchanged, for as long as time
stands still.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from cosim.devices.ir import (
    Block,
    Branch,
    Constant,
    DeviceIR,
    Function,
    Input,
    Instruction,
    JacobianEntry,
    Jump,
    Parameter,
    Phi,
    Residual,
    Return,
    validate,
)

__all__ = ["START", "Start", "equation_of", "hold"]

START = "cosim_start"  # the parameter that says where, of a model that has none


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where an unknown is held: at ``parameter``/``scale``, or without a parameter at ``value``.

    The parameter may be ``START``, which the model then gets, with ``value`` as its default.
    """

    parameter: str = ""
    scale: float = 1.0
    value: float = 0.0


def equation_of(ir: DeviceIR, node: str) -> int:
    """Row of the equation that moves ``node`` in time: its own, or of the branch that feeds it."""
    column = [each.name for each in ir.nodes].index(node)
    rows = [entry.row for entry in ir.jacobian if entry.column == column and entry.react is not None]
    return column if column in rows or not rows else rows[0]


def hold(ir: DeviceIR, node: str, start: Start, *, muted: Collection[str] = ("ic",)) -> DeviceIR:
    """``ir`` whose unknown ``node`` is at ``start`` in an operating point, and free while time runs.

    muted: analyses that are answered with 0. A file that starts its state by analysis("ic") would have its
    charge jump when time begins.
    """
    column, row = [each.name for each in ir.nodes].index(node), equation_of(ir, node)
    fork = _Fork(ir.evaluate, f"hold{column}", node, start, muted)
    residuals = [
        Residual(fork.join(old.resist, fork.away), old.react) if k == row else old
        for k, old in enumerate(ir.residuals)
    ]
    jacobian = [
        replace(entry, resist=fork.join(entry.resist, fork.one if entry.column == column else fork.zero))
        if entry.row == row
        else entry
        for entry in ir.jacobian
    ]
    if all((entry.row, entry.column) != (row, column) for entry in ir.jacobian):
        jacobian.append(JacobianEntry(row, column, fork.join(None, fork.one), None))
    if start.parameter == START:
        at = "hold_at"
        ir = replace(
            ir,
            parameters=(*ir.parameters, Parameter(START, "real", True, default=start.value)),
            setup=_with_default(ir.setup, at, start.value),
            resolved=(*ir.resolved, at),
        )
    held = replace(ir, evaluate=fork.function(), residuals=tuple(residuals), jacobian=tuple(jacobian))
    validate(held)
    return held


def _with_default(setup: Function, at: str, value: float) -> Function:
    """``setup`` that also says what ``START`` is."""
    given, told, other = "hold_given", "hold_told", "hold_other"
    inputs = (Input(told, "parameter", START, "real"), Input(given, "given", START, "boolean"))
    last = "hold_default"
    blocks = [
        replace(block, end=Jump("hold_choice")) if isinstance(block.end, Return) else block
        for block in setup.blocks
    ]
    blocks += [
        Block("hold_choice", (), (), Branch(given, "hold_yes", "hold_no")),
        Block("hold_yes", (), (), Jump(last)),
        Block("hold_no", (), (), Jump(last)),
        Block(last, (Phi(at, "real", (("hold_yes", told), ("hold_no", other))),), (), Return()),
    ]
    constants = (*setup.constants, Constant(other, "real", value))
    return Function((*setup.inputs, *inputs), constants, tuple(blocks))


class _Fork:
    """``function`` with a fork at its end: one side while time runs, the other before."""

    def __init__(
        self, function: Function, name: str, node: str, start: Start, muted: Collection[str]
    ) -> None:
        self._function, self._name, self._node, self._start = function, name, node, start
        self._muted = muted
        self._joined: list[Phi] = []
        self.zero, self.one, self.away = f"{name}_zero", f"{name}_one", f"{name}_away"

    def join(self, free: str | None, held: str) -> str:
        """A value that is ``free`` while time runs and ``held`` before."""
        value = f"{self._name}_{len(self._joined)}"
        incoming = ((f"{self._name}_free", free or self.zero), (f"{self._name}_held", held))
        self._joined.append(Phi(value, "real", incoming))
        return value

    def function(self) -> Function:
        names = ("fork", "free", "held", "end", "unknown", "runs", "told", "at", "scale")
        fork, free, held, end, unknown, runs, told, at, scale = (f"{self._name}_{n}" for n in names)
        function, start = self._function, self._start
        inputs = [Input(unknown, "unknown", self._node, "real"), Input(runs, "integrating", "", "boolean")]
        constants = [Constant(self.zero, "real", 0.0), Constant(self.one, "real", 1.0)]
        code = [Instruction(self.away, "fsub", (unknown, at))]
        if not start.parameter:
            constants.append(Constant(at, "real", start.value))
        elif start.scale == 1.0:
            inputs.append(Input(at, "parameter", start.parameter, "real"))
        else:
            inputs.append(Input(told, "parameter", start.parameter, "real"))
            constants.append(Constant(scale, "real", start.scale))
            code.insert(0, Instruction(at, "fdiv", (told, scale)))
        starts = {c.value for c in function.constants if c.literal in self._muted}
        constants.append(Constant(f"{self._name}_never", "string", "never"))
        never = Instruction("", "analysis", (f"{self._name}_never",))
        blocks = [
            replace(
                block,
                code=tuple(
                    replace(never, result=line.result)
                    if line.opcode == "analysis" and line.operands[0] in starts
                    else line
                    for line in block.code
                ),
                end=Jump(fork) if isinstance(block.end, Return) else block.end,
            )
            for block in function.blocks
        ]
        blocks += [
            Block(fork, (), (), Branch(runs, free, held)),
            Block(free, (), (), Jump(end)),
            Block(held, (), tuple(code), Jump(end)),
            Block(end, tuple(self._joined), (), Return()),
        ]
        return Function((*function.inputs, *inputs), (*function.constants, *constants), tuple(blocks))
