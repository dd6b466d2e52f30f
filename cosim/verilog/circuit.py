"""What a model asks of the circuit around it: nets, branches, unknowns, and the equations they end in."""

from __future__ import annotations

from dataclasses import dataclass, field

from cosim.devices.ir import Collapse, Node, Type
from cosim.verilog.scope import Branch, Net, Term
from cosim.verilog.ssa import Builder, Conditional, Region, Value

__all__ = ["Circuit", "Probe", "Row"]

_VARYING_INPUTS = frozenset({"voltage", "unknown", "abstime", "integrating", "starting", "kept"})


@dataclass(frozen=True, slots=True)
class Probe:
    """An input that derivatives are taken by, and the unknowns that it is made of: (index, sign)."""

    value: Value
    parts: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class Row:
    """The residual of one unknown: ``resist`` + d(``react``)/dt, each the sum of its terms."""

    resist: list[Value] = field(default_factory=list)
    react: list[Value] = field(default_factory=list)


class Circuit:
    """Collects unknowns and inputs while a module is lowered, then closes its equations.

    Contributions are kept in the environment like variables, so that conditions merge them: the flow
    and the potential of a branch, and which of the two its last contribution was.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.nodes: list[Node] = []
        self.branches: dict[str, Branch] = {}
        self.inputs: dict[tuple[str, str], Value] = {}
        self.probes: dict[str, Probe] = {}
        self.rows: dict[int, Row] = {}
        self.collapsible: list[Collapse] = []
        self._flows: dict[str, Value] = {}  # branch -> its current as an unknown
        self._ports: dict[int, Value] = {}  # node -> the current into it as an unknown
        self._implicit = 0

    def net(self, name: str, *, terminal: bool = False) -> Net:
        """A new node; terminals come first."""
        index = len(self.nodes)
        self.nodes.append(Node(name, terminal, "voltage"))
        self.rows[index] = Row()
        return Net(name, index)

    # --- inputs -------------------------------------------------------------------------------

    def input(self, kind: str, name: str, type_: Type = "real") -> Value:
        key = (kind, name)
        if key not in self.inputs:
            self.inputs[key] = self.builder.fresh(type_, varying=kind in _VARYING_INPUTS)
        return self.inputs[key]

    def voltage(self, first: Net, second: Net) -> Value:
        """V(first, second)."""
        if first.index == second.index:
            return self.builder.literal(0.0)
        if first.index is None or (second.index is not None and second.index < first.index):
            return self.builder.emit("fneg", self.voltage(second, first))
        name = f"V({first.name})" if second.index is None else f"V({first.name},{second.name})"
        value = self.input("voltage", name)
        parts = [(first.index, 1.0)] + ([] if second.index is None else [(second.index, -1.0)])
        self.probes[value.name] = Probe(value, tuple(parts))
        return value

    def unknown(self, name: str, kind: str) -> tuple[int, Value]:
        """A further unknown with an equation of its own: its index, and its value."""
        index = len(self.nodes)
        self.nodes.append(Node(name, False, kind))
        self.rows[index] = Row()
        value = self.input("unknown", name)
        self.probes[value.name] = Probe(value, ((index, 1.0),))
        return index, value

    def new_implicit(self) -> tuple[int, Value]:
        self._implicit += 1
        return self.unknown(f"implicit_equation_{self._implicit - 1}", "implicit")

    def difference(self, unknown: Value, term: Term) -> Term:
        """unknown - term: the residual of an unknown that is equal to ``term``."""
        charge = None if term.charge is None else self.builder.emit("fneg", term.charge)
        return Term(self.builder.emit("fsub", unknown, term.value), charge)

    def add_to_row(self, index: int, term: Term) -> None:
        row = self.rows[index]
        row.resist.append(term.value)
        if term.charge is not None:
            row.react.append(term.charge)

    # --- branches -----------------------------------------------------------------------------

    def branch(self, first: Net, second: Net, name: str = "") -> tuple[Branch, bool]:
        """The branch, and whether it runs the other way."""
        if name:
            return self.branches.setdefault(name, Branch(name, first, second)), False
        order = [-1 if net.index is None else net.index for net in (first, second)]
        turned = first.index is None or (second.index is not None and order[1] < order[0])
        if turned:
            first, second = second, first
        key = f"{first.name},{second.name}" if second.index is not None else first.name
        return self.branches.setdefault(key, Branch(key, first, second)), turned

    def flow(self, branch: Branch) -> Value:
        """The current of a branch, as an unknown of its own."""
        if branch.name not in self._flows:
            self._flows[branch.name] = self.unknown(f"flow({branch.name})", "flow")[1]
        return self._flows[branch.name]

    def port_flow(self, net: Net) -> Value:
        """The current that comes in through a port."""
        assert net.index is not None
        if net.index not in self._ports:
            self._ports[net.index] = self.unknown(f"flow(<{net.name}>)", "flow")[1]
        return self._ports[net.index]

    # --- equations ----------------------------------------------------------------------------

    def close(self, contributions: dict[str, tuple[Term, Term, Value]]) -> None:
        """The equations of all branches: (flow, potential, whether the potential rules) of each."""
        for name, (flow, potential, rules) in contributions.items():
            self._close_branch(self.branches[name], flow, potential, rules)
        for name, current in self._flows.items():
            if name not in contributions:  # a probe: nothing flows by itself, the branch is a short
                branch = self.branches[name]
                self._current(branch, Term(current))
                self._equation(name).resist.append(self.voltage(branch.first, branch.second))
        for index, current in self._ports.items():
            row = self.rows[self._index(current)]
            row.resist.append(current)
            row.resist.extend(self.builder.emit("fneg", value) for value in self.rows[index].resist)
            row.react.extend(self.builder.emit("fneg", value) for value in self.rows[index].react)

    def hold_lone_nodes(self) -> None:
        """A node inside that nothing flows into stays at 0 V, as the leak of a simulator has it."""
        for index, node in enumerate(self.nodes):
            row = self.rows[index]
            if node.kind == "voltage" and not node.terminal and not row.resist and not row.react:
                row.resist.append(self.voltage(Net(node.name, index), Net("", None)))

    def _close_branch(self, branch: Branch, flow: Term, potential: Term, rules: Value) -> None:
        builder = self.builder
        probed = branch.name in self._flows
        if rules.literal is False:
            self._current(branch, flow)
            if probed:
                current = self._flows[branch.name]
                self.add_to_row(self._index(current), self.difference(current, flow))
            return
        if not probed and self._can_collapse(branch, potential, rules):
            self._collapse(branch, rules)
            zero = builder.literal(0.0)
            charge = None if flow.charge is None else builder.choose(rules, zero, flow.charge)
            self._current(branch, Term(builder.choose(rules, zero, flow.value), charge))
            return
        current = self.flow(branch)
        self._current(branch, Term(current))
        voltage = self.voltage(branch.first, branch.second)
        row = self._equation(branch.name)
        left = builder.choose(rules, voltage, current)
        right = builder.choose(rules, potential.value, flow.value)
        row.resist.append(builder.emit("fsub", left, right))
        zero = builder.literal(0.0)
        charges = [zero if term.charge is None else term.charge for term in (potential, flow)]
        row.react.append(builder.emit("fneg", builder.choose(rules, *charges)))

    def _can_collapse(self, branch: Branch, potential: Term, rules: Value) -> bool:
        ends = [net.index for net in (branch.first, branch.second)]
        internal = any(index is not None and not self.nodes[index].terminal for index in ends)
        short = potential.charge is None and potential.value.is_literal(0.0)
        return internal and short and not self.builder.varies(rules) and ends[0] != ends[1]

    def _collapse(self, branch: Branch, rules: Value) -> None:
        builder = self.builder
        assert branch.first.index is not None
        number = builder.literal(len(self.collapsible))
        self.collapsible.append(Collapse(branch.first.index, branch.second.index))
        merged = Conditional(rules, Region(), Region())
        with builder.inside(merged.then):
            builder.effect("collapse", number)
        builder.append(merged)

    def _current(self, branch: Branch, current: Term) -> None:
        """Let ``current`` flow out of the first node and into the second."""
        emit = self.builder.emit
        for net, sign in ((branch.first, 1), (branch.second, -1)):
            if net.index is None:
                continue
            row = self.rows[net.index]
            for terms, value in ((row.resist, current.value), (row.react, current.charge)):
                if value is not None:
                    terms.append(value if sign > 0 else emit("fneg", value))

    def _equation(self, branch: str) -> Row:
        return self.rows[self._index(self._flows[branch])]

    def _index(self, unknown: Value) -> int:
        return self.probes[unknown.name].parts[0][0]

    def sums(self, terms: list[Value]) -> Value:
        """The sum of ``terms``."""
        total = self.builder.literal(0.0)
        for term in terms:
            total = self.builder.emit("fadd", total, term)
        return total
