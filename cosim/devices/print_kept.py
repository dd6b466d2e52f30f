"""Printer: variables that are carried between time points, in the C of an OSDI library.

OSDI 0.3 does not tell a model that a time point is accepted. The simulator's time tells: if it goes on from
a point, that point was accepted; a time before the last evaluation's is a rejected step, made again; a time
before the accepted point belongs to another analysis.

A switch may leave a point without a solution: on, its voltage is not reached; off, it is passed. Where a step
was made again and is very short, what an evaluation sets a switch to holds in the next one at that point.
"""

from __future__ import annotations

from cosim.devices.ir import BOUND_STEP, RETAKE, DeviceIR, Input, Type
from cosim.text import Emitter

__all__ = [
    "C_TYPES",
    "bound_step",
    "print_accept",
    "print_candidate",
    "print_initial",
    "print_kept",
    "read_kept",
]

C_TYPES: dict[Type, str] = {
    "real": "double",
    "integer": "int32_t",
    "boolean": "bool",
    "string": "const char *",
}


def print_kept(ir: DeviceIR, out: Emitter) -> None:
    """The type that holds them."""
    with out.block("typedef struct {", "} Kept;"):
        out.line("double time;")
        for k, kept in enumerate(ir.kept):
            out.line(f"{C_TYPES[kept.type]} value_{k};")


def print_initial(ir: DeviceIR, out: Emitter) -> None:
    """What they are where time stands still, at the end of the set-up."""
    values = ", ".join(kept.initial for kept in ir.kept)
    if ir.kept:
        out.line(f"self->initial = (Kept){{-1.0, {values}}};")


def print_accept(ir: DeviceIR, out: Emitter) -> None:
    """What an evaluation starts from, before its code."""
    if not ir.kept:
        return
    out.line("const bool same_point = info->abstime == self->candidate.time; (void)same_point;")
    with out.block("if (running) {", "}"):
        out.line("if (info->abstime < self->candidate.time) self->again++;")
        with out.block("if (info->abstime > self->candidate.time) {", "}"):
            out.line("self->accepted = self->candidate; self->again = 0;")
        out.line("if (info->abstime <= self->accepted.time) self->accepted = self->initial;")
    out.line("Kept kept = running ? self->accepted : self->initial;")
    discrete = [f"kept.value_{k} = self->candidate.value_{k};" for k, v in enumerate(ir.kept) if v.discrete]
    if discrete:
        out.line("const bool short_step = info->abstime - self->accepted.time < 1e-9 * info->abstime;")
        latches = "running && same_point && (self->again > 5 || (self->again && short_step))"
        with out.block(f"if ({latches}) {{", "}"):
            out.line(" ".join(discrete))


def read_kept(ir: DeviceIR, source: Input) -> str:
    """A variable in the code of an evaluation."""
    return f"kept.value_{[kept.name for kept in ir.kept].index(source.name)}"


def bound_step(ir: DeviceIR) -> str:
    """Where a simulator finds the limit of a step."""
    limits = any(kept.name in (BOUND_STEP, RETAKE) for kept in ir.kept)
    return "offsetof(Instance, bound_step)" if limits else "NONE"


def print_candidate(ir: DeviceIR, out: Emitter) -> None:
    """What an evaluation leaves, behind its code."""
    values = ", ".join(kept.next for kept in ir.kept)
    if ir.kept:
        out.line(f"if (flags & ANALYSIS_TRAN) self->candidate = (Kept){{info->abstime, {values}}};")
    next_value = {kept.name: kept.next for kept in ir.kept}
    out.line(f"self->bound_step = {next_value.get(BOUND_STEP, 'INFINITY')};")
    if RETAKE in next_value:
        out.line(f"const double step = info->abstime - self->accepted.time, retake = {next_value[RETAKE]};")
        out.line("/* a simulator makes a step again only if it is asked for less than 0.9 of it */")
        with out.block("if (running && retake < step) {", "}"):
            out.line(
                "self->bound_step = fmin(self->bound_step, retake < 0.9 * step ? retake : 0.5 * retake);"
            )
