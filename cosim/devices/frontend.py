"""The front end: a Verilog-A file -> DeviceIR, through openvaf-py.

This is the only module that imports openvaf-py. Whatever it does not understand it refuses: a model
that compiles means what its text says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networkx as nx

from cosim.devices import ir
from cosim.devices.derivatives import with_jacobian
from cosim.devices.diagnostics import compile_checked
from cosim.devices.grounds import without_grounds
from cosim.devices.ir import Constant, DeviceIR, Function, Input, Instruction
from cosim.devices.mir import Flow, constants_of, value_name
from cosim.devices.source import PreparedSource, prepare
from cosim.errors import ModelError, ToolNotFound

__all__ = ["compile_file", "compile_source"]

_DROPPED_CALLS = ("Print", "CollapseHint")
_NOISE_CALLS = ("WhiteNoise", "FlickerNoise", "NoiseTable")
_GROUND = 4294967295
_NODE_KINDS: dict[str, str] = {"KirchoffLaw": "voltage", "BranchCurrent": "flow", "Implicit": "implicit"}
_TYPES: dict[int, ir.Type] = {0: "real", 1: "integer", 2: "string"}


def compile_file(path: str | Path, *, module: str | None = None) -> DeviceIR:
    """Compile one module of the Verilog-A file ``path`` (its only one, unless named).

    Raises ModelError for a text that is not understood, with file and line.
    """
    return compile_source(prepare(Path(path)), module=module)


def compile_source(source: PreparedSource, *, module: str | None = None) -> DeviceIR:
    """As ``compile_file``, for a text that went through the source pre-pass."""
    try:
        import openvaf_py
    except ImportError as error:
        raise ToolNotFound(
            "openvaf-py is not installed, so a .va file cannot be compiled (bundled models work without "
            "it): cosim doctor says how to get it"
        ) from error
    modules = compile_checked(source, openvaf_py.compile_va)
    names = [m.name for m in modules]
    if module is None and len(modules) != 1:
        raise ModelError(
            f"{source.path}: {len(modules)} modules ({', '.join(names)}): put the one of the device into a "
            "file of its own"
        )
    if module is not None and module not in names:
        raise ModelError(f"{source.path}: no module {module!r}; it has: {', '.join(names)}")
    chosen = modules[0] if module is None else modules[names.index(module)]
    compiled = _Lowering(chosen, source).run()
    compiled = with_jacobian(without_grounds(compiled, source.grounds[compiled.name]))
    ir.validate(compiled)
    return compiled


class _Lowering:
    """One openvaf module on its way to a DeviceIR."""

    def __init__(self, module: Any, source: PreparedSource) -> None:
        self.module = module
        self.source = source
        self.dae = module.get_dae_system()
        self.descriptor = module.get_osdi_descriptor()
        self.types: dict[str, ir.Type] = {
            p["name"]: _TYPES[p["flags"] & 3] for p in self.descriptor["params"]
        }

    def run(self) -> DeviceIR:
        self.refuse_unsupported()
        setup, resolved, cache = self.setup()
        types = setup.types()
        flow, evaluate = self.evaluate([types[value] for value in cache])
        return DeviceIR(
            name=self.module.name,
            parameters=self.parameters(),
            nodes=self.nodes(),
            setup=setup,
            evaluate=evaluate,
            resolved=resolved,
            cache=cache,
            residuals=self.residuals(flow),
            jacobian=(),  # OpenVAF's own is wrong for hypot, atan2 and %, and NaN where a slope is infinite
            collapsible=tuple(
                ir.Collapse(p["node1_idx"], None if p["node2_idx"] == _GROUND else p["node2_idx"])
                for p in self.dae["collapsible_pairs"]
            ),
            source_digest=self.source.digest,
            compiler=f"openvaf-py {version('openvaf-py')}",
        )

    def fail(self, what: str, remedy: str) -> ModelError:
        return ModelError(f"{self.source.path}: module {self.module.name}: {what}; {remedy}")

    def refuse_unsupported(self) -> None:
        if self.module.has_bound_step:
            raise self.fail("$bound_step", "remove it and give the analysis a maximum step")
        for name, type_ in self.types.items():
            if type_ == "string":
                raise self.fail(f"parameter {name} is a string", "use an integer parameter with named codes")
        rows = {j["row_node_idx"] for j in self.dae["jacobian"]}
        for index, node in enumerate(self.dae["nodes"]):
            grounded = node["name"] in self.source.grounds[self.module.name]
            if node["is_internal"] and index not in rows and not grounded:
                raise self.fail(
                    f"internal node {node['name']} has no equation", "contribute to it or remove it"
                )

    def parameters(self) -> tuple[ir.Parameter, ...]:
        declared = {p.name: p for p in self.source.parameters if p.module == self.module.name}
        defaults = {k.lower(): v for k, v in self.module.get_param_defaults().items()}
        found = []
        for p in self.descriptor["params"]:
            name = p["name"]
            default = defaults.get(name.lower())
            if default is not None and self.types[name] == "integer":
                default = int(default)
            found.append(
                ir.Parameter(
                    name=name,
                    type=self.types[name],
                    instance=declared[name].is_instance,
                    units=p["units"],
                    description=p["description"],
                    range=declared[name].ranges.removeprefix("from "),
                    default=default,
                )
            )
        return tuple(found)

    def nodes(self) -> tuple[ir.Node, ...]:
        terminals = len(self.dae["terminals"])
        return tuple(
            ir.Node(n["name"], index < terminals, _NODE_KINDS[n["kind"]])
            for index, n in enumerate(self.dae["nodes"])
        )

    # --- evaluate ---------------------------------------------------------------------------------

    def evaluate(self, cache_types: list[ir.Type]) -> tuple[Flow, Function]:
        mir = self.module.get_mir_instructions()
        names = list(zip(self.module.param_names, self.module.param_kinds, strict=True))
        values = mir["params"]
        inputs, constants = [], dict(constants_of(mir, self.module.get_str_constants()))
        for value, (name, kind) in zip(values, names, strict=False):
            if kind == "enable_lim":
                constants[value] = Constant(value, "boolean", False)
            elif kind in ("hidden_state", "prev_state", "new_state"):
                inputs.append(Input(value, kind, name, "real"))
            else:
                inputs.append(self.input(value, name, kind))
        for position, index in enumerate(i for _, i in self.module.get_cache_mapping()):
            inputs.append(Input(values[index], "cache", str(position), cache_types[position]))
        roots = [value_name(e[k]) for e in self.dae["residuals"] for k in ("resist_var", "react_var")]
        flow = Flow(mir, inputs, constants, self.eval_call)
        function = flow.function(roots)
        self.refuse_undefined(function)
        for unused in function.inputs:
            if unused.kind in ("hidden_state", "prev_state", "new_state"):
                raise self.fail(
                    f"variable {unused.name} is read before it is assigned, so it would have to be carried "
                    "between evaluations",
                    "assign it on every path, or make it a state on an internal node",
                )
        return flow, function

    def refuse_undefined(self, function: Function) -> None:
        known = function.types()
        for block in function.blocks:
            uses = [
                *(v for c in block.code for v in c.operands),
                *(v for p in block.phis for _, v in p.incoming),
            ]
            for value in uses:
                if value not in known:
                    raise self.fail(
                        f"openvaf-py does not export the meaning of value {value}",
                        "openvaf-py 0.1.5 does this to a case whose items use voltages: write if and else",
                    )

    def input(self, value: str, name: str, kind: str) -> Input:
        simple: dict[str, tuple[str, ir.Type]] = {
            "param_given": ("given", "boolean"),
            "voltage": ("voltage", "real"),
            "current": ("current", "real"),
            "temperature": ("temperature", "real"),
            "abstime": ("abstime", "real"),
            "enable_integration": ("integrating", "boolean"),
        }
        if kind == "param":
            return Input(value, "parameter", name, self.types[name])
        if kind == "sysfun" and name == "mfactor":
            return Input(value, "mfactor", name, "real")
        if kind == "implicit_unknown":
            return Input(value, "unknown", f"implicit_equation_{name.removeprefix('inode')}", "real")
        if kind == "current":
            return Input(value, "unknown", f"flow({name[2:-1]})", "real")
        if kind in simple:
            return Input(value, simple[kind][0], name, simple[kind][1])
        raise self.fail(f"{name} ({kind}) is not supported", "remove it from the model")

    def eval_call(self, code: Mapping[str, Any], declared: Mapping[str, Any]) -> Instruction | str | None:
        """An instruction for a call; or the value that it is equal to; or None to drop it."""
        name = declared[code["func_ref"]]["name"]
        operands = tuple(code["operands"])
        if name.startswith(_DROPPED_CALLS):
            return None
        if name.startswith(("BuiltinLimit", "StoreLimit", "LimDiscontinuity")):
            return operands[0] if operands else None  # $limit only helps convergence
        if name == "SimParamOpt":
            return Instruction(code["result"], "simparam", operands)
        if name == "Analysis":
            return Instruction(code["result"], "analysis", operands)
        if name.startswith(_NOISE_CALLS):
            return "v3"  # noise sources contribute nothing to the large-signal equations
        raise self.fail(f"call {name} is not supported", "remove it from the model")

    def residuals(self, flow: Flow) -> tuple[ir.Residual, ...]:
        entry = flow.entry
        return tuple(
            ir.Residual(entry(r["resist_var"]), entry(r["react_var"])) for r in self.dae["residuals"]
        )

    # --- setup ------------------------------------------------------------------------------------

    def setup(self) -> tuple[Function, tuple[str, ...], tuple[str, ...]]:
        mir = self.module.get_init_mir_instructions()
        names = zip(mir["params"], self.module.init_param_names, self.module.init_param_kinds, strict=True)
        inputs = [self.input(value, name, kind) for value, name, kind in names]
        cache = [f"v{value}" for value, _ in self.module.get_cache_mapping()]
        resolved = {name: self.resolved(mir, name, inputs) for name in self.types}
        effects = self.setup_effects(mir, inputs)
        flow = Flow(mir, inputs, dict(constants_of(mir, {})), effects.call)
        flow.constants |= effects.constants
        function = flow.function([*cache, *resolved.values()])
        self.refuse_undefined(function)
        final = tuple(flow.resolve(resolved[name]) for name in self.types)
        return function, final, tuple(flow.resolve(value) for value in cache)

    def resolved(self, mir: Mapping[str, Any], name: str, inputs: Iterable[Input]) -> str:
        """The phi that joins the given value of a parameter with its default."""
        raw = next(i.value for i in inputs if i.kind == "parameter" and i.name == name)
        for code in mir["instructions"]:
            if code["opcode"] == "phi" and any(p["value"] == raw for p in code["phi_operands"]):
                return code["result"]
        raise self.fail(f"the default of parameter {name} was not found", "give it a literal default")

    def setup_effects(self, mir: Mapping[str, Any], inputs: Iterable[Input]) -> _SetupEffects:
        hints = [c for c in self.module.callback_names if c.startswith("CollapseHint")]
        return _SetupEffects(self, mir, inputs, hints)


class _SetupEffects:
    """Names the calls of the init function, whose declarations openvaf-py does not export.

    A call inside the region of one ``param_given`` branch reports that parameter as out of range;
    the others are the collapse hints, in the order of the callback list.
    """

    def __init__(
        self, owner: _Lowering, mir: Mapping[str, Any], inputs: Iterable[Input], hints: list[str]
    ) -> None:
        self.constants: dict[str, Constant] = {}
        self._owner = owner
        given = {i.value: i.name for i in inputs if i.kind == "given"}
        graph = nx.DiGraph()
        for name, edges in mir["blocks"].items():
            graph.add_edges_from((name, successor) for successor in edges["successors"])
        entry = mir["instructions"][0]["block"]
        graph.add_node(entry)
        dominator = nx.immediate_dominators(graph, entry)
        self._region: dict[str, str] = {}
        for code in mir["instructions"]:
            if code["opcode"] == "br" and code["condition"] in given:
                for target in (code["true_block"], code["false_block"]):
                    if len(mir["blocks"][target]["predecessors"]) == 1:
                        self._region[target] = given[code["condition"]]
        self._dominator = dominator
        calls = [c for c in mir["instructions"] if c["opcode"] == "call"]
        refs = {c["func_ref"] for c in calls if self._parameter(c["block"]) is None and not c.get("operands")}
        order = sorted(refs, key=lambda ref: int(ref.removeprefix("inst")))
        if len(order) != len(hints):
            raise owner.fail(
                f"{len(order)} calls in the set-up for {len(hints)} node merges cannot be told apart",
                "remove $finish, $stop and $fatal, and merge nodes only under conditions of parameters",
            )
        pairs = owner.dae["collapsible_pairs"]
        self._pair = {ref: self._pair_index(hint, pairs) for ref, hint in zip(order, hints, strict=True)}

    def _pair_index(self, hint: str, pairs: list[dict[str, Any]]) -> int:
        numbers = [int(n) for n in re.findall(r"node(\d+)", hint)]
        wanted = (numbers[0], numbers[1] if len(numbers) == 2 else _GROUND)
        for pair in pairs:
            if (pair["node1_idx"], pair["node2_idx"]) == wanted:
                return pair["pair_idx"]
        raise self._owner.fail(
            f"{hint} names no known pair of nodes", "simplify the V(a,b) <+ 0 contribution"
        )

    def _parameter(self, block: str) -> str | None:
        while block not in self._region:
            parent = self._dominator.get(block)
            if parent is None or parent == block:
                return None
            block = parent
        return self._region[block]

    def call(self, code: Mapping[str, Any], declared: Mapping[str, Any]) -> Instruction | str | None:
        parameter = self._parameter(code["block"])
        if parameter is not None and not code.get("operands"):
            value = f"name_{parameter}"
            self.constants[value] = Constant(value, "string", parameter)
            return Instruction(None, "out_of_range", (value,))
        if not code.get("operands"):
            index = self._pair[code["func_ref"]]
            value = f"pair_{index}"
            self.constants[value] = Constant(value, "integer", index)
            return Instruction(None, "collapse", (value,))
        if code.get("result") is None:
            return None  # a message of the model at set-up
        raise self._owner.fail(
            "$simparam or analysis() on parameters alone is not supported",
            "use a parameter instead, or use it together with a voltage",
        )
