"""``naive_scale``: inputs within the largest voltage."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["naive_scale"]


def naive_scale(module: Any, input: torch.Tensor, force_scale: bool = False) -> torch.Tensor:
    """``input`` scaled so that its largest magnitude is ``module.max_input_voltage`` (V).

    None there: unchanged; so are inputs that are within it already, unless force_scale. Layers scale by
    themselves, by a factor that does not depend on the batch and is undone at the output.

    >>> from types import SimpleNamespace
    >>> naive_scale(SimpleNamespace(max_input_voltage=0.5), torch.tensor([1.0, -2.0])).tolist()
    [0.25, -0.5]
    """
    limit = module.max_input_voltage
    if limit is None:
        return input
    largest = float(input.abs().max()) if input.numel() else 0.0
    if largest == 0 or (largest <= limit and not force_scale):
        return input
    return input * (limit / largest)
