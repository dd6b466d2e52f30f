"""The deck checks every name and number; the ngspice writer gives the same bytes and wraps lines."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosim.errors import SpecError
from cosim.spice.deck import (
    Current,
    Deck,
    DeviceInstance,
    IndexedSource,
    InternalNode,
    ModelCard,
    Options,
    Resistor,
    Subcircuit,
    SubcircuitInstance,
    Sweep,
    Transient,
    Voltage,
    VoltageSource,
    Waveform,
    WaveformSource,
)
from cosim.spice.dialects.ngspice import save_name, write_deck

finite = st.floats(allow_nan=False, allow_infinity=False)


def deck(*elements, **fields) -> Deck:
    return Deck(title="test", elements=elements, **fields)


def lines(text: str) -> list[str]:
    """Cards, with continuation lines joined, without comments."""
    return [line for line in text.replace("\n+", "").splitlines() if not line.startswith("*")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resistor(name="R1", p="a", n="b", ohm=0.0), r"R1 is 0.0 ohm: it must be above 0; merge"),
        (lambda: Resistor(name="R1", p="a", n="b", ohm=math.nan), "R1 is nan: it must be a finite number"),
        (lambda: Resistor(name="R1", p="a", n="b", ohm="1k\n.end"), r"value of R1 '1k\\n.end' is not"),
        (lambda: Resistor(name="V1", p="a", n="b", ohm=1.0), "'V1' must start with 'R': it is a Resistor"),
        (lambda: Resistor(name="R1", p="a b", n="b", ohm=1.0), "node 'a b' of R1 is not 0 or an identifier"),
        (lambda: Resistor(name="R1\n", p="a", n="b", ohm=1.0), r"instance name 'R1\\n' is not an identifier"),
        (lambda: VoltageSource(name="V1", p="a", n="0", volt=math.inf), "V1 is inf: it must be a finite"),
        (lambda: VoltageSource(name="V1", p="a", n="0", volt="1M"), "V1 is '1M': it must be a finite"),
        (
            lambda: IndexedSource(name="B1", p="a", n="0", index="i", volts=(1.0,)),
            "B1 has 1 voltages: it needs 2",
        ),
        (
            lambda: IndexedSource(name="B1", p="a", n="0", index="i", volts=(1.0, math.nan)),
            r"B1\[1\] is nan",
        ),
        (lambda: Waveform(seconds=(0.0, 1.0), volts=(0.0,)), "a waveform of 2 times has 1 voltages"),
        (lambda: Waveform(seconds=(0.0, 0.0), volts=(0.0, 1.0)), r"time\[1\] is 0.0 s, not after 0.0 s"),
        (
            lambda: DeviceInstance(name="N1", nodes=("a", "0"), model="m", parameters=(("x=1 y", 1.0),)),
            "parameter 'x=1 y' is not an identifier",
        ),
        (lambda: ModelCard(name="m", module="mod`id`"), "module 'mod`id`' is not an identifier"),
        (lambda: Sweep(source="V1", start=1.0, stop=0.0, step=1.0), "from 1.0 to 0.0 by 1.0 has no points"),
        (lambda: Transient(stop=0.0, step=1.0, max_step=1.0), "transient stop is 0.0 s: it must be above 0"),
        (lambda: Options(reltol=0.0), "reltol is 0.0: it must be a finite number, above 0 and at most 1"),
        (lambda: Options(iterations=1.5), "iterations is 1.5: it must be a whole number"),
        (lambda: Options(homotopy="luck"), "homotopy is 'luck': use none, gmin or source"),
        (lambda: deck(libraries=("../x.osdi",)), "library '../x.osdi' is not a name such as model.osdi"),
        (lambda: deck(saves=(Current(source="all)\nshell ls"),)), "saved name .* is not an identifier"),
        (
            lambda: write_deck(
                deck(VoltageSource(name="V1", p="a", n="0", volt=0.0), options=Options(iterations=9))
            ),
            "the limit is 9 iterations: ngspice never does fewer than 100",
        ),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@given(st.lists(finite, min_size=2, max_size=40))
def test_every_float_comes_back_from_the_text(volts):
    source = IndexedSource(name="B1", p="a", n="0", index="i", volts=tuple(volts))
    card = next(line for line in lines(write_deck(deck(source))["testbench.sp"]) if line.startswith("B1"))
    numbers = re.search(r"pwl\(v\(i\),(.*)\)$", card)
    assert numbers is not None
    values = [float(x) for x in numbers[1].replace(" ", "").split(",")]
    assert values[0::2] == list(range(len(volts)))
    assert values[1::2] == volts


@given(finite.filter(lambda x: x > 0), finite)
def test_floats_of_other_cards_come_back(ohm, volt):
    wave = Waveform(seconds=(0.0, 1.0), volts=(volt, -volt))
    text = write_deck(
        deck(
            Resistor(name="R1", p="a", n="0", ohm=ohm),
            VoltageSource(name="V1", p="a", n="0", volt=volt),
            WaveformSource(name="V2", p="b", n="0", waveform=wave),
            DeviceInstance(name="N1", nodes=("a", "0"), model="m", parameters=(("x", volt),)),
        )
    )["testbench.sp"]
    found = {line.split()[0]: line.split() for line in lines(text) if line[0] in "RVN"}
    assert float(found["R1"][3]) == ohm
    assert float(found["V1"][3]) == volt
    assert [float(x) for x in found["V2"][4:8]] == [0.0, volt, 1.0, -volt]
    assert float(found["N1"][4].removeprefix("x=")) == volt


def test_lines_stay_below_1000_characters():
    ports = tuple(f"p{k}" for k in range(600))
    source = IndexedSource(name="B1", p="a", n="0", index="i", volts=tuple(k / 7 for k in range(500)))
    files = write_deck(
        deck(
            source,
            SubcircuitInstance(name="X1", nodes=ports, subcircuit="s"),
            subcircuits=(Subcircuit(name="s", ports=ports, elements=()),),
            saves=tuple(Voltage(node=p) for p in ports),
        )
    )
    assert set(files) == {"dut.sp", "testbench.sp"}
    assert max(len(line) for text in files.values() for line in text.splitlines()) < 1000
    joined = " ".join(files["dut.sp"].replace("\n+", "").split())
    assert f".subckt s {' '.join(ports)} .ends s" in joined


def test_comments_cannot_become_commands():
    files = write_deck(
        deck(
            VoltageSource(name="V1", p="a", n="0", volt=0.0),
            header=(("#shell ls\n.control", "x\nshell touch hacked"),),
        )
    )
    text = files["testbench.sp"]
    assert not re.search(r"^\*\s*#|^shell", text, re.MULTILINE)
    assert text.count(".control") == text.count(".endc") + 1 == 2
    assert "\n* shell ls .control: x shell touch hacked\n" in text


def test_header_has_version_and_no_date_and_text_is_reproducible():
    made = [
        write_deck(deck(VoltageSource(name="V1", p="a", n="0", volt=0.1), header=(("shape", "1 x 1"),)))
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert "* written by: cosim " in made[0]["testbench.sp"]
    assert not re.search(r"20\d\d-|\d:\d\d:\d\d", made[0]["testbench.sp"])


def test_save_names_are_those_of_the_raw_file():
    assert save_name(Current(source="Vsense0")) == "i(vsense0)"
    assert save_name(Voltage(node="W0_1")) == "v(w0_1)"
    assert save_name(InternalNode(device="N1", node="y")) == "v(n1#y)"


def test_points_of_a_sweep():
    assert Sweep(source="V1", start=0.0, stop=0.0, step=1.0).points == 1
    assert Sweep(source="V1", start=2.0, stop=3.0, step=1 / 64).points == 65
