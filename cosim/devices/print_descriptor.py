"""Printer: what an OSDI library says of itself, in the layout of version 0.3 or the longer one of 0.5.

ngspice 42 and 43 read 0.3 alone; VACASK reads 0.5 alone, and needs what is behind the fields of 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from cosim.devices.ir import DeviceIR, Node, Parameter, Type
from cosim.devices.osdi_names import osdi_aliases, osdi_name, osdi_nodes, osdi_parameters
from cosim.devices.print_kept import bound_step
from cosim.text import Emitter, quote_c

__all__ = ["Layout", "print_descriptor"]

Layout: TypeAlias = Literal["0.3", "0.5"]

_PARAMETER_TYPES: dict[Type, str] = {
    "real": "PARA_TY_REAL",
    "integer": "PARA_TY_INT",
    "string": "PARA_TY_STR",
}
_FUNCTIONS = (
    *("setup_model", "setup_instance", "eval", "load_noise", "load_residual_resist", "load_residual_react"),
    *("load_limit_rhs_resist", "load_limit_rhs_react", "load_spice_rhs_dc", "load_spice_rhs_tran"),
    *("load_jacobian_resist", "load_jacobian_react", "load_jacobian_tran"),
)


def print_descriptor(
    ir: DeviceIR, out: Emitter, instance: Sequence[Parameter], model: Sequence[Parameter], layout: Layout
) -> None:
    """The descriptor, behind the functions that it points to.

    instance, model: the parameters of an instance and of a model, numbered from 1 in this order.
    """
    _tables(ir, out, instance, [*instance, *model])
    if layout == "0.5":
        _given(ir, out, instance, [*instance, *model])
        _arrays(ir, out)
        out.line("const uint32_t OSDI_DESCRIPTOR_SIZE = sizeof(OsdiDescriptor);")
    out.line("const uint32_t OSDI_VERSION_MAJOR = 0;")
    out.line(f"const uint32_t OSDI_VERSION_MINOR = {layout[2:]};")
    out.line("const uint32_t OSDI_NUM_DESCRIPTORS = 1;")
    out.line("const uint32_t OSDI_LIM_TABLE_LEN = 0;")
    out.line("OsdiLimFunction OSDI_LIM_TABLE[1];")
    fields = _fields(ir, len(instance) + 1, len(instance) + len(model) + 1)
    if layout == "0.5":
        fields |= _more_fields(ir)
    with out.block("OsdiDescriptor OSDI_DESCRIPTORS[1] = {{", "}};"):
        for name, value in fields.items():
            out.line(f".{name} = {value},")


def _tables(ir: DeviceIR, out: Emitter, instance: Sequence[Parameter], ordered: Sequence[Parameter]) -> None:
    """Nodes, Jacobian entries, pairs that may merge, and parameters."""
    with out.block("static OsdiNode nodes[] = {", "};"):
        for k, node in enumerate(ir.nodes):
            out.line(_node(ir, k, node))
    with out.block("static OsdiJacobianEntry jacobian[] = {", "};"):
        for k, entry in enumerate(ir.jacobian):
            react = entry.react is not None
            flags = "JACOBIAN_ENTRY_RESIST" + (" | JACOBIAN_ENTRY_REACT" if react else "")
            off = f"offsetof(Instance, react_ptr) + {k} * sizeof(double *)" if react else "NONE"
            out.line(f"{{{{{entry.row}, {entry.column}}}, {off}, {flags}}},")
    with out.block("static OsdiNodePair collapsible[] = {", "};"):
        for pair in ir.collapsible:
            out.line(f"{{{pair.first}, {'NONE' if pair.second is None else pair.second}}},")
        if not ir.collapsible:
            out.line("{NONE, NONE},")
    called, aliases = osdi_parameters(ir), osdi_aliases(ir)
    names = [("$mfactor", "m"), *((called[p.name], *aliases[p.name]) for p in ordered)]
    for k, texts in enumerate(names):
        out.line(f"static char *name_{k}[] = {{{', '.join(map(quote_c, texts))}}};")
    with out.block("static OsdiParamOpvar parameters[] = {", "};"):
        out.line('{name_0, 1, "Multiplier", "", PARA_TY_REAL | PARA_KIND_INST, 0},')
        for k, parameter in enumerate(ordered, start=1):
            kind = " | PARA_KIND_INST" if parameter in instance else ""
            texts = f"{quote_c(parameter.description)}, {quote_c(parameter.units)}"
            count = len(aliases[parameter.name])
            out.line(f"{{name_{k}, {count}, {texts}, {_PARAMETER_TYPES[parameter.type]}{kind}, 0}},")


def _node(ir: DeviceIR, k: int, node: Node) -> str:
    resist = f"offsetof(Instance, resist) + {k} * sizeof(double)"
    charged = ir.residuals[k].react is not None
    react = f"offsetof(Instance, react) + {k} * sizeof(double)" if charged else "NONE"
    flow = node.kind == "flow"
    units = ('"A"', '"V"') if flow else ('"V"', '"A"')
    texts = f"{quote_c(osdi_nodes(ir)[node.name])}, {units[0]}, {units[1]}"
    return f"{{{texts}, {resist}, {react}, NONE, NONE, {str(flow).lower()}}},"


def _fields(ir: DeviceIR, instance: int, parameters: int) -> dict[str, str | int]:
    return {
        "name": quote_c(osdi_name(ir.name)),
        "num_nodes": len(ir.nodes),
        "num_terminals": len(ir.terminals),
        "nodes": "nodes",
        "num_jacobian_entries": len(ir.jacobian),
        "jacobian_entries": "jacobian",
        "num_collapsible": len(ir.collapsible),
        "collapsible": "collapsible",
        "collapsed_offset": "offsetof(Instance, collapsed)",
        "num_params": parameters,
        "num_instance_params": instance,
        "param_opvar": "parameters",
        "node_mapping_offset": "offsetof(Instance, node)",
        "jacobian_ptr_resist_offset": "offsetof(Instance, resist_ptr)",
        "state_idx_off": "NONE",
        "bound_step_offset": bound_step(ir),
        "instance_size": "sizeof(Instance)",
        "model_size": "sizeof(Model)",
        "access": "model_access",
        **{name: name for name in _FUNCTIONS},
    }


# --- what 0.5 adds ----------------------------------------------------------------------------------


def _given(ir: DeviceIR, out: Emitter, instance: Sequence[Parameter], ordered: Sequence[Parameter]) -> None:
    """Whether a parameter was given, asked where a simulator prints an instance or a model."""
    called = osdi_parameters(ir)
    for owner, kind in (("instance", "Instance"), ("model", "Model")):
        with out.block(f"static uint32_t given_flag_{owner}(void *data, uint32_t id) {{", "}"):
            out.line(f"{kind} *owner = data; (void)owner;")
            with out.block("switch (id) {", "}"):
                out.line("case 0: return owner->mfactor_given;")
                for k, parameter in enumerate(ordered, start=1):
                    if owner == "model" or parameter in instance:
                        out.line(f"case {k}: return owner->given_{called[parameter.name]};")
                out.line("default: return 0;")


def _arrays(ir: DeviceIR, out: Emitter) -> None:
    """The Jacobian as arrays of its own."""
    for kind in ("resist", "react"):
        entries = [k for k, entry in enumerate(ir.jacobian) if kind == "resist" or entry.react is not None]
        head = f"static void write_jacobian_array_{kind}(void *inst, void *model, double *destination) {{"
        with out.block(head, "}"):
            out.line("Instance *self = inst; (void)self; (void)model; (void)destination;")
            for place, k in enumerate(entries):
                out.line(f"destination[{place}] = self->jacobian_{kind}[{k}];")


def _more_fields(ir: DeviceIR) -> dict[str, str | int]:
    uses_time = any(source.kind == "abstime" for source in ir.evaluate.inputs)
    return {
        "given_flag_model": "given_flag_model",
        "given_flag_instance": "given_flag_instance",
        "num_resistive_jacobian_entries": len(ir.jacobian),
        "num_reactive_jacobian_entries": sum(entry.react is not None for entry in ir.jacobian),
        "write_jacobian_array_resist": "write_jacobian_array_resist",
        "write_jacobian_array_react": "write_jacobian_array_react",
        "module_flags": int(uses_time),
    }
