"""What a model remembers: the unknown that carries its state, what sets that, and what lets it move.

A state is an unknown with an equation in time that the voltages drive, and that rests wherever it is while
they are 0, or that the model itself holds while time stands still.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from cosim.devices.carried import Carried, carried_state, moved_start, reals, shown_by_unknown, started_at
from cosim.devices.hold import START, Start, equation_of, hold
from cosim.devices.interp import Conditions, run_setup
from cosim.devices.ir import RANDOM_INSTANCE, DeviceIR, Scalar
from cosim.devices.ports import on_the_way
from cosim.devices.print_torch import Terms, TorchModel
from cosim.devices.ranges import parameter_range
from cosim.errors import CosimError, ModelError

__all__ = ["Memory", "held", "remembered", "starts_itself"]

_VOLTS = (-10.0, -3.0, -1.0, -0.3, 0.3, 1.0, 3.0, 10.0)
_OTHERS = (0.0, 1.0, 300.0)  # of unknowns that are no voltages of the cell: a temperature may divide by 0
_PLACES = (-0.15, 0.1, 0.5, 0.9)  # of the state's unknown
_NOTHING = 1e-9  # relative
_SAME = 1e-6  # relative, of two slopes that are one


@dataclass(frozen=True, kw_only=True)
class Memory:
    """node: unknown that carries the state. parameter: sets it; ``hold.START`` where the model has none.

    absolute: the state is scale*node, else parameter + scale*node. start: where the file itself starts
    without a parameter. write: parameter that switches writing on. others: further unknowns that rest.
    """

    node: str
    parameter: str
    scale: float = 1.0
    absolute: bool = True
    start: float | None = None
    write: str = ""
    others: Mapping[str, Start] = field(default_factory=dict)
    found: bool = True  # and not told by the caller
    switch_found: bool = False
    carried: Carried | None = None  # the variable of the file that is the state


def held(ir: DeviceIR, memory: Memory) -> DeviceIR:
    """``ir`` whose state stays where it was set until time runs."""
    if memory.carried is not None:
        ir = shown_by_unknown(ir, memory.carried)
    start = Start(value=0.0)
    if memory.absolute:
        start = Start(parameter=memory.parameter, scale=memory.scale, value=memory.start or 0.0)
    muted = ("ic",) if memory.carried is None else ()  # a variable has no charge that could jump
    for node, place in {memory.node: start, **memory.others}.items():
        ir = hold(ir, node, place, muted=muted)
    if memory.carried is not None and memory.parameter == START:
        ir = started_at(ir, memory.carried, START)
    return ir


def starts_itself(memory: Memory | None) -> bool:
    """The state was found, and the file says where it starts."""
    return memory is not None and memory.found and (memory.parameter != START or memory.start is not None)


def remembered(
    ir: DeviceIR,
    given: Mapping[str, Scalar],
    temperature: float,
    *,
    node: str = "",
    parameter: str = "",
    write: str = "",
    scale: float | None = None,
) -> Memory | None:
    """The state of ``ir``; what the caller names is taken as told. None where it has none."""
    ways = on_the_way(ir, given, temperature) if node or _in_time(ir) else ()
    names = [node] if node else [n for n in _in_time(ir) if n not in ways]
    if not names:
        return _carried(ir, given, temperature, parameter, write)
    switch = write or _switch(ir, given, temperature, names, parameter)
    probe = _Probe(ir, given, temperature, switch)
    resting = [name for name in _in_time(ir) if name not in ways and probe.rests(name)]
    if not (parameter or node):
        resting = [name for name in resting if not probe.starts_apart(name)]
    states = [node, *(name for name in resting if name != node)] if node else resting
    if node and not parameter and not resting:  # it relaxes, so nobody has to say where it is
        return None
    if parameter and not node:
        starts = {name: probe.start(name, (parameter,)) for name in states}
        states.sort(key=lambda name: starts[name] is None)  # the one that the parameter sets
    if not states:
        return _carried(ir, given, temperature, parameter, write)
    first, *others = states
    found = probe.start(first, (parameter,) if parameter else None)
    if found is None and parameter:
        reads = probe.running.reads(parameter)
        found = Memory(node=first, parameter=parameter, absolute=not reads)
    if found is None:
        found = Memory(node=first, parameter=START, start=probe.constant(first))
    rest = {name: _as_start(probe.start(name, None), probe.constant(name)) for name in others}
    return Memory(
        node=first,
        parameter=found.parameter,
        scale=found.scale if scale is None else scale,
        absolute=found.absolute,
        start=found.start,
        write=switch,
        switch_found=not write,
        others=rest,
        found=not parameter,
    )


def _carried(
    ir: DeviceIR, given: Mapping[str, Scalar], temperature: float, parameter: str, write: str
) -> Memory | None:
    """The state that a variable carries, in a model without an unknown that does."""
    if not reals(ir):
        return None
    probe = _Probe(ir, given, temperature, write)
    found = [probe.carried(kept.name, parameter) for kept in reals(ir)]
    state = next(iter(sorted(filter(None, found), key=lambda each: not each.parameter)), None)
    if state is None:
        return None
    return Memory(
        node=state.node,
        parameter=state.parameter or START,
        start=None if state.parameter else state.start,
        write=write,
        found=not parameter,
        carried=state,
    )


def _as_start(found: Memory | None, constant: float | None) -> Start:
    if found is None:
        return Start(value=constant or 0.0)
    return Start(parameter=found.parameter, scale=found.scale) if found.absolute else Start()


def _in_time(ir: DeviceIR) -> list[str]:
    """Internal unknowns with an equation in time, integrals first."""
    charged = {entry.column for entry in ir.jacobian if entry.react is not None}
    inner = [node for k, node in enumerate(ir.nodes) if k in charged and not node.terminal]
    inner = [node for node in inner if node.kind != "flow"]
    return [node.name for node in sorted(inner, key=lambda node: node.kind != "implicit")]


def _switch(
    ir: DeviceIR,
    given: Mapping[str, Scalar],
    temperature: float,
    nodes: Sequence[str],
    parameter: str,
) -> str:
    """The parameter that is 0 and lets a state move where nothing does; "" if something does."""
    if any(_Probe(ir, given, temperature, "").moves(node) for node in nodes):
        return ""
    for each in ir.parameters:
        if each.default == 0 and not given.get(each.name) and each.name != parameter:
            try:
                probe = _Probe(ir, given, temperature, each.name)
            except CosimError:  # 1 is not in its range, or the model gives up
                continue
            if any(probe.moves(node) for node in nodes):
                return each.name
    return ""


class _Probe:
    """The equations of a model around 0 V, with writing on, and while time stands still."""

    def __init__(self, ir: DeviceIR, given: Mapping[str, Scalar], temperature: float, switch: str) -> None:
        self._ir, self._given, self._kelvin = ir, given, temperature
        self._on = {switch: 1} if switch else {}
        self._off = {switch: 0} if switch else {}
        self._electrical = on_the_way(ir, given, temperature)
        # currents that voltages drive: 0 where they are
        self._flows = {node.name for node in ir.nodes if node.kind == "flow"}

    @functools.cached_property
    def running(self) -> TorchModel:
        return self._model(static=False)

    @functools.cached_property
    def _still(self) -> TorchModel:
        return self._model(static=True)

    def _model(self, *, static: bool) -> TorchModel:
        reals = [p.name for p in self._ir.parameters if p.type == "real" and p.name not in self._on]
        try:
            return self._traced(reals, static=static)
        except ModelError:  # one of them decides whether nodes merge
            return self._traced([n for n in reals if self._may_vary(n, static=static)], static=static)

    def _may_vary(self, name: str, *, static: bool) -> bool:
        try:
            self._traced([name], static=static)
        except ModelError:
            return False
        return True

    def _traced(self, varying: Collection[str], *, static: bool) -> TorchModel:
        more = self._off if static else self._on
        fixed = {name: v for name, v in self._given.items() if name not in varying} | more
        options = {"static": static, "temperature": self._kelvin, "initial": static}
        return TorchModel(self._ir, fixed, varying, grounded=self._ir.terminals[1:2], **options)

    # --- what moves ---------------------------------------------------------------------------------

    def moves(self, node: str) -> bool:
        """Some voltage drives ``node``."""
        if node not in self.running.nodes:
            return False
        still, driven = self._rates(node, (0.0,))[0], self._rates(node, _VOLTS)[0]
        change = driven.reshape(len(_VOLTS), -1) - still
        return bool((change[torch.isfinite(change)] != 0).any())

    def rests(self, node: str) -> bool:
        """``node`` stays wherever it is while time stands still, or at 0 V."""
        if not self.moves(node):
            return False
        if node not in self._still.nodes or self._own_place(node) is not None:
            return True
        _, at_rest = self._rates(node, (0.0,))
        _, driven = self._rates(node, _VOLTS)
        still = at_rest[torch.isfinite(at_rest)].abs()
        most = driven[torch.isfinite(driven)].abs()
        return bool(len(still)) and float(still.min()) <= _NOTHING * float(most.max() if len(most) else 0.0)

    def _rates(self, node: str, volts: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """What drives ``node``, and its slope by ``node``, at voltages, other unknowns and places of it."""
        grid = torch.cartesian_prod(
            *(torch.tensor(x, dtype=torch.float64) for x in (volts, _OTHERS, _PLACES))
        )
        volt, other, place = grid.unbind(-1)
        shares = torch.linspace(1.0, 0.3, len(self.running.nodes), dtype=torch.float64)
        unknowns = [
            place if n == node else share * volt if self._is_voltage(n) else other
            for n, share in zip(self.running.nodes, shares, strict=True)
        ]
        terms = self.running(unknowns, self._parameters(volt), 1.0)
        row, column = self._place(self.running, node)
        slope = terms.jacobian_resist.get((row, column), 0.0)
        return tuple(torch.as_tensor(x).to(volt).expand_as(volt) for x in (terms.resist[row], slope))  # type: ignore[return-value]  # two of them

    def _is_voltage(self, name: str) -> bool:
        return name in self._ir.terminals or name in self._electrical or name in self._flows

    def _place(self, model: TorchModel, node: str) -> tuple[int, int]:
        row = self._ir.nodes[equation_of(self._ir, node)].name
        return model.nodes.index(row), model.nodes.index(node)

    def _parameters(self, like: torch.Tensor) -> dict[str, torch.Tensor]:
        model = self.running
        found = {name: like.new_tensor(float(self._values[name])) for name in model.varying}
        return found | model.initial(found, like)

    @functools.cached_property
    def _values(self) -> Mapping[str, Scalar]:
        return run_setup(self._ir, self._given, Conditions(temperature=self._kelvin)).parameters

    # --- where it starts ----------------------------------------------------------------------------

    def start(self, node: str, among: Collection[str] | None) -> Memory | None:
        """The parameter (one of ``among``) that ``node`` starts at, or is a deviation from."""
        names = [n for n in self.running.varying if among is None or n in among]
        return self._absolute(node, names) or self._deviation(node, names)

    def starts_apart(self, node: str) -> bool:
        """The file starts ``node`` by several parameters or by chance: no one parameter says where."""
        found = self._own_place(node)
        if found is None or self._absolute(node, self.running.varying) is not None:
            return False
        place, given = found
        if place.requires_grad:
            grads = torch.autograd.grad(place, list(given.values()), allow_unused=True, retain_graph=True)
            if any(grad is not None and float(grad) != 0 for grad in grads):
                return True
        other = self._own_place(node, {RANDOM_INSTANCE: 1.0})
        return other is not None and float(other[0].detach()) != float(place.detach())

    def constant(self, node: str) -> float | None:
        """Where the model itself starts ``node``; None where it does not say so."""
        place = self._own_place(node)
        if place is None:  # an integral without a start counts from 0, as simulators do
            kind = next(each.kind for each in self._ir.nodes if each.name == node)
            return 0.0 if kind == "implicit" else None
        return float(place[0].detach())

    def carried(self, name: str, parameter: str) -> Carried | None:
        """The state that the variable ``name`` carries, and the parameter that it starts at."""
        if not self.running.moves_on(name):
            return None
        at = {n: float(self._values[n]) for n in self._still.varying}
        value, slopes = self._variable(self._still, name, at)
        if slopes is None:
            return None
        state = carried_state(self._ir, name, value, slopes, parameter)
        if state is None:
            return None
        if not state.parameter:
            moved = moved_start(self._ir, name, value + 0.5)
            model = TorchModel(moved, {**self._given, **self._off}, temperature=self._kelvin, initial=True)
            there, _ = self._variable(model, name, {})
            return state if self.running.adds_up(name) and abs(there - value - 0.5) <= _SAME else None
        other, slope = (
            {**at, state.parameter: float(self._middle()[state.parameter])},
            slopes[state.parameter],
        )
        other[state.parameter] += 0.25 * (other[state.parameter] == at[state.parameter])
        there, _ = self._variable(self._still, name, other)
        line = value + slope * (other[state.parameter] - at[state.parameter])
        straight = abs(there - line) <= _SAME * max(abs(there), abs(line))
        return replace(state, line=(slope, value - slope * at[state.parameter])) if straight else None

    @staticmethod
    def _variable(
        model: TorchModel, name: str, values: Mapping[str, float]
    ) -> tuple[float, dict[str, float] | None]:
        """What a variable is while time stands still, and its slopes by parameters; None: by a voltage."""
        given = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in values.items()}
        point = [
            torch.tensor(0.3 + 0.1 * k, dtype=torch.float64, requires_grad=True)
            for k in range(len(model.nodes))
        ]
        value = model.carry(point, given)[model.kept.index(name)]
        if not value.requires_grad:
            return float(value), {}
        grads = torch.autograd.grad(value, [*given.values(), *point], allow_unused=True)
        numbers = [0.0 if g is None else float(g) for g in grads]
        slopes = {n: slope for n, slope in zip(given, numbers, strict=False) if slope != 0}
        return float(value.detach()), None if any(numbers[len(given) :]) else slopes

    def _own_place(
        self, node: str, others: Mapping[str, float] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]] | None:
        """Where the equation of ``node`` puts it while time stands still, and the parameters that say so."""
        values = {**self._values, **(others or {})}
        given = {
            name: torch.tensor(float(values[name]), dtype=torch.float64, requires_grad=True)
            for name in self._still.varying
        }
        like = torch.zeros((), dtype=torch.float64)
        removed = self._still.removed(given, like)
        if node in removed:
            return removed[node], given
        if node not in self._still.nodes:
            return None
        # away from 0, where a product of two unknowns has no slope
        point = [like + 0.3 + 0.1 * k for k in range(len(self._still.nodes))]
        terms = self._still(point, given)
        row, column = self._place(self._still, node)
        every = {c: torch.as_tensor(v).detach() for (r, c), v in terms.jacobian_resist.items() if r == row}
        slopes = {c: float(slope) for c, slope in every.items() if float(slope) != 0}
        if set(slopes) != {column}:
            return None
        return point[column] - torch.as_tensor(terms.resist[row]) / slopes[column], given

    def _absolute(self, node: str, names: Collection[str]) -> Memory | None:
        found = self._own_place(node)
        if found is None or not found[0].requires_grad:
            return None
        place, given = found
        grads = torch.autograd.grad(place, list(given.values()), allow_unused=True)
        slopes = {n: float(g) for n, g in zip(given, grads, strict=True) if g is not None and float(g) != 0}
        if len(slopes) != 1:
            return None
        ((name, slope),) = slopes.items()
        at, value = float(place.detach()), float(given[name].detach())
        proportional = abs(at - slope * value) <= _SAME * abs(at)
        if name not in names or not proportional:
            return None
        return Memory(node=node, parameter=name, scale=1.0 / slope)

    def _deviation(self, node: str, names: Sequence[str]) -> Memory | None:
        """The parameter P for which only P + scale*node counts."""
        generator = torch.Generator().manual_seed(2)
        draw = torch.rand((len(self.running.nodes), 8), generator=generator, dtype=torch.float64)
        unknowns = [
            0.2 * (x - 0.5) if n == node else 2 * (x - 0.5) if self._is_voltage(n) else 300 * x
            for n, x in zip(self.running.nodes, draw, strict=True)
        ]
        given = {n: v.expand(8).clone().requires_grad_(True) for n, v in self._middle().items()}
        terms = self.running(unknowns, given | self.running.initial(given, unknowns[0]), 1.0)
        _, column = self._place(self.running, node)
        ours = [self._slope(terms, row, column, unknowns[0]) for row in range(len(self.running.nodes))]
        theirs = [_gradients(value, given) for value in terms.resist]
        for name in names:
            pairs = [(a, b[name]) for a, b in zip(ours, theirs, strict=True)]
            one = torch.cat([a for a, _ in pairs]).detach()
            two = torch.cat([b for _, b in pairs]).detach()
            scale = self._ratio(one, two)
            if scale is not None:
                return Memory(node=node, parameter=name, scale=scale, absolute=False)
        return None

    @staticmethod
    def _slope(terms: Terms, row: int, column: int, like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(terms.jacobian_resist.get((row, column), 0.0)).to(like).expand_as(like)

    @staticmethod
    def _ratio(one: torch.Tensor, two: torch.Tensor) -> float | None:
        """one/two where that is one number, and not 0."""
        good = torch.isfinite(one) & torch.isfinite(two) & ((one != 0) | (two != 0))
        if not bool(good.any()) or bool((two[good] == 0).any()):
            return None
        ratios = one[good] / two[good]
        scale = float(ratios.median())
        same = (ratios - scale).abs() <= _SAME * abs(scale)
        return scale if scale != 0 and bool(same.all()) else None

    def _middle(self) -> dict[str, torch.Tensor]:
        """Values of the parameters, in the middle of a finite range where that is declared."""
        found = {}
        for name in self.running.varying:
            ends = parameter_range(self._ir, name)
            value = float(self._values[name]) if ends is None else sum(ends) / 2
            found[name] = torch.tensor(value, dtype=torch.float64)
        return found


def _gradients(value: torch.Tensor | float, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    zero = {name: torch.zeros_like(each) for name, each in given.items()}
    if not (isinstance(value, torch.Tensor) and value.requires_grad):
        return zero
    grads = torch.autograd.grad(value.sum(), list(given.values()), allow_unused=True, retain_graph=True)
    return {n: zero[n] if g is None else g for n, g in zip(given, grads, strict=True)}
