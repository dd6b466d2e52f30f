"""Nodes that the source declares as ground: they are at 0 V, and nobody asks what flows into them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from cosim.devices.ir import Collapse, Constant, DeviceIR, Function, Input, Instruction, node_pair

__all__ = ["without_grounds"]


def without_grounds(ir: DeviceIR, grounds: Collection[str]) -> DeviceIR:
    """``ir`` (before it is differentiated) without the nodes called so, its voltages against 0 V."""
    gone = [k for k, node in enumerate(ir.nodes) if node.name in grounds]
    if not gone:
        return ir
    left = {k: at for at, k in enumerate(k for k in range(len(ir.nodes)) if k not in gone)}
    inputs: list[Input] = []
    signs: list[Instruction] = []
    zeros: list[Constant] = []
    for source in ir.evaluate.inputs:
        first, second = node_pair(source.name) if source.kind == "voltage" else ("", None)
        if second in grounds:
            inputs.append(replace(source, name=f"V({first})"))
        elif first in grounds and second is None:
            zeros.append(Constant(source.value, "real", 0.0))
        elif first in grounds:
            turned = f"{source.value}_turned"
            inputs.append(replace(source, value=turned, name=f"V({second})"))
            signs.append(Instruction(source.value, "fneg", (turned,)))
        else:
            inputs.append(source)
    entry, *others = ir.evaluate.blocks
    entry = replace(entry, code=(*signs, *entry.code))
    ends = [[left[k] for k in (p.first, p.second) if k in left] for p in ir.collapsible]
    return replace(
        ir,
        nodes=tuple(node for k, node in enumerate(ir.nodes) if k in left),
        residuals=tuple(residual for k, residual in enumerate(ir.residuals) if k in left),
        evaluate=Function(tuple(inputs), (*ir.evaluate.constants, *zeros), (entry, *others)),
        collapsible=tuple(Collapse(end[0], end[1] if len(end) == 2 else None) for end in ends),
    )
