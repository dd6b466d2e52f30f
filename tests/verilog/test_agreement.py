"""Two front ends, one meaning: cosim's own and openvaf-py on every model of the project."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cosim.devices.frontend import compile_file
from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.devices.ir import DeviceIR, Scalar
from cosim.shipped import VERILOG_A
from cosim.verilog.compile import compile_verilog
from tolerances import PRINTERS

ROOT = Path(__file__).parents[2]
# operators.va is left out: slopes of hypot and atan2 are wrong in openvaf-py (see test_language)
MODELS = [
    path
    for path in sorted(
        [*VERILOG_A.glob("*/*.va"), *ROOT.glob("tests/data/va/*.va"), *ROOT.glob("examples/*.va")]
    )
    if path.stem != "operators"
]


def draw(ir: DeviceIR, generator: random.Random) -> dict[str, Scalar]:
    """Some parameters a little off their defaults, some switches on."""
    given: dict[str, Scalar] = {}
    for parameter in ir.parameters:
        if parameter.type == "integer" and generator.random() < 0.3:
            given[parameter.name] = generator.choice([0, 1, 2])
        elif isinstance(parameter.default, float) and generator.random() < 0.3:
            given[parameter.name] = parameter.default * (1 + 0.2 * generator.random())
    return given


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_residuals_and_jacobians_are_those_of_openvaf(path: Path):
    ours, theirs = compile_verilog(path), compile_file(path)
    generator = random.Random(path.stem)
    names = [node.name for node in theirs.nodes]
    order = [[node.name for node in ours.nodes].index(name) for name in names]
    flows = [k for k, node in enumerate(theirs.nodes) if node.kind != "voltage"]
    compared = 0
    for _ in range(100):
        given = draw(ours, generator)
        conditions = Conditions(abstime=generator.choice([0.0, 1e-6]), integrating=generator.random() < 0.5)
        setups = [run_setup(ir, given, conditions) for ir in (ours, theirs)]
        assert set(setups[0].out_of_range) == set(setups[1].out_of_range)
        if setups[0].out_of_range:
            continue
        assert len(setups[0].collapsed) == len(setups[1].collapsed)
        volts = {name: generator.choice([0.0, 1.0, -1.0, generator.gauss(0, 1)]) for name in names}
        found = evaluate(ours, setups[0], [volts[n.name] for n in ours.nodes], given, conditions)
        expected = evaluate(theirs, setups[1], [volts[name] for name in names], given, conditions)
        for field in ("resist", "react", "jacobian_resist", "jacobian_react"):
            a, b = getattr(found, field), getattr(expected, field)
            a = a[order] if a.ndim == 1 else a[np.ix_(order, order)]
            a[flows], b[flows] = (
                np.abs(a[flows]),
                np.abs(b[flows]),
            )  # with either sign
            assert np.allclose(a, b, rtol=PRINTERS, atol=0), (field, given, volts)
        compared += 1
    assert compared > 30
