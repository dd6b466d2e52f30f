"""DeviceIR: a compiled Verilog-A module as frozen SSA, with one table of opcode meanings.

A module has two functions. ``setup`` turns parameters into checked values, merged nodes and cached
numbers; ``evaluate`` turns node voltages into residuals and their exact derivatives. Residuals are
currents that flow out of the node into the device; ``resist`` parts are static, ``react`` parts are
charges whose time derivative is added to the same row.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from cosim.errors import ModelError, ParseError

__all__ = [
    "BESIDE",
    "BOUND_STEP",
    "FUNCTIONS",
    "OPCODES",
    "RANDOM_INSTANCE",
    "RETAKE",
    "SYMBOLS",
    "Block",
    "Branch",
    "Collapse",
    "Constant",
    "DeviceIR",
    "Function",
    "Input",
    "Instruction",
    "JacobianEntry",
    "Jump",
    "Kept",
    "Node",
    "Opcode",
    "Parameter",
    "Phi",
    "Residual",
    "Return",
    "Scalar",
    "Type",
    "dump",
    "load",
    "node_pair",
    "outputs",
    "validate",
]

Type: TypeAlias = Literal["real", "integer", "boolean", "string"]
Scalar: TypeAlias = float | int | bool | str


@dataclass(frozen=True)
class Opcode:
    """Operand types, result type (None: an effect) and meaning of one opcode."""

    operands: tuple[Type, ...]
    result: Type | None
    meaning: str


# opcodes that C and Python write alike
FUNCTIONS: tuple[str, ...] = (
    *("sqrt", "exp", "floor", "ceil", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
)
_COMPARISONS = {"lt": "<", "gt": ">", "le": "<=", "ge": ">=", "eq": "==", "ne": "!="}
SYMBOLS: dict[str, str] = {
    **{"fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/", "iadd": "+", "isub": "-", "imul": "*"},
    **{"iand": "&", "ior": "|", "ixor": "^", "beq": "==", "bne": "!="},
    **{f"{kind}{name}": symbol for kind in "fi" for name, symbol in _COMPARISONS.items()},
}


# how far beside a point where a derivative is infinite the finite one is taken: the root of the rounding
BESIDE = 2.0**-26


def _table() -> dict[str, Opcode]:
    table: dict[str, Opcode] = {}

    def add(names: str, operands: tuple[Type, ...], result: Type | None, meaning: str) -> None:
        for name in names.split():
            table[name] = Opcode(operands, result, meaning)

    real: tuple[Type, ...] = ("real",)
    integer: tuple[Type, ...] = ("integer",)
    boolean: tuple[Type, ...] = ("boolean",)
    string: tuple[Type, ...] = ("string",)
    add("fadd fsub fmul fdiv", real * 2, "real", "IEEE 754 double; x/0 is an infinity or NaN")
    add("uniform", integer * 4, "real", "a draw in (0, 1): a hash of seed, instance, call and time point")
    add("frem", real * 2, "real", "C fmod: the remainder keeps the sign of the dividend")
    add("pow", real * 2, "real", "C pow: pow(0, 0) = 1, pow(negative, fraction) = NaN")
    add("hypot atan2", real * 2, "real", "C function of the same name")
    add("fneg", real, "real", "negation")
    add(" ".join(FUNCTIONS), real, "real", "C function of the same name")
    add("ln", real, "real", "natural logarithm")
    add("ln_positive", real, "real", "ln above 0, else 0: the derivative of a power by its exponent")
    add("nonzero", real * 2, "real", "the first operand; the second where the first is 0")
    add("pow_slope", real * 3, "real", "derivative of pow(x, y) by x, given x, y and pow(x, y): finite at 0")
    add("finite", real, "real", "the operand; 0 where it is an infinity or NaN")
    add("log", real, "real", "logarithm to base 10")
    add("iadd isub imul", integer * 2, "integer", "32-bit two's complement, wraps")
    add("idiv irem", integer * 2, "integer", "truncates towards zero; the remainder has the dividend's sign")
    add("ishl ishr", integer * 2, "integer", "shift; right shift is logical; 0 for counts outside 0..31")
    add("iand ior ixor", integer * 2, "integer", "bitwise")
    add("ineg inot", integer, "integer", "negation; bitwise complement")
    add("clog2", integer, "integer", "bits needed for the value: ceil(log2(n)), 0 for n < 2")
    add("bnot", boolean, "boolean", "logical not")
    for prefix, kind in (("f", real), ("i", integer)):
        add(
            " ".join(prefix + c for c in ("lt", "gt", "le", "ge")),
            kind * 2,
            "boolean",
            "comparison; NaN: false",
        )
    for prefix, kind in (("f", real), ("i", integer), ("b", boolean), ("s", string)):
        add(f"{prefix}eq {prefix}ne", kind * 2, "boolean", "equality")
    add("ifcast", integer, "real", "exact")
    add("bfcast", boolean, "real", "0.0 or 1.0")
    add("ficast", real, "integer", "rounds to nearest, halves away from zero (C lround)")
    add("bicast", boolean, "integer", "0 or 1")
    add("ibcast", integer, "boolean", "true unless 0")
    add("fbcast", real, "boolean", "true unless 0.0")
    add("simparam", ("string", "real"), "real", "simulator parameter by name, or the default")
    add("analysis", string, "integer", "1 while the named analysis runs, else 0")
    add("collapse", integer, None, "merge the pair of nodes with this index of DeviceIR.collapsible")
    add("fatal", string, None, "the model gives up, for the reason in this text")
    add("out_of_range", string, None, "the named parameter is outside its range")
    return table


OPCODES: dict[str, Opcode] = _table()


@dataclass(frozen=True)
class Input:
    """A value from outside. kind: parameter, given, voltage, current, unknown, temperature,
    abstime, mfactor, integrating, starting (time stands still: static analyses, and the first point of a
    transient), kept (by name in DeviceIR.kept), cache (a value of setup, by position in DeviceIR.cache)."""

    value: str
    kind: str
    name: str
    type: Type


@dataclass(frozen=True)
class Constant:
    value: str
    type: Type
    literal: Scalar


@dataclass(frozen=True)
class Instruction:
    result: str | None
    opcode: str
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Phi:
    """The value that belongs to the block from which control came."""

    result: str
    type: Type
    incoming: tuple[tuple[str, str], ...]  # (block, value)


@dataclass(frozen=True)
class Jump:
    target: str


@dataclass(frozen=True)
class Branch:
    condition: str
    true: str
    false: str


@dataclass(frozen=True)
class Return:
    pass


@dataclass(frozen=True)
class Block:
    name: str
    phis: tuple[Phi, ...]
    code: tuple[Instruction, ...]
    end: Jump | Branch | Return

    def successors(self) -> tuple[str, ...]:
        if isinstance(self.end, Jump):
            return (self.end.target,)
        return (self.end.true, self.end.false) if isinstance(self.end, Branch) else ()


@dataclass(frozen=True)
class Function:
    """SSA in blocks; ``blocks[0]`` is the entry, every other follows one of its predecessors."""

    inputs: tuple[Input, ...]
    constants: tuple[Constant, ...]
    blocks: tuple[Block, ...]

    def block(self, name: str) -> Block:
        return next(block for block in self.blocks if block.name == name)

    def types(self) -> dict[str, Type]:
        """Type of every value that the function defines."""
        types: dict[str, Type] = {i.value: i.type for i in self.inputs}
        types |= {c.value: c.type for c in self.constants}
        for block in self.blocks:
            types |= {phi.result: phi.type for phi in block.phis}
            for code in block.code:
                result = OPCODES[code.opcode].result
                if code.result is not None and result is not None:
                    types[code.result] = result
        return types


@dataclass(frozen=True)
class Parameter:
    """A parameter. ``instance``: the user declared it settable per instance."""

    name: str
    type: Type
    instance: bool
    units: str = ""
    description: str = ""
    range: str = ""
    default: Scalar | None = None  # the literal default; None where it depends on other parameters
    aliases: tuple[str, ...] = ()  # further names by which a netlist may set it
    array: str = ""  # the array that this is an element of, rows first


@dataclass(frozen=True)
class Node:
    """An unknown: kind "voltage" (a node), "flow" (a branch current) or "implicit"."""

    name: str
    terminal: bool
    kind: str


@dataclass(frozen=True)
class Residual:
    resist: str | None
    react: str | None


@dataclass(frozen=True)
class JacobianEntry:
    row: int
    column: int
    resist: str | None
    react: str | None


@dataclass(frozen=True)
class Collapse:
    """A pair of nodes that setup may merge; ``second`` None is ground."""

    first: int
    second: int | None


# kept variables by which a model limits the steps of a transient, where it does:
BOUND_STEP = "$bound_step"  # s, the longest that the next step may be
RETAKE = "$retake"  # s, the length that this step should have had, to end on an event that lies within it

# the parameter of a model that draws random numbers which tells its instances apart
RANDOM_INSTANCE = "random_instance"


@dataclass(frozen=True)
class Kept:
    """A variable that is carried from the last accepted time point of a transient.

    initial: a value of ``setup``, what it is wherever time stands still. next: a value of ``evaluate``, what
    it is at the end of an evaluation, and from then on if that time point is accepted. discrete: a
    switch, which voltages set to one of the values that parameters give. slopes: derivatives of ``next`` by
    unknowns, (name, value of ``evaluate``).
    """

    name: str
    type: Type  # real or integer
    initial: str
    next: str
    discrete: bool = False
    slopes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DeviceIR:
    """One compiled Verilog-A module."""

    name: str
    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]  # terminals first
    setup: Function
    evaluate: Function
    resolved: tuple[str, ...]  # per parameter: the value of setup with the default applied
    cache: tuple[str, ...]  # values of setup that evaluate takes as inputs of kind "cache"
    residuals: tuple[Residual, ...]  # one per node
    jacobian: tuple[JacobianEntry, ...]
    collapsible: tuple[Collapse, ...]
    source_digest: str  # of what the source says; "" for a model that was not read from a file
    compiler: str
    notes: tuple[str, ...] = ()  # what was forgiven or left out of the source, with file and line
    kept: tuple[Kept, ...] = ()

    @property
    def terminals(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if node.terminal)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    def parameter(self, name: str) -> Parameter:
        for parameter in self.parameters:
            if name == parameter.name or name in parameter.aliases:
                return parameter
        known = ", ".join(self.parameter_names)
        raise ModelError(f"model {self.name} has no parameter {name!r}; it has: {known}")

    def named(self, name: str) -> DeviceIR:
        """The same module under another name."""
        return replace(self, name=name)

    @property
    def digest(self) -> str:
        """sha256 of all but the notes, which say where the file lies; equal for equal models."""
        return hashlib.sha256(dump(replace(self, notes=())).encode()).hexdigest()


def node_pair(name: str) -> tuple[str, str | None]:
    """The nodes of a voltage input: ``V(a,b)`` -> ("a", "b"); ``V(a)`` -> ("a", None)."""
    first, _, second = name[2:-1].partition(",")
    return first.strip(), second.strip() or None


def outputs(ir: DeviceIR) -> Iterator[str]:
    """Values of ``evaluate`` that leave it: residuals first, then Jacobian entries."""
    for entry in (*ir.residuals, *ir.jacobian):
        for value in (entry.resist, entry.react):
            if value is not None:
                yield value


def _encode(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def dump(ir: DeviceIR) -> str:
    """``ir`` as JSON text, the same bytes for the same model."""

    def end(block: Block) -> dict[str, Any]:
        return {type(block.end).__name__.lower(): asdict(block.end)}

    data = asdict(ir)
    data["parameters"] = [
        {key: item for key, item in p.items() if item or key not in ("aliases", "array")}
        for p in data["parameters"]
    ]
    for name in ("setup", "evaluate"):
        function: Function = getattr(ir, name)
        for block, plain in zip(function.blocks, data[name]["blocks"], strict=True):
            plain["end"] = end(block)
    if not ir.kept:
        del data["kept"]  # few models have one
    rows = (f" {json.dumps(key)}: {json.dumps(_encode(item))}" for key, item in data.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def load(text: str, *, path: str | None = None) -> DeviceIR:
    """The DeviceIR that ``dump`` wrote; ParseError if it is anything else."""
    try:
        data = json.loads(text, object_hook=lambda d: float(d["float"]) if set(d) == {"float"} else d)
        ir = DeviceIR(
            name=data["name"],
            parameters=tuple(
                Parameter(**p | {"aliases": tuple(p.get("aliases", ()))}) for p in data["parameters"]
            ),
            nodes=tuple(Node(**n) for n in data["nodes"]),
            setup=_load_function(data["setup"]),
            evaluate=_load_function(data["evaluate"]),
            resolved=tuple(data["resolved"]),
            cache=tuple(data["cache"]),
            residuals=tuple(Residual(**r) for r in data["residuals"]),
            jacobian=tuple(JacobianEntry(**j) for j in data["jacobian"]),
            collapsible=tuple(Collapse(**c) for c in data["collapsible"]),
            source_digest=data["source_digest"],
            compiler=data["compiler"],
            notes=tuple(data["notes"]),
            kept=tuple(
                Kept(**k | {"slopes": tuple((n, v) for n, v in k["slopes"])}) for k in data.get("kept", ())
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParseError(f"not a compiled device model: {error!r}", path=path) from error
    validate(ir)
    return ir


def _load_function(data: dict[str, Any]) -> Function:
    ends = {"jump": Jump, "branch": Branch, "return": Return}

    def block(plain: dict[str, Any]) -> Block:
        ((kind, fields),) = plain["end"].items()
        return Block(
            name=plain["name"],
            phis=tuple(
                Phi(p["result"], p["type"], tuple((b, v) for b, v in p["incoming"])) for p in plain["phis"]
            ),
            code=tuple(Instruction(c["result"], c["opcode"], tuple(c["operands"])) for c in plain["code"]),
            end=ends[kind](**fields),
        )

    return Function(
        inputs=tuple(Input(**i) for i in data["inputs"]),
        constants=tuple(Constant(**c) for c in data["constants"]),
        blocks=tuple(block(b) for b in data["blocks"]),
    )


def validate(ir: DeviceIR) -> None:
    """Raise ModelError unless every opcode, type, block and value of ``ir`` is known and defined."""
    for label, function in (("setup", ir.setup), ("evaluate", ir.evaluate)):
        _validate_function(f"{ir.name}.{label}", function)
    known = ir.setup.types()
    for value in (*ir.cache, *ir.resolved):
        if value not in known:
            raise ModelError(f"{ir.name}: value {value} is not defined by setup")
    _validate_kept(ir)
    known = ir.evaluate.types()
    for value in outputs(ir):
        if known.get(value) != "real":
            raise ModelError(f"{ir.name}: output {value} is not a real value of evaluate")
    if len(ir.residuals) != len(ir.nodes):
        raise ModelError(f"{ir.name}: {len(ir.residuals)} residuals for {len(ir.nodes)} nodes")


def _validate_kept(ir: DeviceIR) -> None:
    names = {kept.name for kept in ir.kept}
    for source in ir.evaluate.inputs:
        if source.kind == "kept" and source.name not in names:
            raise ModelError(f"{ir.name}: {source.name} is read, but nothing keeps it")
    before, after = ir.setup.types(), ir.evaluate.types()
    for kept in ir.kept:
        for types, value, where in ((before, kept.initial, "setup"), (after, kept.next, "evaluate")):
            if types.get(value) != kept.type or kept.type not in ("real", "integer"):
                raise ModelError(f"{ir.name}: {value}, kept as {kept.name}, is no {kept.type} of {where}")


def _validate_function(label: str, function: Function) -> None:
    for block in function.blocks:
        for code in block.code:
            if code.opcode not in OPCODES:
                raise ModelError(f"{label}: unknown opcode {code.opcode!r}")
    types = function.types()
    names = {block.name for block in function.blocks}

    def check(value: str, expected: str) -> None:
        if types.get(value) != expected:
            raise ModelError(f"{label}: value {value} is {types.get(value)}, expected {expected}")

    for block in function.blocks:
        for phi in block.phis:
            for source, value in phi.incoming:
                check(value, phi.type)
                if source not in names:
                    raise ModelError(f"{label}: phi {phi.result} names unknown block {source}")
        for code in block.code:
            opcode = OPCODES[code.opcode]
            if len(code.operands) != len(opcode.operands):
                raise ModelError(f"{label}: {code.opcode} takes {len(opcode.operands)} operands: {code}")
            for value, expected in zip(code.operands, opcode.operands, strict=True):
                check(value, expected)
        if isinstance(block.end, Branch):
            check(block.end.condition, "boolean")
        for target in block.successors():
            if target not in names:
                raise ModelError(f"{label}: jump to unknown block {target}")
