"""Static solution of one cell: the internal nodes of a model, at given terminal voltages.

Newton in torch, many cells at once. The last step is differentiable, so gradients with respect to
voltages, states and parameters are those of the implicit function.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch

from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.print_torch import Terms, TorchModel
from cosim.errors import ModelError

__all__ = ["check_floating", "current_and_slope"]

_NEWTON_STEPS = 60
_PATIENCE = 25  # steps of at most 1 V, before an ohmic node may go to kilovolts
_INTERNAL_TOLERANCE = 1e-9  # V, or relative above 1; the differentiable step after it squares the error
_FLOATING_TOLERANCE = 1e-9  # relative; far above rounding, far below any real leak


def current_and_slope(
    model: TorchModel, voltage: torch.Tensor, parameters: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Current (A) into the terminal of ``model`` that is not grounded, and its slope (S)."""
    shape = torch.broadcast_shapes(voltage.shape, *(p.shape for p in parameters.values()))
    # the parameters stay in their own shape: what depends on them alone is computed once per cell
    volts = voltage if not model.internal else voltage.expand(shape)
    unknowns, terms = _solve_internal(model, [volts], parameters)
    current = _tensor(terms.resist[0], volts).expand(shape)
    slope = _tensor(terms.jacobian_resist.get((0, 0), 0.0), volts).expand(shape)
    if model.internal:
        slope = slope - _schur(terms, unknowns, volts)
    return current, slope


def _solve_internal(
    model: TorchModel, terminals: list[torch.Tensor], parameters: Mapping[str, torch.Tensor]
) -> tuple[int, Terms]:
    """Newton on the internal nodes of every cell; the last step carries the gradient.

    The number of unknowns, and the terms there; NaN in cells whose nodes were not found, so that
    one cell out of its range does not cost the others.
    """
    count, like = len(model.internal), terminals[0]
    if count == 0:
        return len(terminals), model(terminals, parameters)
    kinds = {node.name: node.kind for node in model.ir.nodes}
    inner = [torch.zeros_like(like) for _ in range(count)]
    with torch.no_grad():
        step = inner
        for iteration in range(_NEWTON_STEPS):
            limits = [_step_limit(kinds[name], iteration) for name in model.internal]
            step = _newton_step(model([*terminals, *inner], parameters), len(terminals), count, like)
            inner = [u + s.clamp(-m, m) for u, s, m in zip(inner, step, limits, strict=True)]
            if all(bool((s.abs() <= _settled(u)).all()) for u, s in zip(inner, step, strict=True)):
                break
        found = [s.abs() <= _settled(u) for u, s in zip(inner, step, strict=True)]
        lost = ~torch.stack(found).all(0)
        inner = [torch.where(lost, torch.nan, u) for u in inner]
    step = _newton_step(model([*terminals, *inner], parameters), len(terminals), count, like)
    inner = [u + s for u, s in zip(inner, step, strict=True)]
    return len(terminals) + count, model([*terminals, *inner], parameters)


def _step_limit(kind: str, iteration: int) -> float:
    """How far an unknown moves: a node by 1 V, so that no exponential overflows, later by more."""
    return 2.0 ** max(0, iteration - _PATIENCE) if kind == "voltage" else math.inf


def _settled(unknown: torch.Tensor) -> torch.Tensor:
    return _INTERNAL_TOLERANCE * unknown.abs().clamp(min=1.0)


def check_floating(ir: DeviceIR, given: Mapping[str, Scalar]) -> None:
    """Raise ModelError unless what flows into p flows out of n, and only V(p, n) matters."""
    model = TorchModel(ir, given, static=True)
    currents = []
    for shift in (0.0, 0.37):
        ends = [torch.tensor([v + shift], dtype=torch.float64) for v in (0.11, 0.0)]
        terms = _solve_internal(model, ends, {})[1]
        currents += [float(terms.resist[0]), -float(terms.resist[1])]
    if not all(map(math.isfinite, currents)):
        raise ModelError(
            f"{ir.name} has no operating point at 0.11 V: the equation of an internal node has no solution "
            "when time stands still; switch the state equation with a write parameter (docs/devices.md)"
        )
    if max(currents) - min(currents) > _FLOATING_TOLERANCE * max(map(abs, currents)):
        raise ModelError(
            f"{ir.name}: the current into {ir.terminals[0]} is not the current out of "
            f"{ir.terminals[1]}, or depends on more than their difference: a crossbar cell has no "
            "path to ground"
        )


def _tensor(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else like.new_tensor(value)


def _newton_step(terms: Terms, first: int, count: int, like: torch.Tensor) -> list[torch.Tensor]:
    """Newton step of the unknowns from ``first`` on."""
    inner = range(first, first + count)
    residual = torch.stack([_tensor(terms.resist[k], like).expand(like.shape) for k in inner], -1)
    matrix = _block(terms, inner, inner, like).detach()
    step, singular = torch.linalg.solve_ex(matrix, -residual.unsqueeze(-1))
    step = torch.where(singular[..., None, None] != 0, torch.nan, step)
    return list(step.squeeze(-1).unbind(-1))


def _schur(terms: Terms, size: int, like: torch.Tensor) -> torch.Tensor:
    """What the internal nodes take from dI/dV: J_pi J_ii^-1 J_ip."""
    inner = range(1, size)
    left = _block(terms, [0], inner, like)
    right = _block(terms, inner, [0], like)
    return (left @ torch.linalg.solve(_block(terms, inner, inner, like), right))[..., 0, 0]


def _block(terms: Terms, rows: Collection[int], columns: Collection[int], like: torch.Tensor) -> torch.Tensor:
    entries = [
        torch.stack(
            [_tensor(terms.jacobian_resist.get((r, c), 0.0), like).expand(like.shape) for c in columns], -1
        )
        for r in rows
    ]
    return torch.stack(entries, -2)  # (*cells, rows, columns)
