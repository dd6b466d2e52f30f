"""Models in the styles of classic compact models: against OpenVAF-Reloaded and ngspice, at all terminals."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.devices.build import build
from cosim.devices.interp import Conditions, Evaluation, Setup, evaluate, run_setup
from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.print_c import print_c
from cosim.spice.rawfile import parse_raw
from cosim.verilog.compile import compile_verilog
from devices.osdi_host import OsdiDevice
from tolerances import COMPILERS, NGSPICE_COMPILERS, ROUNDING_OF_SUMS
from verilog.big_model import big_model
from verilog.judge import judge
from verilog.simulator import run

FOLDER = Path(__file__).parent / "classic"
MODELS = sorted(FOLDER.glob("*.va"))
FIELDS = ("resist", "react", "jacobian_resist", "jacobian_react")
POINTS = 40
# a junction that is driven further carries more than all currents of a circuit
BIASES = (0.1, 0.5, 0.8)

# switches and resistances that are not there
VARIANTS: dict[str, list[dict[str, Scalar]]] = {
    "junction_diode": [{"rs": 0.0}, {"bv": 0.0, "cjo": 0.0}],
    "gummel_poon": [{"rb": 0.0, "rc": 0.0, "re": 0.0}, {"type": -1}, {"irb": 1e-4}, {"vaf": 0.0, "ikf": 0.0}],
    "jfet": [{"rd": 0.0, "rs": 0.0}],
    "mos1": [{"mos_type": 0, "vto": 0.7}, {"rd": 10.0, "rs": 20.0}],
    "mos3": [{"NFS": 0.0, "XJ": 0.0}, {"RSH": 0.0}],
    "charge_sheet": [{"TYPE": -1}],
    "hbt_thermal": [{"rc": 0.0, "re": 0.0, "rbx": 0.0, "rbi": 0.0}],
}
QUICK = ("junction_diode", "jfet", "mos1")  # whose currents in ngspice are compared in CI
CASES = [
    pytest.param(path, given, marks=() if path.stem in QUICK and not given else pytest.mark.slow)
    for path in MODELS
    for given in ({}, *VARIANTS.get(path.stem, []))
]


def without_extra_unknowns(
    ir: DeviceIR, setup: Setup, given: dict[str, Scalar], volts: dict[str, float], judged: list[str]
) -> Evaluation:
    """``ir`` at ``volts``; currents that the judge does not have as unknowns are eliminated."""
    names = [node.name for node in ir.nodes]
    extra = [names.index(name) for name in names if name not in judged]
    found = evaluate(ir, setup, [volts.get(name, 0.0) for name in names], given, Conditions())
    for k in extra:  # current - expression = 0
        assert found.jacobian_resist[k, k] == 1.0
        weights = np.where(np.arange(len(names)) == k, 0.0, found.jacobian_resist[:, k])
        for values in (found.resist, found.react, found.jacobian_resist, found.jacobian_react):
            values -= np.multiply.outer(weights, values[k])
    order = [names.index(name) for name in judged]
    square = np.ix_(order, order)
    return Evaluation(
        found.resist[order], found.react[order], found.jacobian_resist[square], found.jacobian_react[square]
    )


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_residuals_and_jacobians_are_those_of_openvaf(path: Path, tmp_path: Path):
    ours, library = compile_verilog(path), judge(Path(shutil.copy(path, tmp_path)))
    assert not ours.kept
    generator = random.Random(path.stem)
    for given in ({}, *VARIANTS.get(path.stem, [])):
        setup, judged = run_setup(ours, given), OsdiDevice(library, given)
        assert not setup.out_of_range
        assert not judged.out_of_range
        names = judged.nodes
        kinds = {node.name: node.kind for node in ours.nodes}
        flows = [k for k, name in enumerate(names) if kinds[name] != "voltage"]
        for _ in range(POINTS):
            scale = generator.choice(BIASES)
            volts = {
                name: generator.choice([0.0, scale, -scale, generator.uniform(-scale, scale)])
                for name in names
            }
            found = without_extra_unknowns(ours, setup, given, volts, names)
            expected, _ = judged.evaluate([volts[name] for name in names], "ic")
            for field in FIELDS:
                a, b = getattr(found, field), getattr(expected, field)
                a[flows], b[flows] = np.abs(a[flows]), np.abs(b[flows])  # an equation may have either sign
                least = ROUNDING_OF_SUMS * np.abs(b).max()
                assert np.isfinite(b).all()
                assert np.allclose(a, b, rtol=COMPILERS, atol=least), (field, given, volts)


# terminals: (from, to, step) where swept, else volts; at most two are swept
SWEEPS: dict[str, tuple[object, ...]] = {
    "junction_diode": ((-7.0, 0.9, 0.1), 0.0),
    "gummel_poon": ((-0.5, 3.0, 0.25), (0.0, 0.9, 0.1), 0.0, -0.5),
    "jfet": ((-0.8, 4.0, 0.2), (-2.5, 0.5, 0.25), 0.0),
    "mos1": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "mos3": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "charge_sheet": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "hbt_thermal": ((-0.5, 3.0, 0.25), (0.0, 1.5, 0.125), 0.0, None),  # nothing is connected to dt
}


def deck(ir: DeviceIR, biases: tuple[object, ...], given: dict[str, Scalar]) -> str:
    """Both devices beside each other: terminal k at node x<k>, its currents in vo<k> and in vj<k>."""
    settings = " ".join(f"{name}={value!r}" for name, value in given.items())
    lines = [f".model ref judged_{ir.name} {settings}"]
    for tag, tail in (("o", f"dev {settings}"), ("j", "ref")):
        lines.append(f"n{tag} {' '.join(f'{tag}{k}' for k in range(len(biases)))} {tail}")
        lines += [f"v{tag}{k} x{k} {tag}{k} 0" for k, bias in enumerate(biases) if bias is not None]
    for k, bias in enumerate(biases):
        if bias is not None:
            lines.append(f"vx{k} x{k} 0 {bias[1] if isinstance(bias, tuple) else bias}")
    return "\n".join(lines)


def commands(biases: tuple[object, ...]) -> str:
    """A sweep of all biases, then the small-signal currents of each terminal in turn."""
    swept = [(k, bias) for k, bias in enumerate(biases) if isinstance(bias, tuple)]
    sweep = " ".join(f"vx{k} {' '.join(map(str, bias))}" for k, bias in swept)
    driven = [k for k, bias in enumerate(biases) if bias is not None]
    lines = ["set appendwrite", "option reltol=1e-10", f"dc {sweep}", "write out.raw all"]
    for k in driven:
        lines += [f"alter vx{k} acmag=1", "ac lin 1 1e6 1e6", "write out.raw all", f"alter vx{k} acmag=0"]
    return "\n".join([*lines, "op"])


@pytest.mark.parametrize(("path", "given"), CASES, ids=lambda value: getattr(value, "stem", None))
def test_currents_in_ngspice_are_those_of_openvaf(path: Path, given: dict[str, Scalar], tmp_path: Path):
    ir = compile_verilog(path)
    text = tmp_path / path.name
    text.write_text(re.sub(rf"\bmodule {ir.name}\b", f"module judged_{ir.name}", path.read_text()))
    biases = SWEEPS[path.stem]
    result = run(
        ir, deck(ir, biases, given), commands(biases), instance=ir.parameter_names, beside=judge(text)
    )
    assert "out.raw" in result.files, result.stdout + result.stderr
    plots = parse_raw(result.files["out.raw"])
    driven = [k for k, bias in enumerate(biases) if bias is not None]
    assert len(plots) == len(driven) + 2
    for found in plots[:-1]:
        ours, judged = (np.stack([found[f"i(v{tag}{k})"] for k in driven]) for tag in "oj")
        assert np.abs(judged).max() > 0
        least = ROUNDING_OF_SUMS * np.abs(judged).max()
        off = np.abs(ours - judged) - NGSPICE_COMPILERS * np.abs(judged) - least
        assert off.max() <= 0, (found.title, ours[off > 0], judged[off > 0], np.argwhere(off > 0))


SIZES = [
    {"parameters": 100, "setup": 200, "bias": 200},
    pytest.param({"parameters": 800, "setup": 3500, "bias": 4000}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("size", SIZES, ids=["small", "largest"])
def test_a_model_of_the_size_of_the_largest_ones(size: dict[str, int], tmp_path: Path):
    """In C: some hundred variables lead to each current and charge of four terminals and six inner nodes."""
    path = tmp_path / "big.va"
    path.write_text(big_model(**size))
    ours, library = compile_verilog(path), judge(path)
    assert len(ours.parameters) == size["parameters"] + 2
    built = build(print_c(ours, ours.parameter_names), ours.name)
    generator = random.Random(1)
    for given in ({}, {"mode": 2, "p7": 0.0, "rgate": 0.0}):
        devices = [OsdiDevice(at, given) for at in (built, library)]
        for _ in range(5):
            volts = [generator.uniform(-0.8, 0.8) for _ in ours.nodes]
            found, expected = (device.evaluate(volts, "ic")[0] for device in devices)
            for field in FIELDS:
                a, b = getattr(found, field), getattr(expected, field)
                assert np.allclose(a, b, rtol=COMPILERS, atol=ROUNDING_OF_SUMS * np.abs(b).max()), field
