"""Models written in a test, compiled by cosim.verilog and evaluated by the interpreter."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cosim.devices.interp import Conditions, Evaluation, evaluate, run_setup
from cosim.devices.ir import DeviceIR, Scalar
from cosim.verilog.compile import compile_verilog

_HEADERS = '`include "constants.vams"\n`include "disciplines.vams"\n'
_NUMBERS = itertools.count()


def model(text: str) -> DeviceIR:
    """``text`` compiled; the standard headers are put in front."""
    path = Path(tempfile.mkdtemp(prefix="cosim-verilog-")) / f"m{next(_NUMBERS)}.va"
    path.write_text(_HEADERS + text)
    return compile_verilog(path)


def cell(body: str, declarations: str = "") -> DeviceIR:
    """A module with the terminals p and n."""
    return model(
        f"module m(p, n); inout p, n; electrical p, n; {declarations}\nanalog begin {body} end endmodule\n"
    )


def module(
    body: str = "I(p, n) <+ V(p, n)/r;", declarations: str = "", parameter: str = "real r = 2.0"
) -> str:
    """A file with one module, whose declarations start in line 4 and whose body starts in line 6."""
    return (
        '`include "disciplines.vams"\n'
        "module m(p, n); inout p, n; electrical p, n;\n"
        f"parameter {parameter};\n"
        f"{declarations}\n"
        "analog begin\n"
        f"{body}\n"
        "end\n"
        "endmodule\n"
    )


def write(folder: Path, text: str, name: str = "m.va") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def current_of(folder: Path, text: str, **given: Scalar) -> float:
    """The static current into p at V(p, n) = 0.5 V, of a file with this text."""
    return float(at(compile_verilog(write(folder, text)), [0.5, 0.0], **given).resist[0])


def at(
    ir: DeviceIR,
    unknowns: Mapping[str, float] | Sequence[float],
    conditions: Conditions | None = None,
    **given: Scalar,
) -> Evaluation:
    """``ir`` at these unknowns; those that are not named are 0."""
    names = [node.name for node in ir.nodes]
    values = dict(zip(names, unknowns, strict=False)) if not isinstance(unknowns, Mapping) else unknowns
    setup = run_setup(ir, given)
    assert not setup.out_of_range, setup.out_of_range
    return evaluate(ir, setup, [values.get(name, 0.0) for name in names], given, conditions)


def current(ir: DeviceIR, voltage: float, **given: Scalar) -> float:
    """The static current into p at V(p) = ``voltage``; for models that merge no nodes."""
    unknowns, fixed = np.zeros(len(ir.nodes)), 2
    unknowns[0] = voltage
    for _ in range(100):
        found = at(ir, list(unknowns), **given)
        if len(ir.nodes) == fixed:
            break
        step = np.linalg.solve(found.jacobian_resist[fixed:, fixed:], -found.resist[fixed:])
        unknowns[fixed:] += step
        if np.abs(step).max() < 1e-14 * max(1.0, np.abs(unknowns).max()):
            break
    return float(at(ir, list(unknowns), **given).resist[0])
