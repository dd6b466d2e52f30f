"""Dead-code elimination over blocks: what no result and no effect needs, branches included.

OpenVAF leaves branches in the set-up function whose conditions depend on voltages and whose results
nobody reads. A branch is kept only if something needed is control dependent on it (Ferrante et al.,
ACM TOPLAS 9(3), 1987); any other becomes a jump to where its sides meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import networkx as nx

from cosim.devices.ir import Block, Branch, Jump, Return

__all__ = ["prune"]

_END = ""  # the block after every return


def prune(blocks: Sequence[Block], roots: Iterable[str]) -> tuple[tuple[Block, ...], set[str]]:
    """The needed blocks, instructions and phis, entry first, and the names of the needed values."""
    meets = _post_dominators(blocks)
    values, branches = _needed(blocks, roots, _control_dependence(blocks, meets))
    kept = []
    for block in blocks:
        end = block.end
        if isinstance(end, Branch) and block.name not in branches:
            meet = meets[block.name]
            end = Return() if meet == _END else Jump(meet)
        phis = tuple(p for p in block.phis if p.result in values)
        code = tuple(c for c in block.code if c.result is None or c.result in values)
        kept.append(replace(block, phis=phis, code=code, end=end))
    return _reachable(kept), values


def _post_dominators(blocks: Sequence[Block]) -> dict[str, str]:
    graph = nx.DiGraph()
    for block in blocks:
        for target in block.successors() or (_END,):
            graph.add_edge(target, block.name)
    return nx.immediate_dominators(graph, _END)


def _control_dependence(blocks: Sequence[Block], meets: dict[str, str]) -> dict[str, set[str]]:
    """Block -> the branches that decide whether it runs."""
    depends: dict[str, set[str]] = {block.name: set() for block in blocks}
    for block in blocks:
        if isinstance(block.end, Branch):
            for target in block.successors():
                while target not in (meets[block.name], _END):
                    depends[target].add(block.name)
                    target = meets[target]
    return depends


def _needed(
    blocks: Sequence[Block], roots: Iterable[str], depends: dict[str, set[str]]
) -> tuple[set[str], set[str]]:
    by_name = {block.name: block for block in blocks}
    home = {p.result: block.name for block in blocks for p in block.phis}
    home |= {c.result: block.name for block in blocks for c in block.code if c.result is not None}
    operands = {c.result: c.operands for block in blocks for c in block.code if c.result is not None}
    phis = {p.result: p for block in blocks for p in block.phis}
    values: set[str] = set()
    branches: set[str] = set()
    pending = list(roots)

    def run(block: str) -> None:
        """``block`` has to run: so do the branches that lead to it."""
        for name in depends[block] - branches:
            decide(name)

    def decide(name: str) -> None:
        end = by_name[name].end
        if name not in branches and isinstance(end, Branch):
            branches.add(name)
            pending.append(end.condition)
            run(name)

    for block in blocks:
        for code in block.code:
            if code.result is None:
                pending.extend(code.operands)
                run(block.name)
    while pending:
        value = pending.pop()
        if value in values:
            continue
        values.add(value)
        if value in home:
            run(home[value])
        pending.extend(operands.get(value, ()))
        for source, incoming in phis[value].incoming if value in phis else ():
            pending.append(incoming)
            run(source)
            decide(source)
    return values, branches


def _reachable(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks in reverse postorder, with phis that name only blocks that are left."""
    by_name = {block.name: block for block in blocks}
    graph = nx.DiGraph()
    graph.add_node(blocks[0].name)
    for block in blocks:
        graph.add_edges_from((block.name, target) for target in block.successors())
    order = list(nx.dfs_postorder_nodes(graph, blocks[0].name))[::-1]
    left = set(order)

    def cleaned(block: Block) -> Block:
        phis = (replace(p, incoming=tuple(e for e in p.incoming if e[0] in left)) for p in block.phis)
        return replace(block, phis=tuple(phis))

    return tuple(cleaned(by_name[name]) for name in order)
