"""Values of a model's parameters: what a caller gave, checked against what the model declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch

from cosim.arrays import as_tensor, check_finite, own
from cosim.devices.ir import DeviceIR, Function, Scalar
from cosim.devices.passes import fix_inputs
from cosim.errors import SpecError

__all__ = [
    "ParameterValue",
    "as_parameter",
    "as_parameters",
    "bind_texts",
    "draw",
    "is_value",
    "representative",
    "undistributed",
]

ParameterValue: TypeAlias = float | int | torch.Tensor | torch.distributions.Distribution


def as_parameter(ir: DeviceIR, name: str, value: Any) -> ParameterValue:
    """A number, a tensor that belongs to the device, or a distribution; SpecError if it is none of them."""
    known = ir.parameter_names
    if name not in known:
        raise SpecError(f"{ir.name} has no parameter {name!r}; it has: {', '.join(known)}")
    if isinstance(value, torch.distributions.Distribution):
        return value
    if ir.parameter(name).type == "string":
        raise SpecError(
            f"parameter {name} of {ir.name} is {value!r}: give it as text, where the device is made: "
            f'cosim.Device("{ir.name}.va", {name}="...")'
        )
    tensor = check_finite(as_tensor(value, f"parameter {name}"), f"parameter {name}")
    whole = ir.parameter(name).type == "integer"
    if tensor.numel() == 0:
        raise SpecError(f"parameter {name} of {ir.name} has the shape {tuple(tensor.shape)}: it is empty")
    if whole and (tensor.ndim or tensor.requires_grad):
        raise SpecError(f"parameter {name} of {ir.name} is an integer: give it one value for all cells")
    if tensor.ndim or tensor.requires_grad:
        return own(tensor)
    number = float(tensor)
    if whole and number != int(number):
        raise SpecError(f"parameter {name} of {ir.name} is {number}: it must be an integer")
    if whole and not abs(number) < 2**31:
        raise SpecError(f"parameter {name} of {ir.name} is {number}: it does not fit 32 bits")
    return int(number) if whole else number


def as_parameters(ir: DeviceIR, given: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Each value under the parameter's own name: aliases resolved, arrays as their elements."""
    found: dict[str, ParameterValue] = {}
    for name, value in given.items():
        elements = [p.name for p in ir.parameters if name and p.array == name]
        own_name = next((p.name for p in ir.parameters if name in p.aliases), name)
        values = {own_name: value}
        if elements:
            items = list(value) if isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1 else []
            if len(items) != len(elements):
                raise SpecError(
                    f"parameter {name} of {ir.name} is {value!r}: it is an array, give {len(elements)} values"
                )
            values = dict(zip(elements, items, strict=True))
        for key, each in values.items():
            if key in found:
                raise SpecError(f"parameter {key} of {ir.name} is given twice: as {name} too")
            found[key] = as_parameter(ir, key, each)
    return found


def bind_texts(ir: DeviceIR, given: Mapping[str, Any]) -> tuple[DeviceIR, dict[str, Any]]:
    """``ir`` with the texts among ``given`` as constants, which no netlist sees, and the other values."""
    texts = {}
    for parameter in ir.parameters:
        for name in (parameter.name, *parameter.aliases):
            if parameter.type == "string" and isinstance(given.get(name), str):
                texts[parameter.name] = str(given[name])
    if not texts:
        return ir, dict(given)
    known = {name for p in ir.parameters if p.name in texts for name in (p.name, *p.aliases)}
    bound = replace(
        ir,
        parameters=tuple(replace(p, default=texts.get(p.name, p.default)) for p in ir.parameters),
        setup=_bind(ir.setup, texts),
        evaluate=_bind(ir.evaluate, texts),
    )
    return bound, {name: value for name, value in given.items() if name not in known}


def _bind(function: Function, texts: Mapping[str, str]) -> Function:
    own = [s for s in function.inputs if s.name in texts and s.kind in ("given", "parameter")]
    return fix_inputs(function, {s.value: True if s.kind == "given" else texts[s.name] for s in own})


def is_value(value: object) -> bool:
    """A number, tensor or distribution: the value of a parameter, where names are given otherwise."""
    return isinstance(value, float | int | torch.Tensor | torch.distributions.Distribution)


def draw(
    name: str,
    distribution: torch.distributions.Distribution,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> torch.Tensor:
    """One value of parameter ``name`` per cell; SpecError for a distribution without an inverse CDF."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    try:
        place = distribution.icdf(torch.tensor(0.5)).device  # where its own parameters lie
        return distribution.icdf(uniform.to(place))
    except NotImplementedError as error:
        raise SpecError(
            f"parameter {name}: {type(distribution).__name__} has no inverse CDF, so it cannot be "
            "drawn with an explicit generator: give a tensor of your own draws"
        ) from error


def representative(name: str, value: ParameterValue) -> Scalar:
    """One number for a tensor or a distribution."""
    if isinstance(value, torch.distributions.Distribution):
        try:
            value = value.mean
        except NotImplementedError as error:
            raise SpecError(
                f"parameter {name}: {type(value).__name__} has no mean: give a tensor of your own draws"
            ) from error
    return float(value.detach().reshape(-1)[0]) if isinstance(value, torch.Tensor) else value


def undistributed(model: str, given: Mapping[str, ParameterValue]) -> dict[str, Scalar | torch.Tensor]:
    """``given``, or SpecError that names the first distribution in it."""
    found: dict[str, Scalar | torch.Tensor] = {}
    for name, value in given.items():
        if isinstance(value, torch.distributions.Distribution):
            raise SpecError(
                f"parameter {name} of {model} is a distribution: draw it first, "
                "with device.sample(shape, generator=...)"
            )
        found[name] = value
    return found
