"""``apply_nonidealities``: non-idealities on every memristive layer of a model, in the order given."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality.DeviceFaults import apply_device_faults
from cosim.memtorch.bh.nonideality.Endurance import apply_endurance_model
from cosim.memtorch.bh.nonideality.FiniteConductanceStates import apply_finite_conductance_states
from cosim.memtorch.bh.nonideality.NonLinear import apply_non_linear
from cosim.memtorch.bh.nonideality.Retention import apply_retention_model
from cosim.memtorch.mn.layer import MemristiveLayer

__all__ = ["NonIdeality", "apply_nonidealities", "required"]

Model = TypeVar("Model", bound=nn.Module)


class NonIdeality(enum.Enum):
    """What is not ideal."""

    FiniteConductanceStates = 1
    DeviceFaults = 2
    NonLinear = 3
    Endurance = 4
    Retention = 5


@dataclass(frozen=True)
class _Kind:
    """A function of a layer, the keyword arguments that it needs and those that it may have."""

    apply: Callable[..., Any]
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def __call__(self, layer: MemristiveLayer, given: Mapping[str, Any]) -> None:
        names = dict(self.renamed)
        known = (*self.needed, *self.optional)
        self.apply(layer, **{names.get(name, name): given[name] for name in known if name in given})


_KINDS = {
    NonIdeality.FiniteConductanceStates: _Kind(
        apply_finite_conductance_states,
        ("conductance_states",),
        renamed=(("conductance_states", "num_conductance_states"),),
    ),
    NonIdeality.DeviceFaults: _Kind(
        apply_device_faults, ("lrs_proportion", "hrs_proportion", "electroform_proportion")
    ),
    NonIdeality.NonLinear: _Kind(
        apply_non_linear,
        (),
        (
            "sweep_duration",
            "sweep_voltage_signal_amplitude",
            "sweep_voltage_signal_frequency",
            "num_conductance_states",
            "simulate",
        ),
    ),
    NonIdeality.Endurance: _Kind(apply_endurance_model, ("x", "endurance_model", "endurance_model_kwargs")),
    NonIdeality.Retention: _Kind(
        apply_retention_model, ("time", "retention_model", "retention_model_kwargs")
    ),
}


def apply_nonidealities(
    model: Model, non_idealities: Iterable[NonIdeality] | NonIdeality, **kwargs: Any
) -> Model:
    """``model`` with the non-idealities on its memristive layers, in this order; it is changed.

    The keyword arguments are those of the single functions (``apply_device_faults``, ...). Later ones
    build on earlier ones and undo nothing. Raises SpecError for an argument that is missing or that
    none of them takes, and for a model without memristive layers.
    """
    if not isinstance(model, nn.Module):
        raise SpecError(f"model is {model!r}: give a patched torch.nn.Module")
    if not isinstance(non_idealities, Iterable | NonIdeality):
        raise SpecError(f"non_idealities is {non_idealities!r}: give a list of NonIdeality")
    wanted = (non_idealities,) if isinstance(non_idealities, NonIdeality) else tuple(non_idealities)
    for kind in wanted:
        if not isinstance(kind, NonIdeality):
            raise SpecError(f"{kind!r} is no memtorch.bh.nonideality.NonIdeality")
        required(kwargs, _KINDS[kind].needed, kind.name)
    known = {name for kind in wanted for name in (*_KINDS[kind].needed, *_KINDS[kind].optional)}
    for name in kwargs:
        if name not in known:
            takes = ", ".join(sorted(known))
            raise SpecError(f"no argument {name!r} for these non-idealities; they take: {takes}")
    layers = [module for module in model.modules() if isinstance(module, MemristiveLayer)]
    if not layers:
        raise SpecError("the model has no memristive layer: patch_model comes first")
    for layer in layers:
        for kind in wanted:
            _KINDS[kind](layer, kwargs)
    return model


def required(kwargs: Mapping[str, Any], arguments: Collection[str], call: str) -> None:
    """Raise SpecError for the first of ``arguments`` that is not in ``kwargs``."""
    for name in arguments:
        if name not in kwargs:
            raise SpecError(f"{call} needs the argument {name}=")
