"""Static solution of one cell: the internal nodes of a model, at given terminal voltages.

Newton in torch, many cells at once. The last step is differentiable, so gradients with respect to
voltages, states and parameters are those of the implicit function.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch

from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.print_torch import Terms, TorchModel
from cosim.errors import ModelError, SolveError

__all__ = [
    "check_floating",
    "current_and_slope",
    "found_current",
    "newton",
    "newton_step",
    "spread",
    "terminal_currents",
]

_NEWTON_STEPS = 60
_PATIENCE = 25  # steps of at most 1 V, before an ohmic node may go to kilovolts
_RAMP_STEPS = 400  # of a voltage ramp, for cells whose nodes Newton's method does not find at once
_FIRST_RAMP, _SHORTEST_RAMP = 1 / 16, 1e-6  # of the voltage
_INTERNAL_TOLERANCE = 1e-9  # V, or relative above 1; the differentiable step after it squares the error
_FLOATING_TOLERANCE = 1e-9  # relative; far above rounding, far below any real leak
_ROUNDINGS = 64  # of the largest terms of a sum


def current_and_slope(
    model: TorchModel,
    voltage: torch.Tensor,
    parameters: Mapping[str, torch.Tensor],
    driven: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Current (A) into the first terminal of ``model``, and its slope (S) by the voltage there.

    driven: voltages of the other terminals, which are not grounded. NaN in cells whose internal nodes have
    no solution that is found.
    """
    ends, shape = spread(model, [voltage, *driven], parameters)
    volts = ends[0]
    terms = _solve_internal(model, ends, parameters)
    current = _tensor(terms.resist[0], volts).expand(shape)
    slope = _tensor(terms.jacobian_resist.get((0, 0), 0.0), volts).expand(shape)
    if model.internal:
        slope = slope - _schur(terms, len(ends), len(model.nodes), volts)
    return current, slope


def terminal_currents(
    model: TorchModel,
    voltages: Mapping[str, torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    state: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Current (A) into each terminal of ``model``, which has none at ground; or SolveError."""
    ends, shape = spread(model, list(voltages.values()), parameters)
    terms = _solve_internal(model, ends, parameters)
    currents = {n: _tensor(terms.resist[k], ends[k]).expand(shape) for k, n in enumerate(voltages)}
    return {n: found_current(model, current, voltages[n], state) for n, current in currents.items()}


def spread(
    model: TorchModel, ends: list[torch.Tensor], parameters: Mapping[str, torch.Tensor]
) -> tuple[list[torch.Tensor], torch.Size]:
    """Terminal voltages of one shape, and the shape of the cells.

    The parameters stay in their own shape: what depends on them alone is computed once per cell.
    """
    shape = torch.broadcast_shapes(*(x.shape for x in (*ends, *parameters.values())))
    if model.internal:
        return [volts.expand(shape) for volts in ends], shape
    return list(torch.broadcast_tensors(*ends)), shape


def found_current(
    model: TorchModel, current: torch.Tensor, voltage: torch.Tensor, state: torch.Tensor | None
) -> torch.Tensor:
    """``current``, or SolveError that names the first voltage at which there is none.

    The error's ``solution`` has all currents, NaN or infinite where there is none.
    """
    bad = ~torch.isfinite(current.detach())
    if not bool(bad.any()):
        return current
    where = tuple(int(i) for i in bad.nonzero()[0])
    volts, value = (float(x.detach().expand(bad.shape)[where]) for x in (voltage, current))
    at = "" if state is None else f" and state {float(state.detach().expand(bad.shape)[where]):.9g}"
    why = (
        f"no solution was found for the internal nodes {', '.join(model.internal)}"
        if model.internal
        else f"its equations give {value}"
    )
    raise SolveError(
        f"{model.ir.name} has no current at {volts:.9g} V{at}: {why}; stay within the voltages that the "
        "model is made for, or limit what grows without bound in it (limexp, min, max)",
        solution=current,
    )


def _solve_internal(
    model: TorchModel, terminals: list[torch.Tensor], parameters: Mapping[str, torch.Tensor]
) -> Terms:
    """The terms with the internal nodes of every cell solved for; the last step carries the gradient.

    NaN in cells whose nodes were not found, so that one cell out of its range does not cost the others.
    """
    count, like = len(model.internal), terminals[0]
    if count == 0:
        return model(terminals, parameters)
    with torch.no_grad():
        start = [torch.zeros_like(like) for _ in range(count)]
        # whole steps from 0 first, as a simulator's operating point: of several roots its own is found
        near = _from_zero(model, terminals, parameters, count)
        inner, found = newton(model, terminals, parameters, near, whole=True)
        if not bool(found.all()):
            careful, cut = newton(model, terminals, parameters, start)
            inner = [torch.where(found, u, v) for u, v in zip(inner, careful, strict=True)]
            found = found | cut
        if not bool(found.all()):
            inner = _ramped(model, terminals, parameters, inner, ~found)
    step = newton_step(model([*terminals, *inner], parameters), len(terminals), count, like)
    inner = [u + s for u, s in zip(inner, step, strict=True)]
    return model([*terminals, *inner], parameters)


def _from_zero(
    model: TorchModel, terminals: list[torch.Tensor], parameters: Mapping[str, torch.Tensor], count: int
) -> list[torch.Tensor]:
    """The first step of a simulator, which starts with the terminals at 0 V too; 0 where it is not finite."""
    like, first = terminals[0], len(terminals)
    terms = model([torch.zeros_like(like) for _ in range(first + count)], parameters)
    inner = range(first, first + count)
    moved = _block(terms, inner, range(first), like) @ torch.stack(terminals, -1).unsqueeze(-1)
    resist = [_tensor(terms.resist[k], like).expand(like.shape) + moved[..., k - first, 0] for k in inner]
    step = newton_step(replace(terms, resist=[*terms.resist[:first], *resist]), first, count, like)
    return [torch.where(torch.isfinite(x), x, 0.0) for x in step]


def newton(
    model: TorchModel,
    terminals: list[torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    start: list[torch.Tensor],
    *,
    whole: bool = False,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Internal nodes from ``start``, and where they were found.

    Unless its steps are ``whole``, a node moves by 1 V at most, so that exponentials do not overflow, later
    by more. From a point where they overflow all the same, a cell goes back half of its last move.
    """
    count, like = len(start), terminals[0]
    kinds = {node.name: node.kind for node in model.ir.nodes}
    bounded = like.new_tensor([kinds[name] == "voltage" for name in model.internal]).bool()
    good, trial = torch.stack(start, -1), torch.stack(start, -1)
    found = torch.zeros_like(like, dtype=torch.bool)
    for iteration in range(_NEWTON_STEPS):
        terms = model([*terminals, *trial.unbind(-1)], parameters)
        step = torch.stack(newton_step(terms, len(terminals), count, like), -1)
        usable = torch.isfinite(step).all(-1, keepdim=True)
        settled = (step.abs() <= _INTERNAL_TOLERANCE * trial.abs().clamp(min=1.0)).all(-1)
        good = torch.where(usable, trial, good)
        most = 2.0 ** max(0, iteration - _PATIENCE)
        step = step if whole else torch.where(bounded, step.clamp(-most, most), step)
        found = settled & usable[..., 0]
        trial = torch.where(usable, trial + step, 0.5 * (good + trial))
        if bool(found.all()):
            break
    return list(trial.unbind(-1)), found


def _ramped(
    model: TorchModel,
    terminals: list[torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    inner: list[torch.Tensor],
    lost: torch.Tensor,
) -> list[torch.Tensor]:
    """``inner`` with the ``lost`` cells solved by a ramp of the voltage, NaN where that fails too.

    The part of the voltage that is applied grows for each cell by itself: twice as fast after a step that
    succeeds, half as fast after one that does not.
    """
    full = [v[lost] for v in terminals]
    own = {name: p.expand(lost.shape)[lost] for name, p in parameters.items()}
    here = [torch.zeros_like(full[0]) for _ in inner]
    part, step = torch.zeros_like(full[0]), torch.full_like(full[0], _FIRST_RAMP)
    here, found = newton(model, [0.0 * v for v in full], own, here)
    moving = found.clone()
    for _ in range(_RAMP_STEPS):
        if not bool(moving.any()):
            break
        wanted = torch.where(moving, (part + step).clamp(max=1.0), part)
        there, found = newton(model, [wanted * v for v in full], own, here)
        good = moving & found
        here = [torch.where(good, new, old) for new, old in zip(there, here, strict=True)]
        part = torch.where(good, wanted, part)
        step = torch.where(good, 2.0 * step, 0.5 * step)
        moving = (part < 1.0) & (step >= _SHORTEST_RAMP) & moving
    done = part >= 1.0
    return [
        u.masked_scatter(lost, torch.where(done, new, torch.nan)) for u, new in zip(inner, here, strict=True)
    ]


def check_floating(ir: DeviceIR, given: Mapping[str, Scalar], temperature: float) -> None:
    """Raise ModelError unless what flows into p flows out of n, and only V(p, n) matters."""
    model = TorchModel(ir, given, static=True, temperature=temperature)
    currents, noise = [], 0.0
    for shift in (0.0, 0.37):
        ends = [torch.tensor([v + shift], dtype=torch.float64) for v in (0.11, 0.0)]
        terms = _solve_internal(model, ends, {})
        currents += [float(terms.resist[0]), -float(terms.resist[1])]
        # a current that is a small difference of large ones, as of 0.1 ohm beside a junction
        slopes = [abs(float(slope)) for slope in terms.jacobian_resist.values()]
        noise = max([noise, *(_ROUNDINGS * torch.finfo(torch.float64).eps * slope for slope in slopes)])
    if not all(map(math.isfinite, currents)):
        raise ModelError(
            f"{ir.name} has no operating point at 0.11 V: the equation of an internal node has no solution "
            "when time stands still; switch the state equation with a write parameter, and give the node "
            "another while that is off, such as I(y) <+ 1e-6*V(y) (docs/devices.md)"
        )
    if max(currents) - min(currents) > _FLOATING_TOLERANCE * max(map(abs, currents)) + noise:
        raise ModelError(
            f"{ir.name}: the current into {ir.terminals[0]} is not the current out of "
            f"{ir.terminals[1]}, or depends on more than their difference: a crossbar cell has no "
            "path to ground"
        )


def _tensor(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else like.new_tensor(value)


def newton_step(terms: Terms, first: int, count: int, like: torch.Tensor) -> list[torch.Tensor]:
    """Newton step of the unknowns from ``first`` on."""
    inner = range(first, first + count)
    residual = torch.stack([_tensor(terms.resist[k], like).expand(like.shape) for k in inner], -1)
    matrix = _block(terms, inner, inner, like).detach()
    step, singular = torch.linalg.solve_ex(matrix, -residual.unsqueeze(-1))
    step = torch.where(singular[..., None, None] != 0, torch.nan, step)
    return list(step.squeeze(-1).unbind(-1))


def _schur(terms: Terms, first: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """What the internal nodes, those from ``first`` on, take from dI/dV: J_pi J_ii^-1 J_ip."""
    inner = range(first, size)
    left = _block(terms, [0], inner, like)
    right = _block(terms, inner, [0], like)
    solved, singular = torch.linalg.solve_ex(_block(terms, inner, inner, like), right)
    return torch.where(singular != 0, torch.nan, (left @ solved)[..., 0, 0])


def _block(terms: Terms, rows: Collection[int], columns: Collection[int], like: torch.Tensor) -> torch.Tensor:
    entries = [
        torch.stack(
            [_tensor(terms.jacobian_resist.get((r, c), 0.0), like).expand(like.shape) for c in columns], -1
        )
        for r in rows
    ]
    return torch.stack(entries, -2)  # (*cells, rows, columns)
