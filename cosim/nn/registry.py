"""Registry: which crossbar layer stands for which exact type of digital layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch import nn

from cosim.errors import SpecError
from cosim.nn.attention import MultiheadAttention
from cosim.nn.layers import Conv, Linear
from cosim.nn.recurrent import Cell, Recurrent

__all__ = ["Converter", "converters", "register"]

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
    """Let ``convert`` replace layers whose type is exactly ``kind``.

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
        raise SpecError(f"{kind!r} is not a subclass of torch.nn.Module")
    if not callable(converter):
        raise SpecError(f"{converter!r} cannot be called: give a class or a function")
    _CONVERTERS[kind] = converter


def converters(kinds: Iterable[Any]) -> dict[type[nn.Module], Converter]:
    """The converters of these exact types; SpecError for one that has none."""
    found = {}
    for kind in (kinds,) if isinstance(kinds, type) else kinds:
        if kind not in _CONVERTERS:
            known = ", ".join(k.__name__ for k in _CONVERTERS)
            name = getattr(kind, "__name__", repr(kind))
            raise SpecError(f"no crossbar layer for {name}: choose from {known}, or register one")
        found[kind] = _CONVERTERS[kind]
    return found
