"""Whether the state of a model can move at all: a file's own write switch that nobody named leaves it off."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cosim.devices.simulated import Simulated
from cosim.devices.start import tracked_node
from cosim.errors import CosimError, SpecError

__all__ = ["check_moves"]

_VOLTS = (-10.0, -3.0, -1.0, -0.3, 0.3, 1.0, 3.0, 10.0)
_STATES = (0.1, 0.5, 0.9)  # of the state range


def check_moves(device: Simulated) -> None:
    """SpecError where no voltage moves the state, but would with another value of a parameter that is 0.

    A parameter that is given is meant, and so is one that ``write=`` names.
    """
    node = tracked_node(device)
    if device.write_parameter is not None or node is None or _moves(device, node, {}):
        return
    off = [p.name for p in device.ir.parameters if p.default == 0 and p.name not in device.given]
    switches = [name for name in off if name != device.state_parameter and _moves(device, node, {name: 1})]
    if switches:
        raise SpecError(
            f"no voltage moves the state of {device.name}, V({node}), while {switches[0]} is 0: name the "
            f"parameter that switches writing on, Device(..., write={switches[0]!r}), or give "
            f"{switches[0]}=0 if the state shall rest"
        )


def _moves(device: Simulated, node: str, extra: Mapping[str, int]) -> bool:
    """Whether some voltage drives a current into the charge of ``node``, at one of a few states."""
    volts = torch.tensor(_VOLTS, dtype=torch.float64).repeat(len(_STATES))
    given = {n: v.detach().double().mean() for n, v in device.given.items() if isinstance(v, torch.Tensor)}
    if device.state_parameter is not None:
        low, high = device.state_range
        shares = torch.tensor(_STATES, dtype=torch.float64).repeat_interleave(len(_VOLTS))
        given[device.state_parameter] = low + (high - low) * shares
    try:
        model = device.torch_model(static=False, extra=extra)
        if node not in model.nodes:
            return False
        given |= model.initial(given, volts)
        others = [volts.flip(0) for _ in device.driven]  # a gate at other voltages than the pair
        terms = model([volts, *others, *(0.0 * volts for _ in model.internal)], given, 1.0)
    except CosimError:  # 1 is not in the range of this parameter
        return False
    rate = torch.as_tensor(terms.resist[model.nodes.index(node)])
    return bool((rate != 0).any())
