"""The terminals of a model as a cell has them: two, then those that the caller drives, and no others.

An open port carries no current, so it becomes an internal node. A grounded one is at 0 V: it leaves, with
its equation, as nobody asks what flows into ground.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cosim.devices.ir import (
    Collapse,
    DeviceIR,
    Function,
    Input,
    Instruction,
    JacobianEntry,
    node_pair,
    validate,
)
from cosim.devices.passes import fix_inputs

__all__ = ["rewire"]


def rewire(ir: DeviceIR, terminals: Sequence[str], ground: Collection[str] = ()) -> DeviceIR:
    """``ir`` with ``terminals`` as its terminals, in this order; ``ground`` at 0 V; other ports are open."""
    if tuple(terminals) == ir.terminals and not ground:
        return ir
    index = {node.name: k for k, node in enumerate(ir.nodes)}
    order = [index[name] for name in terminals]
    order += [k for k, node in enumerate(ir.nodes) if node.name not in (*terminals, *ground)]
    place = {old: new for new, old in enumerate(order)}
    nodes = tuple(replace(ir.nodes[k], terminal=k in order[: len(terminals)]) for k in order)
    jacobian = [
        JacobianEntry(place[e.row], place[e.column], e.resist, e.react)
        for e in ir.jacobian
        if e.row in place and e.column in place
    ]
    pairs, shorted = _pairs(ir.collapsible, place)
    wired = replace(
        ir,
        nodes=nodes,
        setup=_without_merges(ir.setup, shorted),
        evaluate=_at_ground(ir.evaluate, ground),
        residuals=tuple(ir.residuals[k] for k in order),
        jacobian=tuple(jacobian),
        collapsible=pairs,
    )
    validate(wired)
    return wired


def _pairs(old: Sequence[Collapse], place: dict[int, int]) -> tuple[tuple[Collapse, ...], set[int]]:
    """The pairs that may merge, renumbered, and which of them are ground on both sides.

    Setup names a pair by its position, so those stay in the list.
    """
    pairs, shorted = [], set()
    for k, pair in enumerate(old):
        ends = [place[end] for end in (pair.first, pair.second) if end is not None and end in place]
        if not ends:
            shorted.add(k)
        pairs.append(Collapse(ends[0] if ends else 0, ends[1] if len(ends) == 2 else None))
    return tuple(pairs), shorted


def _without_merges(setup: Function, shorted: set[int]) -> Function:
    """``setup`` that does not merge the pairs of these numbers."""
    dead = {c.value for c in setup.constants if c.type == "integer" and c.literal in shorted}
    blocks = tuple(
        replace(
            block, code=tuple(c for c in block.code if c.opcode != "collapse" or c.operands[0] not in dead)
        )
        for block in setup.blocks
    )
    return replace(setup, blocks=blocks)


def _at_ground(evaluate: Function, grounded: Collection[str]) -> Function:
    """``evaluate`` with these nodes at 0 V."""
    inputs: list[Input] = []
    signs: list[Instruction] = []
    zeros: list[str] = []
    for source in evaluate.inputs:
        ends = node_pair(source.name) if source.kind == "voltage" else (source.name, None)
        left = [end for end in ends if end is not None and end not in grounded]
        if source.kind not in ("voltage", "unknown") or len(left) == len([e for e in ends if e]):
            inputs.append(source)
        elif not left:
            inputs.append(source)
            zeros.append(source.value)
        elif left[0] == ends[0]:
            inputs.append(replace(source, name=f"V({left[0]})"))
        else:
            turned = f"{source.value}_turned"
            inputs.append(replace(source, value=turned, name=f"V({left[0]})"))
            signs.append(Instruction(source.value, "fneg", (turned,)))
    entry, *others = evaluate.blocks
    entry = replace(entry, code=(*signs, *entry.code))
    wired = replace(evaluate, inputs=tuple(inputs), blocks=(entry, *others))
    return fix_inputs(wired, dict.fromkeys(zeros, 0.0))
