"""A model as straight-line code: set-up and evaluation in one, with what is known folded into it.

Nodes that setup merges are merged, and an internal node whose own equation says where it is (a state while
it is read) is removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from cosim.devices.interp import ZEROS
from cosim.devices.ir import BOUND_STEP, RETAKE, DeviceIR, Input, Scalar, node_pair
from cosim.devices.osdi_names import osdi_parameters
from cosim.devices.passes import Known, Operand, Tracer, live
from cosim.devices.simulator import SIMULATOR_PARAMETERS
from cosim.errors import ModelError, SpecError

__all__ = ["ZERO", "Trace", "gives_up", "out_of_range"]

ZERO = Known(0.0)


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


class Trace:
    """Setup and evaluate of a model as one piece of straight-line code."""

    def __init__(
        self,
        ir: DeviceIR,
        fixed: Mapping[str, Scalar],
        varying: Sequence[str],
        at: Mapping[int, Operand],
        *,
        static: bool,
        temperature: float,
        analyses: Collection[str],
    ) -> None:
        self.ir, self._at, self._analyses = ir, at, analyses
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
        self.merge, self.kept = self.merged()
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
        return Known(int(name.literal in self._analyses))

    def merged(self) -> tuple[dict[int, int | None], list[int]]:
        """Node -> the node that stands for it (None: 0 V), after the effects of setup."""
        ir = self.ir
        stand: dict[int, int | None] = {k: None if k in self._at else k for k in range(len(ir.nodes))}
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
        if index in self._at:
            return self._at[index]
        stands = self.merge[index]
        return ZERO if stands is None else f"u{stands}"

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

    def moves_on(self, number: int) -> bool:
        """The kept variable grows from itself, in the end by a voltage."""

        def reads(value: Operand) -> set[Operand]:
            return {v for line in live(self.tracer.code, [value]) for v in line.operands} | {value}

        own, every = reads(self.next[number]), set[int]()
        if f"k{number}" not in own:
            return False
        found = own
        while more := {k for k in range(len(self.next)) if f"k{k}" in found} - every:
            every |= more
            found = found.union(*(reads(self.next[k]) for k in more))
        return any(f"u{k}" in found for k in self.kept)

    def adds_up(self, number: int) -> bool:
        """The kept variable is computed from what it was, and not only left or set."""
        code = live(self.tracer.code, [self.next[number]])
        return any(line.opcode != "select" and f"k{number}" in line.operands for line in code)

    def internal(self) -> list[int]:
        return [k for k in self.kept if not self.ir.nodes[k].terminal]

    def holds(self, node: int) -> bool:
        """The row of ``node`` has a constant diagonal entry and no other."""
        at = self.kept.index(node)
        row = {
            column: value
            for (r, column), value in zip(self.entries, self.jacobian["resist"], strict=True)
            if r == at and value != Known(0.0) and value != Known(-0.0)
        }
        return self._static and set(row) == {at} and isinstance(row[at], Known)

    def place(self, node: int) -> Operand | None:
        """The number or parameter that ``node`` is held at; None where its equation is written otherwise."""
        line = self.tracer.line(self.resist[self.kept.index(node)])
        merges = {end for pair in self.ir.collapsible for end in (pair.first, pair.second)}
        if line is None or line.opcode != "fsub" or line.operands[0] != f"u{node}" or node in merges:
            return None
        place = line.operands[1]
        return place if isinstance(place, Known) or place in self._symbols.values() else None

    def quiet(self, node: int) -> bool:
        """``node`` is held at 0 here, and its own residual is 0 whatever the others are."""
        name = self.ir.residuals[node].resist
        value = Known(0.0) if name is None else self._values[name]
        return isinstance(value, Known) and float(value.literal) == 0.0

    def is_linear(self, retrace: Callable[[Mapping[int, Operand]], Trace]) -> bool:
        """No Jacobian entry depends on an unknown, and every residual is 0 at 0 V."""
        unknowns = {f"u{k}" for k in self.kept}
        used = live(self.tracer.code, self.jacobian["resist"])
        reads = {v for line in used for v in line.operands} | set(self.jacobian["resist"])
        at_zero = retrace(dict.fromkeys(range(len(self.ir.nodes)), ZERO))
        residuals = [at_zero._values[r.resist] for r in self.ir.residuals if r.resist is not None]
        return not (reads & unknowns) and all(
            isinstance(r, Known) and float(r.literal) == 0.0 for r in residuals
        )

    @property
    def outputs(self) -> list[Operand]:
        return [*self.resist, *self.react, *self.jacobian["resist"], *self.jacobian["react"]]
