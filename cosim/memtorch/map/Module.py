"""``naive_tune``: the line from a layer's output to that of the digital layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cosim.errors import SpecError

__all__ = ["naive_tune"]


def naive_tune(
    module: Any, input_shape: int | Sequence[int], verbose: bool = True
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Tune ``module`` on random inputs, and return the line that it now applies to its raw output.

    input_shape: as many vectors as an input of this shape has elements outside the channels.
    Tuning again changes nothing. The layer applies the line itself: do not apply it again.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    vectors = max(8, min(4098, shape[0] * math.prod(shape[2:])))
    fits = module.fit(vectors)
    if len(fits) != 1:
        raise SpecError(f"{type(module).__name__} has {len(fits)} products, each with its line: use tune()")
    fit = fits[0]
    gain, offset = float(fit.gain.flatten()[0]), float(fit.offset.flatten()[0])
    if verbose:
        print(f"Tuned {type(module).__name__}: {gain:.6g} y + {offset:.6g}, R2 {fit.r2:.6f} on unseen inputs")
    return lambda output: gain * output + offset
