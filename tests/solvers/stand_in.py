"""Devices in closed form with the interface of ``cosim.Device``: the solvers' tests need no compiler."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from cosim.crossbar import Tile
from cosim.errors import SpecError


class Resistor:
    """I = state * v: the state is the conductance, S."""

    name = "resistor"
    is_linear = True
    digest = "stand-in-resistor"
    parameters: Any = MappingProxyType({})
    state_parameter = "state"
    cell_loop = None  # no Verilog-A, so none in C

    @property
    def given(self) -> Any:
        return self.parameters

    def replace(self, **parameters: Any) -> Any:
        return type(self)(**{**self.parameters, **parameters})

    def check_cell(self) -> None:
        """It has two terminals."""

    def check_state(self, state: Tensor) -> Tensor:
        if bool((state < 0).any()):
            raise SpecError("state below 0")
        return state

    def current(self, v: Tensor, state: Tensor) -> Tensor:
        return self.current_and_slope(v, state)[0]

    def current_and_slope(self, v: Tensor, state: Tensor, parameters: Any = None) -> tuple[Tensor, Tensor]:
        return state * v, state.expand(torch.broadcast_shapes(v.shape, state.shape))

    def conductance(self, state: Tensor, v_read: float = 0.1) -> Tensor:
        v = torch.full_like(state, v_read)
        return self.current(v, state) / v_read

    def state_for(self, conductance: Tensor, v_read: float = 0.1) -> Tensor:
        return conductance / self.conductance(torch.ones_like(conductance), v_read)


class Sinh(Resistor):
    """I = state * sinh(a v) / a: an odd, steep cell as tunnelling devices have it."""

    name = "sinh_cell"
    is_linear = False

    def __init__(self, a: float | Tensor = 2.5) -> None:
        self.parameters = MappingProxyType({"a": a})
        self.a = a
        self.digest = f"stand-in-sinh-{a}"

    def current_and_slope(self, v: Tensor, state: Tensor, parameters: Any = None) -> tuple[Tensor, Tensor]:
        a = (parameters or {}).get("a", self.a)
        return state * torch.sinh(a * v) / a, state * torch.cosh(a * v)


class Diode(Resistor):
    """I = state * vt * (exp(v / vt) - 1): it rectifies, and overflows above 700 vt."""

    name = "diode_cell"
    is_linear = False
    vt = 0.026

    def current_and_slope(self, v: Tensor, state: Tensor, parameters: Any = None) -> tuple[Tensor, Tensor]:
        x = v / self.vt
        return state * self.vt * torch.expm1(x), state * torch.exp(x)


def stand_in_tile(device: Any, **arguments: Any) -> Tile:
    """A tile of a stand-in device, which is no subclass of ``cosim.Device``."""
    return Tile(device, **arguments)
