"""Tuning: lines that bring the outputs of tiles to those of the digital product, by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cosim.checks import as_choice, as_number
from cosim.engines import find_engine
from cosim.errors import SpecError

__all__ = ["Fit", "check_reference", "check_tuning", "fit_outputs"]

_PER = ("layer", "tile", "column")
_CIRCUITS = ("newton", "ngspice")
_OWN_OPTIONS = ("nodes", "progress")  # of an engine, for those who look at single tiles


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Gain ``(groups, R, outputs)`` of each partial output and offset ``(groups, outputs)`` of the sum.

    rmse_before, rmse_after: error of the output against the digital one on held-out inputs;
    r2: coefficient of determination there, after the fit. samples, held_out: numbers of inputs.
    """

    gain: torch.Tensor
    offset: torch.Tensor
    per: str
    rmse_before: float
    rmse_after: float
    r2: float
    samples: int
    held_out: int


def check_tuning(per: Any, test_fraction: Any) -> None:
    """SpecError for an option of ``fit_outputs`` out of range."""
    as_choice(per, "per", _PER)
    as_number(test_fraction, "test_fraction", above=0, below=1)


def check_reference(reference: Any, options: Mapping[str, Any]) -> None:
    """SpecError for what is no engine that knows the circuit, or an option that it does not have."""
    as_choice(reference, "reference", _CIRCUITS)
    known = [name for name in find_engine(reference).options if name not in _OWN_OPTIONS]
    for name in options:
        if name not in known:
            raise SpecError(f"no option {name!r} with {reference!r}: choose from {', '.join(known)}")


def fit_outputs(
    measured: torch.Tensor, wanted: torch.Tensor, *, per: str, block: int, test_fraction: float
) -> Fit:
    """Lines from ``measured`` to ``wanted``, both ``(groups, R, n, outputs)``: partial outputs.

    per="layer": one line for the sums over R. "column": one per output, for the sums. "tile": one
    for each tile, ``block`` outputs wide. The first inputs are held out. Where the measured values
    do not vary the gain is 1. Raises SpecError for an unknown ``per`` or too few inputs.
    """
    check_tuning(per, test_fraction)
    count = measured.shape[2]
    held_out = max(1, round(count * test_fraction))
    if count - held_out < 2:
        raise SpecError(f"{count} inputs: a line needs 2 to fit and 1 held out")
    x, y = measured.double(), wanted.double()
    train, test = slice(held_out, None), slice(0, held_out)
    if per == "tile":
        gain, offset = _tile_lines(x[:, :, train], y[:, :, train], block)
    else:
        gain, offset = _lines(x[:, :, train].sum(1), y[:, :, train].sum(1), per)
        gain = gain[:, None].expand(-1, x.shape[1], -1).contiguous()
    truth, before = y[:, :, test].sum(1), x[:, :, test].sum(1)
    after = (x[:, :, test] * gain[:, :, None]).sum(1) + offset[:, None]
    return Fit(
        gain=gain,
        offset=offset,
        per=per,
        rmse_before=_rms(before - truth),
        rmse_after=_rms(after - truth),
        r2=_r2(after, truth),
        samples=count,
        held_out=held_out,
    )


def _lines(x: torch.Tensor, y: torch.Tensor, per: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and offset ``(groups, outputs)`` for sums ``(groups, n, outputs)``."""
    if per == "column":
        return _line(x, y, (1,))
    gain, offset = _line(x, y, (0, 1, 2))
    shape = (x.shape[0], x.shape[2])
    return gain.expand(shape).contiguous(), offset.expand(shape).contiguous()


def _tile_lines(x: torch.Tensor, y: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain ``(groups, R, outputs)``, and the sum over R of the offsets ``(groups, outputs)``."""
    gains, offsets = [], []
    for a, b in zip(x.split(block, -1), y.split(block, -1), strict=True):
        gain, offset = _line(a, b, (2, 3))
        gains.append(gain[..., None].expand(-1, -1, a.shape[-1]))
        offsets.append(offset.sum(1)[..., None].expand(-1, a.shape[-1]))
    return torch.cat(gains, -1), torch.cat(offsets, -1)


def _line(x: torch.Tensor, y: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Least-squares gain and offset over ``axes``."""
    mean_x, mean_y = x.mean(axes, keepdim=True), y.mean(axes, keepdim=True)
    dx, dy = x - mean_x, y - mean_y
    variance, size = dx.square().mean(axes), x.square().mean(axes)
    flat = variance <= 1e-24 * size
    gain = torch.where(flat, 1.0, (dx * dy).mean(axes) / torch.where(flat, 1.0, variance))
    return gain, mean_y.reshape(gain.shape) - gain * mean_x.reshape(gain.shape)


def _rms(values: torch.Tensor) -> float:
    return math.sqrt(float(values.square().mean()))


def _r2(guess: torch.Tensor, truth: torch.Tensor) -> float:
    """Coefficient of determination; an exact guess of a constant counts as 1."""
    residual = float((guess - truth).square().sum())
    total = float((truth - truth.mean()).square().sum())
    return 1.0 - residual / total if total > 0 else float(residual == 0)
