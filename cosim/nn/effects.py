"""Non-idealities: small frozen values that act on cells, in any order, and so reach every engine.

``effect.apply(cells, generator)`` gives new cells; nothing is undone by a later effect. A cell that
is stuck stays stuck, and a conductance outside the reach of a cell is the nearest it can reach.
Equations: Lammie, Azghadi, Ielmini, Semicond. Sci. Technol. 36, 065003, 2021 (endurance, retention);
Boybat et al., NVMTS 2018 (drift).

>>> import cosim
>>> from cosim.nn.cells import conductance_range
>>> device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
>>> low, high = conductance_range(device, 0.1)
>>> cells = Cells(device=device, conductance=torch.full((1, 2, 2), 3e-5), low=low.float(),
...               high=high.float(), v_read=0.1, tile_shape=(2, 2))
>>> for effect in (DeviceFaults(hrs=0.5), FiniteStates(states=4)):
...     cells = effect.apply(cells, torch.Generator().manual_seed(0))
>>> sorted(f"{g:.1e}" for g in cells.actual.flatten().tolist())
['1.0e-06', '1.0e-06', '3.4e-05', '3.4e-05']
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch.distributions import Distribution

from cosim.checks import as_choice, as_instance, as_integer, as_number, shown
from cosim.errors import SpecError
from cosim.nn.cells import STUCK_HIGH, STUCK_LOW, Cells, choose
from cosim.nn.rounding import straight_through

_LARGEST_NOISE = 100.0  # of what fluctuates: beyond it there is no signal, and soon no number
_LARGEST_EXPONENT = 300.0  # exp of it, times what a resistance may be, is a float

__all__ = [
    "CycleVariability",
    "DeviceFaults",
    "DeviceVariability",
    "Drift",
    "Effect",
    "Endurance",
    "Failure",
    "FiniteStates",
    "ProgrammingNoise",
    "ReadNoise",
    "Retention",
    "StuckLines",
]


class Effect(abc.ABC):
    """Something that is not ideal about the cells."""

    @abc.abstractmethod
    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        """The cells with this effect; every random number comes from ``generator``."""


@final
@dataclass(frozen=True, kw_only=True)
class DeviceFaults(Effect):
    """Cells that cannot be switched: shares of all cells, drawn without repetition.

    lrs: stuck at the cell's highest conductance. hrs: at its lowest. electroform: never formed, at
    its lowest too. Exactly ``int(share * cells)`` of each.
    """

    lrs: float = 0.0
    hrs: float = 0.0
    electroform: float = 0.0

    def __post_init__(self) -> None:
        _check_shares(self, ("lrs", "hrs", "electroform"))

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        total = cells.conductance.numel()
        high, low = int(total * self.lrs), int(total * (self.hrs + self.electroform))
        places = choose(cells.shape, high + low, generator).to(cells.conductance.device)
        cells = cells.stick(_mask(cells.shape, places[:high]), STUCK_HIGH)
        return cells.stick(_mask(cells.shape, places[high:]), STUCK_LOW)


@final
@dataclass(frozen=True, kw_only=True)
class StuckLines(Effect):
    """Whole lines of a tile whose cells are stuck: shares of the used word lines and bit lines.

    at: "hrs" (an open line carries next to nothing) or "lrs" (every cell shorted).
    """

    rows: float = 0.0
    columns: float = 0.0
    at: str = "hrs"

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            _check_number(self, name, at_least=0, at_most=1)
        as_choice(self.at, "StuckLines.at", ("hrs", "lrs"))

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        groups, rows, columns = cells.shape
        height, width = cells.tile_shape
        word = (groups, rows, math.ceil(columns / width))
        bit = (groups, math.ceil(rows / height), columns)
        masks = []
        for shape, share in ((word, self.rows), (bit, self.columns)):
            places = choose(shape, int(math.prod(shape) * share), generator)
            masks.append(_mask(shape, places.to(cells.conductance.device)))
        where = masks[0].repeat_interleave(width, -1)[..., :columns]
        where = where | masks[1].repeat_interleave(height, -2)[:, :rows]
        return cells.stick(where, STUCK_LOW if self.at == "hrs" else STUCK_HIGH)


@final
@dataclass(frozen=True, kw_only=True)
class FiniteStates(Effect):
    """``states`` conductances per cell, evenly spaced over its own reach: the nearest is taken."""

    states: int

    def __post_init__(self) -> None:
        _set(self, "states", as_integer(self.states, "FiniteStates.states", at_least=2, at_most=2**24))

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        step = (cells.high - cells.low) / (self.states - 1)
        level = (cells.actual - cells.low) / step
        return cells.write(cells.low + straight_through(level, level.round()) * step)


@final
@dataclass(frozen=True, kw_only=True)
class DeviceVariability(Effect):
    """Device to device: parameters of the model drawn once per cell.

    parameters: name -> ``torch.distributions`` with an inverse CDF. What was written is kept as far
    as each cell can reach it. A draw outside a parameter's range is an error.
    """

    parameters: Mapping[str, Distribution]

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Mapping) or not self.parameters:
            raise SpecError("DeviceVariability needs at least one parameter with a distribution")
        for name, value in self.parameters.items():
            if not isinstance(value, Distribution):
                raise SpecError(f"DeviceVariability: {name} is {shown(value)}, not a torch distribution")

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        device = cells.device.replace(**self.parameters).sample(cells.shape, generator=generator)
        moved = {
            name: value.to(cells.conductance.device)
            for name, value in device.given.items()
            if isinstance(value, torch.Tensor)
        }
        return cells.with_device(device.replace(**moved))


@final
@dataclass(frozen=True, kw_only=True)
class CycleVariability(Effect):
    """Cycle to cycle: how far each cell switched in this write, drawn once per cell.

    r_on, r_off: distributions of the resistance (ohm) that this SET and this RESET reached; the
    conductance is clipped to 1/r_off to 1/r_on. A cell for which r_off is not above r_on is drawn
    again, at most 20 times.
    """

    r_on: Distribution
    r_off: Distribution

    def __post_init__(self) -> None:
        for name in ("r_on", "r_off"):
            as_instance(
                getattr(self, name), f"CycleVariability.{name}", Distribution, "a torch distribution of ohm"
            )

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        r_on, r_off = (_draw(d, cells.shape, generator) for d in (self.r_on, self.r_off))
        for _ in range(20):
            bad = (r_on <= 0) | (r_off <= r_on)
            if not bool(bad.any()):
                break
            for drawn, distribution in ((r_on, self.r_on), (r_off, self.r_off)):
                drawn[bad] = _draw(distribution, (int(bad.sum()),), generator)
        else:
            raise SpecError(
                f"r_on {self.r_on} and r_off {self.r_off} overlap: after 20 draws {int(bad.sum())} cells "
                "still have r_off at or below r_on; narrow the distributions"
            )
        low, high = (1 / part.to(cells.conductance) for part in (r_off, r_on))
        return cells.write(cells.actual.clamp(low, high))


@final
@dataclass(frozen=True, kw_only=True)
class ProgrammingNoise(Effect):
    """What a write misses its target by: normal, ``sigma`` relative to the target.

    of: "target", or "range" for ``sigma`` relative to the reach of the cell.
    """

    sigma: float
    of: str = "target"

    def __post_init__(self) -> None:
        _check_number(self, "sigma", at_least=0, at_most=_LARGEST_NOISE)
        as_choice(self.of, "ProgrammingNoise.of", ("target", "range"))

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        target = cells.actual
        size = target if self.of == "target" else cells.high - cells.low
        return cells.write(target + self.sigma * size * _normal(cells, generator))


@final
@dataclass(frozen=True, kw_only=True)
class ReadNoise(Effect):
    """Fluctuation of every cell, drawn anew at every read: ``sigma`` relative to its conductance.

    Cells fluctuate independently, so the current of a column gets one normal draw with the variance
    of the sum: sigma^2 times the sum of (V_i G_ij)^2. Two such effects add in variance.
    """

    sigma: float

    def __post_init__(self) -> None:
        _check_number(self, "sigma", at_least=0, at_most=_LARGEST_NOISE)

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return replace(cells, read_noise=math.hypot(cells.read_noise, self.sigma))


@dataclass(frozen=True, kw_only=True)
class Failure(Effect):
    """Failure of LRS and HRS cells after ``x`` cycles or seconds; each end has its own parameters.

    p_lrs, p_hrs: (p0, p1, p2, p3); None: cells of that state do not fail. The threshold is
    p0*exp(p1*cell_size + p2*Tc), with Tc = min(temperature_threshold/temperature, 1), or 0 without
    temperatures. Beyond it a cell goes to ``stable_lrs``/``stable_hrs`` ohm (mode "sudden"), or its
    resistance follows the power law of x with exponent p3*(p1*cell_size + p2*Tc) ("gradual").
    A cell counts as LRS below the mean of its lowest and highest resistance. cell_size: nm;
    temperature: K.
    """

    mode: str = "gradual"
    p_lrs: tuple[float, float, float, float] | None = None
    p_hrs: tuple[float, float, float, float] | None = None
    stable_lrs: float | None = None
    stable_hrs: float | None = None
    cell_size: float = 10.0
    temperature: float | None = None
    temperature_threshold: float | None = None

    def _check(self) -> None:
        name = type(self).__name__
        as_choice(self.mode, f"{name}.mode", ("sudden", "gradual"))
        if self.p_lrs is None and self.p_hrs is None:
            raise SpecError(f"{name} needs p_lrs=, p_hrs=, or both: (p0, p1, p2, p3) of the fit")
        if (self.temperature is None) != (self.temperature_threshold is None):
            raise SpecError(f"{name}: temperature= and temperature_threshold= go together")
        _check_number(self, "cell_size", above=0)
        for field in ("temperature", "temperature_threshold", "stable_lrs", "stable_hrs"):
            if getattr(self, field) is not None:
                _check_number(self, field, above=0)
        for end in ("lrs", "hrs"):
            if getattr(self, f"p_{end}") is not None:
                self._check_fit(f"p_{end}")
            if (self.mode == "sudden" and getattr(self, f"p_{end}") is not None) != (
                getattr(self, f"stable_{end}") is not None
            ):
                raise SpecError(f"{name}: stable_{end}= goes with p_{end}= and mode='sudden'")

    def _check_fit(self, field: str) -> None:
        """SpecError unless the four numbers give a threshold and a power law that are finite."""
        name, given = f"{type(self).__name__}.{field}", getattr(self, field)
        try:
            p = tuple(as_number(value, name) for value in given)
        except (TypeError, SpecError):
            p = ()
        if len(p) != 4 or p[0] <= 0:
            raise SpecError(f"{name} is {shown(given)}: four finite numbers, the first above 0")
        exponent = p[1] * self.cell_size + p[2] * self._heat
        if not (abs(exponent) < _LARGEST_EXPONENT and abs(p[3] * exponent) < _LARGEST_EXPONENT):
            raise SpecError(
                f"{name} is {shown(given)}: p1*cell_size + p2*Tc is {exponent:.3g} and p3 times that "
                f"{p[3] * exponent:.3g}: both must lie within {_LARGEST_EXPONENT:g}"
            )
        _set(self, field, p)

    @property
    def _heat(self) -> float:
        if self.temperature is None or self.temperature_threshold is None:
            return 0.0
        return min(self.temperature_threshold / self.temperature, 1.0)

    def _fail(self, cells: Cells, x: float) -> Cells:
        now = cells.actual
        before, after = 1 / now.double(), now.double()  # powers leave the range of float32
        middle = 0.5 * (1 / cells.low + 1 / cells.high)
        for where, p, stable in (
            (before < middle, self.p_lrs, self.stable_lrs),
            (before > middle, self.p_hrs, self.stable_hrs),
        ):
            if p is not None:  # each cell by the state it was in, once
                after = torch.where(where, 1 / self._failed(before, x, p, stable), after)
        return cells.write(after.to(now))

    def _failed(
        self, resistance: torch.Tensor, x: float, p: tuple[float, ...], stable: float | None
    ) -> torch.Tensor:
        exponent = p[1] * self.cell_size + p[2] * self._heat
        threshold = math.log(p[0]) + exponent  # as a logarithm: it may be beyond a float
        if x == 0 or math.log(x) <= threshold:
            return resistance
        if self.mode == "sudden":
            assert stable is not None
            return torch.full_like(resistance, stable)
        # beyond a float: the cell is at the end of its reach
        logarithm = p[3] * exponent * (math.log(x) - threshold)
        return resistance * math.exp(max(-_LARGEST_EXPONENT, min(logarithm, _LARGEST_EXPONENT)))


@final
@dataclass(frozen=True, kw_only=True)
class Endurance(Failure):
    """Failure of LRS and HRS cells after ``cycles`` of writing, by the fit of ``Failure``."""

    cycles: float

    def __post_init__(self) -> None:
        _check_number(self, "cycles", at_least=0)
        self._check()

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return self._fail(cells, self.cycles)


@final
@dataclass(frozen=True, kw_only=True)
class Retention(Failure):
    """Failure of LRS and HRS cells after ``seconds`` without a write, by the fit of ``Failure``."""

    seconds: float

    def __post_init__(self) -> None:
        _check_number(self, "seconds", at_least=0)
        self._check()

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return self._fail(cells, self.seconds)


@final
@dataclass(frozen=True, kw_only=True)
class Drift(Effect):
    """Conductance drift G(t) = G (t/t0)^(-nu): ``seconds`` and ``initial`` (t0) in s.

    spread: standard deviation of nu from cell to cell.
    """

    seconds: float
    nu: float
    initial: float = 1.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seconds", "spread"):
            _check_number(self, name, at_least=0)
        _check_number(self, "nu", at_least=0, at_most=1)
        _check_number(self, "initial", above=0)
        if self.initial > self.seconds:
            raise SpecError(f"Drift.initial is {self.initial} s: above 0, at most seconds={self.seconds}")

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        nu = self.nu + self.spread * _normal(cells, generator) if self.spread else self.nu
        factor = torch.as_tensor(self.seconds / self.initial).to(cells.conductance) ** (-nu)
        return cells.write(cells.actual * factor)


def _set(effect: Effect, name: str, value: Any) -> None:
    object.__setattr__(effect, name, value)  # frozen for everyone else


def _check_number(effect: Effect, name: str, **limits: Any) -> None:
    _set(effect, name, as_number(getattr(effect, name), f"{type(effect).__name__}.{name}", **limits))


def _check_shares(effect: Effect, names: tuple[str, ...]) -> None:
    values = [as_number(getattr(effect, name), f"{type(effect).__name__}.{name}") for name in names]
    if not (all(0 <= value <= 1 for value in values) and sum(values) <= 1):
        given = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise SpecError(f"{type(effect).__name__}: {given}: shares between 0 and 1, together at most 1")
    for name, value in zip(names, values, strict=True):
        _set(effect, name, value)


def _mask(shape: tuple[int, ...], places: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(math.prod(shape), dtype=torch.bool, device=places.device)
    mask[places] = True
    return mask.reshape(shape)


def _normal(cells: Cells, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(cells.shape, generator=generator, device=generator.device, dtype=torch.float64)
    return drawn.to(cells.conductance)


def _draw(distribution: Distribution, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    try:
        return distribution.icdf(uniform)
    except NotImplementedError as error:
        raise SpecError(
            f"{type(distribution).__name__} has no inverse CDF, so it cannot be drawn with an explicit "
            "generator: use Normal, Uniform, LogNormal, ..."
        ) from error
