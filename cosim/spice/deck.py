"""A circuit deck, free of any simulator's dialect: elements, subcircuits, models, analyses, saves.

Instance names start with the letter that SPICE wants for their kind (R, V, B, N, X), so a name in a
deck is the name in every netlist. Node ``0`` is ground, in every subcircuit. A value is a float, or
the name of a parameter of the subcircuit that it stands in. Every name and number is checked here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from cosim.checks import as_integer, as_number
from cosim.devices.simulator import TEMPERATURE, check_temperature
from cosim.errors import SpecError
from cosim.text import check_identifier

__all__ = [
    "GROUND",
    "Current",
    "CurrentLimiter",
    "Deck",
    "DeviceInstance",
    "Element",
    "IndexedSource",
    "InternalNode",
    "ModelCard",
    "Options",
    "Parameters",
    "Resistor",
    "Save",
    "Subcircuit",
    "SubcircuitInstance",
    "Sweep",
    "Transient",
    "Value",
    "Voltage",
    "VoltageSource",
    "Waveform",
    "WaveformSource",
]

GROUND = "0"
Value: TypeAlias = float | str
Parameters: TypeAlias = tuple[tuple[str, float], ...]

_NODE = re.compile(r"(0|[A-Za-z][A-Za-z0-9_]*)\Z").match
_LIBRARY = re.compile(r"[A-Za-z][A-Za-z0-9_]*\.osdi\Z")


def _check_instance(element: Element, *nodes: str) -> None:
    name = check_identifier(element.name, "instance name")
    if name[0].upper() != element.letter:
        raise SpecError(
            f"instance name {name!r} must start with {element.letter!r}: it is a {type(element).__name__}"
        )
    for node in nodes:
        _check_node(node, name)


def _check_node(node: str, owner: str) -> None:
    if not isinstance(node, str) or not _NODE(node):
        raise SpecError(f"node {node!r} of {owner} is not 0 or an identifier")


def _check_number(value: float, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(f"{what} is {value!r}: it must be a finite number")


def _check_parameters(parameters: Parameters, owner: str) -> None:
    for name, value in parameters:
        _check_number(value, f"parameter {check_identifier(name, 'parameter')} of {owner}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resistor:
    """A resistance above 0 ohm between p and n; where it is 0, merge the nodes instead."""

    letter: ClassVar[str] = "R"
    name: str
    p: str
    n: str
    ohm: Value

    def __post_init__(self) -> None:
        _check_instance(self, self.p, self.n)
        if isinstance(self.ohm, str):
            check_identifier(self.ohm, f"value of {self.name}")
            return
        _check_number(self.ohm, f"{self.name}")
        if self.ohm <= 0:
            raise SpecError(f"{self.name} is {self.ohm} ohm: it must be above 0; merge its nodes instead")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentLimiter:
    """A resistance above 0 ohm from p to n, whose current stays between low and high (A; may be infinite).

    scale: ohm, by which the voltage on a limit is measured inside; of the size of what the current meets.
    """

    letter: ClassVar[str] = "B"
    name: str
    p: str
    n: str
    ohm: float
    scale: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_instance(self, self.p, self.n)
        _check_number(self.ohm, self.name)
        if self.ohm <= 0:
            raise SpecError(f"{self.name} is {self.ohm} ohm: it must be above 0")
        if not self.low < 0 < self.high:
            raise SpecError(
                f"{self.name} keeps its current between {self.low} and {self.high} A: 0 is outside"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class VoltageSource:
    """A constant voltage from p to n; its current is positive from p through the source to n."""

    letter: ClassVar[str] = "V"
    name: str
    p: str
    n: str
    volt: float

    def __post_init__(self) -> None:
        _check_instance(self, self.p, self.n)
        _check_number(self.volt, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waveform:
    """Straight lines between (second, volt); the times rise, the ends are held."""

    seconds: tuple[float, ...]
    volts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.seconds) != len(self.volts) or not self.seconds:
            raise SpecError(f"a waveform of {len(self.seconds)} times has {len(self.volts)} voltages")
        for kind, values in (("time", self.seconds), ("voltage", self.volts)):
            for k, value in enumerate(values):
                _check_number(value, f"waveform {kind}[{k}]")
        for k in range(1, len(self.seconds)):
            if self.seconds[k] <= self.seconds[k - 1]:
                raise SpecError(
                    f"waveform time[{k}] is {self.seconds[k]} s, not after {self.seconds[k - 1]} s: "
                    "times must rise"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class WaveformSource:
    """A voltage source that follows a waveform in time."""

    letter: ClassVar[str] = "V"
    name: str
    p: str
    n: str
    waveform: Waveform

    def __post_init__(self) -> None:
        _check_instance(self, self.p, self.n)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedSource:
    """A voltage source with ``volts[k]`` while node ``index`` is at k volt, straight lines between.

    A sweep of one source over 0, 1, 2, ... then runs a whole batch of input vectors.
    """

    letter: ClassVar[str] = "B"
    name: str
    p: str
    n: str
    index: str
    volts: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_instance(self, self.p, self.n, self.index)
        if len(self.volts) < 2:
            raise SpecError(f"{self.name} has {len(self.volts)} voltages: it needs 2 or more")
        for k, volt in enumerate(self.volts):
            _check_number(volt, f"{self.name}[{k}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInstance:
    """A Verilog-A device between ``nodes``, of the model card named ``model``."""

    letter: ClassVar[str] = "N"
    name: str
    nodes: tuple[str, ...]
    model: str
    parameters: Parameters = ()

    def __post_init__(self) -> None:
        _check_instance(self, *self.nodes)
        _check_parameters(self.parameters, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubcircuitInstance:
    """One use of a subcircuit; ``parameters`` override its defaults."""

    letter: ClassVar[str] = "X"
    name: str
    nodes: tuple[str, ...]
    subcircuit: str
    parameters: Parameters = ()

    def __post_init__(self) -> None:
        _check_instance(self, *self.nodes)
        _check_parameters(self.parameters, self.name)


Element: TypeAlias = (
    Resistor
    | CurrentLimiter
    | VoltageSource
    | WaveformSource
    | IndexedSource
    | DeviceInstance
    | SubcircuitInstance
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subcircuit:
    """A named circuit with ports; ``parameters`` are (name, default)."""

    name: str
    ports: tuple[str, ...]
    elements: tuple[Element, ...]
    parameters: Parameters = ()

    def __post_init__(self) -> None:
        check_identifier(self.name, "subcircuit")
        for port in self.ports:
            check_identifier(port, f"port of {self.name}")
        _check_parameters(self.parameters, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """Parameters shared by all instances that name this card; ``module`` is the Verilog-A module."""

    name: str
    module: str
    parameters: Parameters = ()

    def __post_init__(self) -> None:
        check_identifier(self.name, "model")
        check_identifier(self.module, "module")
        _check_parameters(self.parameters, self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """DC sweep of a voltage source: start, start + step, ... up to stop (V)."""

    source: str
    start: float
    stop: float
    step: float

    def __post_init__(self) -> None:
        check_identifier(self.source, "sweep source")
        for name in ("start", "stop", "step"):
            _check_number(getattr(self, name), f"sweep {name}")
        if self.step <= 0 or self.stop < self.start:
            raise SpecError(f"a sweep from {self.start} to {self.stop} by {self.step} has no points")

    @property
    def points(self) -> int:
        return int((self.stop - self.start) / self.step + 1e-9) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Transient:
    """Time from 0 to stop (s); ``step`` is the first and the suggested step, ``max_step`` its limit."""

    stop: float
    step: float
    max_step: float

    def __post_init__(self) -> None:
        for name in ("stop", "step", "max_step"):
            value = getattr(self, name)
            _check_number(value, f"transient {name}")
            if value <= 0:
                raise SpecError(f"transient {name} is {value} s: it must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """Save the current through a top-level voltage source, positive from p to n."""

    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Voltage:
    """Save the voltage of a top-level node."""

    node: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InternalNode:
    """Save a node inside a top-level device instance, such as its state."""

    device: str
    node: str


Save: TypeAlias = Current | Voltage | InternalNode


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Newton tolerances and iteration limit, how an operating point is looked for, and the temperature.

    temperature: K, of every device of the deck.
    homotopy: "none" (plain Newton), "gmin" or "source" (only that kind of stepping).
    """

    # ngspice reports the last iterate but one: its error is that of reltol, not of its square
    reltol: float = 1e-11
    abstol: float = 1e-16
    vntol: float = 1e-12
    pivrel: float = 0.1
    iterations: int = 100
    homotopy: str = "none"
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        for name in ("reltol", "abstol", "vntol", "pivrel"):
            value = getattr(self, name)
            as_number(value, name, above=0, at_most=1)
        as_integer(self.iterations, "iterations", at_least=1)
        check_temperature(self.temperature)
        if self.homotopy not in ("none", "gmin", "source"):
            raise SpecError(f"homotopy is {self.homotopy!r}: use none, gmin or source")


@dataclass(frozen=True, kw_only=True, slots=True)
class Deck:
    """A whole simulation. header: (key, text) comments; libraries: file names of compiled models."""

    title: str
    elements: tuple[Element, ...]
    header: tuple[tuple[str, str], ...] = ()
    libraries: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    subcircuits: tuple[Subcircuit, ...] = ()
    analyses: tuple[Sweep | Transient, ...] = ()
    saves: tuple[Save, ...] = ()
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        for library in self.libraries:
            if not _LIBRARY.match(library):
                raise SpecError(f"library {library!r} is not a name such as model.osdi")
        for save in self.saves:
            for name in (getattr(save, slot) for slot in save.__slots__):
                check_identifier(name, "saved name")
