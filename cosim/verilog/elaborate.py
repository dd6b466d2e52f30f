"""A module of the syntax tree -> equations of one flat circuit, as structured SSA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cosim.devices.ir import BOUND_STEP, RETAKE, Type
from cosim.verilog.circuit import Circuit
from cosim.verilog.lower_functions import ModuleLowering
from cosim.verilog.lower_statements import assignments
from cosim.verilog.memory import Carried, Memory, settle
from cosim.verilog.parameters import (
    ParameterSetup,
    Place,
    Resolve,
    add_random_parameters,
    any_of,
    declare_parameter,
)
from cosim.verilog.parser import STANDARD_DISCIPLINES
from cosim.verilog.scope import Branch, Bus, Net, PortBranch, Scope, Term
from cosim.verilog.ssa import Builder, Value
from cosim.verilog.tokens import Token, parse_error, refusal
from cosim.verilog.tree import (
    BranchDeclaration,
    Instance,
    Module,
    Name,
    Parameter,
    Range,
    Source,
    Variable,
)

__all__ = ["Elaborated", "elaborate"]

_MOST_MODULES = 10_000
_DEEPEST = 50  # modules within one another


@dataclass
class Elaborated:
    builder: Builder
    circuit: Circuit
    resist: dict[int, Value]
    react: dict[int, Value]
    memory: Memory
    notes: list[str]


def access_functions(source: Source) -> dict[str, str]:
    """Access function -> "potential" or "flow", of the standard disciplines and the file's own."""
    own = [(d.potential, d.flow) for d in source.disciplines.values()]
    pairs = [*STANDARD_DISCIPLINES.values(), *own]
    access = {"potential": "potential", "flow": "flow"}  # of any discipline
    access |= {potential: "potential" for potential, _ in pairs} | {flow: "flow" for _, flow in pairs}
    access.pop("", None)
    return access


# --- modules ----------------------------------------------------------------------------------------


def elaborate(module: Module, source: Source, setup: ParameterSetup) -> Elaborated:
    """The equations of ``module``, with those of the modules placed in it."""
    builder = Builder()
    circuit = Circuit(builder)
    lowering = ModuleLowering(builder, circuit, access_functions(source), source.notes)
    types: dict[str, Type] = {p.name: p.type for p in setup.parameters}
    values = {
        name: tuple(setup.sizes.get(e) or circuit.input("parameter", e, types[e]) for e in elements)
        for name, elements in setup.elements.items()
    }

    def given(name: str) -> Value:
        return any_of(builder, [circuit.input("given", e, "boolean") for e in setup.elements[name]])

    ports = _ports(lowering, module, circuit)
    frame = _Frame(module, ports, values, given, "")
    _lower_module(lowering, frame, source, ())
    if lowering.sites:
        add_random_parameters(setup, module)
    return _close(lowering, circuit)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A module with what its place gives it: nets of its ports, values of its parameters."""

    module: Module
    ports: Mapping[str, Net | Bus]
    parameters: Mapping[str, tuple[Value, ...]]
    given: Callable[[str], Value]
    prefix: str


def _ports(lowering: ModuleLowering, module: Module, circuit: Circuit) -> dict[str, Net | Bus]:
    buses = {net.token.text: net.bus for net in module.nets if net.bus is not None}
    found: dict[str, Net | Bus] = {}
    for port in module.ports:
        if port.text in found:
            raise parse_error(port, f"port {port.text} stands twice in the list")
        found[port.text] = _new_net(lowering, circuit, port, buses.get(port.text), "", terminal=True)
    return found


def _new_net(
    lowering: ModuleLowering,
    circuit: Circuit,
    token: Token,
    bus: Range | None,
    prefix: str,
    *,
    terminal: bool,
) -> Net | Bus:
    name = prefix + token.text
    if bus is None:
        return circuit.net(name, terminal=terminal)
    bounds = lowering.bounds((bus,), token)
    count = abs(bounds[0][1] - bounds[0][0]) + 1
    low = min(bounds[0])
    return Bus(tuple(circuit.net(f"{name}[{low + k}]", terminal=terminal) for k in range(count)), bounds)


def _lower_module(lowering: ModuleLowering, frame: _Frame, source: Source, stack: tuple[str, ...]) -> None:
    """All equations of one module in its place."""
    module = frame.module
    lowering.placed += 1
    if lowering.placed > _MOST_MODULES or len(stack) > _DEEPEST:
        raise refusal(module.token, f"more than {_MOST_MODULES} modules, or {_DEEPEST} within one another")
    if module.name in stack:
        raise refusal(module.token, f"module {module.name} is placed inside itself")
    saved = (lowering.scope, lowering.parameters, lowering.given, lowering.prefix, lowering.module)
    lowering.scope, lowering.parameters = Scope(), {}
    lowering.given, lowering.prefix, lowering.module = frame.given, frame.prefix, module.name
    _declare(lowering, frame)
    for statement in module.analog:
        lowering.statement(statement)
    for instance in module.instances:
        _lower_instance(lowering, frame, instance, source, (*stack, module.name))
    lowering.scope, lowering.parameters, lowering.given, lowering.prefix, lowering.module = saved


def _lower_instance(
    lowering: ModuleLowering, outer: _Frame, instance: Instance, source: Source, stack: tuple[str, ...]
) -> None:
    module = next((m for m in source.modules if m.name == instance.module.text), None)
    if module is None:
        raise refusal(
            instance.module,
            f"module {instance.module.text} is not in this file: include the file that has it",
        )
    prefix = f"{outer.prefix}{instance.token.text}."
    ports = _connect(lowering, module, instance, prefix, outer.prefix)
    values, given = _instance_parameters(lowering, module, instance)
    builder = lowering.builder
    frame = _Frame(module, ports, values, lambda name: builder.literal(name in given), prefix)
    _lower_module(lowering, frame, source, stack)


def _connect(
    lowering: ModuleLowering, module: Module, instance: Instance, prefix: str, outer: str
) -> dict[str, Net | Bus]:
    """The nets of the ports; one that is left open gets a node of its own."""
    circuit = lowering.circuit
    assert circuit is not None
    names = [port.text for port in module.ports]
    if len(instance.connections) > len(names):
        raise parse_error(instance.token, f"module {module.name} has {len(names)} ports")
    ports: dict[str, Net | Bus] = {}
    for k, (name, expression) in enumerate(instance.connections):
        port = name or names[k]
        if port not in names:
            raise parse_error(instance.token, f"module {module.name} has no port {port}")
        if expression is None:
            continue
        symbol = lowering.scope.find(expression.token.text) if isinstance(expression, Name) else None
        if symbol is None and isinstance(expression, Name):
            lowering.notes.append(
                f"{expression.token.where}: net {expression.token.text} is not declared: taken as electrical"
            )
            symbol = circuit.net(outer + expression.token.text)
            lowering.scope.symbols[expression.token.text] = symbol
        ports[port] = symbol if isinstance(symbol, Bus) else lowering.net(expression, instance.token)
    buses = {net.token.text: net.bus for net in module.nets if net.bus is not None}
    for token in module.ports:
        if token.text not in ports:
            ports[token.text] = _new_net(
                lowering, circuit, token, buses.get(token.text), prefix, terminal=False
            )
    return ports


def _instance_parameters(
    lowering: ModuleLowering, module: Module, instance: Instance
) -> tuple[dict[str, tuple[Value, ...]], set[str]]:
    """Values that an instance gives to parameters of its module."""
    parameters = [p for p in module.parameters if not p.local]
    known = {p.token.text: p.alias_of or p.token.text for p in parameters}
    ordered = [p.token.text for p in parameters if not p.alias_of]
    values: dict[str, tuple[Value, ...]] = {}
    for k, (name, expression) in enumerate(instance.parameters):
        if not name and k >= len(ordered):
            raise parse_error(instance.token, f"module {module.name} has {len(ordered)} parameters")
        target = known.get(name or ordered[k])
        if target is None:
            raise parse_error(instance.token, f"module {module.name} has no parameter {name}")
        array = next(bool(p.dimensions) for p in parameters if p.token.text == target)
        values[target] = tuple(lowering.elements(expression) if array else [lowering.value(expression)])
    return values, set(values)


def _declare(lowering: ModuleLowering, frame: _Frame) -> None:
    module, scope = frame.module, lowering.scope
    for parameter in module.parameters:
        declare_parameter(lowering, parameter, _from_frame(lowering, frame))
    _declare_nets(lowering, frame)
    for token in module.genvars:
        lowering.declare(Variable(token, "genvar"), frame.prefix)
    for function in module.functions:
        scope.declare(function.token, function)
    for branch in module.branches:
        _declare_branch(lowering, branch)
    assigned, changed = (
        {a.target.token.text for statement in module.analog for a in assignments(statement, starts=starts)}
        for starts in (True, False)
    )
    for variable in module.variables:
        name = variable.token.text
        lowering.declare(variable, frame.prefix, kept=name in assigned, changes=name in changed)


def _declare_nets(lowering: ModuleLowering, frame: _Frame) -> None:
    circuit, scope = lowering.circuit, lowering.scope
    assert circuit is not None
    grounds = {net.token.text for net in frame.module.nets if net.ground}
    scope.symbols.update(frame.ports)
    for net in frame.module.nets:
        name = net.token.text
        if name in frame.ports:
            if name in grounds:
                raise refusal(net.token, f"port {name} cannot be ground: connect it to ground outside")
        elif name in grounds:
            scope.symbols[name] = Net(frame.prefix + name, None)
        elif name not in scope.symbols:
            scope.symbols[name] = _new_net(
                lowering, circuit, net.token, net.bus, frame.prefix, terminal=False
            )


def _from_frame(lowering: ModuleLowering, frame: _Frame) -> Resolve:
    """A parameter's value: that of the model, that of the instance, or its default."""

    def resolve(parameter: Parameter, place: Place, kind: Type, default: Callable[[], Value]) -> Value:
        token, (element, count) = parameter.token, place
        given = None if parameter.local else frame.parameters.get(token.text)
        if given is None:
            return default()
        if len(given) != count:
            raise parse_error(token, f"{token.text} has {count} elements, {len(given)} are given")
        return lowering.arithmetic.to_type(given[element], kind, token)

    return resolve


def _declare_branch(lowering: ModuleLowering, branch: BranchDeclaration) -> None:
    nets = [lowering.net(terminal, branch.token) for terminal in branch.terminals]
    if branch.port:
        lowering.scope.declare(branch.token, PortBranch(nets[0]))
        return
    if not 1 <= len(nets) <= 2:
        raise parse_error(branch.token, "a branch has one or two nets")
    second = nets[1] if len(nets) == 2 else Net("", None)
    lowering.scope.declare(branch.token, Branch(lowering.prefix + branch.token.text, nets[0], second))


def _close(lowering: ModuleLowering, circuit: Circuit) -> Elaborated:
    """The rows of all unknowns, from what the environment holds at the end."""
    builder = lowering.builder
    lowering.finish()
    variables = _variables(lowering, circuit)
    contributions: dict[str, tuple[Term, Term, Value]] = {}
    for key, term in list(lowering.environment.items()):
        if isinstance(key, str):
            continue
        kind, name = key
        if kind == "equation":
            circuit.add_to_row(int(name), term)
        elif kind in ("flow", "potential", "rules") and str(name) not in contributions:
            parts = [lowering.entry((part, str(name))) for part in ("flow", "potential", "rules")]
            contributions[str(name)] = (parts[0], parts[1], parts[2].value)
    circuit.close(contributions)
    circuit.hold_lone_nodes()
    memory = settle(circuit, variables)
    lowering.notes += _memory_notes(variables, memory)
    resist, react = {}, {}
    factor = circuit.input("mfactor", "mfactor")
    for index, row in circuit.rows.items():
        sums = [circuit.sums(row.resist), circuit.sums(row.react)]
        if circuit.nodes[index].kind == "voltage":
            sums = [builder.emit("fmul", factor, total) for total in sums]
        resist[index], react[index] = sums
    return Elaborated(builder, circuit, resist, react, memory, lowering.notes)


def _variables(lowering: ModuleLowering, circuit: Circuit) -> list[Carried]:
    """Variables that are read before they are set, each with what it is at the end."""
    found = []
    for (kind, key), value in list(circuit.inputs.items()):
        if kind == "kept" and value.type != "string":
            slot = lowering.slots[key]
            initial = lowering.initial.get(key) or lowering.builder.literal(
                0 if slot.type == "integer" else 0.0
            )
            last = lowering.plain(lowering.entry(key))
            found.append(Carried(key, value, initial, last, slot.place))
    for name in (BOUND_STEP, RETAKE):
        if ("limit", name) in lowering.environment:
            limit = lowering.entry(("limit", name)).value
            never = lowering.builder.literal(math.inf)
            found.append(Carried(name, circuit.input("kept", name), never, limit))
    return found


def _memory_notes(variables: list[Carried], memory: Memory) -> list[str]:
    """Which variable of a file was taken for which kind."""
    notes = [
        f"{v.place}: {v.name} is read before it is set: it is what the same evaluation makes of it"
        for v in variables
        if v.value in memory.same
    ]
    return notes + [v.note for v in memory.carried if v.place]
