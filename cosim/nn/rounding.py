"""Rounding with a gradient: the straight-through estimator (Bengio et al., arXiv 1308.3432, 2013)."""

from __future__ import annotations

import torch

__all__ = ["straight_through"]


def straight_through(
    x: torch.Tensor, rounded: torch.Tensor, inside: torch.Tensor | None = None
) -> torch.Tensor:
    """``rounded``, exactly, with the gradient of ``x`` where ``inside`` (None: everywhere), else 0.

    >>> x = torch.tensor([0.4, 1.7], requires_grad=True)
    >>> y = straight_through(x, x.detach().clamp(0, 1).round(), x <= 1)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.0, 1.0], [1.0, 0.0])
    """
    if not x.requires_grad:
        return rounded
    zero = x - x.detach()  # with the gradient of x
    return rounded.detach() + (zero if inside is None else torch.where(inside, zero, torch.zeros_like(zero)))
