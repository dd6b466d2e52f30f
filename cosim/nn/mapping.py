"""Mapping: weights to the conductances of physical columns, and currents back to outputs.

A layer with weight ``(*groups, outputs, inputs)`` becomes cells ``(*groups, inputs, columns)``; the
columns of one output are neighbours. A read-out is linear: differences of column pairs where the
scheme has pairs, then a weighted sum, minus an offset times the sum of the voltages.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import final

import torch

from cosim.arrays import Conductance, as_tensor, check_finite
from cosim.checks import as_integer, as_number
from cosim.errors import SpecError
from cosim.nn.rounding import straight_through

__all__ = ["BitSlicing", "DoubleColumn", "Mapped", "Scheme", "SingleColumn"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapped:
    """Weights as conductances.

    conductance: ``(*groups, inputs, columns)`` S. scale: S per unit of weight, one number (a tensor,
    so that gradients pass). offset: S that stands for weight 0 in each column; 0 where columns
    come in pairs.
    """

    conductance: Conductance
    scale: torch.Tensor
    offset: float


@dataclass(frozen=True, kw_only=True)
class Scheme(abc.ABC):
    """How one weight is held by ``columns`` neighbouring cells of a row.

    p_l: share of the largest magnitudes that are clipped, 0 to 1; None for no clipping. (MemTorch's
    ``naive_map`` calls the same number p_l.)
    """

    p_l: float | None = None

    def __post_init__(self) -> None:
        if self.p_l is not None:
            object.__setattr__(self, "p_l", as_number(self.p_l, "p_l", at_least=0, at_most=1))

    @property
    def significance(self) -> tuple[float, ...]:
        """What one unit of each column, or of each difference of a pair, counts for."""
        return (1.0,)

    @property
    @abc.abstractmethod
    def paired(self) -> bool:
        """True when columns come as neighbours (positive, negative) whose currents are subtracted."""

    @property
    def columns(self) -> int:
        """Physical columns of one output."""
        return len(self.significance) * (2 if self.paired else 1)

    @abc.abstractmethod
    def map(self, weight: torch.Tensor, g_min: float, g_max: float) -> Mapped:
        """Weights ``(*groups, outputs, inputs)`` as conductances between g_min and g_max (S)."""

    def difference(self, values: torch.Tensor) -> torch.Tensor:
        """Column values ``(..., columns)``; with pairs, positive minus negative, half as many."""
        return values[..., 0::2] - values[..., 1::2] if self.paired else values

    def combine(self, differences: torch.Tensor) -> torch.Tensor:
        """Results of ``difference`` as one value per output, ``(..., outputs)``."""
        if len(self.significance) == 1:
            return differences
        weights = torch.tensor(self.significance, dtype=differences.dtype, device=differences.device)
        return differences.unflatten(-1, (-1, len(self.significance))) @ weights

    def unmap(self, mapped: Mapped) -> torch.Tensor:
        """The weights ``(*groups, outputs, inputs)`` that the conductances stand for."""
        cells = self.difference(mapped.conductance) - mapped.offset
        return self.combine(cells).transpose(-1, -2) / mapped.scale

    def _limit(self, weight: torch.Tensor) -> torch.Tensor:
        """Largest magnitude that is not clipped; 1 for weights that are all 0."""
        magnitude = weight.abs().flatten()
        if self.p_l is None:
            limit = magnitude.amax()
        else:
            limit = magnitude.sort(descending=True).values[int(self.p_l * (len(magnitude) - 1))]
        return torch.where(limit > 0, limit, torch.ones_like(limit))


@final
@dataclass(frozen=True, kw_only=True)
class DoubleColumn(Scheme):
    """Two cells per weight: the positive part in one column, the negative part in the next.

    With ``p_l`` (``naive_map``): the limit is the magnitude at that place of the sorted list, and
    magnitudes below limit * g_min / g_max count as that value, so small weights become 0.

    >>> mapped = DoubleColumn().map(torch.tensor([[1.0, -0.5]]), 1e-6, 1e-4)
    >>> [[f"{g:.3g}" for g in row] for row in mapped.conductance.tolist()]
    [['0.0001', '1e-06'], ['1e-06', '5.05e-05']]
    """

    @property
    def paired(self) -> bool:
        return True

    def map(self, weight: torch.Tensor, g_min: float, g_max: float) -> Mapped:
        weight = _checked(weight, g_min, g_max)
        high = self._limit(weight)
        low = torch.zeros_like(high) if self.p_l is None else high * (g_min / g_max)
        scale = (g_max - g_min) / (high - low)
        cells = _pair(weight).clamp_(low, high).sub_(low).mul_(scale)
        return Mapped(conductance=_columns(cells, g_min, g_max), scale=scale, offset=0.0)


@final
@dataclass(frozen=True, kw_only=True)
class SingleColumn(Scheme):
    """One cell per weight; weight 0 is the middle of the range, and the read-out takes it away.

    The middle times the sum of the applied voltages is subtracted digitally.

    >>> mapped = SingleColumn().map(torch.tensor([[1.0, -1.0]]), 1e-6, 1e-4)
    >>> [f"{g:.3g}" for g in mapped.conductance[:, 0].tolist()]
    ['0.0001', '1e-06']
    """

    @property
    def paired(self) -> bool:
        return False

    def map(self, weight: torch.Tensor, g_min: float, g_max: float) -> Mapped:
        weight = _checked(weight, g_min, g_max)
        high = self._limit(weight)
        scale = (g_max - g_min) / (2 * high)
        middle = 0.5 * (g_min + g_max)
        cells = weight.mT.clone(memory_format=torch.contiguous_format)
        cells = cells.clamp_(-high, high).mul_(scale).add_(middle).clamp_(g_min, g_max)
        return Mapped(conductance=cells, scale=scale, offset=middle)


@final
@dataclass(frozen=True, kw_only=True)
class BitSlicing(Scheme):
    """Weights as signed integers of ``bits``, cut into digits of ``slice_bits``, one pair of cells each.

    The least significant digit comes first; the read-out adds the digits digitally. Rounding to
    integers passes gradients straight through.

    >>> scheme = BitSlicing(bits=5, slice_bits=2)
    >>> mapped = scheme.map(torch.tensor([[1.0, -0.4]]), 1e-6, 1e-4)
    >>> scheme.columns, [f"{w:.3f}" for w in scheme.unmap(mapped)[0].tolist()]
    (4, ['1.000', '-0.400'])
    """

    bits: int = 8
    slice_bits: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        bits = as_integer(self.bits, "bits", at_least=2, at_most=24)  # one of them the sign
        slice_bits = as_integer(self.slice_bits, "slice_bits", at_least=1, at_most=bits - 1)
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "slice_bits", slice_bits)

    @property
    def significance(self) -> tuple[float, ...]:
        digits = math.ceil((self.bits - 1) / self.slice_bits)
        return tuple(float(2 ** (self.slice_bits * k)) for k in range(digits))

    @property
    def paired(self) -> bool:
        return True

    def map(self, weight: torch.Tensor, g_min: float, g_max: float) -> Mapped:
        weight = _checked(weight, g_min, g_max)
        high = self._limit(weight)
        largest, base = 2 ** (self.bits - 1) - 1, 2**self.slice_bits
        exact = _pair(weight).clamp_(max=high).mul_(largest / high)  # (*groups, inputs, outputs, 2)
        integer = exact.detach().round()
        # every digit moves by its share of the step
        share = exact / sum(self.significance)
        cells = exact.new_empty(*exact.shape[:-1], len(self.significance), 2)
        for k, s in enumerate(self.significance):
            cells[..., k, :] = straight_through(share, (integer / s).floor_().remainder_(base))
        step = (g_max - g_min) / (base - 1)
        conductance = _columns(cells.flatten(-2).mul_(step), g_min, g_max)
        return Mapped(conductance=conductance, scale=step * largest / high, offset=0.0)


def _pair(weight: torch.Tensor) -> torch.Tensor:
    """Positive and negative part, ``(*groups, inputs, outputs, 2)``; a new tensor, to be changed in place.

    At 0 the gradient of their difference is 1.
    """
    weight = weight.mT
    return torch.stack([weight, -weight], -1).add_(weight.abs().unsqueeze(-1)).mul_(0.5)


def _columns(cells: torch.Tensor, g_min: float, g_max: float) -> Conductance:
    """S above g_min ``(*groups, inputs, outputs, K)`` to ``(*groups, inputs, outputs * K)``, in place."""
    return cells.flatten(-2).add_(g_min).clamp_(max=g_max)  # rounding kept in range


def _checked(weight: torch.Tensor, g_min: float, g_max: float) -> torch.Tensor:
    weight = check_finite(as_tensor(weight, "weight"), "weight")
    if weight.ndim < 2 or 0 in weight.shape:
        raise SpecError(f"weight of shape {tuple(weight.shape)} is not (*groups, outputs, inputs)")
    if not 0 <= g_min < g_max < math.inf:
        raise SpecError(f"conductances {g_min} to {g_max} S: they must be finite, g_min below g_max")
    return weight
