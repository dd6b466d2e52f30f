"""The border: what passes it, as which type, and what a refusal says."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim import checks
from cosim.arrays import as_tensor, out_of_memory
from cosim.errors import OutOfMemory, SpecError
from wrong_values import NESTED, QUANTISED, THINGS


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (checks.as_integer(np.int64(3), "n"), 3),
        (checks.as_integer(torch.tensor(3), "n", at_least=3, at_most=3), 3),
        (checks.as_number(np.float32(0.5), "x"), 0.5),
        (checks.as_number(np.array(2), "x"), 2.0),
        (checks.as_number(torch.tensor(0.25), "x", above=0, below=1), 0.25),
        (checks.as_number(Fraction(1, 4), "x"), 0.25),
        (checks.as_number(math.inf, "x", infinite=True), math.inf),
        (checks.as_flag(np.True_, "f"), True),
        (checks.as_path("a/b", "p"), Path("a/b")),
        (checks.as_seed(0), 0),
        (checks.as_shape((4, np.int64(3)), "s", ("rows", "columns")), (4, 3)),
        (checks.as_shape([2, 4, 3], "s", ("*tiles", "rows", "columns")), (2, 4, 3)),
        (checks.as_interval(np.array([0.0, 1.0]), "r"), (0.0, 1.0)),
        (checks.as_choices(["a", "b", "a"], "c", "abc"), ("a", "b")),
    ],
)
def test_what_passes_comes_out_as_the_type_that_is_meant(found: Any, wanted: Any):
    assert found == wanted
    assert type(found) is type(wanted)


# --- what is refused -------------------------------------------------------------------------------

FLOATS = [math.nan, math.inf, -1.0, 1.5]


@pytest.mark.parametrize(
    ("check", "expected", "extra"),
    [
        (lambda v: checks.as_integer(v, "n", at_least=0), "a whole number", [True, 2**63, 10**5000]),
        (lambda v: checks.as_number(v, "n", at_least=0, at_most=1), "a finite number", [True, 2, 10**5000]),
        (lambda v: checks.as_flag(v, "n"), "True or False", [0, 1]),
        (lambda v: checks.as_choice(v, "n", ("a", "b")), "choose from a, b", [0, True]),
        (lambda v: checks.as_choices([v], "n", ("a", "b")), "an entry of n is .*choose from a, b", [0]),
        (lambda v: checks.as_seed(v), "a whole number", [True, 2**63]),
        (lambda v: checks.as_shape((2, v), "n", ("rows", "columns")), "(rows, columns), whole numbers", [0]),
        (lambda v: checks.as_interval((2, v), "n"), "two finite numbers, low below high", [0]),
        (lambda v: checks.as_instance(v, "n", Path, "a Path"), "give a Path", [0]),
    ],
)
def test_what_is_refused_is_named_with_what_was_expected(check: Callable, expected: str, extra: list[Any]):
    for value in [*FLOATS, *THINGS.values(), *extra]:
        with pytest.raises(SpecError) as caught:
            check(value)
        message = str(caught.value)
        assert expected.split(".*")[-1] in message
        assert len(message) < 200


@pytest.mark.parametrize("value", [None, "", "a\0b", "\ud800", b"a", 1, [], object()])
def test_a_path_is_a_text_or_a_path(value: Any):
    with pytest.raises(SpecError, match=r"out is .*: it must be the path of a file or folder"):
        checks.as_path(value, "out")


def test_limits_are_told():
    with pytest.raises(SpecError, match="bits is 25: it must be a whole number, at least 2 and at most 24"):
        checks.as_integer(25, "bits", at_least=2, at_most=24)
    with pytest.raises(SpecError, match=r"rate is 1.0: it must be a finite number, at least 0 and below 1"):
        checks.as_number(1.0, "rate", at_least=0, below=1)
    with pytest.raises(SpecError, match=r"engines is 'ideal': give a sequence, such as \('ideal',\)"):
        checks.as_choices("ideal", "engines", ("ideal", "linear"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1j]), "cells is complex"),
        (torch.ones(2, dtype=torch.complex64), "cells is complex"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "cells has masked entries"),
        (np.array(["2026-12-01"], "datetime64[D]"), r"cells is ndarray of shape \(1,\) of datetime64\[D\]"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "give numbers"),
        (["1", "2"], "give numbers"),
        ([10**400], "give numbers"),
        ([None, 1.0], "give numbers"),
        ([[1.0], [1.0, 2.0]], "cells is not an array of numbers"),
        ({}, "give numbers"),
        (
            NESTED,
            "cells is nested or quantised",
        ),
        (QUANTISED, "cells is nested or quantised"),
    ],
)
def test_what_is_no_ordinary_array_of_real_numbers_is_refused(value: Any, message: str):
    with pytest.raises(SpecError, match=message):
        as_tensor(value, "cells")


def test_running_out_of_memory_has_an_error_of_its_own():
    for size in (2**52, 2**62, (2**40, 2**40)):
        with (
            pytest.raises(OutOfMemory, match="solving needs more memory than there is"),
            out_of_memory("solving"),
        ):
            torch.empty(size)
        with pytest.raises(OutOfMemory), out_of_memory("solving"):
            np.empty(2**55)
    with pytest.raises(RuntimeError, match="must match"), out_of_memory("solving"):
        _ = torch.ones(2) + torch.ones(3)
