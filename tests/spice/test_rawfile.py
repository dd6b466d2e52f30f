"""Raw files: what ngspice writes is read exactly; whatever else is a ParseError, never another error."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosim.errors import ParseError
from cosim.spice.rawfile import parse_raw


def raw(values: np.ndarray, names: list[str], *, flags="real", plot="DC transfer characteristic") -> bytes:
    points, variables = values.shape
    table = "".join(f"\t{k}\t{name}\tvoltage\n" for k, name in enumerate(names))
    header = (
        "Title: * test\nDate: Mon Nov 23 12:31:05  2026\nCommand: ngspice-46, Build Wed Apr 15 15:18:29\n"
        f"Plotname: {plot}\nFlags: {flags}\nNo. Variables: {variables}\nNo. Points: {points}\n"
        f"Variables:\n{table}Binary:\n"
    )
    return header.encode() + values.tobytes()


REAL = np.array([[0.0, 1.5], [1.0, -2.5e-300], [2.0, np.inf]])
TWO = raw(REAL, ["v(v-sweep)", "i(V1)"]) + raw(REAL[:1] * (1 + 2j), ["frequency", "v(a)"], flags="complex")


def test_plots_of_both_kinds_follow_each_other():
    first, second = parse_raw(TWO)
    assert first.names == ("v(v-sweep)", "i(v1)")
    assert first.title == "* test"
    assert first.name == "DC transfer characteristic"
    np.testing.assert_array_equal(first.values, REAL)
    np.testing.assert_array_equal(first["I(V1)"], REAL[:, 1])
    np.testing.assert_array_equal(second["v(a)"], [1.5 + 3j])


def test_values_that_look_like_a_header_are_values():
    trap = np.frombuffer(b"Binary:\nVariables:\nTitle: ".ljust(32), np.float64)
    (plot,) = parse_raw(raw(trap[:, None], ["time"]))
    np.testing.assert_array_equal(plot.values[:, 0], trap)


@given(st.integers(0, len(TWO) - 1))
def test_every_truncation_is_a_parse_error_or_one_plot(length):
    if length == len(raw(REAL, ["v(v-sweep)", "i(V1)"])):
        assert len(parse_raw(TWO[:length])) == 1
        return
    with pytest.raises(ParseError):
        parse_raw(TWO[:length])


@given(st.integers(0, len(TWO) - 1), st.integers(0, 255))
def test_a_changed_byte_never_raises_another_error(place, byte):
    data = bytearray(TWO)
    data[place] = byte
    with contextlib.suppress(ParseError):
        parse_raw(bytes(data))


@given(st.binary(max_size=200))
def test_noise_is_a_parse_error(data):
    with pytest.raises(ParseError):
        parse_raw(data)


GOOD = raw(REAL, ["a", "b"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the raw file is empty: the simulation wrote nothing"),
        (GOOD[:-1], "truncated: 3 points of 2 variables need 48 bytes, 47 are there"),
        (GOOD[:60], "not a whole binary raw file: no line 'Binary:' after byte 0"),
        (GOOD.replace(b"Binary:", b"Values:"), "not a whole binary raw file: ASCII values"),
        (GOOD.replace(b"No. Points: 3", b"No. Points: -3"), "header field 'no. points' is '-3'"),
        (GOOD.replace(b"No. Points: 3", b"No. Points: 9" + b"9" * 15), "header field 'no. points' is '9999"),
        (GOOD.replace(b"No. Variables: 2", b"No. Variables: 3"), "2 variables are listed, 3 announced"),
        (GOOD.replace(b"Flags: real", b"Flags: odd"), "flags 'odd' say neither real nor complex"),
        (GOOD.replace(b"\t1\tb\tvoltage", b"\t7\tb\tvoltage"), "variable line .* is not '1 name type'"),
        (GOOD.replace(b"Variables:\n", b"Vars:\n"), "no list of variables in the header at byte 0"),
        (GOOD.replace(b"Title: *", b"Title *"), "header line 'Title . test' is not 'key: value'"),
        (b"\xff" + GOOD, "header at byte 0 is not text"),
    ],
)
def test_reasons(data, message):
    with pytest.raises(ParseError, match=message):
        parse_raw(data)


def test_the_path_is_in_the_message():
    with pytest.raises(ParseError, match=r"^out/result.raw: truncated"):
        parse_raw(GOOD[:-1], path="out/result.raw")


def test_an_unknown_variable_is_named():
    with pytest.raises(ParseError, match=r"no variable 'c' in plot .*: it has a, b"):
        parse_raw(GOOD)[0]["c"]


def test_no_points_is_an_empty_plot():
    (plot,) = parse_raw(raw(np.empty((0, 2)), ["a", "b"]))
    assert plot.values.shape == (0, 2)
