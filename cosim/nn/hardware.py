"""Hardware: what one crossbar layer is made of, checked once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch.distributions import Distribution

from cosim.checks import as_flag, as_instance, as_integer, as_items, as_number, as_shape, shown
from cosim.devices.device import Device
from cosim.engines import find_engine
from cosim.errors import SpecError
from cosim.nn.cells import conductance_range
from cosim.nn.converters import ADC, DAC
from cosim.nn.effects import DeviceVariability, Effect
from cosim.nn.mapping import DoubleColumn, Scheme
from cosim.wires import Wires

__all__ = ["Hardware"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardware:
    """Device, tiles, wires, engine, converters and non-idealities of crossbar layers.

    device: parameters that are distributions are drawn once per cell; weights are mapped to the
    range of the device with their means. tile_shape: rows, columns. v_read: V at which a cell has
    the conductance that its weight asks for. effects: applied in this order after mapping.
    memory: bytes that one forward may take for im2col patches and for currents at a time.
    trainable: weights are parameters, and the cells follow them (``cosim.nn.writing``).

    Raises SpecError for a value of the wrong kind, an unknown engine, or a device without a state.

    >>> import cosim
    >>> hardware = Hardware(device=cosim.Device("vteam", r_on=10e3, r_off=1e6), tile_shape=(64, 64))
    >>> [f"{g:.3g}" for g in hardware.conductances]
    ['1e-06', '0.0001']
    """

    device: Device
    tile_shape: tuple[int, int] = (128, 128)
    wires: Wires | None = None
    engine: str = "linear"
    scheme: Scheme = field(default_factory=DoubleColumn)
    dac: DAC | None = None
    adc: ADC | None = None
    effects: Sequence[Effect] = ()
    v_read: float = 0.1
    memory: int = 64 << 20
    trainable: bool = False

    def __post_init__(self) -> None:
        find_engine(self.engine)
        if isinstance(self.device, str | PathLike):
            raise SpecError(f"device is {str(self.device)!r}: give cosim.Device({str(self.device)!r})")
        checked = {
            "device": as_instance(self.device, "device", Device, "a cosim.Device"),
            "wires": _kind("wires", Wires() if self.wires is None else self.wires, Wires),
            "dac": _kind("dac", DAC() if self.dac is None else self.dac, DAC),
            "scheme": _kind("scheme", self.scheme, Scheme),
            "adc": None if self.adc is None else _kind("adc", self.adc, ADC),
            "effects": _effects(self.effects),
            "tile_shape": as_shape(self.tile_shape, "tile_shape", ("rows", "columns")),
            "v_read": as_number(self.v_read, "v_read"),
            "memory": as_integer(self.memory, "memory", at_least=1),
            "trainable": as_flag(self.trainable, "trainable"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.v_read == 0:
            raise SpecError("v_read is 0.0 V: it must not be 0")
        if self.trainable and self.engine == "ngspice":
            raise SpecError(
                "trainable=True with engine='ngspice', which has no gradients: train with 'linear' or "
                "'newton', then evaluate with use_engine('ngspice')"
            )
        if self.device.state_parameter is None:
            raise SpecError(f"{self.device.name} has no state, so it cannot hold a weight")
        for name, value in self.device.given.items():
            if isinstance(value, torch.Tensor):
                raise SpecError(
                    f"parameter {name} of {self.device.name} is a tensor of shape {tuple(value.shape)}: "
                    "layers have different shapes, so give a number or a torch distribution"
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> Hardware:
        return self  # frozen; copies share the compiled device

    @functools.cached_property
    def nominal(self) -> Device:
        """The device with the mean of every distribution."""
        means = {n: v.mean for n, v in self.device.given.items() if isinstance(v, Distribution)}
        return self.device.replace(**means) if means else self.device

    @functools.cached_property
    def conductances(self) -> tuple[float, float]:
        """Lowest and highest conductance (S) of the nominal device: what weights are mapped to."""
        low, high = conductance_range(self.nominal, self.v_read)
        return float(low), float(high)

    @property
    def all_effects(self) -> Iterator[Effect]:
        """The spread of the device's own parameters, then ``effects``."""
        drawn = {n: v for n, v in self.device.given.items() if isinstance(v, Distribution)}
        if drawn:
            yield DeviceVariability(parameters=drawn)
        yield from self.effects


def _effects(given: Any) -> tuple[Effect, ...]:
    remedy = "a sequence of cosim.nn.effects"
    each = (given,) if isinstance(given, Effect) else as_items(given, "effects", remedy)
    return tuple(_kind("effects", effect, Effect) for effect in each)


def _kind(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise SpecError(f"{name} is {shown(value)}: it must be of {kind.__module__}.{kind.__name__}")
    return value
