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
from cosim.devices.osdi_names import osdi_parameters
from cosim.devices.print_c import print_c
from cosim.spice.rawfile import parse_raw
from cosim.verilog.compile import compile_verilog
from devices.osdi_host import OsdiDevice
from tolerances import COMPILERS, MODEL_CURRENT, NGSPICE_COMPILERS, NGSPICE_LEAST, ROUNDING_OF_SUMS
from verilog.big_model import big_model
from verilog.host import at
from verilog.judge import judge
from verilog.simulator import run

FOLDER = Path(__file__).parent / "classic"
MODELS = sorted(FOLDER.glob("*.va"))
FIELDS = ("resist", "react", "jacobian_resist", "jacobian_react")
POINTS = 15
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
    "varactor": [{"rgate": 0.0, "rwell": 0.0}],
    "tunnel_diode": [{"ls": 0.0}],
    "transformer": [{"k": 0.0}],
    "mesfet": [{"law": 2}, {"rg": 0.0}],
    "diffused_resistor": [{"sw_lin": 1, "c2": 0}, {"rc": 0.0}],
    "finfet_like": [
        {"DEVTYPE": 0},
        {"RGATEMOD": 1, "RDSMOD": 0, "SHMOD": 1},
        {"NQSMOD": 1, "IGCMOD": 0, "GIDLMOD": 0, "NFIN": 10},
    ],
    "threshold_scaled": [
        {"MOBMOD": 1, "RBODYMOD": 1, "RDSMOD": 1},
        {"MOBMOD": 2, "CAPMOD": 0, "PHIN": 0.9, "GAMMA1": 0.4, "AS": 1e-12, "SA": 1e-7, "SB": 1e-7},
    ],
    "soi_like": [
        {"SOIMOD": 1},
        {"SOIMOD": 1, "RBODY": 0.0, "SHMOD": 0},
        {"SOIMOD": 2},
    ],
    "power_switch": [{"bvcbo": 600.0}],
    "polysilicon_mim": [{"rs": 0.0}, {"ls": 1e-10}],
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
        pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {field: [] for field in FIELDS}
        for _ in range(POINTS):
            most = generator.choice(BIASES)
            volts = {
                name: generator.choice([0.0, most, -most, generator.uniform(-most, most)]) for name in names
            }
            found = without_extra_unknowns(ours, setup, given, volts, names)
            expected, _ = judged.evaluate([volts[name] for name in names], "ic")
            for field in FIELDS:
                a, b = getattr(found, field), getattr(expected, field)
                a[flows], b[flows] = np.abs(a[flows]), np.abs(b[flows])  # an equation may have either sign
                pairs[field].append((a, b))
        for field, both in pairs.items():
            a, b = (np.stack(values) for values in zip(*both, strict=True))
            assert np.isfinite(b).all()
            least = ROUNDING_OF_SUMS * np.abs(b).max()
            off = np.abs(a - b) - COMPILERS * np.abs(b) - least
            assert off.max() <= 0, (field, given, np.argwhere(off > 0), a[off > 0], b[off > 0])


# terminals: (from, to, step) where swept, else volts; at most two are swept
SWEEPS: dict[str, tuple[object, ...]] = {
    "junction_diode": ((-7.0, 0.9, 0.1), 0.0),
    "gummel_poon": ((-0.5, 3.0, 0.25), (0.0, 0.9, 0.1), 0.0, -0.5),
    "jfet": ((-0.8, 4.0, 0.2), (-2.5, 0.5, 0.25), 0.0),
    "mos1": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "mos3": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "charge_sheet": ((-0.4, 3.0, 0.2), (-0.5, 3.0, 0.25), 0.0, -0.3),
    "hbt_thermal": ((-0.5, 3.0, 0.25), (0.0, 1.5, 0.125), 0.0, None),  # nothing is connected to dt
    "varactor": ((-1.0, 1.0, 0.1), 0.0),
    "tunnel_diode": ((-0.1, 0.6, 0.02), 0.0),
    "transformer": ((-0.05, 0.05, 0.01), 0.0, (-0.02, 0.02, 0.01), 0.0),
    "mesfet": ((-0.7, 4.0, 0.2), (-2.0, 0.7, 0.15), 0.0),
    "solar_cell": ((-5.0, 0.7, 0.1), 0.0, (0.0, 1.0, 0.25)),
    "diffused_resistor": ((-1.0, 3.0, 0.25), (-3.0, -0.5, 0.5), 0.0),
    "surface_potential": ((-0.4, 2.0, 0.2), (-0.5, 2.0, 0.25), 0.0, -0.3),
    "finfet_like": ((-0.4, 1.2, 0.2), (-0.3, 1.2, 0.15), 0.0, 0.0, None),
    "threshold_scaled": ((-0.4, 2.0, 0.2), (-0.5, 2.0, 0.25), 0.0, -0.3),
    "soi_like": ((-0.4, 1.5, 0.2), (-0.5, 1.5, 0.25), 0.0, 0.2, 0.0),
    "power_switch": ((-1.0, 5.0, 0.5), (0.0, 10.0, 1.0), 0.0),
    "thermistor": ((-20.0, 20.0, 1.0), 0.0),
    "polysilicon_mim": ((-5.0, 5.0, 0.5), 0.0, (-1.0, 1.0, 1.0)),
}


def deck(ir: DeviceIR, biases: tuple[object, ...], given: dict[str, Scalar]) -> str:
    """Both devices beside each other: terminal k at node x<k>, its currents in vo<k> and in vj<k>."""
    called = osdi_parameters(ir)
    settings = " ".join(f"{called[name]}={value!r}" for name, value in given.items())
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
    lines = ["set appendwrite", "option reltol=1e-8", f"dc {sweep}", "write out.raw all"]
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
    assert len(plots) == len(driven) + 2, result.stderr
    assert np.abs(plots[0]["i(vj0)"]).max() > 0
    for found in plots[:-1]:
        ours, judged = (np.stack([found[f"i(v{tag}{k})"] for k in driven]) for tag in "oj")
        least = NGSPICE_LEAST + ROUNDING_OF_SUMS * np.abs(judged).max()
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


def test_an_operational_amplifier_has_its_poles_and_an_ideal_one_its_feedback():
    """Gains of an inverting amplifier in ngspice against the closed forms."""
    feedback = "vin x 0 dc 0.1 ac 1\nr1 x m 1k\nr2 m out 10k\nn1 0 m out dev"
    analyses = "set appendwrite\nop\nwrite out.raw all\nac dec 1 1e3 1e6"
    for name, gain_of in {
        "nullor": lambda frequency: -10.0,
        "opamp": lambda frequency: _closed_loop(
            1e5 / ((1 + 1j * frequency / 10) * (1 + 1j * frequency / 5e6))
        ),
    }.items():
        result = run(compile_verilog(FOLDER / "unjudged" / f"{name}.va"), feedback, analyses)
        static, small = parse_raw(result.files["out.raw"])
        assert float(static["v(out)"][0]) == pytest.approx(0.1 * gain_of(0.0).real, rel=NGSPICE_COMPILERS)
        assert len(small["frequency"]) == 4
        for frequency, found in zip(np.real(small["frequency"]), small["v(out)"], strict=True):
            assert complex(found) == pytest.approx(gain_of(frequency), rel=NGSPICE_COMPILERS)


def _closed_loop(gain: complex) -> complex:
    """1 kOhm and 10 kOhm around an amplifier with 1 MOhm between its inputs and 75 Ohm behind its output."""
    # unknowns: the input m, and the output; currents into both nodes are 0
    g1, g2, gi, go = 1e-3, 1e-4, 1e-6, 1 / 75
    matrix = np.array([[g1 + g2 + gi, -g2], [-g2 + go * gain, g2 + go]])
    return complex(np.linalg.solve(matrix, np.array([g1, 0.0]))[1])


def test_two_transistors_in_one_file_are_two_transistors():
    """A module of instances in ngspice against a deck with both instances and the resistor."""
    one = compile_verilog(FOLDER / "gummel_poon.va")
    pair = compile_verilog(FOLDER / "unjudged" / "darlington.va", module="darlington")
    single = build(print_c(one, one.parameter_names), one.name)
    deck = (
        ".model each gummel_poon\nn1 c1 b1 0 0 dev\nna c2 b2 m 0 each bf=120\n"
        "nb c2 m 0 0 each bf=60 is=8e-16 rb=0\nrbe m 0 10k\n"
        "vb x 0 1\nvb1 x b1 0\nvb2 x b2 0\nvc y 0 3\nvc1 y c1 0\nvc2 y c2 0"
    )
    result = run(pair, deck, "option reltol=1e-8\ndc vb 0.2 1.6 0.1", beside=single)
    (found,) = parse_raw(result.files["out.raw"])
    for name in ("b", "c"):
        ours, wanted = found[f"i(v{name}1)"], found[f"i(v{name}2)"]
        assert np.allclose(ours, wanted, rtol=NGSPICE_COMPILERS, atol=NGSPICE_LEAST)
        assert np.abs(wanted).max() > 1e-6


@pytest.mark.parametrize("volts", [-120.0, -30.0, 0.0, 25.0, 175.0, 230.0])
def test_a_varistor_follows_its_points(volts: float):
    points = np.loadtxt(FOLDER / "unjudged" / "varistor.tbl")
    ends = np.polyfit(*points[-2:].T, 1)
    inside = abs(volts) < points[-1, 0]
    exponent = np.interp(abs(volts), *points.T) if inside else np.polyval(ends, abs(volts))
    wanted = np.sign(volts) * (10.0**exponent - 1e-9)
    ir = compile_verilog(FOLDER / "unjudged" / "varistor.va")
    assert at(ir, {"m": volts, "p": volts}).resist[2] == pytest.approx(wanted, rel=MODEL_CURRENT, abs=1e-25)
