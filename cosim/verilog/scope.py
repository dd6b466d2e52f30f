"""Names of a module and what they stand for, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from cosim.devices.ir import Type
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import Token, parse_error
from cosim.verilog.tree import AnalogFunction, Parameter

__all__ = ["Branch", "Bus", "Constant", "Net", "PortBranch", "Scope", "Slot", "Symbol", "Term", "size"]


@dataclass(frozen=True, slots=True)
class Term:
    """``value + d(charge)/dt``; no ``charge`` where nothing is differentiated."""

    value: Value
    charge: Value | None = None


@dataclass(frozen=True, slots=True)
class Net:
    """A node of the flattened circuit; ``index`` None is ground."""

    name: str
    index: int | None


@dataclass(frozen=True, slots=True)
class Bus:
    """Nets under one name, in the order of their indices."""

    nets: tuple[Net, ...]
    bounds: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A path between two nets. Unnamed branches between the same nets are one."""

    name: str
    first: Net
    second: Net


@dataclass(frozen=True, slots=True)
class PortBranch:
    """``branch (<port>) name``: I(name) is the current through the port."""

    net: Net


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A variable: its type, the bounds of its dimensions, and its elements' keys in the environment."""

    name: str
    type: Type
    bounds: tuple[tuple[int, int], ...] = ()
    local: bool = False  # of an analog function: 0 at each call
    place: str = ""  # where it is declared; "" for one that no file declares
    changes: bool = True  # something else than the start sets it

    def key(self, position: int) -> str:
        """Of one element, counted from 0, rows first."""
        return f"{self.name}[{position}]"

    @property
    def keys(self) -> list[str]:
        """Of all elements; of a scalar its name."""
        return [self.key(k) for k in range(size(self.bounds))] if self.bounds else [self.name]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A constant of a block, or an array parameter: values that nothing sets, element by element."""

    elements: tuple[Value, ...]
    bounds: tuple[tuple[int, int], ...] = ()
    parameter: bool = False  # $param_given may ask for it


Symbol: TypeAlias = Slot | Constant | Net | Bus | Branch | PortBranch | AnalogFunction | Parameter


@dataclass(slots=True)
class Scope:
    """Symbols of a block; what it does not know its ``outer`` one may."""

    outer: Scope | None = None
    symbols: dict[str, Symbol] = field(default_factory=dict)

    def declare(self, token: Token, symbol: Symbol) -> None:
        if token.text in self.symbols:
            raise parse_error(token, f"{token.text} is declared twice")
        self.symbols[token.text] = symbol

    def find(self, name: str) -> Symbol | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.symbols:
                return scope.symbols[name]
            scope = scope.outer
        return None


def size(bounds: tuple[tuple[int, int], ...]) -> int:
    """How many elements an array with these bounds has."""
    return math.prod(abs(last - first) + 1 for first, last in bounds)
