"""A slow scalar interpreter of DeviceIR: the oracle of both printers, and the constant folder.

Arithmetic is that of C with IEEE 754 doubles: a division by zero is an infinity or NaN, never an
exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosim.devices.ir import BESIDE, Branch, DeviceIR, Function, Input, Jump, Scalar, Type, node_pair
from cosim.devices.simulator import SIMULATOR_PARAMETERS, TEMPERATURE
from cosim.errors import ModelError, SpecError

__all__ = ["SCALAR", "ZEROS", "Conditions", "Evaluation", "Setup", "evaluate", "run_setup"]

# what a parameter that is not given is until its default is known
ZEROS: dict[Type, Scalar] = {"real": 0.0, "integer": 0, "boolean": False, "string": ""}
_LOOP_LIMIT = 1_000_000  # steps; a model that needs more does not end


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a simulator tells a model: time (s), temperature (K), analyses, integration, multiplier.

    starting: time stands still. kept: variables carried from the last accepted point; the others are at
    their initial value.
    """

    abstime: float = 0.0
    temperature: float = TEMPERATURE
    analyses: frozenset[str] = frozenset({"dc", "static"})
    integrating: bool = False
    starting: bool = True
    kept: Mapping[str, Scalar] = field(default_factory=dict)
    mfactor: float = 1.0
    simparams: Mapping[str, float] = field(default_factory=lambda: SIMULATOR_PARAMETERS)


def _wrap(value: int) -> int:
    return (int(value) + 2**31) % 2**32 - 2**31


def _idiv(a: int, b: int) -> int:
    if b == 0:
        raise ModelError("integer division by zero in the model")
    quotient = abs(a) // abs(b)
    return _wrap(quotient if (a < 0) == (b < 0) else -quotient)


def _round(value: float) -> int:
    if not abs(value) < 2**31:
        raise ModelError(f"{value} does not fit an integer of the model")
    whole = math.trunc(value)
    return _wrap(whole + (int(math.copysign(1, value)) if abs(value - whole) >= 0.5 else 0))


def _ieee(function: Callable[..., float]) -> Callable[..., float]:
    """A numpy function on doubles, silent where C is silent."""

    def call(*operands: float) -> float:
        with np.errstate(all="ignore"):
            return float(function(*(np.float64(v) for v in operands)))

    return call


def _shift(a: int, count: int) -> int:
    return _wrap(a << count) if 0 <= count < 32 else 0


def _shift_right(a: int, count: int) -> int:
    return _wrap((a % 2**32) >> count) if 0 <= count < 32 else 0


def _equal(a: Scalar, b: Scalar) -> bool:
    return a == b


def _different(a: Scalar, b: Scalar) -> bool:
    return a != b


def _pow_slope(x: float, y: float, value: float) -> Scalar:
    if x != 0.0:
        return SCALAR["fdiv"](SCALAR["fmul"](y, value), x)
    return 0.0 if y > 1.0 else 1.0 if y == 1.0 else y / BESIDE


def _uniform(*key: int) -> float:
    """Stafford's mix of splitmix64, once for each word of the key; the upper 52 bits as a number."""
    state = 0
    for word in key:
        state = ((state ^ (word % 2**32)) + 0x9E3779B97F4A7C15) % 2**64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        state ^= state >> 31
    return ((state >> 12) + 0.5) * 2.0**-52


SCALAR: dict[str, Callable[..., Scalar]] = {
    "uniform": _uniform,
    "fadd": _ieee(np.add),
    "fsub": _ieee(np.subtract),
    "fmul": _ieee(np.multiply),
    "fdiv": _ieee(np.divide),
    "frem": _ieee(np.fmod),
    "pow": _ieee(np.power),
    "hypot": _ieee(np.hypot),
    "atan2": _ieee(np.arctan2),
    "fneg": lambda a: -a,
    "ln": _ieee(np.log),
    "ln_positive": lambda a: math.log(a) if a > 0.0 else 0.0,
    "nonzero": lambda a, b: b if a == 0.0 else a,
    "pow_slope": _pow_slope,
    "finite": lambda a: a if math.isfinite(a) else 0.0,
    "log": _ieee(np.log10),
    **{name: _ieee(getattr(np, name)) for name in ("sqrt", "exp", "floor", "ceil", "sin", "cos", "tan")},
    **{name: _ieee(getattr(np, name)) for name in ("sinh", "cosh", "tanh")},
    **{
        f"a{name}": _ieee(getattr(np, f"arc{name}")) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
    },
    "iadd": lambda a, b: _wrap(a + b),
    "isub": lambda a, b: _wrap(a - b),
    "imul": lambda a, b: _wrap(a * b),
    "idiv": _idiv,
    "irem": lambda a, b: _wrap(a - b * _idiv(a, b)),
    "ishl": _shift,
    "ishr": _shift_right,
    "iand": lambda a, b: a & b,
    "ior": lambda a, b: a | b,
    "ixor": lambda a, b: a ^ b,
    "ineg": lambda a: _wrap(-a),
    "inot": lambda a: ~a,
    "clog2": lambda a: (a - 1).bit_length() if a > 1 else 0,
    "bnot": lambda a: not a,
    **{f"{p}lt": lambda a, b: a < b for p in "fi"},
    **{f"{p}gt": lambda a, b: a > b for p in "fi"},
    **{f"{p}le": lambda a, b: a <= b for p in "fi"},
    **{f"{p}ge": lambda a, b: a >= b for p in "fi"},
    **{f"{p}eq": _equal for p in "fibs"},
    **{f"{p}ne": _different for p in "fibs"},
    "ifcast": float,
    "bfcast": float,
    "ficast": _round,
    "bicast": int,
    "ibcast": bool,
    "fbcast": bool,
}


@dataclass(frozen=True)
class Setup:
    """What ``setup`` found: values, merged pairs, parameters outside their range, why it gave up."""

    parameters: Mapping[str, Scalar]
    cache: tuple[Scalar, ...]
    initial: Mapping[str, Scalar]  # of the kept variables
    collapsed: frozenset[int]
    out_of_range: tuple[str, ...]
    fatal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Residuals (nodes,) and Jacobians (nodes, nodes), resistive and reactive; and what is kept from here."""

    resist: np.ndarray
    react: np.ndarray
    jacobian_resist: np.ndarray
    jacobian_react: np.ndarray
    kept: Mapping[str, Scalar] = field(default_factory=dict)


def _run(
    function: Function,
    inputs: Mapping[str, Scalar],
    conditions: Conditions,
    effects: list[tuple[str, Scalar]],
) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {c.value: c.literal for c in function.constants}
    values |= inputs
    blocks = {block.name: block for block in function.blocks}
    previous, block = "", function.blocks[0]
    for _ in range(_LOOP_LIMIT):
        taken = {phi.result: values[dict(phi.incoming)[previous]] for phi in block.phis}
        values |= taken
        for code in block.code:
            operands = [values[v] for v in code.operands]
            if code.result is None:
                effects.append((code.opcode, operands[0]))
            elif code.opcode == "analysis":
                values[code.result] = int(operands[0] in conditions.analyses)
            elif code.opcode == "simparam":
                values[code.result] = float(conditions.simparams.get(str(operands[0]), operands[1]))  # type: ignore[arg-type]  # the default is a real
            else:
                values[code.result] = SCALAR[code.opcode](*operands)
        if isinstance(block.end, Branch):
            target = block.end.true if values[block.end.condition] else block.end.false
        elif isinstance(block.end, Jump):
            target = block.end.target
        else:
            return values
        previous, block = block.name, blocks[target]
    raise ModelError(f"a loop of the model did not end within {_LOOP_LIMIT} steps")


def _environment(conditions: Conditions) -> dict[str, Scalar]:
    return {
        "temperature": conditions.temperature,
        "abstime": conditions.abstime,
        "mfactor": conditions.mfactor,
        "integrating": conditions.integrating,
        "starting": conditions.starting,
    }


def run_setup(ir: DeviceIR, given: Mapping[str, Scalar], conditions: Conditions | None = None) -> Setup:
    """Apply defaults and check ranges; parameters that are not ``given`` get the model's defaults."""
    conditions = conditions or Conditions()
    for name in given:
        ir.parameter(name)
    environment = _environment(conditions)

    def value(source: Input) -> Scalar:
        if source.kind == "parameter":
            return given.get(source.name, ZEROS[source.type])
        if source.kind == "given":
            return source.name in given
        return environment[source.kind]

    effects: list[tuple[str, Scalar]] = []
    values = _run(ir.setup, {i.value: value(i) for i in ir.setup.inputs}, conditions, effects)
    return Setup(
        parameters={name: values[v] for name, v in zip(ir.parameter_names, ir.resolved, strict=True)},
        # one of a branch that was not taken is not used either
        cache=tuple(values.get(v, 0.0) for v in ir.cache),
        initial={kept.name: values.get(kept.initial, 0) for kept in ir.kept},
        collapsed=frozenset(int(v) for kind, v in effects if kind == "collapse"),
        out_of_range=tuple(dict.fromkeys(str(v) for kind, v in effects if kind == "out_of_range")),
        fatal=tuple(str(v) for kind, v in effects if kind == "fatal"),
    )


def evaluate(
    ir: DeviceIR,
    setup: Setup,
    unknowns: Sequence[float],
    given: Mapping[str, Scalar],
    conditions: Conditions | None = None,
) -> Evaluation:
    """Residuals and Jacobians at ``unknowns``, one number per node of ``ir`` (V or A)."""
    conditions = conditions or Conditions()
    if len(unknowns) != len(ir.nodes):
        raise SpecError(f"{len(unknowns)} unknowns for the {len(ir.nodes)} nodes of {ir.name}")
    solved = {node.name: float(u) for node, u in zip(ir.nodes, unknowns, strict=True)}
    environment = _environment(conditions)

    def value(source: Input) -> Scalar:
        if source.kind == "voltage":
            first, second = node_pair(source.name)
            return solved[first] - (solved[second] if second else 0.0)
        if source.kind == "unknown":
            return solved[source.name]
        if source.kind == "parameter":
            return setup.parameters[source.name]
        if source.kind == "given":
            return source.name in given
        if source.kind == "cache":
            return setup.cache[int(source.name)]
        if source.kind == "kept":
            return {**setup.initial, **conditions.kept}[source.name]
        return environment[source.kind]

    effects: list[tuple[str, Scalar]] = []
    values = _run(ir.evaluate, {i.value: value(i) for i in ir.evaluate.inputs}, conditions, effects)
    size = len(ir.nodes)
    kept = {each.name: values[each.next] for each in ir.kept}
    result = Evaluation(np.zeros(size), np.zeros(size), np.zeros((size, size)), np.zeros((size, size)), kept)
    for row, residual in enumerate(ir.residuals):
        result.resist[row] = 0.0 if residual.resist is None else values[residual.resist]
        result.react[row] = 0.0 if residual.react is None else values[residual.react]
    for entry in ir.jacobian:
        result.jacobian_resist[entry.row, entry.column] += (
            0.0 if entry.resist is None else values[entry.resist]
        )  # type: ignore[operator]  # real by validate()
        result.jacobian_react[entry.row, entry.column] += 0.0 if entry.react is None else values[entry.react]  # type: ignore[operator]  # real by validate()
    if any(opcode == "fatal" for opcode, _ in effects):
        result.resist[:] = np.nan
    return result
