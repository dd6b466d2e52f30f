"""Ranges of the ADCs of one layer: per layer, per tile, or per column of a tile."""

from __future__ import annotations

import torch

from cosim.nn.converters import ADC

__all__ = ["calibrated_range"]


def calibrated_range(adc: ADC, values: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high (A) that broadcast with ``values``, for what is converted in a calibration.

    values: ``(groups, R, n, values)`` A, n vectors. width: how many values one tile gives.

    >>> low, high = calibrated_range(ADC(bits=8, per="tile"), torch.tensor([[[[1.0, -2.0, 3.0]]]]), 2)
    >>> high.tolist()
    [[[[2.0, 2.0, 3.0]]]]
    """
    groups, down, _, count = values.shape
    if adc.per == "layer":
        low, high = adc.calibrate(values.reshape(1, -1))
        return low.reshape(1, 1, 1, 1), high.reshape(1, 1, 1, 1)
    lines = values.transpose(-1, -2)  # (groups, R, values, n)
    if adc.per == "column":
        low, high = adc.calibrate(lines.flatten(0, 2))
        return low.reshape(groups, down, 1, count), high.reshape(groups, down, 1, count)
    tiles = [adc.calibrate(part.flatten(2).flatten(0, 1)) for part in lines.split(width, 2)]
    low, high = (torch.stack(end, -1).reshape(groups, down, 1, -1) for end in zip(*tiles, strict=True))
    return low.repeat_interleave(width, -1)[..., :count], high.repeat_interleave(width, -1)[..., :count]
