"""Newton's iteration on networks of cells: compiled, or by one preconditioner for all vectors or for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cosim.solvers.kernel import solve_compiled
from cosim.solvers.krylov import newton_update
from cosim.solvers.network import ALL, Network, Point
from cosim.solvers.preconditioner import Preconditioner

__all__ = ["Newton"]

_SHARED_STEPS = 30
_PRODUCTS = 12  # of conjugate gradients in one step
_REFRESH = 3  # a preconditioner costs about what this many products of as many vectors as columns do
_SHARED_HALVINGS, _HALVINGS = 8, 40
_BOOSTS = (1e3, 1e6, 1e9)


@dataclass(kw_only=True)
class Newton:
    """Solves batches of vectors, one after another, and keeps what they share: the preconditioner.

    guess: slopes to start from, ``(tiles, rows, columns)`` S. max_steps: of a vector with its own
    preconditioner. systems: how many of those fit in memory; with 0, what compiled code does not solve
    stays unsolved.
    """

    guess: torch.Tensor
    max_steps: int
    systems: int
    shared: Preconditioner | None = None

    def solve(self, network: Network) -> Point:
        """The cell currents of every vector, or the best that was found: ``Point.converged`` tells."""
        if network.ideal:
            unloaded = network.evaluate(torch.zeros_like(network.unloaded), network.dtype)
            return network.evaluate(-unloaded.residual, network.dtype)
        found = solve_compiled(network)
        if found is None:
            return self._with_factors(network)
        point = network.evaluate(found.current, network.dtype)
        point = replace(point, iterations=found.iterations)
        left = (~point.converged).any(0).nonzero()[:, 0]
        if len(left) and self.systems:
            old = point.pick(ALL, left)
            some = self._with_factors(network.pick(ALL, left))
            point.put(ALL, left, some.replaced(old, old.converged))
        return point

    def _with_factors(self, network: Network) -> Point:
        """The same, with networks factored: slower for most vectors, but it gives up none too early."""
        if self.shared is None:
            self.shared = Preconditioner(self.guess.to(torch.float32), network.lines)
        point = self._shared_steps(network, self._start(network, self.shared), _SHARED_STEPS)
        missed = (point.finite & ~point.converged).nonzero()
        for tiles, vectors in (pairs.unbind(1) for pairs in missed.split(self.systems)):
            own = network.apart(tiles, vectors)
            start = own.evaluate(point.current[tiles, :, vectors].unsqueeze(2), network.dtype)
            solved = self._own_steps(own, start, self.max_steps)
            point.put_apart(tiles, vectors, solved)
        return point

    def _start(self, network: Network, shared: Preconditioner) -> Point:
        """Linear cells; much stiffer ones for the vectors that overflow there."""
        point = _linear(network, shared)
        for boost in _BOOSTS:
            if bool(point.finite.all()):
                break
            stiff = Preconditioner(boost * self.guess.to(torch.float32), network.lines)
            point = _linear(network, stiff).replaced(point, point.finite)
        return point

    def _shared_steps(self, network: Network, point: Point, steps: int) -> Point:
        """Steps with the shared preconditioner, renewed at the vectors' mean slope when that pays."""
        assert self.shared is not None
        batch, columns = point.current.shape[2:]
        products = 0
        for done in range(steps):
            left = point.active.any(0).nonzero()[:, 0]
            if not len(left):
                break
            if len(left) <= batch // 2:
                some = self._shared_steps(network.pick(ALL, left), point.pick(ALL, left), steps - done)
                point.put(ALL, left, some)
                break
            if products * batch > _REFRESH * columns:
                self.shared, products = Preconditioner(_mean_slope(point), network.lines), 0
            update, used = newton_update(self.shared, point.slope, point.residual, _goal(point), _PRODUCTS)
            products += used - 1
            point = _advance(network, point, update, _SHARED_HALVINGS)
        return point

    def _own_steps(self, network: Network, point: Point, steps: int) -> Point:
        """Steps of networks of one vector each, every time with the vector's own slopes."""
        for done in range(steps):
            left = point.active[:, 0].nonzero()[:, 0]
            if not len(left):
                break
            if len(left) < len(point.active):
                some = self._own_steps(network.pick(left, ALL), point.pick(left, ALL), steps - done)
                point.put(left, ALL, some)
                break
            own = Preconditioner(point.slope[:, :, 0].clamp(min=0), network.lines)
            update, _ = newton_update(own, point.slope, point.residual, _goal(point), _PRODUCTS)
            point = _advance(network, point, update, _HALVINGS)
        return point


def _linear(network: Network, cells: Preconditioner) -> Point:
    """The solution with the linear cells of a preconditioner."""
    short = cells.conductance * network.unloaded.to(cells.dtype)
    current = short - cells.conductance * cells.apply(short)
    return network.evaluate(current.to(network.dtype), cells.dtype)


def _mean_slope(point: Point) -> torch.Tensor:
    """Over the active vectors of each tile, or all of them where none is active."""
    active = point.active
    weight = torch.where(active.any(1, keepdim=True), active, True).to(point.slope)
    weight = weight / weight.sum(1, keepdim=True)
    return torch.einsum("trbc,tb->trc", point.slope, weight).clamp(min=0)


def _goal(point: Point) -> torch.Tensor:
    """What the next step may leave: ever less, as Newton's own error falls with its square."""
    share = point.shrunk.pow(1.5).clamp(1e-5, 0.1)
    goal = torch.maximum(share * point.error, 0.3 * point.limit)
    return torch.where(point.active, goal, torch.inf)


def _advance(network: Network, point: Point, update: torch.Tensor, halvings: int) -> Point:
    """The points after the longest part of their update that shrinks the error."""
    new = network.evaluate(point.current + update, update.dtype).after(point)
    failed = _failed(point, new)
    while bool(failed.any()):
        left = failed.any(0).nonzero()[:, 0]
        old = point.pick(ALL, left)
        if halvings:
            update = 0.5 * update
            current = old.current + update[:, :, left]
            part = network.pick(ALL, left).evaluate(current, update.dtype).after(old)
        else:
            part = old.stopped()
        new.put(ALL, left, new.pick(ALL, left).replaced(part, failed[:, left]))
        failed[:, left] &= _failed(old, part)
        halvings -= 1
    return new


def _failed(old: Point, new: Point) -> torch.Tensor:
    shorter = new.finite & ((new.error <= 0.9999 * old.error) | new.converged)
    return old.active & ~shorter & ~new.stuck
