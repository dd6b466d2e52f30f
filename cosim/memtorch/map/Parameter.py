"""``naive_map``: weights as conductances."""

from __future__ import annotations

from typing import Any

import torch

from cosim.arrays import as_tensor, check_finite
from cosim.checks import as_number
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.Crossbar import Scheme, check_scheme
from cosim.nn import mapping

__all__ = ["naive_map"]


def naive_map(
    weight: torch.Tensor,
    r_on: float,
    r_off: float,
    scheme: Scheme,
    p_l: float | None = None,
    *,
    as_memtorch: bool = False,
) -> Any:
    """Conductances (S) between 1/r_off and 1/r_on, in the shape of ``weight``.

    DoubleColumn: (positive, negative). SingleColumn: one, with weight 0 in the middle. p_l: share of the
    largest magnitudes that are clipped, as MemTorch computes (it documents the share that is kept).
    as_memtorch: its single column, which has 1/r_off for every
    negative weight.

    >>> naive_map(torch.tensor([[1.0, -1.0]]), 100.0, 200.0, Scheme.SingleColumn).tolist()
    [[0.009999999776482582, 0.004999999888241291]]
    """
    weight = check_finite(as_tensor(weight, "weight"), "weight")
    r_on, r_off = as_number(r_on, "r_on"), as_number(r_off, "r_off")
    check_scheme(scheme)
    if weight.numel() == 0:
        raise SpecError(f"weight has shape {tuple(weight.shape)}: it must hold a value")
    if p_l is not None:
        as_number(p_l, "p_l")
    if not 0 < r_on < r_off:
        raise SpecError(
            f"r_on is {r_on} ohm and r_off is {r_off} ohm: r_off must be above r_on, both above 0"
        )
    if as_memtorch and scheme is not Scheme.SingleColumn:
        raise SpecError("as_memtorch=True is for Scheme.SingleColumn; the double column is the same in both")
    flat, low, high = weight.detach().reshape(1, -1), 1 / r_off, 1 / r_on
    if scheme is Scheme.SingleColumn and not as_memtorch:
        return mapping.SingleColumn(p_l=p_l).map(flat, low, high).conductance.reshape(weight.shape)
    pair = mapping.DoubleColumn(p_l=p_l).map(flat, low, high).conductance
    positive, negative = (pair[:, k].reshape(weight.shape) for k in range(2))
    return positive if as_memtorch else (positive, negative)
