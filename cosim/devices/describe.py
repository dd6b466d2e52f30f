"""A device in words: its model, terminals, parameters and state, and why the state is that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from cosim.devices.carried import flags
from cosim.devices.hold import START
from cosim.devices.simulated import Simulated
from cosim.devices.simulator import TEMPERATURE
from cosim.devices.states import state_name

__all__ = ["describe", "short"]


def short(name: str, given: Mapping[str, Any], temperature: float) -> str:
    """One line."""
    shown = {name: _value(value) for name, value in given.items()}
    if temperature != TEMPERATURE:
        shown["temperature"] = temperature
    return f"Device({name!r}{''.join(f', {k}={v}' for k, v in shown.items())})"


def describe(device: Simulated) -> str:
    """Some lines.

    >>> import cosim
    >>> print(describe(cosim.Device("linear_ion_drift")).splitlines()[2])
    state: x_init, 0 to 1, moved by V(y); writing is on while write = 1
    """
    return "\n".join(_lines(device))


def _lines(device: Simulated) -> Iterator[str]:
    yield f"{device.name}: {device.source}"
    yield f"terminals: {', '.join(_terminals(device))}"
    yield f"state: {_state(device)}"
    if device.temperature != TEMPERATURE:
        yield f"temperature: {device.temperature:g} K"
    yield "parameters:"
    for parameter in device.ir.parameters:
        if parameter.name != START:
            value = _value(device.parameters[parameter.name])
            given = " (given)" if parameter.name in device.given else ""
            told = f"  {parameter.description}" if parameter.description else ""
            yield f"  {parameter.name} = {value} {parameter.units}".rstrip() + given + told


def _terminals(device: Simulated) -> Iterator[str]:
    ports = device.ports
    yield " and ".join(ports.terminals[:2])
    for name in ports.driven:
        yield f"{name} driven by the caller"
    for name in ports.open:
        yield f"{name} open" + (" (it shows what the model computes)" if name in ports.shown else "")
    for name in ports.ground:
        yield f"{name} at 0 V" + (" (nothing uses it)" if name in ports.unused else "")


def _state(device: Simulated) -> str:
    switches = ", ".join(flags(device.ir))
    also = f"; {switches}: a switch, carried in a variable" if switches else ""
    if device.state_parameter is None:
        return f"none that a cell starts at{also}" if switches else "none"
    memory = device.memory
    words = state_name(device)
    if memory is not None and memory.carried is not None:
        start = memory.carried.start if device.state_parameter == START else words
        words = f"{memory.carried.variable}, starts at {start}"
    if device.bounded:
        low, high = device.state_range
        words += f", {low:g} to {high:g}"
    if memory is not None and memory.carried is not None:
        return words + ", carried in a variable" + also
    if device.state_node is not None and device.state_parameter != START:
        scale = "" if device.state_scale == 1.0 else f"{device.state_scale:g}*"
        words += f", moved by {scale}V({device.state_node})"
    if memory is not None and memory.found:
        words += "; found: voltages move it, and it rests without"
        words += "".join(f"; V({name}) rests too" for name in memory.others)
    if device.write_parameter:
        words += f"; writing is on while {device.write_parameter} = 1"
    return words + also


def _value(value: Any) -> Any:
    return f"tensor{tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
