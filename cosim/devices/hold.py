"""A start that holds: one unknown of a model stays where a parameter says until time runs.

An operating point relaxes a state to where its equation rests. A transient must start where it was told
to, in every engine, so the equation itself is exchanged, for as long as time stands still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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

__all__ = ["START", "hold"]

START = "cosim_start"  # the parameter that says where, in the unit of the unknown
_ZERO, _ONE, _AT, _UNKNOWN, _RUNS, _AWAY = (
    f"hold_{name}" for name in ("zero", "one", "at", "unknown", "runs", "away")
)
_FORK, _FREE, _HELD, _END = (f"hold_{name}" for name in ("fork", "free", "held", "end"))


def hold(ir: DeviceIR, node: str) -> DeviceIR:
    """``ir`` whose unknown ``node`` is ``START`` in an operating point, and free in a running transient."""
    row = [each.name for each in ir.nodes].index(node)
    joined: list[Phi] = []

    def join(free: str | None, held: str) -> str:
        """A value that is ``free`` while time runs and ``held`` before."""
        name = f"hold_{len(joined)}"
        joined.append(Phi(name, "real", ((_FREE, free or _ZERO), (_HELD, held))))
        return name

    residuals = [
        Residual(join(old.resist, _AWAY), old.react) if k == row else old
        for k, old in enumerate(ir.residuals)
    ]
    jacobian = [
        replace(entry, resist=join(entry.resist, _ONE if entry.column == row else _ZERO))
        if entry.row == row
        else entry
        for entry in ir.jacobian
    ]
    if all((entry.row, entry.column) != (row, row) for entry in ir.jacobian):
        jacobian.append(JacobianEntry(row, row, join(None, _ONE), None))
    held = replace(
        ir,
        parameters=(*ir.parameters, Parameter(START, "real", True, default=0.0)),
        setup=replace(ir.setup, inputs=(*ir.setup.inputs, Input(_AT, "parameter", START, "real"))),
        resolved=(*ir.resolved, _AT),
        evaluate=_evaluate(ir.evaluate, node, joined),
        residuals=tuple(residuals),
        jacobian=tuple(jacobian),
    )
    validate(held)
    return held


def _evaluate(function: Function, node: str, joined: Sequence[Phi]) -> Function:
    """``function`` with a fork at its end, whose sides meet in ``joined``."""
    blocks = [
        replace(block, end=Jump(_FORK)) if isinstance(block.end, Return) else block
        for block in function.blocks
    ]
    away = Instruction(_AWAY, "fsub", (_UNKNOWN, _AT))
    blocks += [
        Block(_FORK, (), (), Branch(_RUNS, _FREE, _HELD)),
        Block(_FREE, (), (), Jump(_END)),
        Block(_HELD, (), (away,), Jump(_END)),
        Block(_END, tuple(joined), (), Return()),
    ]
    inputs = (
        Input(_AT, "parameter", START, "real"),
        Input(_UNKNOWN, "unknown", node, "real"),
        Input(_RUNS, "integrating", "", "boolean"),
    )
    constants = (Constant(_ZERO, "real", 0.0), Constant(_ONE, "real", 1.0))
    return Function((*function.inputs, *inputs), (*function.constants, *constants), tuple(blocks))
