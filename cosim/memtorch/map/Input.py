"""``naive_scale``: inputs within the largest voltage."""

from __future__ import annotations

from typing import Any

import torch

from cosim.checks import as_number
from cosim.errors import SpecError

__all__ = ["naive_scale"]


def naive_scale(module: Any, input: torch.Tensor, force_scale: bool = False) -> torch.Tensor:
    """``input`` scaled so that its largest magnitude is ``module.max_input_voltage`` (V).

    None there: unchanged; so are inputs that are within it already, unless force_scale. Layers scale by
    themselves, by a factor that does not depend on the batch and is undone at the output.

    >>> from types import SimpleNamespace
    >>> naive_scale(SimpleNamespace(max_input_voltage=0.5), torch.tensor([1.0, -2.0])).tolist()
    [0.25, -0.5]
    """
    if not hasattr(module, "max_input_voltage") or not isinstance(input, torch.Tensor):
        raise SpecError("naive_scale takes a layer with max_input_voltage, and a tensor of inputs")
    if module.max_input_voltage is None:
        return input
    limit = as_number(module.max_input_voltage, "max_input_voltage (V)", above=0)
    largest = float(input.abs().max()) if input.numel() else 0.0
    if largest == 0 or (largest <= limit and not force_scale):
        return input
    return input * (limit / largest)
