"""Conjugate gradients for many Newton steps at once, with one linear network as the preconditioner.

A Newton step x of the cell voltages solves ``(R^-1 + g) x = r`` with the cells' own slopes g, the
preconditioner is ``Z = (R^-1 + g0)^-1``. Then ``R^-1 + g = Z^-1 + D`` with ``D = g - g0`` diagonal, and
``Z^-1`` of a search direction follows from the recurrence of the directions: R^-1 is never needed.
The matrix is positive definite while no slope is very negative, so the iteration is short and safe.
"""

from __future__ import annotations

import torch

from cosim.solvers.preconditioner import Preconditioner, chunks

__all__ = ["newton_update"]


def newton_update(
    preconditioner: Preconditioner,
    slope: torch.Tensor,
    residual: torch.Tensor,
    target: torch.Tensor,
    max_products: int,
) -> tuple[torch.Tensor, int]:
    """Change of the cell currents that takes their error, ``residual``, to ``target``, and the products used.

    residual: c - f(e), A; slope: S, both ``(tiles, rows, batch, columns)``; target: ``(tiles, batch)`` A,
    for the sum of what remains. A vector whose slopes are too negative gets a step along the
    preconditioned residual.
    """
    g0 = preconditioner.conductance
    scale = _sum(residual.abs())  # a square of small currents would underflow in float32
    scale = torch.where(scale > 0, scale, 1.0)
    target = target.to(scale) / scale
    r = residual / _spread(scale)
    q, update = r.clone(), torch.zeros_like(r)
    p = preconditioner.apply(r)  # q = Z^-1 p all along
    rho = _dot(r, p)
    active = _sum(r.abs()) > target
    for product in range(1, max_products + 1):
        curvature = _curvature(p, q, slope, g0)
        bent = active & ~(curvature > 0)
        alpha = torch.where(active & ~bent, rho / curvature, float(product == 1) * bent.to(rho))
        left = _step(_spread(alpha), p, q, r, update, slope, g0)
        active = active & ~bent & (left > target)
        if product == max_products or not bool(active.any()):
            return update.mul_(_spread(scale)), product
        z = preconditioner.apply(r)
        new = _dot(r, z)
        beta = _spread(torch.where(active, new / rho, 0.0))
        rho = new
        for some, rows in chunks(r):
            b = beta[some]
            torch.addcmul(z[some, rows], b, p[some, rows], out=p[some, rows])
            torch.addcmul(r[some, rows], b, q[some, rows], out=q[some, rows])
    raise AssertionError("max_products is 1 or more")


def _step(
    alpha: torch.Tensor,
    p: torch.Tensor,
    q: torch.Tensor,
    r: torch.Tensor,
    update: torch.Tensor,
    slope: torch.Tensor,
    g0: torch.Tensor,
) -> torch.Tensor:
    """One step along p, in place in r and update; the sum of what remains."""
    left = r.new_zeros(r.shape[0], r.shape[2])
    for some, rows in chunks(r):
        here, a, g, along = (some, rows), alpha[some], g0[some, rows], p[some, rows]
        # the wires' current changes by -R^-1 x = g0 x - Z^-1 x
        update[here].addcmul_(a, torch.addcmul(-q[here], g, along))
        image = torch.addcmul(q[here], slope[here] - g, along)
        left[some] += r[here].addcmul_(a, image, value=-1).abs().sum((1, 3))
    return left


def _curvature(p: torch.Tensor, q: torch.Tensor, slope: torch.Tensor, g0: torch.Tensor) -> torch.Tensor:
    total = p.new_zeros(p.shape[0], p.shape[2])
    for some, rows in chunks(p):
        along = p[some, rows]
        image = torch.addcmul(q[some, rows], slope[some, rows] - g0[some, rows], along)
        total[some] += image.mul_(along).sum((1, 3))
    return total


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    total = a.new_zeros(a.shape[0], a.shape[2])
    for some, rows in chunks(a):
        total[some] += (a[some, rows] * b[some, rows]).sum((1, 3))
    return total


def _sum(cells: torch.Tensor) -> torch.Tensor:
    return cells.sum((1, 3))


def _spread(values: torch.Tensor) -> torch.Tensor:
    """Of every vector, ``(tiles, batch)``, to its cells."""
    return values[:, None, :, None]
