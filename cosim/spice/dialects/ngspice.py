"""The ngspice dialect: a deck as text, final. Files: models.sp, dut.sp, testbench.sp."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from cosim import __version__
from cosim.devices.osdi_names import osdi_name
from cosim.devices.simulator import SIMULATOR_PARAMETERS, ZERO_CELSIUS
from cosim.errors import SpecError
from cosim.spice.deck import (
    Current,
    CurrentLimiter,
    Deck,
    DeviceInstance,
    Element,
    IndexedSource,
    InternalNode,
    ModelCard,
    Options,
    Parameters,
    Resistor,
    Save,
    Subcircuit,
    SubcircuitInstance,
    Sweep,
    Transient,
    Value,
    Voltage,
    VoltageSource,
    WaveformSource,
)
from cosim.text import format_comment, format_number

__all__ = ["RESULT", "TESTBENCH", "save_name", "write_deck"]

MODELS, DUT, TESTBENCH, RESULT = "models.sp", "dut.sp", "testbench.sp", "result.raw"

_WIDTH = 900  # ngspice reads longer lines, other tools stop at 1024 or 1000

_LEAST_ITERATIONS = 100  # it raises smaller limits to this without a word

# optran: plain Newton, gmin stepping, source stepping, then the transient fallback, which can hang
_OPTRAN = {"none": "1 0 0 0 0 0", "gmin": "0 1 0 0 0 0", "source": "0 0 1 0 0 0"}


def write_deck(deck: Deck) -> dict[str, str]:
    """The files of ``deck``, name -> text; the same deck gives the same bytes.

    Run it with ``ngspice -b testbench.sp`` in their folder, beside the deck's libraries.
    """
    header = [f"* {format_comment(f'{key}: {text}')}" for key, text in _header(deck)]
    files = {}
    if deck.models:
        files[MODELS] = _text([*header, *(_model(card) for card in deck.models)])
    if deck.subcircuits:
        files[DUT] = _text([*header, *(line for item in deck.subcircuits for line in _subcircuit(item))])
    includes = [f".include {name}" for name in files]
    if deck.elements:
        body = (_element(element) for element in deck.elements)
        files[TESTBENCH] = _text([*header, *includes, *body, *_analysis(deck), ".end"])
    return files


def save_name(save: Save) -> str:
    """What ngspice calls a saved quantity, in ``.save`` and in the raw file."""
    match save:
        case Current(source=source):
            return f"i({source.lower()})"
        case Voltage(node=node):
            return f"v({node.lower()})"
        case InternalNode(device=device, node=node):
            return f"v({device.lower()}#{node.lower()})"


def _header(deck: Deck) -> Iterator[tuple[str, str]]:
    yield "title", deck.title
    yield "written by", f"cosim {__version__}, dialect ngspice"
    yield from deck.header


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _wrapped(words: Iterable[str]) -> str:
    """The words on one card, continued with + before a line grows too long."""
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) >= _WIDTH:
            lines.append(line)
            line = "+"
        line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _value(value: Value) -> str:
    return f"{{{value}}}" if isinstance(value, str) else format_number(value)


def _assignments(parameters: Parameters) -> Iterator[str]:
    return (f"{name}={format_number(value)}" for name, value in parameters)


def _model(card: ModelCard) -> str:
    return _wrapped([".model", card.name, osdi_name(card.module), *_assignments(card.parameters)])


def _subcircuit(item: Subcircuit) -> Iterator[str]:
    parameters = ["params:", *_assignments(item.parameters)] if item.parameters else []
    yield _wrapped([".subckt", item.name, *item.ports, *parameters])
    yield from map(_element, item.elements)
    yield f".ends {item.name}"


def _element(element: Element) -> str:
    match element:
        case Resistor(name=name, p=p, n=n, ohm=ohm):
            return f"{name} {p} {n} {_value(ohm)}"
        case CurrentLimiter(name=name, p=p, n=n, ohm=ohm, scale=scale, low=low, high=high):
            # a node of its own walks along the bent line, where current and voltage both move one way
            place = f"{name.lower()}_drop"
            current = f"v({place})/{format_number(scale)}"
            current = current if math.isinf(low) else f"max({current},{format_number(low)})"
            current = current if math.isinf(high) else f"min({current},{format_number(high)})"
            kept = f"{format_number(scale - ohm)}*({current})"
            walk = f"{name}_walk {place} 0 I=v({place})-{kept}-v({p},{n})"
            return f"{name} {p} {n} I={current}\n{walk}"
        case DeviceInstance(name=name, nodes=nodes, model=model, parameters=parameters):
            return _wrapped([name, *nodes, model, *_assignments(parameters)])
        case SubcircuitInstance(name=name, nodes=nodes, subcircuit=subcircuit, parameters=parameters):
            return _wrapped([name, *nodes, subcircuit, *_assignments(parameters)])
        case VoltageSource(name=name, p=p, n=n, volt=volt):
            return f"{name} {p} {n} {format_number(volt)}"
        case IndexedSource(name=name, p=p, n=n, index=index, volts=volts):
            points = [f"{k},{format_number(volt)}" for k, volt in enumerate(volts)]
            head = f"{name} {p} {n} V=pwl(v({index}),"
            return _wrapped([head, *(f"{point}," for point in points[:-1]), f"{points[-1]})"])
        case WaveformSource(name=name, p=p, n=n, waveform=waveform):
            pairs = zip(waveform.seconds, waveform.volts, strict=True)
            points = [f"{format_number(second)} {format_number(volt)}" for second, volt in pairs]
            return _wrapped([f"{name} {p} {n} pwl(", *points, ")"])


def _analysis(deck: Deck) -> Iterator[str]:
    yield _options(deck.options)
    if deck.saves:
        # the names of .save carry over to the raw file, in this order
        yield _wrapped([".save", *(save_name(save) for save in deck.saves)])
    yield ".control"
    yield from (f"pre_osdi {library}" for library in deck.libraries)
    yield f"optran {_OPTRAN[deck.options.homotopy]}"
    yield "set filetype=binary"
    if len(deck.analyses) > 1:
        yield "set appendwrite"
    yield "set failed=0"
    for analysis in deck.analyses:
        yield _command(analysis)
        yield f"write {RESULT}"
        yield from ("if $sim_status", "set failed=1", "end")
    yield from ("if $failed", "quit 3", "end", "quit 0", ".endc")


def _options(options: Options) -> str:
    if options.iterations < _LEAST_ITERATIONS:
        raise SpecError(
            f"the limit is {options.iterations} iterations: ngspice never does fewer than {_LEAST_ITERATIONS}"
        )
    names = ("pivrel", "reltol", "abstol", "vntol")
    numbers = [f"{name}={format_number(getattr(options, name))}" for name in names]
    limits = [f"{key}={options.iterations}" for key in ("itl1", "itl2", "itl4")]
    # what the models of every engine are told, whatever this simulator's defaults are
    told = {name: SIMULATOR_PARAMETERS[name] for name in ("gmin", "tnom")}
    told["temp"] = options.temperature - ZERO_CELSIUS
    return " ".join([".options klu", *numbers, *limits, *_assignments(tuple(told.items()))])


def _command(analysis: Sweep | Transient) -> str:
    match analysis:
        case Sweep(source=source, start=start, stop=stop, step=step):
            return f"dc {source} {format_number(start)} {format_number(stop)} {format_number(step)}"
        case Transient(stop=stop, step=step, max_step=max_step):
            return f"tran {format_number(step)} {format_number(stop)} 0 {format_number(max_step)}"
