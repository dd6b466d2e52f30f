"""Printer: DeviceIR -> a batched, differentiable torch function, on any device and dtype.

Parameters with one value are folded into the code; parameters that vary from cell to cell stay
arguments. Nodes that setup merges are merged, and an internal node whose own equation holds it at 0
(a state in read mode) is removed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from cosim.devices.interp import ZEROS
from cosim.devices.ir import BOUND_STEP, FUNCTIONS, RETAKE, SYMBOLS, DeviceIR, Input, Scalar, node_pair
from cosim.devices.osdi_names import osdi_parameters
from cosim.devices.passes import Known, Operand, Straight, Tracer, live
from cosim.devices.simulator import SIMULATOR_PARAMETERS, TEMPERATURE
from cosim.devices.torch_functions import NAMES
from cosim.errors import ModelError, SpecError
from cosim.text import Emitter, check_identifier

__all__ = ["EXPRESSIONS", "Terms", "TorchModel"]

Value: TypeAlias = torch.Tensor | float

EXPRESSIONS: dict[str, str] = {
    **{name: f"{name if name in NAMES else f'torch.{name}'}({{0}})" for name in FUNCTIONS},
    **{name: f"({{0}} {sign} {{1}})" for name, sign in SYMBOLS.items()},
    "band": "({0} & {1})",
    "ln": "log({0})",
    "log": "log10({0})",
    "ln_positive": "ln_positive({0})",
    "nonzero": "torch.where({0} == 0, tensor({1}), tensor({0}))",
    "uniform": "uniform(integer({0}), integer({1}), integer({2}), integer({3})).to(like.dtype)",
    "pow_slope": "pow_slope({0}, {1}, {2})",
    "finite": "torch.nan_to_num({0}, nan=0.0, posinf=0.0, neginf=0.0)",
    "frem": "torch.fmod(tensor({0}), {1})",
    "pow": "power({0}, {1})",
    "hypot": "hypot(tensor({0}), tensor({1}))",
    "atan2": "atan2(tensor({0}), tensor({1}))",
    "fneg": "(-{0})",
    "ineg": "(-{0})",
    "inot": "(~{0})",
    "bnot": "(~{0})",
    "idiv": "torch.div(integer({0}), integer({1}), rounding_mode='trunc')",
    "irem": "torch.fmod(integer({0}), integer({1}))",
    "ishl": "shift_left(integer({0}), integer({1}))",
    "ishr": "shift_right(integer({0}), integer({1}))",
    "clog2": "clog2({0})",
    "ifcast": "{0}.to(like.dtype)",
    "bfcast": "{0}.to(like.dtype)",
    "ficast": "nearest({0})",
    "bicast": "{0}.to(torch.int32)",
    "ibcast": "({0} != 0)",
    "fbcast": "({0} != 0)",
    "select": "torch.where({0}, tensor({1}), tensor({2}))",
}


@dataclass(frozen=True)
class Terms:
    """Residuals per remaining node, and Jacobian entries by (row, column); a float where constant."""

    resist: Sequence[Value]
    react: Sequence[Value]
    jacobian_resist: Mapping[tuple[int, int], Value]
    jacobian_react: Mapping[tuple[int, int], Value]


class TorchModel:
    """``ir`` as a torch function with some parameters fixed.

    fixed: parameters with one value each; absent ones take the model's default.
    varying: names of parameters given at each call as tensors.
    static: True for operating points (time 0, integrals at their initial value); False for transients.
    grounded: names of terminals that are held at 0 V, so that no code is spent on them.

    Raises ModelError for a parameter outside its range or a merge of nodes that varies per cell.
    """

    def __init__(
        self,
        ir: DeviceIR,
        fixed: Mapping[str, Scalar],
        varying: Collection[str] = (),
        *,
        static: bool = True,
        grounded: Collection[str] = (),
        temperature: float = TEMPERATURE,
    ) -> None:
        self.ir = ir
        self._called = osdi_parameters(ir)
        self.varying = tuple(name for name in ir.parameter_names if name in varying)
        self._fixed = {name: _typed(ir, name, value) for name, value in fixed.items()}
        self._static = static
        self._temperature = temperature
        for name in (*varying, *fixed):
            check_identifier(self._called[ir.parameter(name).name], "parameter")
        zero = {k for k, node in enumerate(ir.nodes) if node.name in grounded}
        trace = self._trace(zero)
        held = {k for k in trace.internal() if trace.holds_at_zero(k) and self._trace(zero | {k}).quiet(k)}
        if held:
            trace = self._trace(zero | held)
        self.nodes = tuple(ir.nodes[k].name for k in trace.kept)
        self._range_checks = [name for name, _ in trace.range_checks]
        self._refusals = [message for message, _ in trace.refusals]
        self.arguments = tuple(f"p_{self._called[name]}" for name in self.varying)
        self.unknowns = tuple(f"u{k}" for k in trace.kept)
        code = trace.tracer.code
        checks = [check for _, check in (*trace.range_checks, *trace.refusals)]
        self._check, _ = _compile(code, ["like", *self.arguments], checks)
        self._shape = trace
        self._carried = range(len(ir.kept)) if static else trace.carried()
        self.kept = tuple(ir.kept[k].name for k in self._carried)
        self.discrete = tuple(ir.kept[k].discrete for k in self._carried)
        self._evaluate, self.source = _compile(code, self._inputs, trace.outputs)

    @property
    def _inputs(self) -> list[str]:
        kept = () if self._static else (f"k{k}" for k in self._carried)
        return ["like", *self.unknowns, *self.arguments, *kept, "abstime"]

    @property
    def internal(self) -> tuple[str, ...]:
        """Remaining nodes that are not terminals; a static solve has to find their voltages."""
        return tuple(name for name in self.nodes if name not in self.ir.terminals)

    def __call__(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> Terms:
        """Residuals and Jacobian at ``unknowns``, one tensor per name in ``nodes``; abstime in s.

        parameters: those that vary and, of a transient, the variables in ``kept``.
        """
        values = self._evaluate(*self._values(unknowns, parameters, abstime))
        count = len(self.nodes)
        entries = self._shape.entries
        resist = dict(zip(entries, values[2 * count : 2 * count + len(entries)], strict=True))
        react = dict(zip(entries, values[2 * count + len(entries) :], strict=True))
        return Terms(values[:count], values[count : 2 * count], resist, react)

    def carry(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> list[torch.Tensor]:
        """What the variables in ``kept`` are behind an accepted point; arguments as of a call."""
        like = unknowns[0]
        return [
            torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(like.shape)
            for value in self._carry(*self._values(unknowns, parameters, abstime))
        ]

    def initial(self, parameters: Mapping[str, torch.Tensor], like: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the variables in ``kept`` are before the first accepted point."""
        start = [self._shape.initial[name] for name in self.kept]
        function, _ = _compile(self._shape.tracer.code, ["like", *self.arguments], start)
        values = function(like, *(parameters[name] for name in self.varying))
        return {
            name: torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(like.shape)
            for name, value in zip(self.kept, values, strict=True)
        }

    @functools.cached_property
    def _carry(self) -> Callable[..., Any]:
        return _compile(self._shape.tracer.code, self._inputs, self.carried)[0]

    @property
    def memory(self) -> list[tuple[str, str]]:
        """The variables in ``kept`` as the code calls them, with their C types."""
        return [
            (f"k{k}", "int32_t" if self.ir.kept[k].type == "integer" else "double") for k in self._carried
        ]

    @property
    def carried(self) -> list[Operand]:
        """The values of ``carry`` in the code."""
        return [self._shape.next[k] for k in self._carried]

    def _values(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value
    ) -> list[torch.Tensor]:
        """The arguments of compiled functions."""
        if len(unknowns) != len(self.nodes):
            raise SpecError(f"{len(unknowns)} unknowns for the nodes {self.nodes} of {self.ir.name}")
        like = unknowns[0]
        kept = []
        if not self._static:
            kept = [
                (parameters[name], self.ir.kept[k].type)
                for name, k in zip(self.kept, self._carried, strict=True)
            ]
        return [
            like,
            *unknowns,
            *(parameters[name] for name in self.varying),
            *(value.to(torch.int32) if type_ == "integer" else value for value, type_ in kept),
            torch.as_tensor(abstime, dtype=like.dtype, device=like.device),
        ]

    def straight(self) -> tuple[list[Straight], tuple[Operand, Operand]]:
        """The code, and in it the static residual of the first node and its slope by that node's voltage."""
        shape = self._shape
        slopes = dict(zip(shape.entries, shape.jacobian["resist"], strict=True))
        return shape.tracer.code, (shape.resist[0], slopes.get((0, 0), Known(0.0)))

    def equations(
        self,
    ) -> tuple[list[Straight], list[Operand], list[Operand], dict[tuple[int, int], tuple[Operand, Operand]]]:
        """The code, and in it residuals, charges and per Jacobian entry (static, reactive)."""
        shape = self._shape
        pairs = zip(shape.jacobian["resist"], shape.jacobian["react"], strict=True)
        return shape.tracer.code, shape.resist, shape.react, dict(zip(shape.entries, pairs, strict=True))

    def reader(self, names: Sequence[str]) -> Callable[[Mapping[str, torch.Tensor]], list[torch.Tensor]]:
        """Varying parameters -> values of ``straight`` that depend on nothing else."""
        function, _ = _compile(self._shape.tracer.code, ["like", *self.arguments], names)

        def read(parameters: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
            given = [parameters[name] for name in self.varying]
            return function(given[0], *given) if names else []

        return read

    def reads(self, name: str) -> bool:
        """The varying parameter ``name`` counts in a residual, a charge or a slope."""
        outputs = self._shape.outputs
        used = {v for line in live(self._shape.tracer.code, outputs) for v in line.operands}
        return f"p_{self._called[name]}" in used | set(outputs)

    def check(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raise SpecError if a varying parameter is outside its range, or not for this model, in any cell."""
        if not self._range_checks and not self._refusals:
            return
        values = [parameters[name] for name in self.varying]
        found = [bool(bad.any()) for bad in self._check(values[0], *values)]
        for name, bad in zip(self._range_checks, found, strict=False):
            if bad:
                raise out_of_range(self.ir, name, parameters.get(name))
        for message, bad in zip(self._refusals, found[len(self._range_checks) :], strict=True):
            if bad:
                raise gives_up(self.ir, message)

    @property
    def is_linear(self) -> bool:
        """The current is proportional to the voltage, at every value of the varying parameters."""
        return not self.internal and self._shape.is_linear(self._trace)

    def _trace(self, zero: set[int]) -> _Trace:
        return _Trace(self.ir, self._fixed, self.varying, zero, self._static, self._temperature)


def gives_up(ir: DeviceIR, message: str) -> SpecError:
    """The error for a model that ends the run because of its parameters."""
    return SpecError(f"{ir.name} does not run with these parameters: {message}")


def out_of_range(ir: DeviceIR, name: str, value: Any) -> SpecError:
    """The error for a parameter outside its range; ``value`` may be a tensor."""
    if isinstance(value, torch.Tensor):
        low, high = float(value.detach().min()), float(value.detach().max())
        value = low if low == high else f"between {low} and {high}"
    wanted = ir.parameter(name).range
    return SpecError(
        f"parameter {name} of {ir.name} is {value}: the model allows {wanted or 'another range'}"
    )


def _typed(ir: DeviceIR, name: str, value: Scalar) -> Scalar:
    parameter = ir.parameter(name)
    if parameter.type == "string" or isinstance(value, str):
        if parameter.type != "string" or not isinstance(value, str):
            raise SpecError(f"parameter {name} of {ir.name} is {value!r}: it must be a {parameter.type}")
        return value
    if parameter.type == "integer":
        if float(value) != int(value):
            raise SpecError(f"parameter {name} of {ir.name} is {value}: it must be an integer")
        return int(value)
    return float(value)


class _Trace:
    """Setup and evaluate of a model as one piece of straight-line code."""

    def __init__(
        self,
        ir: DeviceIR,
        fixed: Mapping[str, Scalar],
        varying: Sequence[str],
        zero: set[int],
        static: bool,
        temperature: float,
    ) -> None:
        self.ir = ir
        self.tracer = tracer = Tracer(positive=() if static else ("abstime",))
        self._fixed, self._static, self._temperature = fixed, static, temperature
        called = osdi_parameters(ir)
        self._symbols = {
            name: tracer.declare(f"p_{called[name]}", ir.parameter(name).type) for name in varying
        }
        if not static:
            tracer.declare("abstime", "real")
        setup = tracer.trace(ir.setup, self.setup_input, self.call)
        self.parameters = {n: setup[v] for n, v in zip(ir.parameter_names, ir.resolved, strict=True)}
        self.cache = [setup.get(v, Known(0.0)) for v in ir.cache]  # 0: set by a branch not taken
        self.range_checks: list[tuple[str, Operand]] = []
        self.refusals: list[tuple[str, Operand]] = []  # why the model gives up, and when
        self.merge, self.kept = self.merged(zero)
        for k in self.kept:
            tracer.declare(f"u{k}", "real")
        tracer.effects.clear()
        self.initial = {kept.name: setup.get(kept.initial, Known(0)) for kept in ir.kept}
        self._values = tracer.trace(ir.evaluate, self.eval_input, self.call)
        self.next = [self._values[kept.next] for kept in ir.kept]
        self.resist, self.react, self.entries, self.jacobian = self.collect(self._values)

    def setup_input(self, source: Input) -> Operand:
        if source.kind == "parameter":
            if source.name in self._symbols:
                return self._symbols[source.name]
            return Known(self._fixed.get(source.name, ZEROS[source.type]))
        if source.kind == "given":
            return Known(source.name in self._fixed or source.name in self._symbols)
        return {"temperature": Known(self._temperature), "mfactor": Known(1.0)}[source.kind]

    def call(self, opcode: str, operands: tuple[Operand, ...]) -> Operand:
        name = operands[0]
        assert isinstance(name, Known)
        if opcode == "simparam":
            known = SIMULATOR_PARAMETERS.get(str(name.literal))
            return operands[1] if known is None else Known(known)
        running = {"dc", "static"} if self._static else {"tran"}
        return Known(int(name.literal in running))

    def merged(self, zero: set[int]) -> tuple[dict[int, int | None], list[int]]:
        """Node -> the node that stands for it (None: 0 V), after the effects of setup."""
        ir = self.ir
        stand: dict[int, int | None] = {k: None if k in zero else k for k in range(len(ir.nodes))}
        pairs = []
        for effect in self.tracer.effects:
            if effect.opcode == "fatal" and isinstance(effect.when, Known):
                raise gives_up(self.ir, str(effect.argument))
            if effect.opcode == "fatal":
                self.refusals.append((str(effect.argument), effect.when))
            elif effect.opcode == "out_of_range":
                name = str(effect.argument)
                if isinstance(effect.when, Known):
                    raise out_of_range(ir, name, self._fixed.get(name))
                self.range_checks.append((name, effect.when))
            elif isinstance(effect.when, Known):
                pairs.append(ir.collapsible[int(effect.argument)])
            else:
                raise ModelError(
                    f"a parameter that varies from cell to cell decides whether nodes of {ir.name} merge: "
                    "give it one value"
                )
        for pair in pairs:
            a, b = stand[pair.first], None if pair.second is None else stand[pair.second]
            if a == b:
                continue
            ends = sorted(x for x in (a, b) if x is not None)
            keep = None if None in (a, b) else ends[0]
            drop = ends[-1]
            if drop < len(ir.terminals):
                raise ModelError(f"model {ir.name} merges two terminals: it is a short circuit")
            stand = {k: keep if v == drop else v for k, v in stand.items()}
        return stand, sorted({v for v in stand.values() if v is not None})

    def unknown(self, index: int) -> Operand:
        stands = self.merge[index]
        return Known(0.0) if stands is None else f"u{stands}"

    def eval_input(self, source: Input) -> Operand:
        index = {node.name: k for k, node in enumerate(self.ir.nodes)}
        if source.kind == "voltage":
            first, second = node_pair(source.name)
            a = self.unknown(index[first])
            return a if second is None else self.tracer.emit("fsub", a, self.unknown(index[second]))
        if source.kind == "unknown":
            return self.unknown(index[source.name])
        if source.kind == "parameter":
            return self.parameters[source.name]
        if source.kind == "given":
            return Known(source.name in self._fixed or source.name in self._symbols)
        if source.kind == "cache":
            return self.cache[int(source.name)]
        if source.kind == "kept":
            if self._static:
                return self.initial[source.name]
            number = [kept.name for kept in self.ir.kept].index(source.name)
            return self.tracer.declare(f"k{number}", source.type)
        if source.kind == "abstime":
            return Known(0.0) if self._static else "abstime"
        return {
            "temperature": Known(self._temperature),
            "mfactor": Known(1.0),
            "integrating": Known(not self._static),
            "starting": Known(self._static),
        }[source.kind]

    def collect(self, values: Mapping[str, Operand]) -> tuple[Any, Any, list[tuple[int, int]], Any]:
        """Add up rows and columns of merged nodes."""
        tracer, place = self.tracer, {k: n for n, k in enumerate(self.kept)}
        rows: dict[str, list[Operand]] = {kind: [Known(0.0)] * len(self.kept) for kind in ("resist", "react")}
        cells: dict[str, dict[tuple[int, int], Operand]] = {"resist": {}, "react": {}}
        for kind in ("resist", "react"):
            for k, residual in enumerate(self.ir.residuals):
                row, value = self.merge[k], getattr(residual, kind)
                if row is not None and value is not None:
                    at = place[row]
                    rows[kind][at] = tracer.emit("fadd", rows[kind][at], values[value])
            for entry in self.ir.jacobian:
                row, column = self.merge[entry.row], self.merge[entry.column]
                value = getattr(entry, kind)
                if row is not None and column is not None and value is not None:
                    at = (place[row], place[column])
                    cells[kind][at] = tracer.emit("fadd", cells[kind].get(at, Known(0.0)), values[value])
        for effect in tracer.effects:  # the model gives up in the middle of a solve: there is no solution
            lost = tracer.emit("select", effect.when, Known(math.nan), Known(0.0))
            rows["resist"] = [tracer.emit("fadd", value, lost) for value in rows["resist"]]
        entries = sorted(set(cells["resist"]) | set(cells["react"]))
        jacobian = {kind: [cells[kind].get(at, Known(0.0)) for at in entries] for kind in cells}
        return rows["resist"], rows["react"], entries, jacobian

    def carried(self) -> list[int]:
        """Kept variables that count in an output, or in another one that does, or that limit the steps."""
        found = [k for k, kept in enumerate(self.ir.kept) if kept.name in (BOUND_STEP, RETAKE)]
        while True:
            outputs = [*self.outputs, *(self.next[k] for k in found)]
            reads = {v for line in live(self.tracer.code, outputs) for v in line.operands} | set(outputs)
            more = [k for k in range(len(self.next)) if f"k{k}" in reads and k not in found]
            if not more:
                return sorted(found)
            found += more

    def internal(self) -> list[int]:
        return [k for k in self.kept if not self.ir.nodes[k].terminal]

    def holds_at_zero(self, node: int) -> bool:
        """The row of ``node`` has a constant diagonal entry and no other."""
        at = self.kept.index(node)
        row = {
            column: value
            for (r, column), value in zip(self.entries, self.jacobian["resist"], strict=True)
            if r == at and value != Known(0.0) and value != Known(-0.0)
        }
        return self._static and set(row) == {at} and isinstance(row[at], Known)

    def quiet(self, node: int) -> bool:
        """``node`` is held at 0 here, and its own residual is 0 whatever the others are."""
        name = self.ir.residuals[node].resist
        value = Known(0.0) if name is None else self._values[name]
        return isinstance(value, Known) and float(value.literal) == 0.0

    def is_linear(self, retrace: Callable[[set[int]], _Trace]) -> bool:
        """No Jacobian entry depends on an unknown, and every residual is 0 at 0 V."""
        unknowns = {f"u{k}" for k in self.kept}
        used = live(self.tracer.code, self.jacobian["resist"])
        reads = {v for line in used for v in line.operands} | set(self.jacobian["resist"])
        at_zero = retrace(set(range(len(self.ir.nodes))))
        residuals = [at_zero._values[r.resist] for r in self.ir.residuals if r.resist is not None]
        return not (reads & unknowns) and all(
            isinstance(r, Known) and float(r.literal) == 0.0 for r in residuals
        )

    @property
    def outputs(self) -> list[Operand]:
        return [*self.resist, *self.react, *self.jacobian["resist"], *self.jacobian["react"]]


def _compile(
    code: Sequence[Straight], arguments: Sequence[str], outputs: Sequence[Operand]
) -> tuple[Callable[..., Any], str]:
    out = Emitter("    ")
    with out.block(f"def model({', '.join(arguments)}):"):
        with out.block("def tensor(value):"):
            out.line("return value if isinstance(value, torch.Tensor) else like.new_tensor(value)")
        with out.block("def integer(value):"):
            out.line("return torch.as_tensor(value, dtype=torch.int32, device=like.device)")
        for line in live(code, outputs):
            out.line(f"{line.result} = {_expression(line)}")
        out.line(f"return [{', '.join(_text(v) for v in outputs)}]")
    source = out.text()
    names = dict(NAMES)
    # our own text: names are value numbers and checked parameter names, numbers are reprs
    exec(compile(source, "<cosim torch model>", "exec"), names)
    return names["model"], source


def _expression(line: Straight) -> str:
    if line.opcode == "fdiv" and isinstance(line.operands[1], str):
        return "divide({}, {})".format(*(_text(v) for v in line.operands))
    return EXPRESSIONS[line.opcode].format(*(_text(v) for v in line.operands))


def _text(operand: Operand) -> str:
    return operand if isinstance(operand, str) else repr(operand.literal)
