"""Interleaved timing: in every round each contender runs once, so that ratios compare the same minutes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from cosim.bench.contenders import Contender, SetUp, Solver
from cosim.bench.problems import Problem
from cosim.errors import CosimError

__all__ = ["Budget", "Measurement", "Spread", "growth", "measure", "relative_error", "spread", "timed"]

T = TypeVar("T")

_LEAST = 0.05  # s: shorter calls are repeated for this long
_COMPARED = 64  # vectors whose currents are compared
_EXPONENT = 3.2  # growth of times with the size in a forecast: sparse solvers 3, dense blocks 4


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contender on one case.

    setup: seconds in each round, empty if it has none. runs: number of vectors -> seconds in each
    round, without the set-up. error: largest current error relative to the largest current of
    ``reference``; None without a reference. note: why something is missing.
    """

    case: str
    size: int
    contender: str
    setup: tuple[float, ...] = ()
    runs: dict[int, tuple[float, ...]] = field(default_factory=dict)
    error: float | None = None
    reference: str = ""
    note: str = ""

    def total(self, vectors: int) -> tuple[float, ...]:
        """Seconds of set-up and solve together, in each round."""
        runs = self.runs.get(vectors, ())
        return tuple(a + b for a, b in zip(self.setup, runs, strict=False)) if self.setup else runs

    def per_vector(self) -> tuple[float, ...]:
        """Seconds per vector of the largest batch that ran, without the set-up."""
        if not self.runs:
            return ()
        vectors = max(self.runs)
        return tuple(seconds / vectors for seconds in self.runs[vectors])


@dataclass(frozen=True, kw_only=True)
class Spread:
    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of one value or more.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0, rounds=3)
    """
    return Spread(median=statistics.median(values), low=min(values), high=max(values), rounds=len(values))


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Exponent p of seconds ~ size^p, by least squares of the logarithms; None with fewer than two sizes.

    >>> round(growth([32, 64, 128], [1.0, 8.0, 64.0]), 6)
    3.0
    """
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


class Budget:
    """Seconds for the whole run, and what is too slow for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.monotonic()
        self._known: dict[tuple[str, str, int], tuple[int, float]] = {}

    @property
    def spent(self) -> float:
        return time.monotonic() - self._start

    @property
    def call(self) -> float:
        """Seconds that one call may take: so short that slow peers leave time for the large tiles."""
        return self.seconds / 30

    @property
    def share(self) -> float:
        """Seconds that one contender may spend on one case; the first round is always finished."""
        return self.seconds / 40

    def learn(self, key: tuple[str, str, int], size: int, seconds: float) -> None:
        """``key``: contender, kind of cells, number of vectors (0: the set-up)."""
        known, fastest = self._known.get(key, (size, math.inf))
        self._known[key] = size, min(seconds, fastest) if known == size else seconds

    def refusal(self, key: tuple[str, str, int], size: int) -> str:
        """Why a call should not start, judged by smaller ones before it; empty if it may."""
        if self.spent > self.seconds:
            return f"not run: the budget of {self.seconds:g} s is used up"
        contender, kind, vectors = key
        guesses = []
        for (other, other_kind, count), (known, seconds) in self._known.items():
            if (other, other_kind) == (contender, kind) and bool(count) == bool(vectors) and count <= vectors:
                batch = vectors / count if count else 1.0
                guesses.append(seconds * batch * (size / known) ** _EXPONENT)
        if not guesses or min(guesses) <= self.call:
            return ""
        return f"not run: could take {min(guesses):.0f} s"


def measure(
    problem: Problem, contenders: Sequence[Contender], *, rounds: int, budget: Budget
) -> tuple[list[Measurement], dict[str, torch.Tensor]]:
    """Times of the contenders that fit, and of each the currents of its first vectors (up to 64)."""
    lanes = [_Lane(contender, problem, budget) for contender in contenders if contender.fits(problem.case)]
    for turn in range(rounds):
        for lane in lanes[turn % len(lanes) :] + lanes[: turn % len(lanes)]:
            lane.run()
    return [lane.result() for lane in lanes], {
        lane.contender.name: lane.currents for lane in lanes if lane.currents is not None
    }


class _Lane:
    """One contender on one problem, over the rounds."""

    def __init__(self, contender: Contender, problem: Problem, budget: Budget) -> None:
        self.contender = contender
        self.problem = problem
        self.budget = budget
        self.currents: torch.Tensor | None = None
        self.setup: list[float] = []
        self.runs: dict[int, list[float]] = {}
        self.note = contender.missing
        self._set_up: SetUp | None = None
        self._closed = bool(contender.missing)
        self._spent = 0.0

    def run(self) -> None:
        """One round, unless this contender is done."""
        first = self._set_up is None
        late = self._spent > self.budget.share or self.budget.spent > self.budget.seconds
        if self._closed or (late and not first):
            return
        start = time.monotonic()
        try:
            self._round(first)
        except (CosimError, MemoryError, RuntimeError) as error:  # a peer that fails must not end the run
            self.note = f"failed: {' '.join(str(error).split())[:200]}"
            self._closed = True
        self._spent += time.monotonic() - start

    def _round(self, first: bool) -> None:
        if first and not self._may_start(0):
            self._closed = True
            return
        if self._set_up is None:
            self._set_up = self.contender.load(self.problem)
        seconds, solver = timed(self._set_up, self._place)
        if self.contender.sets_up:
            self.setup.append(seconds)
        self._learn(0, seconds)
        for vectors in self.problem.case.vectors:
            if vectors in self.runs or (first and self._may_start(vectors)):
                self._solve(solver, vectors)

    def _solve(self, solver: Solver, vectors: int) -> None:
        voltages = self.problem.voltages[:vectors]
        seconds, currents = timed(lambda: solver(voltages), self._place)
        self.currents = currents[:_COMPARED].detach().cpu()
        self.runs.setdefault(vectors, []).append(seconds)
        self._learn(vectors, seconds)

    @property
    def _place(self) -> torch.device:
        return self.problem.voltages.device

    def _key(self, vectors: int) -> tuple[str, str, int]:
        kind = "linear" if self.problem.case.linear else "nonlinear"  # its cases take about the same time
        return self.contender.name, kind, vectors

    def _learn(self, vectors: int, seconds: float) -> None:
        self.budget.learn(self._key(vectors), self.problem.case.size, seconds)

    def _may_start(self, vectors: int) -> bool:
        refusal = self.budget.refusal(self._key(vectors), self.problem.case.size)
        if refusal:
            what = f"{vectors} vectors " if vectors else ""
            self.note = "; ".join(filter(None, [self.note, what + refusal]))
        return not refusal

    def result(self) -> Measurement:
        return Measurement(
            case=self.problem.case.name,
            size=self.problem.case.size,
            contender=self.contender.name,
            setup=tuple(self.setup),
            runs={vectors: tuple(seconds) for vectors, seconds in self.runs.items()},
            note=self.note,
        )


def timed(call: Callable[[], T], place: torch.device) -> tuple[float, T]:
    """Seconds of one call, and its result; a short call is repeated, and the median counts."""
    seconds: list[float] = []
    begin = time.perf_counter()
    while True:
        _wait(place)
        start = time.perf_counter()
        result = call()
        _wait(place)
        end = time.perf_counter()
        seconds.append(end - start)
        if end - begin >= _LEAST:
            return statistics.median(seconds), result


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def relative_error(currents: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest error over the largest current, on the vectors that both have; NaN if any is unsolved."""
    count = min(len(currents), len(truth))
    largest = float(truth[:count].abs().max())
    error: Any = (currents[:count].to(truth) - truth[:count]).abs().max()
    return float(error) / largest if largest else math.nan
