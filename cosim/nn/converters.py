"""Converters: what drives the word lines (DAC) and what reads the bit lines (ADC).

Ranges are calibrated once or fixed, never taken from the batch, so that an output does not depend
on what else is in its batch. Gradients pass straight through a quantiser where it does not clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

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
    """How inputs become voltages: full scale becomes ``v_max`` volt.

    bits: resolution; None for a continuous driver, which does not clip either.
    full_scale: the input that becomes v_max. None: 1.0, until the model is calibrated.
    signed: codes on both sides of 0; otherwise 0 to full scale, and negative inputs are 0.

    >>> DAC(bits=3).convert(torch.tensor([-1.2, 0.3, 0.7]), torch.tensor(1.0)).tolist()
    [-1.0, 0.3333333432674408, 0.6666666865348816]
    """

    bits: int | None = None
    v_max: float = 0.1
    full_scale: float | None = None
    signed: bool = True

    def __post_init__(self) -> None:
        if self.bits is not None:
            _check_bits("DAC.bits", self.bits, 2 if self.signed else 1)
        for name in ("v_max", "full_scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SpecError(f"DAC.{name} is {value}: it must be finite and above 0")
        if self.bits is None and not self.signed:
            raise SpecError("signed=False needs bits: a continuous driver does not clip")

    def convert(self, inputs: torch.Tensor, full_scale: torch.Tensor) -> torch.Tensor:
        """The inputs as they leave the converter, still in input units; any shape."""
        if self.bits is None:
            return inputs
        low, codes = (-1.0, 2 ** (self.bits - 1) - 1) if self.signed else (0.0, 2**self.bits - 1)
        unit = inputs / full_scale
        quantised = (unit.detach().clamp(low, 1.0) * codes).round() / codes
        return straight_through(unit, quantised, (unit >= low) & (unit <= 1.0)) * full_scale


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
    calibrated. overflow_rate: share of the calibration currents left outside.

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
        _check_bits("ADC.bits", self.bits, 2)
        for name, known in (("method", METHODS), ("per", _PER), ("at", _AT)):
            if getattr(self, name) not in known:
                raise SpecError(f"ADC.{name} is {getattr(self, name)!r}: choose from {', '.join(known)}")
        if not 0 <= self.overflow_rate < 1:
            raise SpecError(f"ADC.overflow_rate is {self.overflow_rate}: it must lie from 0 to below 1")
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise SpecError(f"ADC.range is {self.range}: two finite currents in A, low below high")
            if self._logarithmic and low <= 0:
                raise SpecError(f"ADC.range is {self.range}: {self.method!r} needs magnitudes above 0")

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

        Where the range is empty (all currents were 0) the value passes unchanged.
        """
        low, high = low.to(values), high.to(values)
        exact = values.detach()
        limit = torch.maximum(low.abs(), high.abs())
        usable = limit > 0
        limit = torch.where(usable, limit, torch.ones_like(limit))
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


def _check_bits(name: str, bits: int, least: int) -> None:
    if not isinstance(bits, int) or isinstance(bits, bool) or not least <= bits <= 24:
        raise SpecError(f"{name} is {bits!r}: it must be an integer from {least} to 24")
