"""Integrator: many small stiff circuits at once in torch, each device with its own time and step.

Between two samples of the voltage, the internal unknowns u of a device obey f(u, t) + dq(u, t)/dt = 0.
Each step is a diagonally implicit Runge-Kutta step in the charges q, so charge is conserved and rows
without a charge (series resistances) are met at the end of every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from cosim.devices.print_torch import Terms, TorchModel

__all__ = [
    "ESDIRK32",
    "Failure",
    "Integrator",
    "Problem",
    "Tableau",
    "Tolerances",
    "newton_matrix",
    "solve_step",
]

Value: TypeAlias = torch.Tensor | float

_NEWTON_LIMIT = 6  # iterations; a stage that needs more gets a smaller step instead
# part of the error tolerance: Newton is quadratic, so the step that is still made leaves far less
_NEWTON_TOLERANCE = 0.1
_SAFETY, _SHRINK, _GROW, _RETREAT = 0.9, 0.1, 5.0, 0.25  # step controller
_FIRST_STEP = 0.01  # of the sample distance
_SMALLEST_STEP = 1e-12  # of the sample distance: below it, time differences lose their digits


@dataclass(frozen=True)
class Tableau:
    """An ESDIRK method: an explicit stage, then stages with one diagonal ``gamma``; the last is the result.

    a[i]: coefficients of the rates of the stages before i; embedded: weights of the lower-order result.
    """

    gamma: float
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    embedded: tuple[float, ...]
    order: int

    @property
    def derivative(self) -> list[float]:
        """Weights w: dy/dt at the end = sum_j w_j (Y_j - y_n)/h over the implicit stages.

        The method is L-stable, so this does not depend on the rate at the start of the step.
        """
        return np.linalg.inv(self._implicit)[-1].tolist()

    @property
    def error(self) -> list[float]:
        """Weights w: the difference of the two results = sum_j w_j (Y_j - y_n) over the implicit stages.

        Taken from values and not from rates, it is bounded where the circuit is stiff and needs no filter.
        """
        difference = np.array([*self.a[-1], self.gamma]) - np.array(self.embedded)
        return np.linalg.solve(self._implicit.T, difference[1:]).tolist()

    @property
    def _implicit(self) -> np.ndarray:
        """The coefficients without the explicit first stage."""
        size = len(self.c) - 1
        matrix = np.diag(np.full(size, self.gamma))
        for i, row in enumerate(self.a[1:]):
            matrix[i, : len(row) - 1] = row[1:]
        return matrix

    def predictor(self, stage: int) -> list[float]:
        """Weights that extrapolate the stages before ``stage`` (at least two) to it, by Lagrange."""
        nodes, at = self.c[:stage], self.c[stage]
        return [math.prod((at - x) / (node - x) for x in nodes if x != node) for node in nodes]


# ESDIRK3(2)4L[2]SA: order 3, embedded order 2, L-stable, stiffly accurate.
# C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44, 139-181, 2003.
_GAMMA = 1767732205903 / 4055673282236
ESDIRK32 = Tableau(
    gamma=_GAMMA,
    c=(0.0, 2 * _GAMMA, 0.6, 1.0),
    a=(
        (),
        (_GAMMA,),
        (2746238789719 / 10658868560708, -640167445237 / 6845629431997),
        (
            1471266399579 / 7840856788654,
            -4482444167858 / 7529755066697,
            11266239266428 / 11593286722821,
        ),
    ),
    embedded=(
        2756255671327 / 12835298489170,
        -10771552573575 / 22201958757719,
        9247589265047 / 10645013368117,
        2193209047091 / 5459859503100,
    ),
    order=3,
)


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Local error allowed in an unknown u: atol*nominal + rtol*(largest |u| so far)."""

    rtol: float
    atol: float
    nominal: tuple[float, ...]  # size of each internal unknown
    max_steps: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is integrated. N devices, n internal unknowns."""

    model: TorchModel
    voltage: torch.Tensor  # (T, N) V, linear between samples
    dt: float
    start: torch.Tensor  # (n, N) internal unknowns at the first sample
    parameters: Mapping[str, torch.Tensor]  # each (N,)


@dataclass(frozen=True)
class Failure:
    """A device that could not be integrated further."""

    device: int
    time: float
    reason: str


@dataclass(frozen=True)
class _Stage:
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
class _Equation:
    """q(u) + weight*f(u) = base at given voltage and time, and the Newton step that ends its solution."""

    volts: torch.Tensor  # (N,)
    time: torch.Tensor  # (N,) s
    base: torch.Tensor  # (n, N)
    weight: torch.Tensor  # (N,) s
    allowed: torch.Tensor  # (n, N)
    parameters: torch.Tensor  # (parameters, N)


@dataclass
class _Front:
    """Where each unfinished device stands; the last axis of every tensor is the device."""

    device: torch.Tensor  # (N,) number in the batch
    sample: torch.Tensor  # (N,) index of the sample at or before the present time
    since: torch.Tensor  # (N,) s, time since that sample
    step: torch.Tensor  # (N,) s, wanted step
    here: _Stage
    slope: torch.Tensor  # (n, N) estimate of du/dt, for predictions only
    peak: torch.Tensor  # (n, N) largest |u| so far
    parameters: torch.Tensor  # (parameters, N)

    def pick(self, which: torch.Tensor) -> _Front:
        flat = {f.name: getattr(self, f.name)[..., which] for f in fields(self) if f.name != "here"}
        return _Front(here=_pick(self.here, which), **flat)


@dataclass(frozen=True)
class _Attempt:
    """The end of a step that may be accepted."""

    end: _Stage  # converged: in every stage
    slope: torch.Tensor  # (n, N)
    terminal_current: torch.Tensor  # (N,)
    error: torch.Tensor  # (N,) in units of the tolerance


class Integrator:
    """Integrates a ``Problem``. After ``run``: ``current`` (T, N) in A and ``unknown`` (T, N).

    track: index of the internal unknown that is recorded at every sample; None records none.
    """

    def __init__(
        self,
        problem: Problem,
        tolerances: Tolerances,
        *,
        track: int | None = None,
        tableau: Tableau = ESDIRK32,
    ) -> None:
        self.problem, self.tolerances, self.tableau = problem, tolerances, tableau
        self.track = track
        self._size = len(problem.model.internal)
        self._derivative, self._error = tableau.derivative, tableau.error
        self._nominal = problem.start.new_tensor(tolerances.nominal).reshape(-1, 1)
        self.current = torch.full_like(problem.voltage, math.nan)
        self.unknown = torch.full_like(problem.voltage, math.nan)
        self.failures: list[Failure] = []
        self.counts = {"steps": 0, "rejected": 0, "evaluations": 0}
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

    def _begin(self) -> tuple[_Front, list[int]]:
        """The front at the first sample, and the unknowns that have a charge."""
        problem = self.problem
        volts = problem.voltage[0]
        parameters = [problem.parameters[name] for name in problem.model.varying]
        everywhere = torch.ones_like(volts, dtype=torch.bool)
        inputs = torch.stack(parameters) if parameters else volts.new_zeros((0, volts.numel()))
        terms = self._terms(inputs, volts, volts.new_zeros(()), problem.start)
        rest = _Stage(problem.start, stack(terms.resist, volts), stack(terms.react, volts), everywhere)
        front = _Front(
            device=torch.arange(volts.numel(), device=volts.device),
            sample=torch.zeros_like(volts, dtype=torch.int64),
            since=torch.zeros_like(volts),
            step=torch.full_like(volts, _FIRST_STEP * problem.dt),
            here=rest,
            slope=torch.zeros_like(problem.start),
            peak=problem.start.abs(),
            parameters=inputs,
        )
        self._record(front, rest.current[0])
        columns = {c - 1 for (_, c), entry in terms.jacobian_react.items() if not _is_zero(entry)}
        return front, sorted(columns - {-1})

    def _record(self, front: _Front, current: torch.Tensor) -> None:
        self.current[front.sample, front.device] = current
        if self.track is not None:
            self.unknown[front.sample, front.device] = front.here.unknowns[self.track]

    def _fail(self, which: torch.Tensor, reason: str) -> None:
        front = self._front
        times = front.sample * self.problem.dt + front.since
        for device, time in zip(front.device[which].tolist(), times[which].tolist(), strict=True):
            self.failures.append(Failure(device, time, reason))
        self._front = front.pick(~which)

    # --- one step -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """One step of every device; a step that is not good enough leaves its device where it was."""
        front, dt = self._front, self.problem.dt
        left = dt - front.since
        # two halves instead of a long step and a sliver; the last step ends exactly on the sample
        last = front.step >= left
        step = torch.where(last, left, torch.minimum(front.step, 0.5 * left))
        attempt = self._attempt(front, step)
        good = attempt.end.converged & (attempt.error <= 1.0)
        self._accept(attempt, good, good & last, step)
        factor = (_SAFETY * attempt.error.pow(-1.0 / self.tableau.order)).clamp(_SHRINK, _GROW)
        wanted = step * torch.where(attempt.end.converged, factor, _RETREAT)
        shortened = good & (step < front.step)
        front.step = torch.where(shortened, torch.maximum(wanted, front.step), wanted).clamp(max=dt)
        self.counts["steps"] += 1
        self.counts["rejected"] += int((~good).sum())
        stuck = ~good & (front.step < _SMALLEST_STEP * dt)
        if bool(stuck.any()):
            self._fail(stuck, f"the step fell below {_SMALLEST_STEP * dt:.3g} s")

    def _accept(
        self, attempt: _Attempt, good: torch.Tensor, landed: torch.Tensor, step: torch.Tensor
    ) -> None:
        front = self._front
        front.here = _choose(good, attempt.end, front.here)
        front.slope = torch.where(good, attempt.slope, front.slope)
        front.peak = torch.maximum(front.peak, front.here.unknowns.abs())
        front.since = torch.where(landed, 0.0, torch.where(good, front.since + step, front.since))
        front.sample = front.sample + landed
        if bool(landed.any()):
            self._record(front.pick(landed), attempt.terminal_current[landed])

    def _attempt(self, front: _Front, step: torch.Tensor) -> _Attempt:
        """One step. Rates k = dq/dt: q_i = q_n + h (sum_{j<i} a_ij k_j + gamma k_i) in stage i."""
        tableau = self.tableau
        stages = [front.here]
        converged = torch.ones_like(step, dtype=torch.bool)
        weight = tableau.gamma * step
        allowed = _NEWTON_TOLERANCE * self._scale(front.peak)
        for i in range(1, len(tableau.c)):
            base = front.here.charge[1:] + step * _combine(tableau.a[i], [s.rate for s in stages])
            after = tableau.c[i] * step
            volts, time = self._drive(front, after)
            equation = _Equation(volts, time, base, weight, allowed, front.parameters)
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
        self, front: _Front, step: torch.Tensor, stages: Sequence[_Stage], converged: torch.Tensor
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

    def _newton(self, equation: _Equation, unknowns: torch.Tensor, left: int = _NEWTON_LIMIT) -> _Stage:
        """Solve ``equation`` from the guess ``unknowns``; devices that are done are not evaluated again."""
        volts, weight = equation.volts, equation.weight
        while True:
            terms = self._terms(equation.parameters, volts, equation.time, unknowns)
            charge, current = stack(terms.react[1:], volts), stack(terms.resist[1:], volts)
            matrix = newton_matrix(terms, self._size, 1.0, weight)
            change = solve_step(matrix, equation.base - charge - weight * current)
            unknowns = unknowns + change
            converged = (change.abs() <= equation.allowed).all(0)
            left -= 1
            if left == 0 or bool(converged.any()):
                break
        # the linear parts carry currents and charges to the last iterate, which is not evaluated again
        stage = _Stage(
            unknowns,
            _linear(terms.resist, terms.jacobian_resist, change, volts),
            _linear(terms.react, terms.jacobian_react, change, volts),
            converged,
        )
        if left == 0 or bool(converged.all()):
            return stage
        rest = ~converged
        return _put(stage, rest, self._newton(_pick(equation, rest), unknowns[:, rest], left))

    def _scale(self, size: torch.Tensor) -> torch.Tensor:
        return self.tolerances.atol * self._nominal + self.tolerances.rtol * size

    def _drive(self, front: _Front, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltage and time ``after`` seconds from the present time of each device."""
        voltage, dt = self.problem.voltage, self.problem.dt
        fraction = (front.since + after) / dt
        low, high = voltage[front.sample, front.device], voltage[front.sample + 1, front.device]
        return low + (high - low) * fraction, (front.sample + fraction) * dt

    def _terms(
        self, parameters: torch.Tensor, volts: torch.Tensor, time: torch.Tensor, unknowns: torch.Tensor
    ) -> Terms:
        self.counts["evaluations"] += 1
        model = self.problem.model
        return model([volts, *unknowns], dict(zip(model.varying, parameters, strict=True)), time)


# --- small pieces -------------------------------------------------------------------------------------

_Tensors = TypeVar("_Tensors", _Equation, _Stage)


def _pick(item: _Tensors, which: torch.Tensor) -> _Tensors:
    """The devices of a mask out of every tensor of ``item``."""
    return type(item)(**{f.name: getattr(item, f.name)[..., which] for f in fields(item)})


def _choose(which: torch.Tensor, yes: _Stage, no: _Stage) -> _Stage:
    """``yes`` for the devices of a mask, ``no`` for the others."""
    names = [f.name for f in fields(_Stage)]
    return _Stage(**{name: torch.where(which, getattr(yes, name), getattr(no, name)) for name in names})


def _put(stage: _Stage, which: torch.Tensor, part: _Stage) -> _Stage:
    """``stage`` with the devices of a mask from ``part``."""
    values = {f.name: getattr(stage, f.name).clone() for f in fields(_Stage)}
    for name, value in values.items():
        value[..., which] = getattr(part, name)
    return _Stage(**values)


def newton_matrix(terms: Terms, size: int, charge: float, current: torch.Tensor) -> torch.Tensor:
    """charge*dq/du + current*df/du of the internal unknowns, (N, size, size); ``current``: (N,)."""
    entries = [
        charge * terms.jacobian_react.get((r, c), 0.0) + current * terms.jacobian_resist.get((r, c), 0.0)
        for r in range(1, size + 1)
        for c in range(1, size + 1)
    ]
    if not entries:
        return current.new_zeros((current.numel(), 0, 0))
    return torch.stack(entries, -1).reshape(current.numel(), size, size)


def solve_step(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """matrix^-1 right for (N, n, n) and (n, N); not finite where the matrix is singular."""
    size = matrix.shape[-1]
    if size == 0:
        return right
    if size == 1:
        return right / matrix[:, 0, 0]
    solution, info = torch.linalg.solve_ex(matrix, right.T.unsqueeze(-1))
    return torch.where(info == 0, solution.squeeze(-1).T, math.nan)


def _is_zero(value: Value) -> bool:
    return not isinstance(value, torch.Tensor) and value == 0.0


def _full(value: Value, like: torch.Tensor) -> torch.Tensor:
    return value.expand(like.shape) if isinstance(value, torch.Tensor) else torch.full_like(like, value)


def stack(values: Sequence[Value], like: torch.Tensor) -> torch.Tensor:
    if not values:
        return like.new_zeros((0, *like.shape))
    return torch.stack([_full(value, like) for value in values])


def _combine(weights: Sequence[float], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = total + weight * tensor
    return total


def _linear(
    values: Sequence[Value],
    jacobian: Mapping[tuple[int, int], Value],
    change: torch.Tensor,
    like: torch.Tensor,
) -> torch.Tensor:
    """values + jacobian @ change, over all rows: (1 + n, N)."""
    rows = [_full(value, like) for value in values]
    for (row, column), entry in jacobian.items():
        if column > 0 and not _is_zero(entry):
            rows[row] = rows[row] + entry * change[column - 1]
    return torch.stack(rows)
