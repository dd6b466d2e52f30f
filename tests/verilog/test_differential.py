"""Two compilers, one meaning: random modules against OpenVAF-Reloaded, residuals and Jacobians."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.devices.ir import DeviceIR
from cosim.verilog.compile import compile_verilog
from devices.osdi_host import OsdiDevice
from tolerances import COMPILERS, ROUNDING_OF_SUMS
from verilog.grammar import write_module
from verilog.judge import judge

_HEADERS = '`include "constants.vams"\n`include "disciplines.vams"\n'
_MODULES = 100  # in one file, so that the judge starts and links once
_POINTS = 4
_FIELDS = ("resist", "react", "jacobian_resist", "jacobian_react")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_modules_mean_what_openvaf_makes_of_them(seed: int, tmp_path: Path):
    source = random.Random(seed)
    texts = [write_module(f"m{number}", source) for number in range(_MODULES)]
    path = tmp_path / "modules.va"
    path.write_text(_HEADERS + "\n".join(texts))
    library = judge(path)
    for number, text in enumerate(texts):
        path.write_text(_HEADERS + text)
        ours = compile_verilog(path)
        for _ in range(_POINTS):
            check(ours, library, number, source, text)


def check(ours: DeviceIR, library: Path, number: int, source: random.Random, text: str) -> None:
    given = {"a": source.gauss(0, 1), "b": source.gauss(0, 1), "k": source.randrange(6)}
    volts = [source.gauss(0, 1) for _ in ours.nodes]
    found = evaluate(ours, run_setup(ours, given), volts, given, Conditions())
    device = OsdiDevice(library, given, number=number)
    assert [node.name for node in ours.nodes] == device.nodes, text
    judged, _ = device.evaluate(volts)
    for field in _FIELDS:
        a, b = getattr(found, field), getattr(judged, field)
        least = ROUNDING_OF_SUMS * np.abs(b).max()
        assert np.allclose(a, b, rtol=COMPILERS, atol=least), f"{field} at {volts}, {given}: {a}, {b}\n{text}"
