"""The rule check names what ngspice would accept and answer with nonsense."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cosim.errors import SpecError
from cosim.spice.deck import (
    Current,
    Deck,
    DeviceInstance,
    IndexedSource,
    InternalNode,
    ModelCard,
    Resistor,
    Subcircuit,
    SubcircuitInstance,
    Sweep,
    Voltage,
    VoltageSource,
)
from cosim.spice.rules import check_deck


def R(name, p, n, ohm=1.0):
    return Resistor(name=name, p=p, n=n, ohm=ohm)


def V(name, p, n="0"):
    return VoltageSource(name=name, p=p, n=n, volt=1.0)


def X(name, *nodes, subcircuit="s", **parameters):
    return SubcircuitInstance(
        name=name, nodes=nodes, subcircuit=subcircuit, parameters=tuple(parameters.items())
    )


def deck(*elements, subcircuits=(), **fields):
    return Deck(title="test", elements=elements, subcircuits=subcircuits, **fields)


def sub(*elements, ports=("a", "b"), name="s", **parameters):
    return Subcircuit(name=name, ports=ports, elements=elements, parameters=tuple(parameters.items()))


MODEL = ModelCard(name="m", module="mod")

GOOD = {
    "divider": deck(V("V1", "a"), R("R1", "a", "b"), R("R2", "b", "0")),
    "dangling resistor": deck(V("V1", "a"), R("R1", "a", "open")),
    "subcircuit to ground inside": deck(
        V("V1", "x"), X("X1", "x", "y"), subcircuits=(sub(R("R1", "a", "b"), R("R2", "b", "0")),)
    ),
    "sources in series": deck(V("V1", "a"), V("V2", "b", "a"), R("R1", "b", "0")),
    "device": deck(
        V("V1", "a"),
        DeviceInstance(name="N1", nodes=("a", "b"), model="m"),
        R("R1", "b", "0"),
        models=(MODEL,),
        saves=(InternalNode(device="N1", node="y"), Voltage(node="b"), Current(source="V1")),
        analyses=(Sweep(source="V1", start=0.0, stop=1.0, step=1.0),),
    ),
}

BAD = {
    r"^node b in the top level has no DC path to ground": deck(
        V("V1", "a"), R("R1", "a", "0"), R("R2", "b", "b")
    ),
    r"island of nodes b, c in the top level has no DC path to ground": deck(V("V1", "a"), R("R1", "b", "c")),
    r"island of nodes n0, n1, n10, n11, n2 and 7 more": deck(
        V("V1", "a"), *(R(f"R{k}", f"n{k}", f"n{k + 1}") for k in range(11))
    ),
    r"island of nodes c, d in subcircuit s": deck(
        V("V1", "x"), X("X1", "x", "0"), subcircuits=(sub(R("R1", "a", "b"), R("R2", "c", "d")),)
    ),
    # the subcircuit does not connect its ports, so y floats one level up
    r"node y in the top level has no DC path": deck(
        V("V1", "x"), X("X1", "x", "y"), subcircuits=(sub(R("R1", "a", "0"), R("R2", "b", "c")),)
    ),
    r"node index in the top level has no DC path": deck(
        IndexedSource(name="B1", p="a", n="0", index="index", volts=(0.0, 1.0))
    ),
    r"V2 in the top level closes a loop of voltage sources between nodes a and 0": deck(
        V("V1", "a"), V("V2", "a")
    ),
    r"V3 in the top level closes a loop": deck(V("V1", "a"), V("V2", "b", "a"), V("V3", "b")),
    r"V1 in the top level closes a loop of voltage sources between nodes a and a": deck(
        V("V1", "a", "a"), R("R1", "a", "0")
    ),
    r"X1 in the top level closes a loop of voltage sources": deck(
        V("V1", "x"), X("X1", "x", "0"), subcircuits=(sub(V("V1", "a", "b")),)
    ),
    r"X1 in the top level closes a loop of voltage sources between nodes 0 and x|nodes x and 0": deck(
        V("V1", "x"), X("X1", "x", "y"), subcircuits=(sub(V("V1", "a", "0"), R("R1", "b", "0")),)
    ),
    r"instance name 'r1' is in the top level twice \(SPICE reads 'R1' as the same\)": deck(
        V("V1", "a"), R("R1", "a", "0"), R("r1", "a", "0")
    ),
    r"node name 'A' is in the top level twice|node name 'a' is in": deck(V("V1", "a"), R("R1", "A", "0")),
    r"port name 'A' is in subcircuit s twice": deck(V("V1", "a"), subcircuits=(sub(ports=("a", "A")),)),
    r"subcircuit name 's' is in the deck twice": deck(V("V1", "a"), subcircuits=(sub(), sub())),
    r"model name 'M' is in the deck twice": deck(V("V1", "a"), models=(MODEL, replace(MODEL, name="M"))),
    r"N1 in the top level names the model 'm', which is not there": deck(
        DeviceInstance(name="N1", nodes=("a", "0"), model="m")
    ),
    r"X1 in the top level names the subcircuit 's', which is not defined": deck(X("X1", "a", "0")),
    r"X1 in the top level connects 1 nodes to the 2 ports of s": deck(X("X1", "a"), subcircuits=(sub(),)),
    r"X1 in the top level sets \['ohm'\], not parameters of s": deck(
        X("X1", "a", "0", ohm=1.0), subcircuits=(sub(),)
    ),
    r"R1 in subcircuit s has the value 'row', which is no parameter": deck(
        V("V1", "a"), subcircuits=(sub(R("R1", "a", "b", "row")),)
    ),
    r"the current of 'V2' is saved, but no voltage source": deck(V("V1", "a"), saves=(Current(source="V2"),)),
    r"the voltage of node 'q' is saved, but nothing connects": deck(V("V1", "a"), saves=(Voltage(node="q"),)),
    r"a node inside 'N1' is saved, but no device": deck(
        V("V1", "a"), saves=(InternalNode(device="N1", node="y"),)
    ),
    r"'V2' is swept, but no voltage source": deck(
        V("V1", "a"), analyses=(Sweep(source="V2", start=0.0, stop=1.0, step=1.0),)
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_decks_pass(name):
    assert check_deck(GOOD[name]) is GOOD[name]


@pytest.mark.parametrize("message", BAD)
def test_bad_decks_are_named(message):
    with pytest.raises(SpecError, match=message):
        check_deck(BAD[message])


def test_instance_that_ties_ports_together_twice():
    inner = sub(V("V1", "a", "b"))
    with pytest.raises(SpecError, match="X2 in the top level closes a loop of voltage sources"):
        check_deck(deck(V("V1", "x"), X("X1", "x", "y"), X("X2", "x", "y"), subcircuits=(inner,)))
