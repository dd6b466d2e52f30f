"""The integrator in C, for few devices: the numbers of ``Integrator``, in a hundredth of the time.

Without a C compiler there is none, and torch integrates instead: the same method, later.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch

from cosim.devices.build import build
from cosim.devices.integrator import Failure, Problem, Step, Tolerances
from cosim.devices.print_steps import StepLoop
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
)
from cosim.errors import ToolNotFound

__all__ = ["CompiledRun", "transient_library"]

_BUDGET = 20_000  # steps of one call: some milliseconds, in which Ctrl-C waits
_DONE, _TOO_SMALL = 1, 2
_pointer, _integer, _real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class _Run(ctypes.Structure):
    """``Run`` of transient.c."""

    _fields_ = (
        *((name, _integer) for name in ("devices", "samples", "next")),
        *(
            (name, _pointer)
            for name in ("method", "constants", "fields", "time", "voltage", "start", "nominal", "memory")
        ),
        *((name, _real) for name in ("ohm", "scale", "low", "high", "rtol", "atol", "longest")),
        *((name, _integer) for name in ("max_steps", "tracks")),
        *((name, _pointer) for name in ("track", "current", "unknown", "front")),
        *((name, _integer) for name in ("steps", "rejected", "evaluations", "latched")),
        ("kept", _pointer),
        ("count", _integer),
    )


def transient_library(loop: StepLoop) -> ctypes.CDLL | None:
    """transient.c behind the equations of ``loop``; None without a compiler."""
    return _load(loop.text)


@functools.cache
def _load(text: str) -> ctypes.CDLL | None:
    try:
        loaded = ctypes.CDLL(str(build(text, "transient", fast=True)))
    except ToolNotFound:
        return None
    for name in ("cosim_advance", "cosim_front_size", "cosim_status"):
        getattr(loaded, name).restype = _integer
    loaded.cosim_status.argtypes = [ctypes.POINTER(_Run), _integer, _pointer, _pointer]
    loaded.cosim_advance.argtypes = [ctypes.POINTER(_Run), _integer]
    loaded.cosim_begin.argtypes = [ctypes.POINTER(_Run)]
    return loaded


class CompiledRun:
    """Runs a ``Problem`` in C; after ``run`` it holds what ``Integrator`` holds.

    ohm, scale, low, high: of the drive; 0 ohm where the source is at the terminal.
    """

    def __init__(
        self,
        problem: Problem,
        tolerances: Tolerances,
        library: ctypes.CDLL,
        loop: StepLoop,
        *,
        track: Sequence[int] = (),
        keep: bool = False,
        ohm: float = 0.0,
        scale: float = 0.0,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> None:
        self.problem, self.track, self._library = problem, tuple(track), library
        samples, devices = problem.voltage.shape
        like = problem.voltage
        self.current = torch.full_like(like, math.nan, memory_format=torch.contiguous_format)
        self._unknown = like.new_full((len(self.track), samples, devices), math.nan)
        self.steps: list[Step] = []
        self.failures: list[Failure] = []
        fields = [field.expand(devices) for field in loop.fields(problem.parameters)]
        fields = torch.stack(fields, -1) if fields else like.new_zeros((devices, 1))
        self._kept = like.new_zeros((_BUDGET if keep else 0, 3))
        self._front = ctypes.create_string_buffer(devices * library.cosim_front_size())
        held: dict[str, torch.Tensor] = {
            "method": _method(),
            "constants": torch.tensor(loop.constants, dtype=torch.float64),
            "fields": fields,
            "time": problem.time,
            "voltage": problem.voltage,
            "start": problem.start,
            "memory": torch.stack([problem.parameters[name] for name in problem.model.kept])
            if problem.model.kept
            else like.new_zeros((1, 1)),
            "nominal": torch.tensor(tolerances.nominal, dtype=torch.float64),
            "track": torch.tensor(self.track, dtype=torch.int64),
            "current": self.current,
            "unknown": self._unknown,
        }
        # C reads what lies there: float64, in order, and kept for as long as the run
        self._held = {name: x if name == "track" else x.double().contiguous() for name, x in held.items()}
        self._run = _Run(
            devices=devices,
            samples=samples,
            ohm=ohm,
            scale=scale,
            low=low,
            high=high,
            rtol=tolerances.rtol,
            atol=tolerances.atol,
            longest=float(problem.time.diff().max()),
            max_steps=tolerances.max_steps,
            tracks=len(self.track),
            front=ctypes.addressof(self._front),
            kept=self._kept.data_ptr() if keep else None,
            **{name: x.data_ptr() for name, x in self._held.items()},
        )

    @property
    def unknowns(self) -> list[torch.Tensor]:
        """The tracked unknowns, each (T, N)."""
        return list(self._unknown)

    @property
    def counts(self) -> dict[str, int]:
        return {name: getattr(self._run, name) for name in ("steps", "rejected", "evaluations", "latched")}

    def run(self, report: Callable[[float], None]) -> None:
        """Advance every device to the last sample; ``report`` is told the finished fraction."""
        code, run = self._library, ctypes.byref(self._run)
        code.cosim_begin(run)
        if self.problem.current is not None:
            self.current[0] = self.problem.current
        more = 1
        while more:
            more = code.cosim_advance(run, _BUDGET)
            if self._run.count:
                kept = self._kept[: self._run.count].clone()
                self.steps.append(Step(kept[:, 0].long(), kept[:, 1], kept[:, 2] > 0))
            report(self._fraction() if more else 1.0)
        for device in range(self._run.devices):
            self._note_failure(device)

    def _fraction(self) -> float:
        _, sample, _ = self._where(self._run.next)
        return (self._run.next + sample / (self._run.samples - 1)) / self._run.devices

    def _where(self, device: int) -> tuple[int, int, float]:
        sample, since = _integer(), _real()
        places = (ctypes.byref(sample), ctypes.byref(since))
        status = self._library.cosim_status(ctypes.byref(self._run), device, *places)
        return status, sample.value, since.value

    def _note_failure(self, device: int) -> None:
        status, sample, since = self._where(device)
        if status == _DONE:
            return
        time = self.problem.time
        if status == _TOO_SMALL:
            width = float(time[sample + 1] - time[sample])
            reason = f"the step fell below {SMALLEST_STEP * width:.3g} s"
        else:
            reason = f"max_steps = {self._run.max_steps} steps were made"
        self.failures.append(Failure(device, float(time[sample]) + since, reason))


def _method() -> torch.Tensor:
    """``Method`` of transient.c."""
    tableau, stages = ESDIRK32, len(ESDIRK32.c)
    rows = [[*row, *[0.0] * (stages - len(row))] for row in tableau.a]
    guesses = [tableau.predictor(i) if i > 1 else [] for i in range(stages)]
    guesses = [[*row, *[0.0] * (stages - len(row))] for row in guesses]
    control = (tableau.order, SAFETY, SHRINK, GROW, RETREAT, FIRST_STEP, SMALLEST_STEP, NEWTON_TOLERANCE)
    numbers = [tableau.gamma, *tableau.c, *itertools.chain(*rows, *guesses)]
    numbers += [*tableau.derivative, *tableau.error, *control, NEWTON_LIMIT, RESTART, LATCH]
    return torch.tensor(numbers, dtype=torch.float64)
