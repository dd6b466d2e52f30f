"""What drives a device: a waveform over time, and what limits its current on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cosim.arrays import Array, as_tensor, check_finite
from cosim.checks import as_number, shown
from cosim.devices.driven import Driven
from cosim.devices.print_torch import Terms, TorchModel, Value
from cosim.errors import SpecError

__all__ = ["Drive", "Limited", "make_drive"]


@dataclass(frozen=True, kw_only=True)
class Drive:
    """A source, and the resistance and limits between it and the device.

    time: (T,) s, rising from 0. voltage: (T, *cells) V, linear between. ohm: between source and device,
    0 for none. low, high: A, what the current is kept between. others: (T, *cells) V of the terminals
    beyond the pair, by name.
    """

    time: torch.Tensor
    voltage: torch.Tensor
    ohm: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    others: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def direct(self) -> bool:
        """The voltage of the device is that of the source."""
        return self.ohm == 0.0

    @property
    def scale(self) -> float:
        """Ohm, of a drop beyond the limits: a volt at the limit, as large as that of the device."""
        finite = [abs(limit) for limit in (self.low, self.high) if math.isfinite(limit)]
        return max(self.ohm, 1.0 / max(finite)) if finite else self.ohm

    def current(self, drop: torch.Tensor) -> torch.Tensor:
        """A, at the unknown ``drop`` (V): over ``scale`` ohm, within the limits."""
        return (drop / self.scale).clamp(self.low, self.high)

    def across(self, source: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
        """Voltage of the device, V: what the source has more drops over the resistance, or on a limit."""
        return source - drop + (self.scale - self.ohm) * self.current(drop)

    @property
    def limits(self) -> bool:
        """The current is limited."""
        return self.low > -math.inf or self.high < math.inf


def make_drive(
    voltage: Array,
    dt: float | None = None,
    *,
    time: Array | None = None,
    series: float = 0.0,
    compliance: float | Sequence[float] | None = None,
) -> Drive:
    """The checked drive that the arguments of ``simulate`` describe; SpecError says which is wrong."""
    volts = check_finite(as_tensor(voltage, "voltage"), "voltage").to(torch.float64)
    if volts.ndim == 0 or volts.shape[0] < 2:
        raise SpecError(
            f"voltage has shape {tuple(volts.shape)}: a waveform is (time,) or (time, *cells), "
            "with two samples or more"
        )
    seconds = _seconds(dt, time, volts.shape[0]).to(volts.device)
    series = as_number(series, "series", at_least=0)
    low, high = _limits(compliance)
    if series == 0.0 and compliance is not None:
        raise SpecError(
            f"compliance is {compliance!r} A without a resistance: give series= too, the ohm between source "
            "and device (of the source's output, the probes or a selector)"
        )
    return Drive(time=seconds, voltage=volts, ohm=series, low=low, high=high)


def _seconds(dt: float | None, time: Array | None, samples: int) -> torch.Tensor:
    if (dt is None) == (time is None):
        raise SpecError("give exactly one of dt= (s between samples) and time= (s of each sample)")
    if time is None:
        dt = as_number(dt, "dt", above=0)
        return dt * torch.arange(samples, dtype=torch.float64)
    seconds = check_finite(as_tensor(time, "time"), "time").detach().to("cpu", torch.float64)
    if seconds.shape != (samples,):
        raise SpecError(f"time has shape {tuple(seconds.shape)}: the waveform has {samples} samples")
    if float(seconds[0]) != 0.0:
        raise SpecError(f"time[0] is {float(seconds[0])} s: a waveform starts at 0 s")
    back = (seconds.diff() <= 0).nonzero()
    if len(back):
        k = int(back[0]) + 1
        raise SpecError(
            f"time[{k}] is {float(seconds[k])} s, not after {float(seconds[k - 1])} s: times must rise; "
            "for a jump of the voltage leave a short time between its ends"
        )
    return seconds


def _limits(compliance: float | Sequence[float] | None) -> tuple[float, float]:
    if compliance is None:
        return -math.inf, math.inf
    try:
        ends: Any = compliance if isinstance(compliance, Sequence) else (-compliance, compliance)
        low, high = (as_number(end, "compliance", infinite=True) for end in ends)
        if low < 0 < high and not (math.isinf(low) and math.isinf(high)):
            return low, high
    except (TypeError, ValueError, RuntimeError):  # no pair, no number, or SpecError
        pass
    raise SpecError(
        f"compliance is {shown(compliance)} A: give a number above 0 for both signs, or (low, high) with "
        "low below 0 and high above it, one of them finite"
    )


class Limited:
    """A model behind the resistance and limits of a drive.

    The first internal unknown is the place on the bent line of the drive (``Drive.current``): along it
    current and voltage both move one way, so that Newton does not jump to and fro between the limits.
    """

    def __init__(self, model: TorchModel | Driven, drive: Drive) -> None:
        self._model, self._drive = model, drive
        self.internal = (model.nodes[0], *model.internal)
        self.removed = model.removed
        self.varying, self.kept, self.discrete = model.varying, model.kept, model.discrete

    def __call__(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> Terms:
        """Terms with the source as the first row: its current flows into the terminal."""
        drive, drop = self._drive, unknowns[1]
        terms = self._model(self._behind(unknowns), parameters, abstime)
        current = drive.current(drop)
        free = (drop > drive.low * drive.scale) & (drop < drive.high * drive.scale)
        slope = torch.where(free, 1.0 / drive.scale, 0.0)
        along = torch.where(free, -drive.ohm / drive.scale, -1.0)  # of the device's voltage by the drop
        resist = _lower(terms.jacobian_resist, along)
        resist |= {(0, 1): slope, (1, 1): resist.get((1, 1), 0.0) - slope}
        return Terms(
            [current, terms.resist[0] - current, *terms.resist[1:]],
            [0.0, *terms.react],
            resist,
            _lower(terms.jacobian_react, along),
        )

    def carry(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> list[torch.Tensor]:
        """As ``TorchModel.carry``."""
        return self._model.carry(self._behind(unknowns), parameters, abstime)

    def _behind(self, unknowns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The unknowns of the model itself."""
        source, drop, *inner = unknowns
        return [self._drive.across(source, drop), *inner]


def _lower(entries: Mapping[tuple[int, int], Value], along: torch.Tensor) -> dict[tuple[int, int], Value]:
    """Entries one row and column on; those of the terminal by the drop instead of its voltage."""

    def turned(column: int, value: Value) -> Value:
        constant = not isinstance(value, torch.Tensor) and value == 0.0  # must stay one: no charge is there
        return value if column or constant else value * along

    return {(r + 1, c + 1): turned(c, value) for (r, c), value in entries.items()}
