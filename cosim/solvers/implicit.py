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
from cosim.solvers.exact import adjoint_voltages
from cosim.solvers.iteration import Found, Newton
from cosim.solvers.network import ALL, LinearCells, Network

__all__ = ["attach"]

_TOLERANCE = 1e-12  # of the adjoint system, which counts from
_ACCEPTED = 1e-9


def attach(network: Network, found: Found, newton: Newton) -> tuple[torch.Tensor, torch.Tensor]:
    """Currents of cells and columns, with gradients to drive, states, parameters and wires.

    Vectors that were not accepted come back as 0 and have no gradient.
    """
    kept = found.accepted[:, None, :, None]
    current = torch.where(kept, found.current, 0.0)
    network = replace(network, drive=torch.where(kept, network.drive, 0.0))
    floating = None
    if found.volts is not None and bool(found.exact.any()):
        floating = torch.where(found.exact & found.accepted, found.exact, False)[:, None, :, None]

    def voltage() -> torch.Tensor:
        volts = network.voltage(current)
        if floating is None or found.volts is None:
            return volts
        # what the wires tell of a floating line is rounding; how it changes is not
        known = torch.where(floating, found.volts, 0.0)
        return torch.where(floating, known + (volts - volts.detach()), volts)

    def cells() -> torch.Tensor:
        return network.cells.law(voltage(), ALL, ALL)[0]

    def adjoint(gradient: torch.Tensor) -> torch.Tensor:
        slope = network.cells.law(voltage().detach(), ALL, ALL)[1].expand_as(current)
        linear = replace(
            network, cells=LinearCells(slope=slope), drive=gradient.contiguous(), tolerance=_TOLERANCE
        )
        return _adjoint_voltages(linear, newton)

    # evaluated again in the backward pass, so that no temporary of the device's equations is kept
    cell_current = checkpoint(cells, use_reentrant=False, preserve_rng_state=False)
    attached = _Implicit.apply(cell_current, current, adjoint)
    sensed = network.columns(attached)
    return attached, found.sensed + (sensed - sensed.detach())


def _adjoint_voltages(linear: Network, newton: Newton) -> torch.Tensor:
    """``(I + R g)^-1`` of the drive of linear cells."""
    found = replace(newton, meshes=0).solve(linear, _ACCEPTED)
    volts = linear.voltage(found.current)
    missed = (~found.accepted).nonzero()
    if len(missed) and newton.meshes:
        for tiles, vectors in (some.unbind(1) for some in missed.split(newton.meshes)):
            volts[tiles, :, vectors] = adjoint_voltages(linear.apart(tiles, vectors))[:, :, 0]
    failed = ~(found.accepted | volts.isfinite().all(-1).all(1))
    if bool(failed.any()):
        raise SolveError(
            f"the linear system of the gradient did not converge for {int(failed.sum())} of "
            f"{failed.numel()} vectors: leave them out, or lower the voltages"
        )
    return volts


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell_current: torch.Tensor,
        current: torch.Tensor,
        adjoint: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        ctx.adjoint = adjoint
        return current.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.adjoint(gradient), None, None
