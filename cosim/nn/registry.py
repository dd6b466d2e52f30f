"""Registry: which crossbar layer stands for which type of digital layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch import nn

from cosim.checks import as_items, shown
from cosim.errors import SpecError
from cosim.nn.attention import MultiheadAttention
from cosim.nn.layers import Conv, Linear
from cosim.nn.recurrent import Cell, Recurrent

__all__ = ["Converter", "converters", "converters_of_all", "find_converter", "register"]

Converter: TypeAlias = Callable[..., nn.Module]  # (digital layer, hardware, *, generator) -> layer

_CONVERTERS: dict[type[nn.Module], Converter] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv,
    nn.Conv2d: Conv,
    nn.Conv3d: Conv,
    nn.RNN: Recurrent,
    nn.LSTM: Recurrent,
    nn.GRU: Recurrent,
    nn.RNNCell: Cell,
    nn.LSTMCell: Cell,
    nn.GRUCell: Cell,
    nn.MultiheadAttention: MultiheadAttention,
}


def register(kind: type[nn.Module], converter: Converter) -> None:
    """Let ``convert`` replace layers of the type ``kind``, and of subclasses that compute the same.

    converter: called with the digital layer, ``Hardware`` and ``generator=``; gives a module that
    takes the same inputs, built on ``CrossbarMatmul``; if it also has ``digital_state()``, which gives
    the tensors of the digital layer by name, weights can go back. Registering again replaces.

    >>> class Scaled(nn.Linear):
    ...     def forward(self, x): return 2 * super().forward(x)
    >>> def convert_scaled(digital: Scaled, hardware: Hardware, *, generator: torch.Generator):
    ...     return nn.Sequential(Linear(digital, hardware, generator=generator), Double())
    >>> class Double(nn.Module):
    ...     def forward(self, x): return 2 * x
    >>> register(Scaled, convert_scaled)
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise SpecError(f"{shown(kind)} is not a subclass of torch.nn.Module")
    if not callable(converter):
        raise SpecError(f"{shown(converter)} cannot be called: give a class or a function")
    _CONVERTERS[kind] = converter


# what a subclass may have of its own without computing something else
_HOW_IT_IS_MADE = {
    *("__init__", "__new__", "__module__", "__doc__", "__annotations__", "__qualname__", "__slots__"),
    *("__repr__", "extra_repr", "_get_name", "reset_parameters", "__init_subclass__", "__class_getitem__"),
    *("__dict__", "__weakref__", "__constants__", "__annotate__", "__firstlineno__", "__static_attributes__"),
}


def find_converter(kind: type, known: dict[type[nn.Module], Converter]) -> Converter | None:
    """The converter for layers of ``kind``: its own, or that of a type of which it keeps all methods.

    >>> class Named(nn.Linear):
    ...     def __init__(self, name): super().__init__(4, 3)
    >>> find_converter(Named, {nn.Linear: Linear}).__name__
    'Linear'
    """
    own: set[str] = set()
    for base in kind.__mro__:
        if base in known:
            return None if any(hasattr(base, name) for name in own) else known[base]
        own |= set(vars(base)) - _HOW_IT_IS_MADE
    return None


def converters_of_all() -> dict[type[nn.Module], Converter]:
    """Every type that has a crossbar layer."""
    return dict(_CONVERTERS)


def converters(kinds: Iterable[Any]) -> dict[type[nn.Module], Converter]:
    """The converters of these types; SpecError for one that has none."""
    remedy = "types of layers, such as (nn.Linear, nn.Conv2d)"
    found = {}
    for kind in (kinds,) if isinstance(kinds, type) else as_items(kinds, "layers", remedy):
        if not isinstance(kind, type) or kind not in _CONVERTERS:
            known = ", ".join(k.__name__ for k in _CONVERTERS)
            name = getattr(kind, "__name__", shown(kind))
            raise SpecError(f"no crossbar layer for {name}: choose from {known}, or register one")
        found[kind] = _CONVERTERS[kind]
    return found
