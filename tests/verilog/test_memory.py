"""Variables that a file carries from one time point to the next, in every engine, against plain Python."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim.devices.build import build
from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.devices.ir import DeviceIR, dump, load
from cosim.devices.print_c import print_c
from cosim.spice.rawfile import Plot, parse_raw
from cosim.verilog.compile import compile_verilog
from devices.osdi_host import OsdiDevice
from tolerances import CLOSED_FORM, FILE_EULER, PRINTERS
from verilog.host import cell

_HEAD = '`include "constants.vams"\n`include "disciplines.vams"\n'

EULER = (
    "real w, t_last;",
    "@(initial_step) begin w = w0; t_last = 0; end"
    " w = w + rate*V(p, n)*w*(1 - w)*($abstime - t_last); t_last = $abstime;"
    " I(p, n) <+ (1e-5 + 1e-3*w)*V(p, n);",
)
# the same, in the ways that people write a start
STYLES = {
    "initial_step": EULER,
    "initialiser": (
        "real w = w0; real t_last = 0.0;",
        EULER[1].partition("end")[2],
    ),
    "first": (
        "real w, t_last; integer first = 1;",
        "if (first == 1) begin w = w0; t_last = 0; first = 0; end" + EULER[1].partition("end")[2],
    ),
    "static": (
        "real w, t_last;",
        'if (analysis("static")) begin w = w0; t_last = 0; end' + EULER[1].partition("end")[2],
    ),
    "start at the end": (
        "real w, t_last;",
        EULER[1].partition("end")[2] + "@(initial_step) begin w = w0; t_last = $abstime; end",
    ),
    "from a voltage": (
        "real w, t_last;",
        "@(initial_step) begin w = w0 + V(p, n); t_last = 0; end" + EULER[1].partition("end")[2],
    ),
}
PARAMETERS = "parameter real w0 = 0.1 from [0:1]; parameter real rate = 2e6;"


def device(tmp_path: Path, declarations: str, body: str) -> cosim.Device:
    """A device of its own file, with the terminals p and n."""
    path = tmp_path / "own.va"
    text = (
        f"module own(p, n); inout p, n; electrical p, n; {PARAMETERS} {declarations}\nanalog begin {body} end"
    )
    path.write_text(f"{_HEAD}{text}\nendmodule\n")
    return cosim.Device(path)


def sine(samples: int) -> tuple[np.ndarray, np.ndarray]:
    time = np.linspace(0.0, 1e-6, samples)
    return time, np.sin(2 * np.pi * time / 1e-6)


def euler(time: np.ndarray, volts: np.ndarray, w: float = 0.1, rate: float = 2e6) -> np.ndarray:
    """The current of EULER where every sample is a time point."""
    found, last = [], 0.0
    for t, v in zip(time, volts, strict=True):
        w, last = w + rate * v * w * (1 - w) * (t - last), t
        found.append((1e-5 + 1e-3 * w) * v)
    return np.array(found)


@pytest.mark.parametrize("style", STYLES)
def test_explicit_euler_in_variables(tmp_path: Path, style: str):
    own = device(tmp_path, *STYLES[style])
    time, volts = sine(401)
    expected = euler(time, volts)
    waves = {"voltage": torch.tensor(volts), "time": torch.tensor(time)}
    found = own.simulate(**waves).current.numpy()
    np.testing.assert_allclose(found, expected, rtol=CLOSED_FORM, atol=CLOSED_FORM * np.abs(expected).max())
    # ngspice makes more and shorter steps, so the file's own error is another one
    theirs = own.simulate(**waves, engine="ngspice").current.numpy()
    np.testing.assert_allclose(theirs, expected, atol=FILE_EULER * np.abs(expected).max())
    # and both go to the solution of the file's equation, w' = rate*v*w*(1 - w)
    assert float(own.current(0.3)) == pytest.approx(
        (1e-5 + 1e-3 * (0.4 if "voltage" in style else 0.1)) * 0.3
    )


def test_what_a_note_says(tmp_path: Path):
    path = tmp_path / "own.va"
    body = "I(p, n) <+ w*V(p, n); w = idt(V(p, n), 0.1); I(p, n) <+ s; s = V(p, n);"
    head = f"{_HEAD}module m(p, n); inout p, n; electrical p, n;\nreal w;\nreal s;\n"
    path.write_text(f"{head}analog begin {body} end endmodule")
    notes = compile_verilog(path).notes
    assert f"{path}:4: w is read before it is set: it is what the same evaluation makes of it" in notes
    assert f"{path}:5: s is read before it is set: it is carried from the last accepted time point" in notes


@pytest.mark.parametrize(
    ("body", "noted"),
    [
        ("w = w + rate*V(p, n)*1n;", True),
        ("w = 0.9*w + 0.1*V(p, n);", True),
        ("w = w + rate*V(p, n)*($abstime - t); t = $abstime;", False),
        ("step = $abstime - t; t = $abstime; if (k) w = w + step;", False),
        ("if (V(p, n) > 1) w = 1;", False),
        ("k = k + 1; w = k;", False),
    ],
)
def test_a_note_warns_of_what_follows_the_steps_of_an_engine(body: str, noted: bool):
    ir = cell(f"{body} I(p, n) <+ w + k;", "parameter real rate = 1; real w, t, step; integer k;")
    assert (
        any("w moves on at each accepted time point, however long the step" in n for n in ir.notes) == noted
    )


def test_a_step_of_the_file_is_a_sample_in_torch(tmp_path: Path):
    """A user's dt: each sample is one accepted point, so the file's Euler has the step that it says."""
    body = "w = w + rate*V(p, n)*w*(1 - w)*dt; I(p, n) <+ (1e-5 + 1e-3*w)*V(p, n);"
    own = device(tmp_path, "real w = w0; parameter real dt = 2.5n;", body)
    time, volts = sine(401)
    found = own.simulate(torch.tensor(volts), time=torch.tensor(time)).current
    np.testing.assert_allclose(found, euler(time, volts), rtol=1e-9, atol=1e-16)


# --- which kind -----------------------------------------------------------------------------------


def kept(ir: DeviceIR) -> list[str]:
    return [each.name for each in ir.kept]


def test_an_integral_further_down_is_of_the_same_evaluation():
    ir = cell("I(p, n) <+ w*V(p, n); w = idt(V(p, n), 0.1);", "real w;")
    assert kept(ir) == []
    found = evaluate(ir, run_setup(ir, {}), [0.5, 0.0, 0.25], {})
    assert found.resist[0] == 0.125
    assert found.jacobian_resist[0, 2] == 0.5


def test_what_follows_from_a_node_is_an_unknown_of_its_own():
    ir = cell(
        "I(p, n) <+ w*V(p, n); I(x) <+ ddt(V(x)) - V(p, n); w = 0.1 + V(x)**2;", "electrical x; real w;"
    )
    assert kept(ir) == []
    assert ir.nodes[-1].kind == "implicit"
    found = evaluate(ir, run_setup(ir, {}), [0.5, 0.0, 0.25, 0.3], {})
    assert found.resist[3] == pytest.approx(0.3 - 0.1 - 0.0625, rel=CLOSED_FORM)
    assert found.jacobian_resist[3, 2] == -0.5


@pytest.mark.parametrize(
    "body",
    [
        "I(p, n) <+ V(p, n) - old; old = V(p, n);",  # a terminal
        "I(x) <+ ddt(V(x)) - V(p, n); I(p, n) <+ (V(x) - old); old = V(x);",  # its own old value
        "I(p, n) <+ old; old = idt(V(p, n)) + 0.5*old;",  # itself
        "I(p, n) <+ old; old = $abstime;",
        "I(p, n) <+ old; old = 1.0;",  # a flag
    ],
)
def test_what_is_carried(body: str):
    assert kept(cell(body, "electrical x; real old;")) == ["old"]


def test_what_no_equation_needs_is_not_carried():
    ir = cell("if (V(p, n) > 1) i = 2; i = i + 1; I(p, n) <+ V(p, n);", "integer i;")
    assert kept(ir) == []
    body = "if (k == 1) begin x = 1; end if (k == 1) I(p, n) <+ x;"
    assert kept(cell(body, "real x; parameter integer k = 1;")) == ["x"]  # k is known in the run only


# --- interpreter, text, OSDI ----------------------------------------------------------------------


def test_interpreter_and_text():
    ir = cell(
        "m = m + 1; x = x + m*V(p, n); I(p, n) <+ x;", "integer m = 3; real x = k; parameter real k = 2;"
    )
    assert load(dump(ir)) == ir
    setup = run_setup(ir, {"k": 7.0})
    assert setup.initial == {"m": 3, "x": 7.0}
    first = evaluate(ir, setup, [0.5, 0.0], {})
    assert first.resist[0] == 9.0
    assert first.kept == {"m": 4, "x": 9.0}
    again = evaluate(ir, setup, [0.5, 0.0], {}, Conditions(kept=first.kept, starting=False))
    assert again.kept == {"m": 5, "x": 11.5}


# the current is the time, the number of time points, or a steep function that is hard to follow
CLOCK = (
    "real total, last; integer points;",
    "points = points + 1; total = total + ($abstime - last); last = $abstime;"
    " I(p, n) <+ mode == 0 ? total : mode == 1 ? points : V(p, n)*(1 + total*1e6) + 1e-3*pow(V(p, n), 21);",
)


def run_ngspice(
    folder: Path, own: cosim.Device, circuit: Sequence[str], analyses: Sequence[str]
) -> list[Plot]:
    """Plots of analyses of a circuit with instances of the model ``own``, named cell."""
    instance = {p.name for p in own.ir.parameters}
    (folder / "own.osdi").write_bytes(build(print_c(own.ir, instance), "own").read_bytes())
    commands = [line for one in analyses for line in (one, "write all.raw")]
    head = ["memory", ".model cell own", *circuit, ".options reltol=1e-6", ".control", "pre_osdi own.osdi"]
    text = [*head, "set filetype=binary", "set appendwrite", *commands, "quit 0", ".endc", ".end"]
    (folder / "top.sp").write_text("\n".join(text))
    done = subprocess.run(
        ["ngspice", "-b", "top.sp"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert "rror" not in done.stderr + done.stdout, done.stderr + done.stdout
    return list(parse_raw((folder / "all.raw").read_bytes()))


def clock(tmp_path: Path) -> cosim.Device:
    return device(tmp_path, "parameter integer mode = 0; " + CLOCK[0], CLOCK[1])


def test_ngspice_counts_accepted_points_only(tmp_path: Path):
    """A pulse of 1 ps in a step of 1 us, and a steep current: ngspice rejects steps and cuts them."""
    circuit = [
        "V1 a 0 pulse(0 1 1u 1p 1p 0.3u 1u)", "R1 a b 1k", "C1 b 0 1p", "C2 d 0 1p", "R2 b d 10k",
        "N1 b t cell mode=0", "Vt t 0 0", "N2 0 s cell mode=1", "Vs s 0 0", "Rq q b 1", "N3 q 0 cell mode=2",
    ]  # fmt: skip
    (plot,) = run_ngspice(tmp_path, clock(tmp_path), circuit, ["tran 1u 5u 0 1u"])
    time = plot["time"]
    np.testing.assert_allclose(plot["i(vt)"], time, rtol=CLOSED_FORM, atol=1e-12 * time[-1])
    assert plot["i(vs)"].tolist() == (np.arange(len(time)) + 1.0).tolist()


def test_ngspice_analyses_one_after_the_other(tmp_path: Path):
    circuit = [
        "V1 a 0 pulse(0 1 0 1u 1u 1u 4u)",
        "N1 a t cell mode=1",
        "Vt t 0 0",
        "N2 a s cell mode=1",
        "Vs s 0 0",
    ]
    analyses = [
        "op",
        "dc v1 0 1 0.25",
        "tran 1u 3u",
        "op",
        "tran 1u 4u 0 0.5u",
        "tran 1u 2u uic",
        "dc v1 0 1 0.5",
    ]
    plots = run_ngspice(tmp_path, clock(tmp_path), circuit, analyses)
    assert len(plots) == len(analyses)
    for plot, analysis in zip(plots, analyses, strict=True):
        for source in ("i(vt)", "i(vs)"):
            found = plot[source]
            counted = np.arange(len(found)) + 1.0
            if "uic" in analysis:  # a transient without an operating point does not write its first point
                counted = counted + (plot["time"][0] > 0.0)
            expected = counted if analysis.startswith("tran") else np.ones(len(found))
            np.testing.assert_allclose(found, expected, rtol=CLOSED_FORM, err_msg=analysis)


def test_torch_moves_on_at_accepted_steps_only(tmp_path: Path):
    """An integral beside the clock makes the integrator choose, and reject, steps of its own."""
    body = CLOCK[1] + " I(x) <+ ddt(V(x)) + 1e9*(V(x) - tanh(50*V(p, n)));"
    own = device(tmp_path, "electrical x; parameter integer mode = 0; " + CLOCK[0], body)
    time, volts = sine(41)
    trace = own.simulate(torch.tensor(volts), time=torch.tensor(time))
    assert trace.stats["rejected"] > 0
    np.testing.assert_allclose(trace.current.numpy(), time, rtol=CLOSED_FORM, atol=CLOSED_FORM * time[-1])


@pytest.mark.parametrize("series", [0.0, 300.0])
def test_torch_and_compiled_integrators_carry_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, series: float
):
    body = EULER[1] + " m = m + 1; I(x) <+ ddt(V(x)) + 1e8*(V(x) - w); I(p, n) <+ 1e-4*V(x) + 1e-9*m;"
    own = device(tmp_path, "electrical x; integer m; " + EULER[0], body)
    time, volts = sine(21)
    waves = {"voltage": torch.tensor(volts), "time": torch.tensor(time), "series": series}
    compiled = own.simulate(**waves)
    monkeypatch.setattr("cosim.devices.dynamics._FEW", 0)
    in_torch = own.simulate(**waves)
    assert (compiled.stats["steps"], compiled.stats["rejected"]) == tuple(
        in_torch.stats[name] for name in ("steps", "rejected")
    )
    np.testing.assert_allclose(compiled.current, in_torch.current, rtol=1e-9, atol=1e-16)


def test_gradients_go_through_carried_variables(tmp_path: Path):
    own = device(tmp_path, *EULER)
    time, volts = sine(21)

    def last(rate: torch.Tensor) -> torch.Tensor:
        return own.replace(rate=rate).simulate(torch.tensor(volts), time=torch.tensor(time)).current[-4]

    rate = torch.tensor(2e6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(last(rate), rate)
    step = 10.0
    ends = [float(last(torch.tensor(2e6 + sign * step, dtype=torch.float64))) for sign in (1, -1)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_many_devices_and_a_series_resistance(tmp_path: Path):
    own = device(tmp_path, *EULER)
    time, volts = sine(401)
    rates = torch.tensor([1e6, 2e6, 4e6], dtype=torch.float64)
    trace = own.replace(rate=rates).simulate(torch.tensor(volts), time=torch.tensor(time))
    for k, rate in enumerate(rates.tolist()):
        np.testing.assert_allclose(trace.current[:, k], euler(time, volts, rate=rate), rtol=1e-9, atol=1e-12)
    waves = {"voltage": torch.tensor(volts), "time": torch.tensor(time), "series": 300.0}
    ours, theirs = (own.simulate(**waves, engine=name).current for name in ("torch", "ngspice"))
    np.testing.assert_allclose(theirs, ours, atol=FILE_EULER * float(ours.abs().max()))


def test_the_library_tells_accepted_from_rejected_points_by_the_time():
    """A step that is made again, shorter, starts from where it started; the interpreter has the numbers."""
    ir = cell("m = m + 1; x = x + m*V(p, n); I(p, n) <+ x*V(p, n);", "integer m = 3; real x = 0.5;")
    osdi, setup = OsdiDevice(build(print_c(ir, set()), "stepping"), {}), run_setup(ir, {})
    points = [(0.0, 0.1, ""), (1.0, 0.2, "on"), (0.5, 0.3, "again"), (0.7, 0.4, "on"), (0.7, 0.45, "again")]
    points += [(0.9, 0.5, "on"), (0.2, 0.1, "another run"), (0.0, 0.1, "another run"), (0.1, 0.2, "on")]
    before, after = {}, {}
    for time, volt, what in points:
        before = {"on": after, "again": before}.get(what, {})
        expected = evaluate(ir, setup, [volt, 0.0], {}, Conditions(kept=before, starting=False))
        found, _ = osdi.evaluate([volt, 0.0], "tran", time)
        np.testing.assert_allclose(found.resist, expected.resist, rtol=PRINTERS, err_msg=f"{time} {what}")
        after = expected.kept
