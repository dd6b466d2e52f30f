"""What a random sample says about everything that it was drawn from: values with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Errors", "Estimate", "rms_ratio", "share", "share_beyond"]

_NOTHING = 1e-12  # of a sum: what its rounding leaves


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value, and the confidence interval ``low`` to ``high`` of what it estimates.

    >>> print(Estimate(value=0.012, low=0.01, high=0.015))
    0.012 (0.01 to 0.015)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2g} ({self.low:.2g} to {self.high:.2g})"


def rms_ratio(
    error: torch.Tensor, reference: torch.Tensor, *, confidence: float, population: float = math.inf
) -> Estimate:
    """Root of sum(error) / sum(reference) over ``population`` units, from a random sample of them.

    error, reference: ``(n,)`` sums of squares of each sampled unit. The interval is symmetric on the
    logarithm: variance by the jackknife (Efron, Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 11) with the finite population correction, and the quantile of Student's t. Relative to 1
    where the reference is 0. NaN for n = 0; without a bound where one unit holds all there is.

    >>> estimate = rms_ratio(torch.tensor([4.0, 4.0]), torch.tensor([100.0, 100.0]), confidence=0.95)
    >>> print(estimate)
    0.2 (0.2 to 0.2)
    """
    from scipy.stats import t as student

    error, reference = error.double(), reference.double()
    count, top, bottom = len(error), float(error.sum()), float(reference.sum())
    if count == 0:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    value = math.sqrt(top / (bottom or 1.0))
    if count >= population:
        return Estimate(value=value, low=value, high=value)
    without = [total - part for total, part in ((top, error), (bottom, reference))]
    if any(float(rest.min()) <= _NOTHING * total for rest, total in zip(without, (top, bottom), strict=True)):
        return Estimate(value=value, low=0.0, high=math.inf)
    logarithms = (without[0] / without[1]).log()
    variance = (count - 1) * float(logarithms.var(correction=0)) * (1 - count / population)
    # of the root of the ratio, whose logarithm is half as wide
    half = 0.5 * float(student.ppf(0.5 + confidence / 2, count - 1)) * math.sqrt(variance)
    return Estimate(value=value, low=value * math.exp(-half), high=value * math.exp(half))


def share(successes: int, count: int, *, confidence: float) -> Estimate:
    """A share of ``count`` random units, with the interval of Wilson (J. Am. Stat. Assoc. 22, 1927).

    >>> print(share(10, 10, confidence=0.95))
    1 (0.72 to 1)
    """
    from scipy.stats import norm

    if count == 0:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    z2 = float(norm.ppf(0.5 + confidence / 2)) ** 2
    value = successes / count
    centre = (value + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (value * (1 - value) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(value=value, low=low if successes else 0.0, high=high if successes < count else 1.0)


def share_beyond(count: int, *, confidence: float, population: float = math.inf) -> float:
    """Upper bound of the share of units beyond the largest of ``count`` random ones, whatever they are.

    All of the sample misses a share p with probability (1 - p)^count (Wilks, Ann. Math. Stat. 12, 1941);
    nothing is missed where the sample is the whole ``population``.

    >>> f"{share_beyond(32, confidence=0.95):.3f}"
    '0.089'
    """
    if count >= population:
        return 0.0
    return 1 - (1 - confidence) ** (1 / count) if count else 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Errors:
    """Errors of sampled units, ``(n,)`` each: sums of squares, the largest, and how many values a unit has.

    >>> errors = Errors.between(torch.tensor([[1.1, 2.0]]), torch.tensor([[1.0, 2.0]]))
    >>> f"{errors.scale:.3f} {errors.worst:.3f}"
    '1.581 0.063'
    """

    squares: torch.Tensor
    reference: torch.Tensor
    largest: torch.Tensor
    values: torch.Tensor

    @classmethod
    def between(cls, found: torch.Tensor, truth: torch.Tensor) -> Errors:
        """Of units ``(n, values)`` against what they should be."""
        found, truth = found.detach().double().cpu(), truth.detach().double().cpu()
        error = found - truth
        count, values = error.shape
        return cls(
            squares=error.square().sum(1),
            reference=truth.square().sum(1),
            largest=error.abs().amax(1) if values else error.new_zeros(count),
            values=error.new_full((count,), values),
        )

    @classmethod
    def joined(cls, parts: Sequence[Errors]) -> Errors:
        """All units of all parts."""
        names = ("squares", "reference", "largest", "values")
        columns = [[getattr(part, name) for part in parts] or [torch.zeros(0)] for name in names]
        return cls(**{name: torch.cat(column) for name, column in zip(names, columns, strict=True)})

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def scale(self) -> float:
        """Rms of the reference; NaN without a unit."""
        return math.sqrt(float(self.reference.sum() / self.values.sum())) if len(self) else math.nan

    @property
    def worst(self) -> float:
        """The largest error over ``scale`` (over 1 where that is 0); NaN without a unit."""
        return float(self.largest.max()) / (self.scale or 1.0) if len(self) else math.nan

    def rms(self, *, confidence: float, population: float = math.inf) -> Estimate:
        """Rms of the error over that of the reference, with its interval (``rms_ratio``)."""
        return rms_ratio(self.squares, self.reference, confidence=confidence, population=population)
