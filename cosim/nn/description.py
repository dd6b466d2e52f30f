"""Hardware as plain data: what a saved state was made with, how it differs, and hardware from it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.distributions import Distribution

from cosim.devices.catalogue import CATALOGUE
from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.nn import effects, mapping
from cosim.nn.converters import ADC, DAC
from cosim.nn.hardware import Hardware
from cosim.wires import Wires

__all__ = ["describe", "differences", "rebuild"]

_DECIDE = ("device", "tile_shape", "wires", "scheme", "dac", "adc", "v_read")  # what cells and ranges mean
_REST = ("engine", "effects", "memory", "trainable")
_WIRES = ("row", "column", "source", "sense", "source_far", "sense_far")
_KINDS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for module in (mapping, effects)
    for kind in (getattr(module, name) for name in module.__all__)
    if isinstance(kind, type)
} | {"ADC": ADC, "DAC": DAC}


def describe(hardware: Hardware, *, whole: bool = False) -> dict[str, Any]:
    """Numbers, texts and lists that say what the hardware is; ``whole``: all that ``rebuild`` needs.

    >>> describe(Hardware(device=Device("vteam")))["tile_shape"]
    [128, 128]
    """
    found = {name: _plain(getattr(hardware, name)) for name in _DECIDE}
    return found | ({name: _plain(getattr(hardware, name)) for name in _REST} if whole else {})


def differences(saved: Mapping[str, Any], own: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every value that differs, by its name, both values told.

    >>> list(differences({"wires": {"row": 2.0}}, {"wires": {"row": 20.0}}))
    ['wires.row is 2.0 in the state and 20.0 here']
    """
    for name in dict.fromkeys((*saved, *own)):
        one, other = saved.get(name), own.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, f"{path}{name}.")
        elif one != other:
            yield f"{path}{name} is {one!r} in the state and {other!r} here"


def rebuild(saved: Mapping[str, Any], device: Device | None, *, other: bool = False) -> Hardware:
    """The hardware of a whole description; SpecError for what is not cosim's own.

    device: needed for a file of its author's; SpecError if it is another, unless ``other``.
    """
    try:
        given = {name: _built(saved[name]) for name in (*_DECIDE, *_REST) if name != "device"}
        own = _device(saved["device"], device, other)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"the file does not describe hardware of this cosim: {error!r}") from error
    return Hardware(device=own, **given)


def _device(saved: Mapping[str, Any], device: Device | None, other: bool) -> Device:
    own = saved["model"] not in CATALOGUE
    if device is None and own:
        raise SpecError(
            f"the device is a file of its author's, {saved['model']}: give device=, made from that file "
            "(text and digest are in what cosim.load reads; read it before you compile it)"
        )
    if device is None:
        parameters = {name: _built(value) for name, value in saved["given"].items()}
        return Device(saved["model"], **parameters)
    for difference in () if other else differences(saved, _plain(device)):
        raise SpecError(f"device= is another one than that of the file: {difference}")
    return device


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dictionaries for a value of a field."""
    if isinstance(value, Device):
        return _plain_device(value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, Distribution):
        # constraints, not every attribute: these are what the constructor takes
        own = {name: _plain(getattr(value, name)) for name in value.arg_constraints if name in vars(value)}
        return {"distribution": type(value).__name__, **own}
    if isinstance(value, Wires):
        return {"kind": "Wires"} | {name: _plain(getattr(value, name)) for name in _WIRES}
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **own}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {"kind": getattr(value, "__qualname__", type(value).__qualname__)}  # not cosim's own


def _plain_device(device: Device) -> dict[str, Any]:
    source = device.source
    bundled = CATALOGUE.get(source.stem)
    own = bundled is None or bundled.path != source
    found = {
        "model": source.name if own else source.stem,
        "given": {name: _plain(value) for name, value in sorted(device.given.items())},
        "parameters": {name: _plain(value) for name, value in sorted(device.parameters.items())},
    }
    if (temperature := getattr(device, "temperature", None)) is not None:
        found["temperature"] = _plain(temperature)
    if own:
        found |= {"digest": device.ir.digest, "state": device.state_parameter}
        found["state_range"] = list(device.state_range) if device.state_parameter else None
    return found


def _built(value: Any) -> Any:
    """The value that ``_plain`` described."""
    if isinstance(value, list):
        return tuple(_built(one) for one in value)
    if not isinstance(value, dict):
        return value
    if "distribution" in value:
        kind = getattr(torch.distributions, value["distribution"], None)
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise SpecError(f"{value['distribution']} is no distribution of torch: it cannot be rebuilt")
        own: dict[str, Any] = {n: torch.tensor(one) for n, one in value.items() if n != "distribution"}
        return kind(**own)
    if "kind" not in value:
        return {name: _built(one) for name, one in value.items()}
    given = {name: one for name, one in value.items() if name != "kind"}
    if value["kind"] == "Wires":
        return Wires(**given)
    if value["kind"] not in _KINDS:
        raise SpecError(f"{value['kind']} is not cosim's own, so that it cannot be rebuilt from a file")
    return _KINDS[value["kind"]](**{name: _built(one) for name, one in given.items()})
