"""Gradients through a transient: its accepted steps made again, for autograd to follow.

The steps are taken as given, so the gradient is exact for the discrete solution; each stage is solved
outside of the graph, and one Newton step on top carries the gradient of the implicit function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cosim.devices.compiled import CompiledRun
from cosim.devices.integrator import Equation, Front, Integrator, Problem, Stage, Step, Tolerances
from cosim.devices.print_torch import Terms
from cosim.devices.tableau import NEWTON_LIMIT

__all__ = ["Replay", "replay"]


def replay(problem: Problem, tolerances: Tolerances, run: Integrator | CompiledRun) -> Replay:
    """The finished ``run`` of ``problem`` once more, with gradients."""
    again = Replay(problem, tolerances, track=run.track)
    again.follow(run.steps)
    return again


class Replay(Integrator):
    """``Integrator`` along steps that are known."""

    def follow(self, steps: Sequence[Step]) -> None:
        """Make ``steps``, then gather what was recorded at the samples."""
        for lengths, landed, active in _rounds(steps, self.problem.voltage.shape[1]):
            front = self._front = self._front.pick(active[self._front.device])
            step = lengths[front.device]
            attempt = self._attempt(front, step)
            every = torch.ones_like(step, dtype=torch.bool)
            self._accept(attempt, every, landed[front.device], step, self._kept(attempt, step))
        self._gather()

    def _begin(self) -> tuple[Front, list[int]]:
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        return super()._begin()

    def _record(self, front: Front, current: torch.Tensor) -> None:
        tracked = front.here.unknowns[list(self.track)]
        self._seen.append((front.sample, front.device, current, tracked))

    def _gather(self) -> None:
        sample, device, current, tracked = (torch.cat(part, -1) for part in zip(*self._seen, strict=True))
        samples, count = self.problem.voltage.shape
        order = torch.argsort(sample * count + device)
        self.current = current[order].reshape(samples, count)
        self.unknowns = [row[order].reshape(samples, count) for row in tracked]

    def _newton(self, equation: Equation, unknowns: torch.Tensor, left: int = NEWTON_LIMIT) -> Stage:
        with torch.no_grad():
            found = super()._newton(equation, unknowns, left)
        terms = self._terms(equation.parameters, equation.volts, equation.time, found.unknowns)
        stage = self._stage(equation, _fixed_slopes(terms), found.unknowns)
        return replace(stage, converged=found.converged)


def _fixed_slopes(terms: Terms) -> Terms:
    """``terms`` whose Jacobian has no gradient: it multiplies a step that is 0 but for rounding."""

    def fixed(entries: dict) -> dict:
        return {at: x.detach() if isinstance(x, torch.Tensor) else x for at, x in entries.items()}

    return replace(
        terms,
        jacobian_resist=fixed(dict(terms.jacobian_resist)),
        jacobian_react=fixed(dict(terms.jacobian_react)),
    )


def _rounds(steps: Sequence[Step], count: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The k-th step of every device: (length, landed, which devices have one), each (count,)."""
    device = torch.cat([step.device for step in steps])
    length, landed = torch.cat([s.length for s in steps]), torch.cat([s.landed for s in steps])
    order = torch.argsort(device, stable=True)
    device, length, landed = device[order], length[order], landed[order]
    made = torch.bincount(device, minlength=count)
    ends = made.cumsum(0)
    rounds = []
    for k in range(int(made.max())):
        active = made > k
        at = (ends - made + k).clamp(max=len(device) - 1)
        rounds.append((length[at], landed[at], active))
    return rounds
