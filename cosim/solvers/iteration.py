"""Newton's iteration on networks of cells: compiled, or by one preconditioner for all vectors or for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cosim.solvers.acceptance import Verdict, judge, own_resistance
from cosim.solvers.exact import solve_exact
from cosim.solvers.kernel import solve_compiled
from cosim.solvers.krylov import newton_update
from cosim.solvers.lines import OPEN
from cosim.solvers.network import ALL, Network, Point
from cosim.solvers.preconditioner import Preconditioner

__all__ = ["Found", "Newton"]

_SHARED_STEPS = 30
_PRODUCTS = 12  # of conjugate gradients in one step
_REFRESH = 3  # a preconditioner costs about what this many products of as many vectors as columns do
_SHARED_HALVINGS, _HALVINGS = 8, 40
_BOOSTS = (1e3, 1e6, 1e9)
_FLOATING = 1e6  # cells of a line over what its ends conduct


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best that was found for every vector, and what it is worth; ``(tiles, batch)`` unless said."""

    current: torch.Tensor  # (tiles, rows, batch, columns) A, of the cells
    volts: torch.Tensor | None  # the same, V, where ``exact``; None without such vectors
    sensed: torch.Tensor  # (tiles, batch, columns) A
    verdict: Verdict
    iterations: torch.Tensor
    exact: torch.Tensor  # found by ``solve_exact``: the wires tell no cell voltages there
    accepted: torch.Tensor


@dataclass(kw_only=True)
class Newton:
    """Solves batches of vectors, one after another, and keeps what they share: the preconditioner.

    guess: slopes to start from, ``(tiles, rows, columns)`` S. max_steps: of a vector with its own
    preconditioner. systems: how many of those fit in memory; with 0, what compiled code does not solve
    stays unsolved. meshes: how many vectors ``solve_exact`` may take at once, 0 for none.
    """

    guess: torch.Tensor
    max_steps: int
    systems: int
    meshes: int
    shared: Preconditioner | None = None

    def solve(self, network: Network, tolerance: float) -> Found:
        """The cell currents of every vector, or the best that was found.

        tolerance: of the largest column current, at which a vector is accepted.
        """
        if network.ideal:
            current, _ = network.cells.law(network.unloaded, ALL, ALL)
            return self._found(
                network, current, torch.zeros_like(current[:, 0, :, 0], dtype=torch.long), tolerance
            )
        compiled = solve_compiled(network)
        if compiled is None:
            current = torch.full_like(network.unloaded, torch.nan)
            iterations = torch.zeros_like(current[:, 0, :, 0], dtype=torch.long)
        else:
            current, iterations = compiled.current, compiled.iterations
        found = self._found(network, current, iterations, tolerance)
        ways = [self._factored, self._refined]
        for way in reversed(ways) if self._floating(network) else ways:
            found = way(network, found, tolerance)
        return found

    def _found(
        self, network: Network, current: torch.Tensor, iterations: torch.Tensor, tolerance: float
    ) -> Found:
        verdict = judge(network, current)
        return Found(
            current=current,
            volts=None,
            sensed=network.columns(current),
            verdict=verdict,
            iterations=iterations,
            exact=torch.zeros_like(verdict.finite),
            accepted=verdict.within(tolerance),
        )

    def _floating(self, network: Network) -> bool:
        """True where lines hang on their cells more than on their ends, by a million times."""
        guess = network.upright(self.guess.unsqueeze(2))
        lines = zip(own_resistance(network.segments.closed(OPEN)), (-1, -2), strict=True)
        return any(bool(((ohm * guess).sum(axis) > _FLOATING).any()) for ohm, axis in lines)

    def _factored(self, network: Network, found: Found, tolerance: float) -> Found:
        """With factors where that may help: not where most of the error may be rounding."""
        helps = ~found.accepted & ~(found.verdict.error <= 2 * found.verdict.rounding)
        left = helps.any(0).nonzero()[:, 0]
        if not len(left) or not self.systems:
            return found
        part = network.pick(ALL, left)
        point = self._with_factors(part)
        some = self._found(part, point.current, point.iterations, tolerance)
        known, own = found.verdict.finite[:, left], some.verdict.finite
        lower = own & ~(some.verdict.error > found.verdict.error[:, left])
        better = ~found.accepted[:, left] & (some.accepted | lower | ~known)
        return _merged(found, left, some, better)

    def _refined(self, network: Network, found: Found, tolerance: float) -> Found:
        """Without a subtraction, what nothing else solved."""
        pairs = (~found.accepted).nonzero()
        if not len(pairs) or not self.meshes:
            return found
        found = replace(
            found,
            current=found.current.clone(),
            volts=torch.full_like(found.current, torch.nan),
            sensed=found.sensed.clone(),
            iterations=found.iterations.clone(),
        )
        guess = network.upright(self.guess.unsqueeze(2))[:, 0]
        for tiles, vectors in (some.unbind(1) for some in pairs.split(self.meshes)):
            own = network.apart(tiles, vectors)
            known = found.current[tiles, :, vectors].unsqueeze(2)
            exact = solve_exact(own, guess[tiles], known, self.max_steps)
            accepted = exact.verdict.within(tolerance)
            better = accepted | (exact.verdict.error < found.verdict.error[tiles, vectors])
            better |= ~found.verdict.finite[tiles, vectors]
            for name, value in vars(exact.verdict).items():
                whole = getattr(found.verdict, name)
                whole[tiles, vectors] = torch.where(better, value, whole[tiles, vectors])
            volts = own.sideways(exact.volts.unsqueeze(1))
            assert found.volts is not None
            found.volts[tiles, :, vectors] = volts[:, :, 0]
            found.current[tiles, :, vectors] = own.cells.law(volts, ALL, ALL)[0][:, :, 0]
            found.sensed[tiles, vectors] = exact.sensed
            found.iterations[tiles, vectors] += exact.iterations
            found.exact[tiles, vectors], found.accepted[tiles, vectors] = True, accepted
        return found

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
            update, used = newton_update(self.shared, point.slope, point.residual, _target(point), _PRODUCTS)
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
            update, _ = newton_update(own, point.slope, point.residual, _target(point), _PRODUCTS)
            point = _advance(network, point, update, _HALVINGS)
        return point


def _merged(found: Found, vectors: torch.Tensor, some: Found, where: torch.Tensor) -> Found:
    """``some``, of these vectors, where the mask is true."""
    current, sensed, iterations = found.current.clone(), found.sensed.clone(), found.iterations.clone()
    mask = where[:, None, :, None]
    current[:, :, vectors] = torch.where(mask, some.current, current[:, :, vectors])
    sensed[:, vectors] = torch.where(where[..., None], some.sensed, sensed[:, vectors])
    iterations[:, vectors] = torch.where(where, some.iterations, iterations[:, vectors])
    accepted, exact, verdict = found.accepted.clone(), found.exact.clone(), {}
    accepted[:, vectors] = torch.where(where, some.accepted, accepted[:, vectors])
    exact[:, vectors] &= ~where
    for name, value in vars(found.verdict).items():
        verdict[name] = value.clone()
        verdict[name][:, vectors] = torch.where(where, getattr(some.verdict, name), value[:, vectors])
    return replace(
        found,
        current=current,
        sensed=sensed,
        iterations=iterations,
        accepted=accepted,
        exact=exact,
        verdict=Verdict(**verdict),
    )


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


def _target(point: Point) -> torch.Tensor:
    """Residual that the next step may leave: less and less, as Newton's own error falls with its square."""
    forcing = point.shrunk.pow(1.5).clamp(1e-5, 0.1)
    target = torch.maximum(forcing * point.error, 0.3 * point.limit)
    return torch.where(point.active, target, torch.inf)


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
