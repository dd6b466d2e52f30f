"""Integrator: many small stiff circuits at once in torch, each device with its own time and step.

Between two samples of the voltage, the internal unknowns u of a device obey f(u, t) + dq(u, t)/dt = 0.
Each step is a diagonally implicit Runge-Kutta step in the charges q, so charge is conserved and rows
without a charge (series resistances) are met at the end of every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeAlias, TypeVar

import torch

from cosim.devices.ir import BOUND_STEP, RETAKE
from cosim.devices.print_torch import Terms
from cosim.devices.small_circuits import is_zero, linear, newton_matrix, solve_step, stack
from cosim.devices.tableau import (
    ESDIRK32,
    FIRST_STEP,
    GROW,
    LATCH,
    NEWTON_LIMIT,
    NEWTON_TOLERANCE,
    RESTART,
    RETREAT,
    SAFETY,
    SHRINK,
    SMALLEST_STEP,
    Tableau,
)

__all__ = [
    "Circuit",
    "Equation",
    "Failure",
    "Front",
    "Integrator",
    "Problem",
    "Stage",
    "Step",
    "Tolerances",
]

Value: TypeAlias = torch.Tensor | float


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Local error allowed in an unknown u: atol*nominal + rtol*(largest |u| so far)."""

    rtol: float
    atol: float
    nominal: tuple[float, ...]  # size of each internal unknown
    max_steps: int


class Circuit(Protocol):
    """The equations of a device, or of a device behind its drive."""

    @property
    def internal(self) -> tuple[str, ...]: ...
    @property
    def varying(self) -> tuple[str, ...]: ...
    @property
    def kept(self) -> tuple[str, ...]: ...
    @property
    def discrete(self) -> tuple[bool, ...]: ...
    def __call__(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = ...
    ) -> Terms: ...
    def carry(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = ...
    ) -> list[torch.Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is integrated. N devices, n internal unknowns."""

    model: Circuit
    time: torch.Tensor  # (T,) s, rising
    voltage: torch.Tensor  # (T, N) V, linear between samples
    start: torch.Tensor  # (n, N) internal unknowns at the first sample
    parameters: Mapping[str, torch.Tensor]  # each (N,); and the kept variables behind the first sample
    current: torch.Tensor | None = None  # (N,) A at the first sample, where the model keeps variables


@dataclass(frozen=True)
class Failure:
    """A device that could not be integrated further."""

    device: int
    time: float
    reason: str


@dataclass(frozen=True)
class Step:
    """An accepted step of some devices, and which of them it took to the next sample."""

    device: torch.Tensor  # (M,) numbers in the batch
    length: torch.Tensor  # (M,) s
    landed: torch.Tensor  # (M,)


@dataclass(frozen=True)
class Stage:
    """A solved stage: unknowns, and currents f and charges q with the terminal first."""

    unknowns: torch.Tensor  # (n, N)
    current: torch.Tensor  # (1 + n, N)
    charge: torch.Tensor  # (1 + n, N)
    converged: torch.Tensor  # (N,)

    @property
    def rate(self) -> torch.Tensor:
        """dq/dt of the internal nodes."""
        return -self.current[1:]


@dataclass(frozen=True)
class Equation:
    """q(u) + weight*f(u) = base at given voltage and time, and the Newton step that ends its solution."""

    volts: torch.Tensor  # (N,)
    time: torch.Tensor  # (N,) s
    base: torch.Tensor  # (n, N)
    weight: torch.Tensor  # (N,) s
    allowed: torch.Tensor  # (n, N)
    parameters: torch.Tensor  # (parameters and kept variables, N)


@dataclass
class Front:
    """Where each unfinished device stands; the last axis of every tensor is the device."""

    device: torch.Tensor  # (N,) number in the batch
    sample: torch.Tensor  # (N,) index of the sample at or before the present time
    since: torch.Tensor  # (N,) s, time since that sample
    step: torch.Tensor  # (N,) s, wanted step
    aimed: torch.Tensor  # (N,) the step is to end where an event is
    here: Stage
    slope: torch.Tensor  # (n, N) estimate of du/dt, for predictions only
    peak: torch.Tensor  # (n, N) largest |u| so far
    parameters: torch.Tensor  # (parameters and kept variables, N)

    def pick(self, which: torch.Tensor) -> Front:
        flat = {f.name: getattr(self, f.name)[..., which] for f in fields(self) if f.name != "here"}
        return Front(here=_pick(self.here, which), **flat)


@dataclass(frozen=True)
class _Attempt:
    """The end of a step that may be accepted."""

    end: Stage  # converged: in every stage
    slope: torch.Tensor  # (n, N)
    terminal_current: torch.Tensor  # (N,)
    error: torch.Tensor  # (N,) in units of the tolerance


class Integrator:
    """Integrates a ``Problem``. After ``run``: ``current`` (T, N) in A and ``unknowns``, each (T, N).

    track: the internal unknowns that are recorded at every sample, by index. keep: the accepted steps
    are kept in ``steps``.
    """

    def __init__(
        self,
        problem: Problem,
        tolerances: Tolerances,
        *,
        track: Sequence[int] = (),
        keep: bool = False,
        tableau: Tableau = ESDIRK32,
    ) -> None:
        self.problem, self.tolerances, self.tableau = problem, tolerances, tableau
        self.track, self._keep = tuple(track), keep
        self._widths = problem.time.diff()
        self._longest = float(self._widths.max())
        self._size = len(problem.model.internal)
        self._inputs = (*problem.model.varying, *problem.model.kept)
        self._derivative, self._error = tableau.derivative, tableau.error
        self._nominal = problem.start.new_tensor(tolerances.nominal).reshape(-1, 1)
        self.current = torch.full_like(problem.voltage, math.nan)
        self.unknowns = [torch.full_like(problem.voltage, math.nan) for _ in self.track]
        self.steps: list[Step] = []
        self.failures: list[Failure] = []
        self.counts = {"steps": 0, "rejected": 0, "evaluations": 0, "latched": 0}
        self._front, self._dynamic = self._begin()

    # --- the whole run ------------------------------------------------------------------------------

    def run(self, report: Callable[[float], None] | None = None) -> None:
        """Advance every device to the last sample; ``report`` is told the finished fraction."""
        samples, count = self.problem.voltage.shape
        finished = 0
        while self._front.device.numel():
            if self.counts["steps"] >= self.tolerances.max_steps:
                every = torch.ones_like(self._front.device, dtype=torch.bool)
                self._fail(every, f"max_steps = {self.tolerances.max_steps} steps were made")
                break
            self._advance()
            done = self._front.sample == samples - 1
            if bool(done.any()):
                finished += int(done.sum())
                self._front = self._front.pick(~done)
            if report is not None:
                report((finished + float(self._front.sample.sum()) / (samples - 1)) / count)

    def _begin(self) -> tuple[Front, list[int]]:
        """The front at the first sample, and the unknowns that have a charge."""
        problem = self.problem
        volts = problem.voltage[0]
        parameters = [problem.parameters[name] for name in self._inputs]
        everywhere = torch.ones_like(volts, dtype=torch.bool)
        inputs = torch.stack(parameters) if parameters else volts.new_zeros((0, volts.numel()))
        terms = self._terms(inputs, volts, volts.new_zeros(()), problem.start)
        rest = Stage(problem.start, stack(terms.resist, volts), stack(terms.react, volts), everywhere)
        front = Front(
            device=torch.arange(volts.numel(), device=volts.device),
            sample=torch.zeros_like(volts, dtype=torch.int64),
            since=torch.zeros_like(volts),
            step=torch.full_like(volts, FIRST_STEP * float(self._widths[0])),
            aimed=~everywhere,
            here=rest,
            slope=torch.zeros_like(problem.start),
            peak=problem.start.abs(),
            parameters=inputs,
        )
        self._record(front, rest.current[0] if problem.current is None else problem.current)
        columns = {c - 1 for (_, c), entry in terms.jacobian_react.items() if not is_zero(entry)}
        dynamic = sorted(columns - {-1})
        if not dynamic:  # nothing is integrated, and a file's own steps are its samples
            front.step = torch.full_like(volts, float(self._widths[0]))
        front.step = torch.minimum(front.step, self._limit(front.parameters, BOUND_STEP))
        return front, dynamic

    def _record(self, front: Front, current: torch.Tensor) -> None:
        self.current[front.sample, front.device] = current
        for index, kept in zip(self.track, self.unknowns, strict=True):
            kept[front.sample, front.device] = front.here.unknowns[index]

    def _fail(self, which: torch.Tensor, reason: str) -> None:
        front = self._front
        times = self.problem.time[front.sample] + front.since
        for device, time in zip(front.device[which].tolist(), times[which].tolist(), strict=True):
            self.failures.append(Failure(device, time, reason))
        self._front = front.pick(~which)

    # --- one step -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """One step of every device; a step that is not good enough leaves its device where it was."""
        front = self._front
        dt = self._widths[front.sample]
        left = dt - front.since
        # two halves instead of a long step and a sliver; the last step ends exactly on the sample
        last = front.step >= left
        shared = torch.where(front.aimed, front.step, torch.minimum(front.step, 0.5 * left))
        step = torch.where(last, left, shared)
        attempt = self._attempt(front, step)
        good = attempt.end.converged & (attempt.error <= 1.0)
        kept = self._kept(attempt, step)
        retake = self._limit(kept, RETAKE)
        front.aimed = good & (retake < step)  # an event lies within the step
        good = good & ~front.aimed
        if self._keep:
            self.steps.append(Step(front.device[good], step[good], last[good]))
        self._accept(attempt, good, good & last, step, kept)
        factor = (SAFETY * attempt.error.pow(-1.0 / self.tableau.order)).clamp(SHRINK, GROW)
        wanted = step * torch.where(attempt.end.converged, factor, RETREAT)
        shortened = good & (step < front.step)
        front.step = torch.where(shortened, torch.maximum(wanted, front.step), wanted)
        front.step = torch.where(front.aimed, retake, front.step.clamp(max=self._longest))
        front.step = torch.minimum(front.step, self._limit(front.parameters, BOUND_STEP))
        self.counts["steps"] += 1
        self.counts["rejected"] += int((~good).sum())
        none = ~attempt.end.converged & (step < LATCH * dt)
        if any(self.problem.model.discrete) and bool(none.any()):
            front.step = torch.where(self._latch(none, step), FIRST_STEP * dt, front.step)
        stuck = ~good & (front.step < SMALLEST_STEP * dt)
        if bool(stuck.any()):
            self._fail(stuck, f"the step fell below {SMALLEST_STEP * float(dt[stuck].min()):.3g} s")

    def _limit(self, kept: torch.Tensor, name: str) -> torch.Tensor:
        """A limit of the steps, s, among kept variables, the last rows of ``kept``."""
        names = self.problem.model.kept
        if name not in names:
            return torch.full_like(self._widths, math.inf)[:1]
        return kept[names.index(name) - len(names)]

    def _kept(self, attempt: _Attempt, step: torch.Tensor) -> torch.Tensor:
        """(kept variables, N) behind the end of a step, if it is accepted."""
        front, model = self._front, self.problem.model
        if not model.kept:
            return step.new_zeros((0, step.numel()))
        volts, time = self._drive(front, step)
        inputs = dict(zip(self._inputs, front.parameters, strict=True))
        return torch.stack(model.carry([volts, *attempt.end.unknowns], inputs, time))

    def _accept(
        self,
        attempt: _Attempt,
        good: torch.Tensor,
        landed: torch.Tensor,
        step: torch.Tensor,
        kept: torch.Tensor,
    ) -> None:
        front = self._front
        at = self._drive(front, step)
        front.here = _choose(good, attempt.end, front.here)
        front.slope = torch.where(good, attempt.slope, front.slope)
        front.peak = torch.maximum(front.peak, front.here.unknowns.abs())
        front.since = torch.where(landed, 0.0, torch.where(good, front.since + step, front.since))
        front.sample = front.sample + landed
        if bool(landed.any()):
            self._record(front.pick(landed), attempt.terminal_current[landed])
        if self.problem.model.kept and bool(good.any()):
            self._carry(good, *at, step, kept)

    def _carry(
        self,
        good: torch.Tensor,
        volts: torch.Tensor,
        time: torch.Tensor,
        step: torch.Tensor,
        kept: torch.Tensor,
    ) -> None:
        """Move the kept variables on where a step was accepted, to ``volts`` and ``time``.

        They may jump, so all that has no charge finds its place before the next step starts from there.
        """
        front = self._front
        split = len(self.problem.model.varying)
        moved = torch.where(good, kept, front.parameters[split:])
        front.parameters = torch.cat([front.parameters[:split], moved])
        here, allowed = front.here, NEWTON_TOLERANCE * self._scale(front.peak)
        again = Equation(volts, time, here.charge[1:], RESTART * step, allowed, front.parameters)
        found = _put(here, good, self._newton(_pick(again, good), here.unknowns[:, good]))
        front.here = _choose(found.converged, found, here)

    def _latch(self, which: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Set switches at the present point as they are a little later; the devices where one changed.

        With a switch on its voltage is not reached, with it off it is passed: later there is no solution.
        """
        front = self._front
        (volts, time), (ahead, _) = (self._drive(front, part * step) for part in (0.0, 2.0))
        inputs = dict(zip(self._inputs, front.parameters, strict=True))
        unknowns = front.here.unknowns + 2.0 * step * front.slope
        kept = torch.stack(self.problem.model.carry([ahead, *unknowns], inputs, time))
        old = front.parameters[len(self.problem.model.varying) :]
        discrete = torch.tensor(self.problem.model.discrete, device=which.device).reshape(-1, 1)
        moved = torch.where(discrete, kept, old)
        changed = which & (moved != old).any(0)
        self.counts["latched"] += int(changed.sum())
        if bool(changed.any()):
            self._carry(changed, volts, time, step, moved)
        return changed

    def _attempt(self, front: Front, step: torch.Tensor) -> _Attempt:
        """One step. Rates k = dq/dt: q_i = q_n + h (sum_{j<i} a_ij k_j + gamma k_i) in stage i."""
        tableau = self.tableau
        stages = [front.here]
        converged = torch.ones_like(step, dtype=torch.bool)
        weight = tableau.gamma * step
        allowed = NEWTON_TOLERANCE * self._scale(front.peak)
        for i in range(1, len(tableau.c)):
            base = front.here.charge[1:] + step * _combine(tableau.a[i], [s.rate for s in stages])
            after = tableau.c[i] * step
            volts, time = self._drive(front, after)
            equation = Equation(volts, time, base, weight, allowed, front.parameters)
            if i == 1:
                guess = front.here.unknowns + after * front.slope
            else:
                guess = _combine(tableau.predictor(i), [s.unknowns for s in stages])
            stages.append(self._newton(equation, guess))
            converged = converged & stages[-1].converged
            if not bool(converged.any()):
                nothing = torch.full_like(step, math.inf)
                return _Attempt(stages[-1], front.slope, nothing, nothing)
        return self._finish(front, step, stages, converged)

    def _finish(
        self, front: Front, step: torch.Tensor, stages: Sequence[Stage], converged: torch.Tensor
    ) -> _Attempt:
        start, end = stages[0], stages[-1]
        moved = [s.unknowns - start.unknowns for s in stages[1:]]
        allowed = self._scale(torch.maximum(front.peak, end.unknowns.abs()))
        scaled = (_combine(self._error, moved).abs() / allowed)[self._dynamic]
        error = scaled.amax(0) if self._dynamic else torch.zeros_like(step)
        slope = _combine(self._derivative, moved) / step
        displacement = _combine(self._derivative, [s.charge[0] - start.charge[0] for s in stages[1:]]) / step
        current = end.current[0] + displacement
        return _Attempt(replace(end, converged=converged & torch.isfinite(error)), slope, current, error)

    def _newton(self, equation: Equation, unknowns: torch.Tensor, left: int = NEWTON_LIMIT) -> Stage:
        """Solve ``equation`` from the guess ``unknowns``; devices that are done are not evaluated again."""
        while True:
            terms = self._terms(equation.parameters, equation.volts, equation.time, unknowns)
            stage = self._stage(equation, terms, unknowns)
            unknowns, converged = stage.unknowns, stage.converged
            left -= 1
            if left == 0 or bool(converged.any()):
                break
        if left == 0 or bool(converged.all()):
            return stage
        rest = ~converged
        return _put(stage, rest, self._newton(_pick(equation, rest), unknowns[:, rest], left))

    def _stage(self, equation: Equation, terms: Terms, unknowns: torch.Tensor) -> Stage:
        """One Newton step from ``unknowns``, where ``terms`` are.

        The linear parts carry currents and charges to its end, which is not evaluated again.
        """
        volts, weight = equation.volts, equation.weight
        charge, current = stack(terms.react[1:], volts), stack(terms.resist[1:], volts)
        matrix = newton_matrix(terms, self._size, 1.0, weight)
        change = solve_step(matrix, equation.base - charge - weight * current)
        return Stage(
            unknowns + change,
            linear(terms.resist, terms.jacobian_resist, change, volts),
            linear(terms.react, terms.jacobian_react, change, volts),
            (change.abs() <= equation.allowed).all(0),
        )

    def _scale(self, size: torch.Tensor) -> torch.Tensor:
        return self.tolerances.atol * self._nominal + self.tolerances.rtol * size

    def _drive(self, front: Front, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltage and time ``after`` seconds from the present time of each device."""
        voltage, dt = self.problem.voltage, self._widths[front.sample]
        fraction = (front.since + after) / dt
        low, high = voltage[front.sample, front.device], voltage[front.sample + 1, front.device]
        return low + (high - low) * fraction, self.problem.time[front.sample] + fraction * dt

    def _terms(
        self, parameters: torch.Tensor, volts: torch.Tensor, time: torch.Tensor, unknowns: torch.Tensor
    ) -> Terms:
        self.counts["evaluations"] += 1
        model = self.problem.model
        return model([volts, *unknowns], dict(zip(self._inputs, parameters, strict=True)), time)


# --- small pieces -------------------------------------------------------------------------------------

_Tensors = TypeVar("_Tensors", Equation, Stage)


def _pick(item: _Tensors, which: torch.Tensor) -> _Tensors:
    """The devices of a mask out of every tensor of ``item``."""
    return type(item)(**{f.name: getattr(item, f.name)[..., which] for f in fields(item)})


def _choose(which: torch.Tensor, yes: Stage, no: Stage) -> Stage:
    """``yes`` for the devices of a mask, ``no`` for the others."""
    names = [f.name for f in fields(Stage)]
    return Stage(**{name: torch.where(which, getattr(yes, name), getattr(no, name)) for name in names})


def _put(stage: Stage, which: torch.Tensor, part: Stage) -> Stage:
    """``stage`` with the devices of a mask from ``part``."""
    values = {f.name: getattr(stage, f.name).clone() for f in fields(Stage)}
    for name, value in values.items():
        value[..., which] = getattr(part, name)
    return Stage(**values)


def _combine(weights: Sequence[float], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total
