"""Gradients of solved networks by the implicit function theorem, at the cost of one linear solve.

The cell currents solve ``c = f(v - R c; parameters)``. A small change of v, R or a parameter changes f
by df at fixed c, so ``dc = (I + g R)^-1 df``: the gradient that arrives at c goes through
``lambda = (I + R g)^-1 gradient`` to the one differentiable evaluation of f. That linear system is the
same network, with cells of conductance g and the gradient as the voltages in series with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from cosim.errors import SolveError
from cosim.solvers.iteration import Newton
from cosim.solvers.network import ALL, LinearCells, Network

__all__ = ["attach"]

_TOLERANCE = 1e-12  # of the adjoint system


def attach(network: Network, current: torch.Tensor, solved: torch.Tensor, newton: Newton) -> torch.Tensor:
    """``current``, solved without gradients, with those of drive, states, parameters and wires.

    solved: ``(tiles, batch)``; other vectors come back as 0 and have no gradient.
    """
    kept = solved[:, None, :, None]
    current = torch.where(kept, current, 0.0)
    network = replace(network, drive=torch.where(kept, network.drive, 0.0))

    def cells() -> torch.Tensor:
        return network.cells.at(network.voltage(current), ALL, ALL)[0]

    def adjoint(gradient: torch.Tensor) -> torch.Tensor:
        slope = network.evaluate(current, network.dtype).slope
        linear = replace(
            network, cells=LinearCells(slope=slope), drive=gradient.contiguous(), tolerance=_TOLERANCE
        )
        point = newton.solve(linear)
        if not bool(point.converged.all()):
            raise SolveError(
                f"the linear system of the gradient did not converge for {int((~point.converged).sum())} of "
                f"{point.converged.numel()} vectors: leave them out, or lower the voltages"
            )
        return linear.voltage(point.current)

    # evaluated again in the backward pass, so that no temporary of the device's equations is kept
    drawn = checkpoint(cells, use_reentrant=False, preserve_rng_state=False)
    return _Implicit.apply(drawn, current, adjoint)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, drawn: torch.Tensor, current: torch.Tensor, adjoint: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        ctx.adjoint = adjoint
        return current.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.adjoint(gradient), None, None
