"""Printer: the static I-V of a device -> a C loop over cells, which compilers turn into vector code.

It prints the straight-line code of ``print_torch``, where branches are selects already. What depends
on states and parameters alone stays in torch: it is computed once per cell, and the loop reads it.
Numbers come as a table beside the text, so that other parameter values need no other library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from cosim.devices.passes import Known, Operand, Straight, live
from cosim.devices.print_blocks import EXPRESSIONS
from cosim.devices.print_torch import TorchModel
from cosim.text import Emitter

__all__ = ["LINEAR", "Body", "CellLoop", "print_body", "print_cells"]

_EXPRESSIONS = {**EXPRESSIONS, "select": "{0} ? {1} : {2}", "band": "{0} & {1}"}
_MAY_FAIL = {"idiv", "irem", "ficast"}  # a whole loop cannot stop for one cell
_C_TYPES = {"real": "double", "integer": "int32_t", "boolean": "bool"}
_ONE = "exp log log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"
_TWO = "pow hypot atan2"


@dataclass(frozen=True, kw_only=True)
class CellLoop:
    """C text of ``cell_currents(n, constants, fields, volts, current, slope)``, and what it reads.

    fields: from the varying parameters of the model to what the loop reads per cell.
    """

    text: str
    constants: tuple[float, ...] = ()
    fields: Callable[[Mapping[str, torch.Tensor]], list[torch.Tensor]]


def print_cells(model: TorchModel) -> CellLoop | None:
    """The loop of ``model``; None where it needs what a loop cannot do: internal nodes, a failing integer."""
    if model.internal:
        return None
    code, outputs = model.straight()
    body = print_body(code, outputs, model.arguments)
    if body is None:
        return None
    lines = [f"const double {model.unknowns[0]} = volts[k];"]
    lines += [f"const double {name} = field_{k}[k];" for k, name in enumerate(body.names)]
    lines += [*body.lines, f"current[k] = {body.outputs[0]};", f"slope[k] = {body.outputs[1]};"]
    text = _loop(lines, len(body.names), len(body.numbers))
    return CellLoop(text=text, constants=body.numbers, fields=model.reader(body.names))


@dataclass(frozen=True, kw_only=True)
class Body:
    """Straight-line code as C lines; they read ``names`` (per device) and number_0, number_1, ..."""

    lines: tuple[str, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    numbers: tuple[float, ...]


def print_body(code: Sequence[Straight], outputs: Sequence[Operand], arguments: Sequence[str]) -> Body | None:
    """C for ``outputs``, without what depends on ``arguments`` alone; None where an integer may fail."""
    hoisted = _hoisted(code, arguments)
    varying = [line for line in code if line.result not in hoisted]
    needed = live(varying, outputs)
    if any(line.opcode in _MAY_FAIL for line in needed):
        return None
    used = [v for line in needed for v in line.operands] + list(outputs)
    names = tuple(dict.fromkeys(v for v in used if isinstance(v, str) and v in hoisted))
    table = _Table()
    lines = [f"const {_C_TYPES[line.type]} {line.result} = {table.expression(line)};" for line in needed]
    ends = [table.text(output) for output in outputs]
    return Body(lines=tuple(lines), outputs=tuple(ends), names=names, numbers=tuple(table.numbers))


def _hoisted(code: Sequence[Straight], arguments: Sequence[str]) -> set[str]:
    """Real values that depend on ``arguments``, the varying parameters, alone."""
    fixed, real = set(arguments), set(arguments)
    for line in code:
        if all(isinstance(v, Known) or v in fixed for v in line.operands):
            fixed.add(line.result)
            real |= {line.result} if line.type == "real" else set()
    return real


class _Table:
    """Numbers of the code in the order of their use. Equal ones are not shared: the text is the same then."""

    def __init__(self) -> None:
        self.numbers: list[float] = []

    def text(self, operand: Operand) -> str:
        if isinstance(operand, str):
            return operand
        if isinstance(operand.literal, bool):
            return str(operand.literal).lower()
        if isinstance(operand.literal, int):
            return f"({operand.literal})"
        self.numbers.append(float(operand.literal))
        return f"number_{len(self.numbers) - 1}"

    def expression(self, line: Straight) -> str:
        return _EXPRESSIONS[line.opcode].format(*(self.text(v) for v in line.operands))


def _loop(body: Sequence[str], fields: int, numbers: int = 0) -> str:
    out = Emitter()
    out.line('#include "osdi.h"  /* the C library, and the integer operations of Verilog-A */')
    out.line(f"#define FIELDS {fields}")
    # glibc has vector forms of these, to 4 units in the last place; clang would warn of the attribute
    out.line("#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)")
    out.line("#if __GLIBC_PREREQ(2, 35)")
    for names, arguments in ((_ONE, "double"), (_TWO, "double, double")):
        for name in names.split():
            out.line(f'__attribute__((simd("notinbranch"))) double {name}({arguments});')
    out.line("#endif")
    out.line("#endif")
    out.line("static void cell_currents(long n, const double *restrict constants,")
    arrays = "const double *const *fields, const double *restrict volts, "
    arrays += "double *restrict current, double *restrict slope"
    with out.block(f"                          {arrays}) {{", "}"):
        for k in range(numbers):  # read inside the loop, they would keep it from becoming vector code
            out.line(f"const double number_{k} = constants[{k}];")
        for k in range(fields):
            out.line(f"const double *restrict field_{k} = fields[{k}];")
        out.line("#pragma omp simd")
        with out.block("for (long k = 0; k < n; k++) {", "}"):
            for line in body:
                out.line(line)
    return out.text()


LINEAR = CellLoop(
    text=_loop(["current[k] = field_0[k] * volts[k];", "slope[k] = field_0[k];"], 1),
    fields=lambda parameters: [parameters["slope"]],
)
