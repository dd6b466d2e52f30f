"""``naive_tune``: the line from a layer's output to that of the digital layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cosim.checks import as_flag, as_integer
from cosim.errors import SpecError

__all__ = ["naive_tune"]


def naive_tune(
    module: Any, input_shape: int | Sequence[int], verbose: bool = True
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Tune ``module`` on random inputs, and return the line that it now applies to its raw output.

    input_shape: as many vectors as an input of this shape has elements outside the channels.
    Tuning again changes nothing. The layer has the line already; ``layer.transform_output = naive_tune(...)``
    is the same.
    """
    sizes = input_shape if isinstance(input_shape, Sequence) else (input_shape,)
    shape = [as_integer(n, "input_shape", at_least=1) for n in sizes] or [1]
    if not callable(getattr(module, "fit", None)):
        raise SpecError(f"module is {type(module).__name__}: give a memristive layer")
    vectors = max(8, min(4098, shape[0] * math.prod(shape[2:])))
    fits = module.fit(vectors)
    if len(fits) != 1:
        raise SpecError(f"{type(module).__name__} has {len(fits)} products, each with its line: use tune()")
    fit = fits[0]
    line = module.transform_output
    if as_flag(verbose, "verbose"):
        print(f"Tuned {type(module).__name__}: {line}, R2 {fit.r2:.6f} on unseen inputs")
    return line
