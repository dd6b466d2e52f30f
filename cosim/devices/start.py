"""Where a transient starts: the state that was asked for, and the operating point of all else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from cosim.devices.integrator import Circuit
from cosim.devices.simulated import Simulated
from cosim.devices.small_circuits import newton_matrix, solve_step, stack
from cosim.errors import SolveError, SpecError

__all__ = ["operating_point", "state_of", "state_origin", "tracked_node"]

_LIMIT = 200  # Newton iterations
_TOLERANCE = 1e-12  # V or A, beside the same relative to the unknown
_STRIDE = 1.0  # V; a longer Newton step is cut, because an exponential would overflow
_BOUND_SLACK = 1e-3  # of the state range: how far a restoring term may let a state past its bound


def tracked_node(device: Simulated) -> str | None:
    """Name of the internal unknown that the state is read from (see ``simulate``); None: there is none."""
    nodes = device.ir.nodes
    if device.state_node is not None:
        names = [node.name for node in nodes if not node.terminal]
        if device.state_node not in names:
            known = ", ".join(names) or "none"
            raise SpecError(f"{device.name} has no internal node {device.state_node!r}; it has: {known}")
        return device.state_node
    charged = {e.column for e in device.ir.jacobian if e.react is not None and e.row == e.column}
    integrals = [node.name for node in nodes if node.kind == "implicit"]
    inner = [node.name for k, node in enumerate(nodes) if k in charged and not node.terminal]
    return next(iter([*integrals, *inner]), None)


def state_origin(device: Simulated, state: torch.Tensor) -> torch.Tensor:
    """The state at 0 V of the state node: ``state`` as asked, or 0 where the node is the state itself."""
    absolute = device.memory is not None and device.memory.absolute
    return torch.zeros_like(state) if absolute else state


def state_of(
    device: Simulated, tracked: torch.Tensor | None, like: torch.Tensor, state: torch.Tensor | None
) -> torch.Tensor:
    """``Trace.state``, shaped as ``like``, from the tracked unknown (None: it stays at 0)."""
    if tracked is None:
        return torch.zeros_like(like) + (0.0 if state is None else state)
    if device.state_node is None or state is None:
        return tracked
    value = state_origin(device, state) + device.state_scale * tracked
    if not device.bounded:
        return value
    low, high = (bound.to(value) for bound in device.state_bounds)
    slack = _BOUND_SLACK * (high - low)
    # a state at its bound rests a little outside; it must be usable as the next start
    near = (value > low - slack) & (value < high + slack)
    return torch.where(near, torch.minimum(torch.maximum(value, low), high), value)


def operating_point(
    device: Simulated,
    still: Circuit,
    volts: torch.Tensor,
    parameters: Mapping[str, torch.Tensor],
    state: torch.Tensor | None,
) -> torch.Tensor:
    """Internal unknowns (n, N) of ``still`` at ``volts`` (N,) V and ``state``; differentiable.

    Raises SolveError where none is found.
    """
    kinds = {node.name: node.kind for node in device.ir.nodes}
    stride = [_STRIDE if kinds[name] == "voltage" else math.inf for name in still.internal]
    limit = volts.new_tensor(stride).reshape(-1, 1)
    unknowns = volts.new_zeros((len(stride), volts.numel()))
    if state is not None and device.state_node in still.internal:  # held there, however far it is
        start = (state - state_origin(device, state)).detach() / device.state_scale
        unknowns[still.internal.index(device.state_node)] = start
    settled = torch.zeros_like(volts, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(_LIMIT):
            change = _change(still, volts, unknowns, parameters)
            unknowns = unknowns + torch.clamp(change, -limit, limit)
            settled = (change.abs() <= _TOLERANCE * (1.0 + unknowns.abs())).all(0)
            if bool(settled.all()):
                break
        else:
            raise SolveError(
                f"the internal nodes of {device.name} have no operating point at the first sample "
                f"({float(volts[~settled][0])} V): start the waveform at 0 V, or name with write= the "
                "parameter that lets the state move"
            )
    return unknowns + _change(still, volts, unknowns, parameters)  # carries the gradient


def _change(
    still: Circuit, volts: torch.Tensor, unknowns: torch.Tensor, parameters: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The Newton step; its gradient is that of the implicit function where the residual is 0."""
    terms = still([volts, *unknowns], parameters)
    matrix = newton_matrix(terms, len(unknowns), 0.0, torch.ones_like(volts)).detach()
    return solve_step(matrix, -stack(terms.resist[1:], volts))
