"""Printer: the equations of a device in a transient -> a C function of its unknowns, for transient.c."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from cosim.devices.ir import BOUND_STEP, RETAKE
from cosim.devices.passes import Known
from cosim.devices.print_cells import print_body
from cosim.devices.print_torch import TorchModel
from cosim.text import Emitter

__all__ = ["StepLoop", "print_steps"]

_LARGEST = 32  # nodes; the elimination of transient.c is dense


@dataclass(frozen=True, kw_only=True)
class StepLoop:
    """C text of the whole integrator, its constants, and what it reads per device."""

    text: str
    constants: tuple[float, ...]
    fields: Callable[[Mapping[str, torch.Tensor]], list[torch.Tensor]]


@functools.lru_cache(maxsize=32)
def print_steps(model: TorchModel) -> StepLoop | None:
    """The integrator of ``model``; None where an integer may fail, or there are many nodes."""
    size = len(model.nodes)
    code, resist, react, entries = model.equations()
    outputs = [*resist, *react, *(value for pair in entries.values() for value in pair)]
    body = print_body(code, [*outputs, *model.carried], model.arguments)
    if body is None or size > _LARGEST:
        return None
    ends = iter(body.outputs)
    charged = {
        column for (_, column), (_, value) in entries.items() if value not in (Known(0.0), Known(-0.0))
    }
    out = Emitter()
    out.line('#include "osdi.h"  /* the C library, and the integer operations of Verilog-A */')
    out.line(f"#define NODES {size}")
    out.line(f"#define FIELDS {max(1, len(body.names))}")
    out.line(f"#define KEPT {len(model.kept)}")
    switches = ", ".join(str(each).lower() for each in (*model.discrete, False))
    out.line(f"static const bool discrete[KEPT + 1] = {{{switches}}};  /* a switch: see latch */")
    for name, kept in (("BOUND_STEP", BOUND_STEP), ("RETAKE", RETAKE)):
        out.line(f"#define {name} {model.kept.index(kept) if kept in model.kept else -1}")
    marks = ", ".join("true" if k in charged else "false" for k in range(size))
    out.line(f"static const bool dynamic[NODES] = {{{marks}}};  /* has a charge: its error counts */")
    out.line("static void evaluate(const double *constants, const double *fields, const double *kept,")
    out.line("                     const double *u, double abstime, double *resist, double *react,")
    arrays = "double (*slope)[NODES], double (*capacity)[NODES], double *next"
    with out.block(f"                     {arrays}) {{", "}"):
        out.line("memset(slope, 0, NODES * sizeof *slope); memset(capacity, 0, NODES * sizeof *capacity);")
        for k in range(len(body.numbers)):
            out.line(f"const double number_{k} = constants[{k}];")
        for k, name in enumerate(body.names):
            out.line(f"const double {name} = fields[{k}];")
        for k, name in enumerate(model.unknowns):
            out.line(f"const double {name} = u[{k}];")
        for k, (name, type_) in enumerate(model.memory):
            out.line(f"const {type_} {name} = ({type_})kept[{k}];")
        for line in body.lines:
            out.line(line)
        for array in ("resist", "react"):
            for k in range(size):
                out.line(f"{array}[{k}] = {next(ends)};")
        for row, column in entries:
            out.line(f"slope[{row}][{column}] = {next(ends)};")
            out.line(f"capacity[{row}][{column}] = {next(ends)};")
        for k, value in enumerate(ends):
            out.line(f"next[{k}] = (double)({value});")
    text = out.text() + Path(__file__).with_name("transient.c").read_text()
    return StepLoop(text=text, constants=body.numbers, fields=model.reader(body.names))
