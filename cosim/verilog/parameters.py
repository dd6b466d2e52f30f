"""Parameters of a module: how they get their values, and what is checked before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from cosim.devices import ir
from cosim.devices.ir import Type
from cosim.verilog.lower_expressions import flat
from cosim.verilog.lower_functions import ModuleLowering
from cosim.verilog.lower_random import RANDOM_PARAMETERS
from cosim.verilog.scope import Constant, size
from cosim.verilog.ssa import Builder, Conditional, Region, Value
from cosim.verilog.tokens import parse_error, refusal
from cosim.verilog.tree import (
    Binary,
    Call,
    Choice,
    Expression,
    Interval,
    Module,
    Name,
    Parameter,
    Source,
    Unary,
)

__all__ = ["ParameterSetup", "Place", "Resolve", "any_of", "declare_parameter", "set_up_parameters"]

Place: TypeAlias = tuple[int, int]  # an element, counted from 0, and how many there are
# (parameter, its element, type, default) -> the value of the element
Resolve: TypeAlias = Callable[[Parameter, Place, Type, Callable[[], Value]], Value]


@dataclass
class ParameterSetup:
    """How a model's parameters get their values: given, or by default; and what is out of range.

    An array has one parameter for each element: ``elements`` has their names.
    """

    builder: Builder
    inputs: list[ir.Input]
    resolved: dict[str, Value]
    parameters: tuple[ir.Parameter, ...]
    sizes: dict[str, Value]  # parameters that sizes depend on: they keep their default
    given: dict[str, Value]
    elements: dict[str, tuple[str, ...]]


def any_of(builder: Builder, values: list[Value]) -> Value:
    """Whether any of some conditions holds."""
    found = builder.literal(False)
    for value in values:
        found = builder.choose(found, builder.literal(True), value)
    return found


# --- declarations -----------------------------------------------------------------------------------


def declare_parameter(lowering: ModuleLowering, parameter: Parameter, resolve: Resolve) -> list[Value]:
    """Make ``parameter`` known; the values that ``resolve`` gives, one for each element."""
    token = parameter.token
    if parameter.alias_of:
        _declare_alias(lowering, parameter)
        return []
    assert parameter.default is not None
    bounds = lowering.bounds(parameter.dimensions, token)
    kind, default = _type_of(lowering, parameter), parameter.default

    def typed(value: Value) -> Value:
        return lowering.arithmetic.to_type(value, kind, token)

    if not bounds:
        lowering.scope.declare(token, parameter)
        value = resolve(parameter, (0, 1), kind, lambda: typed(lowering.value(default)))
        lowering.parameters[token.text] = value
        return [value]
    items = lowering.elements(default)
    if len(items) != size(bounds):
        raise parse_error(token, f"array {token.text} needs '{{...}} with {size(bounds)} values")
    values = [
        resolve(parameter, (k, len(items)), kind, lambda item=item: typed(item))
        for k, item in enumerate(items)
    ]
    lowering.scope.declare(token, Constant(tuple(values), bounds, parameter=True))
    return values


def _declare_alias(lowering: ModuleLowering, parameter: Parameter) -> None:
    target = lowering.scope.find(parameter.alias_of)
    if isinstance(target, Parameter | Constant):
        lowering.scope.declare(parameter.token, target)
    elif not parameter.alias_of.startswith("$"):
        raise parse_error(
            parameter.token, f"{parameter.alias_of} is not a parameter: declare it before its alias"
        )


def _type_of(lowering: ModuleLowering, parameter: Parameter) -> Type:
    assert parameter.default is not None
    kinds = {parameter.type}
    if not parameter.type:
        kinds = {lowering.type_of(item) for item in flat(parameter.default) or [parameter.default]}
    return "string" if "string" in kinds else "integer" if kinds == {"integer"} else "real"


# --- the set-up -------------------------------------------------------------------------------------


def set_up_parameters(module: Module, source: Source) -> ParameterSetup:
    """The set-up of the parameters of ``module``: defaults, types and ranges, in order."""
    builder = Builder("s")
    lowering = ModuleLowering(builder, None, {}, source.notes)
    setup = ParameterSetup(builder, [], {}, (), {}, {}, {})
    lowering.given = lambda name: any_of(builder, [setup.given[e] for e in setup.elements[name]])
    found: dict[str, ir.Parameter] = {}
    aliases: dict[str, list[str]] = {}
    sizes = _sizing(module)
    for parameter in module.parameters:
        name = parameter.token.text
        if parameter.alias_of:
            declare_parameter(lowering, parameter, _no_value)
            aliases.setdefault(parameter.alias_of, []).append(name)
        elif parameter.local:
            declare_parameter(lowering, parameter, lambda p, place, kind, default: default())
        else:
            setup.elements[name] = _element_names(lowering, module, parameter)
            _set_up(lowering, setup, parameter, found)
            if name in sizes and found[name].default is not None:
                found[name] = _keep_default(setup, name, found[name])
                lowering.parameters[name] = setup.sizes[name]
    setup.parameters = tuple(replace(p, aliases=tuple(aliases.get(name, ()))) for name, p in found.items())
    return setup


def _sizing(module: Module) -> set[str]:
    """Names of what the sizes of arrays and buses are made of, through other parameters as well."""
    ranges = [net.bus for net in module.nets if net.bus is not None]
    for item in (*module.parameters, *module.variables):
        ranges.extend(item.dimensions)
    found: set[str] = set()
    pending: list[Expression | None] = [bound for r in ranges for bound in (r.first, r.last)]
    defaults = {p.token.text: p.default for p in module.parameters}
    while pending:
        match pending.pop():
            case Name(token=token) if token.text not in found:
                found.add(token.text)
                pending.append(defaults.get(token.text))
            case Unary(operand=operand):
                pending.append(operand)
            case Binary(left=left, right=right):
                pending += [left, right]
            case Choice(condition=condition, then=then, other=other):
                pending += [condition, then, other]
            case Call(arguments=arguments):
                pending.extend(arguments)
    return found


def _keep_default(setup: ParameterSetup, name: str, found: ir.Parameter) -> ir.Parameter:
    """A parameter that sizes depend on: another value than its default is out of range."""
    builder, default = setup.builder, found.default
    assert default is not None
    setup.sizes[name] = builder.literal(default)
    opcode = {"real": "feq", "integer": "ieq", "string": "seq", "boolean": "beq"}[found.type]
    same = builder.emit(opcode, setup.resolved[name], setup.sizes[name])
    _report_unless(builder, same, name)
    return replace(found, range=f"{default} only: the size of an array or bus depends on it")


def _no_value(parameter: Parameter, place: Place, kind: Type, default: Callable[[], Value]) -> Value:
    raise AssertionError(parameter.token)


def _element_names(lowering: ModuleLowering, module: Module, parameter: Parameter) -> tuple[str, ...]:
    """Plain names for the elements of an array, apart from those of other parameters: a_0, a_1."""
    name, token = parameter.token.text, parameter.token
    bounds = lowering.bounds(parameter.dimensions, token)
    if not bounds:
        return (name,)
    texts = [""]
    for first, last in bounds:
        step = 1 if last >= first else -1
        numbers = [str(k).replace("-", "n") for k in range(first, last + step, step)]
        texts = [f"{text}_{number}" for text in texts for number in numbers]
    taken = {other.token.text for other in module.parameters}
    while any(name + text in taken for text in texts):
        name += "_"
    return tuple(name + text for text in texts)


def _set_up(
    lowering: ModuleLowering, setup: ParameterSetup, parameter: Parameter, found: dict[str, ir.Parameter]
) -> None:
    names = setup.elements[parameter.token.text]
    defaults: list[Value] = []
    kinds: list[Type] = []

    def resolve(parameter: Parameter, place: Place, kind: Type, default: Callable[[], Value]) -> Value:
        value, otherwise = _resolve(setup, names[place[0]], kind, default)
        kinds.append(kind)
        defaults.append(otherwise)
        return value

    values = declare_parameter(lowering, parameter, resolve)
    for name, kind, value, default in zip(names, kinds, values, defaults, strict=True):
        _check_range(lowering, parameter, name, value)
        setup.resolved[name] = value
        found[name] = _describe(parameter, name, kind, default)


def add_random_parameters(setup: ParameterSetup, module: Module) -> None:
    """What the random numbers of a model depend on, for the caller to set."""
    for name, kind, description in RANDOM_PARAMETERS:
        if name in setup.elements or any(p.token.text == name for p in module.parameters):
            raise refusal(module.token, f"{name} sets the random numbers: give the file's own another name")
        zero = setup.builder.literal(0.0 if kind == "real" else 0)
        setup.resolved[name], _ = _resolve(setup, name, kind, lambda zero=zero: zero)
        setup.parameters += (ir.Parameter(name, kind, True, "", description, "", zero.literal),)


def _resolve(
    setup: ParameterSetup, name: str, kind: Type, default: Callable[[], Value]
) -> tuple[Value, Value]:
    """The value of a parameter, and its default."""
    builder = setup.builder
    raw, given = builder.fresh(kind), builder.fresh("boolean")
    setup.inputs += [
        ir.Input(raw.name, "parameter", name, kind),
        ir.Input(given.name, "given", name, "boolean"),
    ]
    setup.given[name] = given
    conditional = Conditional(given, Region(), Region())
    with builder.inside(conditional.other):
        value = default()
    builder.append(conditional)
    return builder.merge(conditional, raw, value), value


def _describe(parameter: Parameter, name: str, kind: Type, default: Value) -> ir.Parameter:
    clauses = [f"{'exclude ' if i.exclude else ''}{i.text}" for i in parameter.intervals]
    return ir.Parameter(
        name=name,
        type=kind,
        instance=parameter.attributes.get("type") == "instance",
        units=parameter.attributes.get("units", ""),
        description=parameter.attributes.get("desc", ""),
        range=" ".join(clauses),
        default=default.literal,
        array=parameter.token.text if parameter.dimensions else "",
    )


def _check_range(lowering: ModuleLowering, parameter: Parameter, name: str, value: Value) -> None:
    """Report a value that no ``from`` clause allows, or that an ``exclude`` clause forbids."""
    builder = lowering.builder
    if not parameter.intervals:
        return
    inside = [_contains(lowering, parameter, i, value) for i in parameter.intervals if not i.exclude]
    outside = [_contains(lowering, parameter, i, value) for i in parameter.intervals if i.exclude]
    allowed = builder.literal(not inside)
    for condition in inside:
        allowed = builder.choose(allowed, builder.literal(True), condition)
    for condition in outside:
        allowed = builder.choose(condition, builder.literal(False), allowed)
    _report_unless(builder, allowed, name)


def _report_unless(builder: Builder, allowed: Value, name: str) -> None:
    if allowed.literal is True:
        return
    conditional = Conditional(allowed, Region(), Region())
    with builder.inside(conditional.other):
        # a literal of its own: the printer turns it into the parameter's number
        builder.effect("out_of_range", Value(f"name_{name}", "string", name))
    builder.append(conditional)


def _contains(lowering: ModuleLowering, parameter: Parameter, interval: Interval, value: Value) -> Value:
    builder, token = lowering.builder, parameter.token
    if interval.values:
        inside = builder.literal(False)
        for expression in interval.values:
            a, b = lowering.arithmetic.common([value, lowering.value(expression)], token)
            opcode = {"real": "feq", "integer": "ieq", "string": "seq"}[a.type]
            inside = builder.choose(inside, builder.literal(True), builder.emit(opcode, a, b))
        return inside
    inside = builder.literal(True)
    for bound, opened, opcode in (
        (interval.low, interval.low_open, "lt" if interval.low_open else "le"),
        (interval.high, interval.high_open, "gt" if interval.high_open else "ge"),
    ):
        if bound is None:
            if value.type == "real" and opened:
                infinite = builder.literal(float("-inf") if opcode.startswith("l") else float("inf"))
                inside = builder.choose(builder.emit("feq", value, infinite), builder.literal(False), inside)
            continue
        a, b = lowering.arithmetic.common([lowering.value(bound), value], token)
        holds = builder.emit(("f" if a.type == "real" else "i") + opcode, a, b)
        inside = builder.choose(inside, holds, builder.literal(False))
    return inside
