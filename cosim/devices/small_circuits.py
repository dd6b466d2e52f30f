"""Linear algebra of many small circuits at once: rows and Jacobians of terms as tensors over the devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch

from cosim.devices.print_torch import Terms

__all__ = ["is_zero", "linear", "newton_matrix", "solve_step", "stack"]

Value: TypeAlias = torch.Tensor | float


def newton_matrix(terms: Terms, size: int, charge: float, current: torch.Tensor) -> torch.Tensor:
    """charge*dq/du + current*df/du of the internal unknowns, (N, size, size); ``current``: (N,)."""
    entries = [
        charge * terms.jacobian_react.get((r, c), 0.0) + current * terms.jacobian_resist.get((r, c), 0.0)
        for r in range(1, size + 1)
        for c in range(1, size + 1)
    ]
    if not entries:
        return current.new_zeros((current.numel(), 0, 0))
    return torch.stack(entries, -1).reshape(current.numel(), size, size)


def solve_step(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """matrix^-1 right for (N, n, n) and (n, N); not finite where the matrix is singular."""
    size = matrix.shape[-1]
    if size == 0:
        return right
    if size == 1:
        return right / matrix[:, 0, 0]
    solution, info = torch.linalg.solve_ex(matrix, right.T.unsqueeze(-1))
    return torch.where(info == 0, solution.squeeze(-1).T, math.nan)


def is_zero(value: Value) -> bool:
    return not isinstance(value, torch.Tensor) and value == 0.0


def _full(value: Value, like: torch.Tensor) -> torch.Tensor:
    return value.expand(like.shape) if isinstance(value, torch.Tensor) else torch.full_like(like, value)


def stack(values: Sequence[Value], like: torch.Tensor) -> torch.Tensor:
    if not values:
        return like.new_zeros((0, *like.shape))
    return torch.stack([_full(value, like) for value in values])


def linear(
    values: Sequence[Value],
    jacobian: Mapping[tuple[int, int], Value],
    change: torch.Tensor,
    like: torch.Tensor,
) -> torch.Tensor:
    """values + jacobian @ change, over all rows: (1 + n, N)."""
    rows = [_full(value, like) for value in values]
    for (row, column), entry in jacobian.items():
        if column > 0 and not is_zero(entry):
            rows[row] = rows[row] + entry * change[column - 1]
    return torch.stack(rows)
