"""A state that a file carries in a variable, made an unknown that every engine can show.

Euler's method in variables, ``w = w + rate*($abstime - t_last)``, has no equation in time: w moves on at
accepted points. An unknown u = (w - b)/a shows it, where w starts at a*parameter + b, so u is in the unit
of the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cosim.devices.ir import (
    Constant,
    DeviceIR,
    Function,
    Input,
    Instruction,
    JacobianEntry,
    Kept,
    Node,
    Residual,
    Return,
    validate,
)
from cosim.devices.passes import fix_inputs
from cosim.devices.ranges import parameter_range

__all__ = ["Carried", "carried_state", "flags", "moved_start", "reals", "shown_by_unknown", "started_at"]

_ONE, _ZERO = "carried_one", "carried_zero"


@dataclass(frozen=True, kw_only=True)
class Carried:
    """variable: carries the state. node: the unknown that shows it. parameter: sets its start, or ""."""

    variable: str
    node: str
    parameter: str = ""
    start: float = 0.0  # without a parameter
    line: tuple[float, float] = (1.0, 0.0)  # a and b
    alone: bool = True  # no other parameter counts in a and b


def flags(ir: DeviceIR) -> list[str]:
    """Integer variables that are carried: states of a switch."""
    return [kept.name for kept in ir.kept if kept.type == "integer" and not kept.name.startswith("$")]


def carried_state(
    ir: DeviceIR, name: str, value: float, slopes: Mapping[str, float], parameter: str = ""
) -> Carried | None:
    """The state that the variable ``name`` carries; None where nothing sets its start.

    value, slopes: its start, and the derivatives of that by parameters. parameter: as the caller told.
    """
    node = name
    while node in {each.name for each in ir.nodes}:
        node += "_state"
    if not slopes:
        return None if parameter else Carried(variable=name, node=node, start=value)
    names = (
        [each for each in slopes if parameter_range(ir, each) is not None] if len(slopes) > 1 else [*slopes]
    )
    setter = parameter or (names[0] if len(names) == 1 else "")
    if setter not in slopes:
        return None
    if len(slopes) == 1:
        return Carried(variable=name, node=node, parameter=setter)
    state = Carried(variable=name, node=node, parameter=setter, alone=False)
    return None if _Starts(ir).affine(_kept(ir, state).initial, setter) is None else state


def shown_by_unknown(ir: DeviceIR, state: Carried) -> DeviceIR:
    """``ir`` with one more unknown, ``state.node``, that is the variable in the unit of its parameter."""
    kept = _kept(ir, state)
    starts = _Starts(ir)
    scale = None if state.alone else starts.affine(kept.initial, state.parameter)
    column = len(ir.nodes)
    names = ("unknown", "slope", "offset", "moved", "shown", "left", "one")
    unknown, slope, offset, moved, shown, left, one = (f"carried_{n}" for n in names)
    inputs = [Input(unknown, "unknown", state.node, "real")]
    constants, code = [Constant(one, "real", 1.0)], []
    if state.alone and state.line == (1.0, 0.0):
        shown = kept.next
    else:
        code += [Instruction(moved, "fsub", (kept.next, offset)), Instruction(shown, "fdiv", (moved, slope))]
    if scale is None:
        constants += [Constant(v, "real", x) for v, x in zip((slope, offset), state.line, strict=True)]
    else:
        inputs += [Input(v, "cache", str(len(ir.cache) + k), "real") for k, v in enumerate((slope, offset))]
        ir = replace(ir, setup=starts.setup(), cache=(*ir.cache, *scale))
    code.append(Instruction(left, "fsub", (unknown, shown)))
    entries = [JacobianEntry(column, column, one, None)]
    for k, (name, value) in enumerate(kept.slopes):
        if name in (places := {node.name: at for at, node in enumerate(ir.nodes)}):
            turned, by = f"carried_turned_{k}", f"carried_by_{k}"
            code.append(Instruction(turned, "fneg", (value,)))
            if shown != kept.next:
                code.append(Instruction(by, "fdiv", (turned, slope)))
            entries.append(JacobianEntry(column, places[name], turned if shown == kept.next else by, None))
    ir = replace(
        ir,
        nodes=(*ir.nodes, Node(state.node, False, "implicit")),
        evaluate=_extended(ir.evaluate, inputs, constants, code),
        residuals=(*ir.residuals, Residual(left, None)),
        jacobian=(*ir.jacobian, *entries),
    )
    validate(ir)
    return ir


def started_at(ir: DeviceIR, state: Carried, parameter: str) -> DeviceIR:
    """``ir`` whose variable starts at ``parameter``, and not at the number that the file gives."""
    value = ir.resolved[ir.parameter_names.index(parameter)]
    kept = tuple(replace(k, initial=value) if k.name == state.variable else k for k in ir.kept)
    ir = replace(without_first_step(ir), kept=kept)
    validate(ir)
    return ir


def moved_start(ir: DeviceIR, name: str, value: float) -> DeviceIR:
    """``ir`` whose variable ``name`` starts at ``value``."""
    constant = Constant("carried_moved", "real", value)
    kept = tuple(replace(k, initial=constant.value) if k.name == name else k for k in ir.kept)
    return replace(without_first_step(ir), kept=kept, setup=_extended(ir.setup, [], [constant], []))


def reals(ir: DeviceIR) -> list[Kept]:
    """Variables of the file that may be a state."""
    return [kept for kept in ir.kept if kept.type == "real" and not kept.name.startswith("$")]


def without_first_step(ir: DeviceIR) -> DeviceIR:
    """``ir`` in which @(initial_step) does nothing: its variables are read as they are at the start."""
    starting = [source.value for source in ir.evaluate.inputs if source.kind == "starting"]
    return replace(ir, evaluate=fix_inputs(ir.evaluate, dict.fromkeys(starting, False)))


def _kept(ir: DeviceIR, state: Carried) -> Kept:
    return next(kept for kept in ir.kept if kept.name == state.variable)


def _extended(
    function: Function, inputs: list[Input], constants: list[Constant], code: list[Instruction]
) -> Function:
    """``function`` with ``code`` at its end."""
    blocks = tuple(
        replace(block, code=(*block.code, *code)) if isinstance(block.end, Return) else block
        for block in function.blocks
    )
    return Function((*function.inputs, *inputs), (*function.constants, *constants), blocks)


class _Starts:
    """What variables start at, as functions of the parameters, in the code of the set-up."""

    def __init__(self, ir: DeviceIR) -> None:
        self._setup = ir.setup
        self._lines = {line.result: line for block in ir.setup.blocks for line in block.code if line.result}
        self._phis = {phi.result for block in ir.setup.blocks for phi in block.phis}
        self._parameters = dict(zip(ir.resolved, ir.parameter_names, strict=True))
        self._code: list[Instruction] = []

    def affine(self, value: str, name: str) -> tuple[str, str] | None:
        """Values a and b of the set-up with ``value`` = a*parameter + b; None where it is not so."""
        self._code = []
        found = self._split(value, name)
        return None if found is None or found[0] == _ZERO else found

    def setup(self) -> Function:
        """The set-up that computes what ``affine`` named last."""
        constants = [Constant(_ONE, "real", 1.0), Constant(_ZERO, "real", 0.0)]
        return _extended(self._setup, [], constants, self._code)

    def _below(self, value: str) -> set[str]:
        """Parameters that ``value`` depends on; "" stands for what is not known."""
        if value in self._parameters:
            return {self._parameters[value]}
        if value in self._phis:
            return {""}
        line = self._lines.get(value)
        return set().union(*(self._below(v) for v in line.operands)) if line else set()

    def _split(self, value: str, name: str) -> tuple[str, str] | None:
        if self._parameters.get(value) == name:
            return _ONE, _ZERO
        below = self._below(value)
        if not below & {name, ""}:
            return _ZERO, value
        line = self._lines.get(value)
        if line is None or line.opcode not in ("fadd", "fsub", "fmul", "fdiv", "fneg"):
            return None
        parts = [self._split(operand, name) for operand in line.operands]
        if None in parts:
            return None
        first, *other = [part for part in parts if part is not None]
        if line.opcode in ("fadd", "fsub", "fneg"):
            ends = zip(first, *other, strict=True)
            return tuple(self._emit(line.opcode, *pair) for pair in ends)  # type: ignore[return-value]  # two
        second = other[0]
        if line.opcode == "fmul" and first[0] == _ZERO:
            first, second = second, first
        if second[0] != _ZERO:
            return None
        return self._emit(line.opcode, first[0], second[1]), self._emit(line.opcode, first[1], second[1])

    def _emit(self, opcode: str, *operands: str) -> str:
        if all(operand == _ZERO for operand in operands) or (opcode == "fmul" and operands[0] == _ZERO):
            return _ZERO
        result = f"carried_start_{len(self._code)}"
        self._code.append(Instruction(result, opcode, operands))
        return result
