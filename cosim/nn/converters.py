"""Converters: what drives the word lines (DAC) and what reads the bit lines (ADC).

Ranges are fixed, calibrated, or those of the first inputs, and then stay, so that an output does not
depend on what else is in its batch. Gradients pass straight through a quantiser where it does not clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from cosim.checks import as_choice, as_flag, as_integer, as_interval, as_number
from cosim.errors import SpecError
from cosim.nn.rounding import straight_through

__all__ = ["ADC", "DAC", "METHODS"]

METHODS = ("linear", "log", "minmax", "log_minmax", "tanh")
_PER = ("layer", "tile", "column")
_AT = ("column", "difference")
_SMALLEST = 1e-30  # relative to the range; keeps the logarithm of 0 finite


@final
@dataclass(frozen=True, kw_only=True)
class DAC:
    """How inputs become voltages: full scale becomes ``v_max`` volt, and no row is driven with more.

    bits: resolution; inputs beyond full scale are clipped. None: a continuous driver; a vector beyond
    full scale is driven weaker as a whole, its largest input with v_max, and its output scaled back.
    v_max: V; None: inputs are volts, without a limit.
    full_scale: the input that becomes v_max. None: the largest of the first inputs, or of ``calibrate``.
    signed: codes on both sides of 0; otherwise 0 to full scale, and negative inputs are 0.

    Raises SpecError for a value out of range, and for options that do not go together.

    >>> DAC(bits=3).convert(torch.tensor([-1.2, 0.3, 0.7]), torch.tensor(1.0)).tolist()
    [-1.0, 0.3333333432674408, 0.6666666865348816]
    >>> volts, per_volt = DAC(v_max=0.1).drive(torch.tensor([[0.5, -4.0]]), torch.tensor(2.0))
    >>> [f"{v:.4f}" for v in volts[0].tolist()], round(float(per_volt), 4)
    (['0.0125', '-0.1000'], 40.0)
    """

    bits: int | None = None
    v_max: float | None = 0.1
    full_scale: float | None = None
    signed: bool = True

    def __post_init__(self) -> None:
        for name in ("v_max", "full_scale"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, as_number(value, f"DAC.{name}", above=0))
        object.__setattr__(self, "signed", as_flag(self.signed, "DAC.signed"))
        if self.bits is not None:
            least = 2 if self.signed else 1
            object.__setattr__(self, "bits", as_integer(self.bits, "DAC.bits", at_least=least, at_most=24))
        if self.bits is None and not self.signed:
            raise SpecError("signed=False needs bits: a continuous driver does not clip")
        if self.v_max is None and (self.bits is not None or self.full_scale is not None):
            raise SpecError("DAC.v_max is None, inputs are volts: bits= and full_scale= need a v_max")

    def convert(self, inputs: torch.Tensor, full_scale: torch.Tensor) -> torch.Tensor:
        """The inputs as they leave the converter, still in input units; any shape."""
        if self.bits is None:
            return inputs
        low, codes = (-1.0, 2 ** (self.bits - 1) - 1) if self.signed else (0.0, 2**self.bits - 1)
        unit = inputs / full_scale
        quantised = (unit.detach().clamp(low, 1.0) * codes).round() / codes
        return straight_through(unit, quantised, (unit >= low) & (unit <= 1.0)) * full_scale

    def beyond(self, inputs: torch.Tensor, full_scale: torch.Tensor) -> torch.Tensor:
        """Where inputs are outside full scale, booleans."""
        return (inputs.abs() > full_scale) if self.signed else (inputs < 0) | (inputs > full_scale)

    def drive(self, inputs: torch.Tensor, full_scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs ``(..., n, inputs)`` as V, and what one volt stands for, ``(..., n, 1)`` or one number."""
        if self.v_max is None:
            return inputs, full_scale.new_ones(())
        inputs = self.convert(inputs, full_scale)
        if self.bits is None:
            full_scale = torch.maximum(full_scale, inputs.abs().amax(-1, keepdim=True))
        # in this order the largest is v_max exactly, never a rounding more
        return inputs / full_scale * self.v_max, full_scale / self.v_max


@final
@dataclass(frozen=True, kw_only=True)
class ADC:
    """How currents become numbers; one conversion for every tile, column and vector.

    bits: 2 to 24. method, with M the range, x the current and b the bits:

    - "linear": two's complement, step 2^(1-b) times the power of two at or above M;
    - "minmax": 2^b codes from the lowest to the highest current;
    - "log": sign, and ln(abs(x)/M) by "linear" with b-1 bits;
    - "log_minmax": sign, and ln(abs(x)) by "minmax" with b-1 bits;
    - "tanh": "minmax" of tanh(x/M) over -1 to 1; the outermost codes read half a step inside.

    per: one range for each "layer", "tile" or "column" (of a tile). at: convert every physical
    "column", or the "difference" of a pair after analog subtraction; the same without pairs.
    range: (low, high) in A, fixed; for the logarithms both above 0, of the magnitude. None:
    of the first inputs, or of ``calibrate``. overflow_rate: share of the calibration currents left outside.

    Raises SpecError for an unknown method, a value out of its range, or an impossible range.

    >>> adc = ADC(bits=3, method="minmax", range=(0.0, 7e-6))
    >>> low, high = adc.fixed_range()
    >>> [f"{x:.1g}" for x in adc.convert(torch.tensor([3.2e-6, 9e-6]), low, high).tolist()]
    ['3e-06', '7e-06']
    """

    bits: int
    method: str = "linear"
    per: str = "tile"
    at: str = "difference"
    range: tuple[float, float] | None = None
    overflow_rate: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "bits": as_integer(self.bits, "ADC.bits", at_least=2, at_most=24),
            "method": as_choice(self.method, "ADC.method", METHODS),
            "per": as_choice(self.per, "ADC.per", _PER),
            "at": as_choice(self.at, "ADC.at", _AT),
            "overflow_rate": as_number(self.overflow_rate, "ADC.overflow_rate", at_least=0, below=1),
        }
        if self.range is not None:
            # the logarithms are of magnitudes
            checked["range"] = as_interval(self.range, "ADC.range", above=0 if self._logarithmic else None)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def _logarithmic(self) -> bool:
        return self.method in ("log", "log_minmax")

    def fixed_range(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The fixed range as two tensors; SpecError without one."""
        if self.range is None:
            raise SpecError("this ADC has no fixed range: calibrate it")
        low, high = (torch.tensor(value, dtype=torch.float64) for value in self.range)
        return low, high

    def calibrate(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Low and high (A) for each row of currents ``(ranges, samples)``; both ``(ranges,)``.

        ``overflow_rate`` of the values are outside (with two-sided methods, half on each side).
        The logarithms see magnitudes above 0 only.
        """
        values = values.detach()
        if self.method in ("linear", "tanh"):
            high = _quantile(values.abs(), 1 - self.overflow_rate)
            return -high, high
        if self.method == "minmax":
            half = self.overflow_rate / 2
            return _quantile(values, half), _quantile(values, 1 - half)
        magnitude = values.abs()
        high = _quantile(magnitude, 1 - self.overflow_rate / 2)
        least = torch.where(magnitude > 0, magnitude, torch.inf)
        low = _quantile(least, self.overflow_rate / 2)
        return torch.where(low.isfinite(), torch.minimum(low, high), high), high

    def convert(self, values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """What the converter reads, in A; ``low`` and ``high`` broadcast with ``values``.

        Where the range is empty (all currents were 0) or not known, NaN, the value passes unchanged.
        """
        low, high = low.to(values), high.to(values)
        exact = values.detach()
        limit, usable = _limit(low, high)
        read = {
            "linear": self._linear,
            "minmax": self._minmax,
            "log": self._log,
            "log_minmax": self._log_minmax,
            "tanh": self._tanh,
        }[self.method](exact, low, high, limit)
        read = torch.where(usable, read, exact)
        if not values.requires_grad:
            return read
        return straight_through(values, read, self._inside(exact, low, high, limit) | ~usable)

    def beyond(self, values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Where currents lie outside the range, booleans; nowhere without a range."""
        limit, usable = _limit(low, high)
        return ~self._inside(values.detach(), low, high, limit) & usable

    def _inside(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        """Where the range is not exceeded: gradients pass there."""
        if self.method == "minmax":
            return (x >= low) & (x <= high)
        # the codes of two's complement reach to the power of two
        return x.abs() <= (torch.exp2(limit.log2().ceil()) if self.method == "linear" else limit)

    def _linear(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        return _two_complement(x, limit, self.bits)

    def _minmax(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        return _uniform(x, low, high, self.bits)

    def _log(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        log = (x.abs() / limit).clamp(min=_SMALLEST).log()
        span = (low.abs() / limit).clamp(min=_SMALLEST).log().abs()
        span = torch.where(span > 0, span, torch.ones_like(span))
        return x.sign() * _two_complement(log, span, self.bits - 1).exp() * limit

    def _log_minmax(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        log, bottom = ((part.abs() / limit).clamp(min=_SMALLEST).log() for part in (x, low))
        return x.sign() * _uniform(log, bottom, torch.zeros_like(bottom), self.bits - 1).exp() * limit

    def _tanh(
        self, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, limit: torch.Tensor
    ) -> torch.Tensor:
        codes = 2**self.bits - 1
        code = ((torch.tanh(x / limit) + 1) / 2 * codes).round().clamp(0.5, codes - 0.5)
        return torch.atanh(2 * code / codes - 1) * limit


def _limit(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest magnitude of a range, 1 where there is no range, and where there is one."""
    limit = torch.maximum(low.abs(), high.abs())
    usable = limit > 0
    return torch.where(usable, limit, torch.ones_like(limit)), usable


def _two_complement(x: torch.Tensor, limit: torch.Tensor, bits: int) -> torch.Tensor:
    step = torch.exp2(1 - bits + limit.log2().ceil())
    return (x / step + 0.5).floor().clamp(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) * step


def _uniform(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int) -> torch.Tensor:
    codes = 2**bits - 1
    step = (high - low) / codes
    one = step <= 0  # a single level
    code = ((x - low) / torch.where(one, torch.ones_like(step), step) + 0.5).floor().clamp(0, codes)
    return low + code * torch.where(one, torch.zeros_like(step), step)


def _quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Per row, the value with ``share`` of the row at or below it (an entry of the row)."""
    count = values.shape[-1]
    place = min(max(round(share * (count - 1)), 0), count - 1)
    if place == count - 1:
        return values.amax(-1)
    return values.amin(-1) if place == 0 else values.kthvalue(place + 1, dim=-1).values
