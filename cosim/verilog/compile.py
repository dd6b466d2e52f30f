"""Verilog-A text -> DeviceIR."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cosim.devices import ir
from cosim.errors import ModelError, ParseError
from cosim.verilog.derivatives import Differentiated, differentiate
from cosim.verilog.elaborate import Elaborated, elaborate
from cosim.verilog.memory import Carried
from cosim.verilog.parameters import ParameterSetup, set_up_parameters
from cosim.verilog.parser import parse
from cosim.verilog.preprocess import preprocess
from cosim.verilog.regions import flatten, hoist, live_items
from cosim.verilog.ssa import Region, Value
from cosim.verilog.tokens import Token, refusal
from cosim.verilog.tree import Module, Source

__all__ = ["compile_tokens", "compile_verilog", "source_digest"]


def compile_verilog(path: Path | str, *, module: str | None = None) -> ir.DeviceIR:
    """Compile one module of the Verilog-A file ``path`` (the only one that no other uses, unless named).

    Raises ParseError for a text that is not Verilog-A and ModelError for what is not supported, both
    with file and line.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "r.va")
    >>> _ = file.write_text('''module r(p, n); inout p, n; electrical p, n;
    ...   parameter real g = 1m from [0:inf);
    ...   analog I(p, n) <+ g*V(p, n);
    ... endmodule''')
    >>> compile_verilog(file).parameter_names
    ('g',)
    """
    path = Path(path)
    return compile_tokens(path, preprocess(path), module=module)


def compile_tokens(path: Path, tokens: list[Token], *, module: str | None = None) -> ir.DeviceIR:
    """As ``compile_verilog``, for a file that is preprocessed."""
    source = parse(tokens)
    chosen = _choose(path, source, module)
    setup = set_up_parameters(chosen, source)
    model = elaborate(chosen, source, setup)
    compiled = replace(
        _assemble(chosen, setup, model),
        source_digest=source_digest(tokens),
        notes=tuple(dict.fromkeys(source.notes)),  # of a statement that is lowered twice, once
    )
    ir.validate(compiled)
    return compiled


def source_digest(tokens: Iterable[Token]) -> str:
    """sha256 of what a preprocessed source says, and of the files beside it that its strings name."""
    digest = hashlib.sha256()
    for token in tokens:
        digest.update(token.text.encode() + b"\0")
        if token.kind == "string":
            beside = Path(token.file).parent / token.text[1:-1]
            if os.path.isfile(beside):  # Path.is_file raises for a long text
                digest.update(beside.read_bytes())
    return digest.hexdigest()


def _choose(path: Path, source: Source, name: str | None) -> Module:
    modules = {module.name: module for module in source.modules}
    if not modules:
        raise ParseError("no module in this file: a model starts with 'module name(ports);'", path=str(path))
    if name is not None:
        if name not in modules:
            raise ModelError(f"{path}: no module {name!r}; it has: {', '.join(modules)}")
        return modules[name]
    used = {instance.module.text for module in source.modules for instance in module.instances}
    tops = [module for module in source.modules if module.name not in used]
    if len(tops) != 1:
        names = ", ".join(module.name for module in tops or source.modules)
        raise ModelError(
            f"{path}: {len(tops)} modules ({names}) that no other uses: put the one of the device into a "
            "file of its own"
        )
    return tops[0]


def _assemble(module: Module, setup: ParameterSetup, model: Elaborated) -> ir.DeviceIR:
    circuit = model.circuit
    carried = model.memory.carried
    outputs = [
        *model.resist.values(),
        *model.react.values(),
        *(v for each in carried for v in (each.initial, each.next)),
    ]
    inputs = circuit.inputs
    varying = [value for value in inputs.values() if model.builder.varies(value)]
    done = differentiate(model.builder.root, circuit.probes, outputs, varying, model.memory.same)
    jacobian = _jacobian(model, done)
    slopes = {each.name: _slopes(model, done, each) for each in carried}
    residuals = [
        (done.values[model.resist[k]], done.values[model.react[k]]) for k in range(len(circuit.nodes))
    ]
    roots = [value for pair in residuals for value in pair]
    roots += [value for entry in jacobian.values() for value in entry]
    roots += [done.values[each.next] for each in carried]
    roots += [value for own in slopes.values() for value in own.values()]
    hoisted = Region()
    evaluate, moved = hoist(done.builder.root, done.builder.varies, hoisted)
    evaluate, needed = live_items(evaluate, roots)
    _refuse_kept(module, inputs, needed)
    initial = [done.values[each.initial] for each in carried]
    cache = sorted(needed & moved, key=lambda value: value.name)
    setup_region = Region([*setup.builder.root.items, *hoisted.items])
    resolved = [setup.resolved[p.name] for p in setup.parameters]
    found = [*cache, *resolved, *initial]
    setup_region, setup_needs = live_items(setup_region, found)
    names = _setup_names(setup, inputs)
    return ir.DeviceIR(
        name=module.name,
        parameters=setup.parameters,
        nodes=tuple(circuit.nodes),
        setup=flatten(setup_region, _setup_inputs(setup, inputs, setup_needs), names, found),
        evaluate=flatten(evaluate, _evaluate_inputs(inputs, cache, needed), {}, roots),
        resolved=tuple(value.name for value in resolved),
        cache=tuple(value.name for value in cache),
        residuals=tuple(ir.Residual(*map(_output, pair)) for pair in residuals),
        jacobian=tuple(
            ir.JacobianEntry(row, column, *map(_output, entry)) for (row, column), entry in jacobian.items()
        ),
        collapsible=tuple(circuit.collapsible),
        source_digest="",
        compiler="cosim",
        kept=tuple(
            ir.Kept(
                name=each.name,
                type=each.value.type,
                initial=names.get(start, start.name),
                next=done.values[each.next].name,
                discrete=each.discrete,
                slopes=tuple((n, value.name) for n, value in slopes[each.name].items()),
            )
            for each, start in zip(carried, initial, strict=True)
        ),
    )


def _output(value: Value) -> str | None:
    return None if value.is_literal(0.0) else value.name


def _jacobian(model: Elaborated, done: Differentiated) -> dict[tuple[int, int], list[Value]]:
    """(row, column) -> static and reactive derivative, where either is not 0 everywhere."""
    emit, zero = done.builder.emit, done.builder.literal(0.0)
    entries: dict[tuple[int, int], list[Value]] = {}
    for kind, outputs in enumerate((model.resist, model.react)):
        for row, output in outputs.items():
            for name, slope in done.slopes[output].items():
                if done.builder.varies(slope):
                    slope = emit("finite", slope)
                for column, sign in model.circuit.probes[name].parts:
                    entry = entries.setdefault((row, column), [zero, zero])
                    entry[kind] = emit("fadd" if sign > 0 else "fsub", entry[kind], slope)
    return {
        place: entry for place, entry in sorted(entries.items()) if not all(v.is_literal(0.0) for v in entry)
    }


def _slopes(model: Elaborated, done: Differentiated, variable: Carried) -> dict[str, Value]:
    """Derivatives of a real variable at the end of an evaluation, by the names of unknowns."""
    emit, found = done.builder.emit, dict[str, Value]()
    if variable.value.type == "real" and not variable.name.startswith("$"):
        for name, slope in done.slopes[variable.next].items():
            for column, sign in model.circuit.probes[name].parts:
                node = model.circuit.nodes[column].name
                before = found.get(node, done.builder.literal(0.0))
                by = emit("finite", slope) if done.builder.varies(slope) else slope
                found[node] = emit("fadd" if sign > 0 else "fsub", before, by)
    return found


def _refuse_kept(module: Module, inputs: Mapping[tuple[str, str], Value], needed: set[Value]) -> None:
    for (kind, name), value in inputs.items():
        if kind == "kept" and value.type == "string" and value in needed:
            raise refusal(
                module.token, f"the text variable {name} is read before it is set: set it on every path"
            )


def _setup_names(setup: ParameterSetup, inputs: Mapping[tuple[str, str], Value]) -> dict[Value, str]:
    """What evaluate calls a parameter is its resolved value in the set-up."""
    names = {}
    for (kind, name), value in inputs.items():
        if kind == "parameter":
            names[value] = setup.resolved[name].name
        elif kind == "given":
            names[value] = setup.given[name].name
    return names


def _setup_inputs(
    setup: ParameterSetup, inputs: Mapping[tuple[str, str], Value], needed: set[Value]
) -> tuple[ir.Input, ...]:
    more = [
        ir.Input(value.name, kind, name, value.type)
        for (kind, name), value in inputs.items()
        if kind in ("temperature", "mfactor") and value in needed
    ]
    return (*setup.inputs, *more)


def _evaluate_inputs(
    inputs: Mapping[tuple[str, str], Value], cache: Iterable[Value], needed: set[Value]
) -> tuple[ir.Input, ...]:
    found = [
        ir.Input(value.name, kind, name, value.type)
        for (kind, name), value in inputs.items()
        if value in needed
    ]
    found += [ir.Input(value.name, "cache", str(k), value.type) for k, value in enumerate(cache)]
    return tuple(found)
