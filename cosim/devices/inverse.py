"""The state at which a device has a wanted conductance: by bisection, with its gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cosim.arrays import into_bounds, rounding
from cosim.errors import SpecError

__all__ = ["find_state"]

_BISECTIONS = 80  # halvings: below the spacing of float64 for any range of one sign


def find_state(
    chord: Callable[[torch.Tensor], torch.Tensor],
    wanted: torch.Tensor,
    bounds: tuple[torch.Tensor, torch.Tensor],
    name: str,
    *,
    follow: bool = False,
) -> torch.Tensor:
    """Where ``chord`` of a state between ``bounds`` is ``wanted`` (S), as a tensor of its dtype.

    follow: with the gradient of the implicit function, to ``wanted`` and to what ``chord`` depends on.
    Raises SpecError that names the first value that the device ``name`` does not reach: beyond its ends,
    or in a jump of its chord, where bisection ends between two states whatever was asked for.
    """
    with torch.no_grad():
        found = _bisect(chord, wanted, bounds, name)
    return _with_gradient(chord, found, wanted, bounds) if follow else found


def _bisect(
    chord: Callable[[torch.Tensor], torch.Tensor],
    wanted: torch.Tensor,
    bounds: tuple[torch.Tensor, torch.Tensor],
    name: str,
) -> torch.Tensor:
    goal = wanted.double()
    below, above = (bound.to(goal) + torch.zeros_like(goal) for bound in bounds)
    ends = [chord(below), chord(above)]
    goal, bad = into_bounds(goal, *(end(*ends) for end in (torch.minimum, torch.maximum)), like=wanted)
    if bool(bad.any()):
        given, *reach = _first(bad, wanted, torch.minimum(*ends), torch.maximum(*ends))
        raise SpecError(f"{given}: {name} reaches {reach[0]:.6g} to {reach[1]:.6g} S with these parameters")
    rising = ends[1] > ends[0]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (below + above)
        short = (chord(middle) < goal) == rising
        below, above = torch.where(short, middle, below), torch.where(short, above, middle)
    low, high = chord(below), chord(above)
    found = torch.where((low - goal).abs() < (high - goal).abs(), below, above)
    nearest = torch.where(found == below, low, high)
    bad = ~((nearest - goal).abs() <= rounding(wanted) * goal)
    if bool(bad.any()):
        given, near, far = _first(bad, wanted, nearest, torch.where(found == below, high, low))
        raise SpecError(
            f"{given}: the conductance of {name} jumps there; the nearest that it reaches are "
            f"{near:.9g} and {far:.9g} S"
        )
    return found.to(wanted.dtype)


def _with_gradient(
    chord: Callable[[torch.Tensor], torch.Tensor],
    found: torch.Tensor,
    wanted: torch.Tensor,
    bounds: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    low, high = (bound.to(found) for bound in bounds)
    # on a bound, where models limit their state, the slope would be 0: stay a rounding inside
    hair = 4 * torch.finfo(found.dtype).eps * torch.maximum(low.abs(), high.abs())
    found = torch.minimum(torch.maximum(found, low + hair), high - hair)
    with torch.enable_grad():
        state = found.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(chord(state).sum(), state)
    step = (wanted - chord(found)) / slope
    return found + (step - step.detach())


def _first(bad: torch.Tensor, wanted: torch.Tensor, *others: torch.Tensor) -> tuple[str, float, float]:
    where = tuple(int(i) for i in bad.nonzero()[0])
    given, one, two = (float(x.expand(bad.shape)[where]) for x in (wanted, *others))
    return f"conductance{list(where)} is {given} S", one, two
