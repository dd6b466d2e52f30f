"""Electrical rule check: what ngspice would accept and then answer with nonsense is refused here.

Each subcircuit is checked once, as a graph of its own: its instances then count as edges between
those of their nodes that it connects, so ten thousand cells in one subcircuit cost one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from cosim.errors import SpecError
from cosim.spice.deck import (
    GROUND,
    Current,
    CurrentLimiter,
    Deck,
    DeviceInstance,
    Element,
    IndexedSource,
    InternalNode,
    Resistor,
    Subcircuit,
    SubcircuitInstance,
    Sweep,
    Voltage,
    VoltageSource,
    WaveformSource,
)

__all__ = ["check_deck"]

_SHOWN = 5  # nodes named in a message


@dataclass(frozen=True)
class _Summary:
    """What an instance of a subcircuit connects: groups of port numbers; -1 stands for ground."""

    conducting: tuple[tuple[int, ...], ...]
    tied: tuple[tuple[int, ...], ...]  # through voltage sources only


def check_deck(deck: Deck) -> Deck:
    """Return ``deck``, or raise SpecError that names the nodes or names at fault.

    Refused: names used twice (SPICE ignores case), references to nothing, nodes without a DC path to
    ground (floating nodes, islands), loops of voltage sources.
    """
    _check_unique((item.name for item in deck.models), "model", "the deck")
    _check_unique((item.name for item in deck.subcircuits), "subcircuit", "the deck")
    models = {model.name for model in deck.models}
    summaries: dict[str, tuple[Subcircuit, _Summary]] = {}
    for subcircuit in deck.subcircuits:
        where = f"subcircuit {subcircuit.name}"
        _check_unique(subcircuit.ports, "port", where)
        summary = _check_circuit(
            subcircuit.elements, subcircuit.ports, dict(subcircuit.parameters), models, summaries, where
        )
        summaries[subcircuit.name] = subcircuit, summary
    _check_circuit(deck.elements, (), {}, models, summaries, "the top level")
    _check_outputs(deck)
    return deck


def _check_circuit(
    elements: tuple[Element, ...],
    ports: tuple[str, ...],
    parameters: Mapping[str, float],
    models: set[str],
    summaries: Mapping[str, tuple[Subcircuit, _Summary]],
    where: str,
) -> _Summary:
    """Check one level of hierarchy, and say what it connects."""
    _check_unique((element.name for element in elements), "instance", where)
    nodes: list[str] = [GROUND, *ports]
    edges: list[tuple[str, str]] = []  # anything that carries DC current
    ties: list[tuple[str, str, str]] = []  # voltage sources: (p, n, name)
    for element in elements:
        if isinstance(element, Resistor):
            if isinstance(element.ohm, str) and element.ohm not in parameters:
                raise SpecError(
                    f"{element.name} in {where} has the value {element.ohm!r}, which is no parameter"
                )
            edges.append((element.p, element.n))
        elif isinstance(element, CurrentLimiter):
            edges.append((element.p, element.n))
        elif isinstance(element, DeviceInstance):
            if element.model not in models:
                raise SpecError(
                    f"{element.name} in {where} names the model {element.model!r}, which is not there"
                )
            nodes.append(element.nodes[0])
            edges.extend((element.nodes[0], other) for other in element.nodes[1:])
        elif isinstance(element, SubcircuitInstance):
            summary = _check_instance(element, summaries, where)
            names = (*element.nodes, GROUND)  # port number -1 is ground
            nodes.extend(element.nodes)
            for group in summary.conducting:
                edges.extend((names[group[0]], names[port]) for port in group[1:])
            for group in summary.tied:
                ties.extend((names[group[0]], names[port], element.name) for port in group[1:])
        elif isinstance(element, VoltageSource | WaveformSource | IndexedSource):
            edges.append((element.p, element.n))
            ties.append((element.p, element.n, element.name))
            if isinstance(element, IndexedSource):
                nodes.append(element.index)
    graph = nx.Graph(edges)
    graph.add_nodes_from(nodes)
    _check_case(graph, where)
    conducting = _check_paths(graph, ports, where)
    return _Summary(conducting, _check_loops(ties, ports, where))


def _check_instance(
    element: SubcircuitInstance, summaries: Mapping[str, tuple[Subcircuit, _Summary]], where: str
) -> _Summary:
    if element.subcircuit not in summaries:
        raise SpecError(
            f"{element.name} in {where} names the subcircuit {element.subcircuit!r}, "
            "which is not defined before it is used"
        )
    subcircuit, summary = summaries[element.subcircuit]
    if len(element.nodes) != len(subcircuit.ports):
        raise SpecError(
            f"{element.name} in {where} connects {len(element.nodes)} nodes to the "
            f"{len(subcircuit.ports)} ports of {subcircuit.name}"
        )
    unknown = {name for name, _ in element.parameters} - {name for name, _ in subcircuit.parameters}
    if unknown:
        raise SpecError(
            f"{element.name} in {where} sets {sorted(unknown)}, not parameters of {subcircuit.name}"
        )
    return summary


def _check_paths(graph: nx.Graph, ports: tuple[str, ...], where: str) -> tuple[tuple[int, ...], ...]:
    """Every node reaches ground or a port; the groups of ports that conduct to each other."""
    number = {port: k for k, port in enumerate(ports)} | {GROUND: -1}
    groups = []
    for component in nx.connected_components(graph):
        group = tuple(sorted(number[name] for name in component & number.keys()))
        if not group:
            raise SpecError(
                f"{_shown(component)} in {where} has no DC path to ground: connect it, or leave it out"
            )
        groups.append(group)
    return tuple(groups)


def _check_loops(
    ties: list[tuple[str, str, str]], ports: tuple[str, ...], where: str
) -> tuple[tuple[int, ...], ...]:
    """No two nodes are tied twice by voltage sources; the groups of ports that are tied together."""
    sets = nx.utils.UnionFind([GROUND, *ports])
    for p, n, name in ties:
        if sets[p] == sets[n]:
            raise SpecError(f"{name} in {where} closes a loop of voltage sources between nodes {p} and {n}")
        sets.union(p, n)
    number = {port: k for k, port in enumerate(ports)} | {GROUND: -1}
    groups = (tuple(sorted(number[name] for name in group if name in number)) for group in sets.to_sets())
    return tuple(group for group in groups if len(group) > 1)


def _check_case(graph: nx.Graph, where: str) -> None:
    if len({name.lower() for name in graph}) != len(graph):
        _check_unique(graph, "node", where)


def _check_unique(names: Iterable[str], kind: str, where: str) -> None:
    names = list(names)
    if len({name.lower() for name in names}) == len(names):
        return
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise SpecError(
                f"{kind} name {name!r} is in {where} twice (SPICE reads {seen[name.lower()]!r} as the same)"
            )
        seen[name.lower()] = name


def _check_outputs(deck: Deck) -> None:
    """Saves and sweeps name what is there; ngspice leaves out a missing one without a word."""
    sources = {e.name for e in deck.elements if isinstance(e, VoltageSource | WaveformSource)}
    devices = {e.name for e in deck.elements if isinstance(e, DeviceInstance)}
    nodes = {node for e in deck.elements for node in _nodes(e)}
    for save in deck.saves:
        if isinstance(save, Current) and save.source not in sources:
            raise SpecError(f"the current of {save.source!r} is saved, but no voltage source has that name")
        if isinstance(save, Voltage) and save.node not in nodes:
            raise SpecError(f"the voltage of node {save.node!r} is saved, but nothing connects to it")
        if isinstance(save, InternalNode) and save.device not in devices:
            raise SpecError(f"a node inside {save.device!r} is saved, but no device has that name")
    for analysis in deck.analyses:
        if isinstance(analysis, Sweep) and analysis.source not in sources:
            raise SpecError(f"{analysis.source!r} is swept, but no voltage source has that name")


def _nodes(element: Element) -> tuple[str, ...]:
    if isinstance(element, DeviceInstance | SubcircuitInstance):
        return element.nodes
    return element.p, element.n


def _shown(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{'node' if len(names) == 1 else 'island of nodes'} {', '.join(names[:_SHOWN])}{more}"
