"""All static solutions of a model with internal feedback, where it has several at one voltage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from cosim.devices.print_torch import TorchModel
from cosim.devices.static import newton, newton_step, spread

__all__ = ["branch_currents"]

_STARTS = 128  # random, with 0; half of them within 1 V, half within 10 V
_APART = 1e-6  # of an unknown, or V below 1: roots that are nearer are one


def branch_currents(
    model: TorchModel,
    voltage: torch.Tensor,
    parameters: Mapping[str, torch.Tensor],
    driven: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Currents (roots, *cells) A of every root that Newton's method finds from many starts, rising.

    NaN behind the last root of a cell that has fewer than another. Differentiable.
    """
    ends, shape = spread(model, [voltage, *driven], parameters)
    count, like = len(model.internal), ends[0]
    if not count:
        return torch.as_tensor(model(ends, parameters).resist[0]).to(like).expand(1, *shape)
    generator = torch.Generator().manual_seed(0)
    starts = 2.0 * torch.rand((_STARTS, count), generator=generator, dtype=torch.float64) - 1.0
    starts[_STARTS // 2 :] *= 10.0
    starts[0] = 0.0
    many = [end.expand(_STARTS, *shape) for end in ends]
    first = starts.to(like).reshape(_STARTS, *[1] * len(shape), count).expand(_STARTS, *shape, count)
    with torch.no_grad():
        inner, found = newton(model, many, parameters, list(first.unbind(-1)))
    places = torch.stack(inner, -1).masked_fill(~found.unsqueeze(-1), torch.nan).flatten(1, -2)
    roots = [_distinct(places[:, cell]) for cell in range(places.shape[1])]
    most = max([1, *(len(own) for own in roots)])
    padded = [torch.cat([own, own.new_full((most - len(own), count), torch.nan)]) for own in roots]
    inner = list(torch.stack(padded, 1).reshape(most, *shape, count).unbind(-1))
    several = [end.expand(most, *shape) for end in ends]
    step = newton_step(model([*several, *inner], parameters), len(ends), count, several[0])
    inner = [u + s for u, s in zip(inner, step, strict=True)]  # carries the gradient
    current = torch.as_tensor(model([*several, *inner], parameters).resist[0]).expand(most, *shape)
    lost = torch.isnan(inner[0])
    return torch.where(lost, torch.nan, current).sort(0).values  # NaN last


def _distinct(places: torch.Tensor) -> torch.Tensor:
    """Different rows among ``places`` (starts, unknowns) that are no NaN."""
    found: list[torch.Tensor] = []
    for place in places[torch.isfinite(places).all(-1)]:
        if all(bool(((place - old).abs() > _APART * old.abs().clamp(min=1.0)).any()) for old in found):
            found.append(place)
    return torch.stack(found) if found else places[:0]
