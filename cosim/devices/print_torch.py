"""Printer: DeviceIR -> a batched, differentiable torch function, on any device and dtype.

Parameters with one value are folded into the code; parameters that vary from cell to cell stay
arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from cosim.devices.ir import FUNCTIONS, SYMBOLS, DeviceIR, Scalar
from cosim.devices.osdi_names import osdi_parameters
from cosim.devices.passes import Known, Operand, Straight, live
from cosim.devices.simulator import TEMPERATURE
from cosim.devices.torch_functions import NAMES
from cosim.devices.trace import ZERO, Trace, gives_up, out_of_range
from cosim.errors import SpecError
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
    initial: the operating point is that before a transient, which ``analysis("ic")`` asks for.

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
        initial: bool = False,
    ) -> None:
        self.ir = ir
        self._analyses = ({"dc", "static"} if static else {"tran"}) | ({"ic", "tran"} if initial else set())
        self._called = osdi_parameters(ir)
        self.varying = tuple(name for name in ir.parameter_names if name in varying)
        self._fixed = {name: _typed(ir, name, value) for name, value in fixed.items()}
        self._static = static
        self._temperature = temperature
        for name in (*varying, *fixed):
            check_identifier(self._called[ir.parameter(name).name], "parameter")
        at: dict[int, Operand] = {k: ZERO for k, node in enumerate(ir.nodes) if node.name in grounded}
        trace = self._trace(at)
        held = {k: self._held(trace, at, k) for k in trace.internal() if trace.holds(k)}
        known = {k: place for k, place in held.items() if place is not None}
        if known:
            trace = self._trace(at | known)
        self.nodes = tuple(ir.nodes[k].name for k in trace.kept)
        self._known = {ir.nodes[k].name: place for k, place in known.items()}
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

    def moves_on(self, name: str) -> bool:
        """The kept variable ``name`` counts, and voltages move it on from what it is."""
        return name in self.kept and self._shape.moves_on([k.name for k in self.ir.kept].index(name))

    def adds_up(self, name: str) -> bool:
        """The kept variable is more than one of several values that it is set to."""
        return self._shape.adds_up([k.name for k in self.ir.kept].index(name))

    def reads(self, name: str) -> bool:
        """The varying parameter ``name`` counts in a residual, a charge or a slope."""
        outputs = self._shape.outputs
        used = {v for line in live(self._shape.tracer.code, outputs) for v in line.operands}
        return f"p_{self._called[name]}" in used | set(outputs)

    def removed(self, parameters: Mapping[str, torch.Tensor], like: torch.Tensor) -> dict[str, torch.Tensor]:
        """Where the internal nodes are that were removed, because their own equation says it."""
        values = self._start(like, *(parameters[name] for name in self.varying))
        return {
            n: torch.as_tensor(x).to(like).expand(like.shape)
            for n, x in zip(self._known, values, strict=True)
        }

    @functools.cached_property
    def _start(self) -> Callable[..., Any]:
        return _compile(self._shape.tracer.code, ["like", *self.arguments], list(self._known.values()))[0]

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

    def _trace(self, at: Mapping[int, Operand]) -> Trace:
        return Trace(
            self.ir,
            self._fixed,
            self.varying,
            at,
            static=self._static,
            temperature=self._temperature,
            analyses=self._analyses,
        )

    def _held(self, trace: Trace, at: Mapping[int, Operand], node: int) -> Operand | None:
        """What ``node``, which its own equation holds, is: 0, or a parameter."""
        place = trace.place(node)
        return ZERO if place is None and self._trace({**at, node: ZERO}).quiet(node) else place


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
