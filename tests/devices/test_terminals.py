"""Ports beyond the two of a cell: those that show a state, those that the caller drives, grounded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim import Device
from cosim.devices.build import build, compile_model
from cosim.devices.osdi_names import osdi_name
from cosim.devices.print_c import print_c
from cosim.devices.terminals import rewire
from cosim.errors import ModelError, SpecError
from cosim.spice.deck import GROUND, Current, Deck, DeviceInstance, ModelCard, Sweep, VoltageSource
from cosim.spice.ngspice import run_deck
from tolerances import MODEL_CURRENT, NGSPICE_EXACT, TRANSIENT_REFINED

READ = "I(p, n) <+ (1e-6 + 1e-3*x)*V(p, n);"
# how a file may show its state x at a port w
SHOWS = {
    "voltage source": "V(w) <+ x;",
    "current into a resistor": "I(w) <+ V(w) - x;",
    "scaled conductance": "I(w) <+ 1e-3*(V(w) - 2.0*x);",
    "source of current": "I(w) <+ -1e-6*x; I(w) <+ 1e-6*V(w);",
    "named branch": "V(show) <+ x;",
}
MOSFET = """
    parameter real k = 2e-4 from (0:inf); parameter real vt = 0.4; parameter real body = 0.3;
    electrical di; real vov, soft;
    analog begin
        vov = V(g, s) - vt + body*V(b, s);
        soft = 0.05*ln(1.0 + exp(vov/0.05));
        I(di, s) <+ k*soft*soft*tanh(V(di, s)/(soft + 0.1));
        I(d, di) <+ V(d, di)/120.0;
        I(g, s) <+ ddt(1e-15*V(g, s)); I(g, d) <+ ddt(2e-16*V(g, d)); I(b, s) <+ 1e-9*V(b, s);
    end
"""


def write(folder: Path, name: str, ports: str, body: str) -> Path:
    path = folder / f"{name}.va"
    path.write_text(
        f'`include "disciplines.vams"\nmodule {name}({ports}); inout {ports}; electrical {ports};\n'
        f"{body}\nendmodule"
    )
    return path


def shows_its_state(folder: Path, style: str, ports: str = "p, n, w") -> Path:
    show = "branch (w) show;" if "show" in SHOWS[style] else ""
    return write(
        folder,
        "shows",
        ports,
        f"parameter real x0 = 0.5 from [0:1]; real x; {show}\n"
        f"analog begin x = idt(1e6*V(p, n), x0); {READ} {SHOWS[style]} end",
    )


def ngspice_currents(path: Path, volts: dict[str, float]) -> dict[str, float]:
    """Current into every port of the file as it is, between sources."""
    ir = compile_model(path)
    names = list(volts)
    assert ir.terminals == tuple(names)
    deck = Deck(
        title="all ports",
        libraries=("raw.osdi",),
        models=(ModelCard(name="card", module=osdi_name(ir.name)),),
        elements=(
            *(VoltageSource(name=f"V{n}", p=f"t_{n}", n=GROUND, volt=volts[n]) for n in names),
            DeviceInstance(name="N1", nodes=tuple(f"t_{n}" for n in names), model="card", parameters={}),
            VoltageSource(name="Vsweep", p="sweep", n=GROUND, volt=0.0),
        ),
        analyses=(Sweep(source="Vsweep", start=0.0, stop=1.0, step=1.0),),
        saves=tuple(Current(source=f"V{n}") for n in names),
    )
    (plot,) = run_deck(deck, {"raw.osdi": build(print_c(ir, ()), "raw").read_bytes()})
    return {n: -float(plot[f"i(V{n})"][0]) for n in names}


@pytest.mark.parametrize("ports", ["p, n, w", "w, p, n", "p, w, n"])
@pytest.mark.parametrize("style", SHOWS)
def test_a_port_that_shows_the_state_is_left_open(tmp_path: Path, style: str, ports: str) -> None:
    device = Device(shows_its_state(tmp_path, style, ports), state="x0", state_range=(0, 1))
    assert device.ir.terminals == ("p", "n")
    assert (device.ports.open, device.driven) == (("w",), ())
    volts, state = (torch.tensor(x, dtype=torch.float64) for x in ([-0.3, 0.2], [[0.0], [0.4]]))
    wanted = (1e-6 + 1e-3 * state) * volts
    assert device.current(volts, state).numpy() == pytest.approx(wanted.numpy(), rel=MODEL_CURRENT)


@pytest.mark.parametrize("style", SHOWS)
def test_a_device_with_an_open_port_runs_alike_in_both_engines(tmp_path: Path, style: str) -> None:
    device = Device(shows_its_state(tmp_path, style), state="x0", state_range=(0, 1))
    wave, dt = 0.3 * np.sin(np.linspace(0, 2 * np.pi, 41)), 2.5e-8
    ours = device.simulate(wave, dt, state=0.4)
    flux = 0.4 + 1e6 * np.concatenate([[0], np.cumsum(0.5 * dt * (wave[1:] + wave[:-1]))])
    assert ours.state.numpy() == pytest.approx(flux, abs=TRANSIENT_REFINED)
    theirs = device.simulate(wave, dt, state=0.4, engine="ngspice", max_step=dt / 8)
    peak = float(ours.current.abs().max())
    assert theirs.current.numpy() == pytest.approx(ours.current.numpy(), abs=TRANSIENT_REFINED * peak)


def test_a_tile_takes_a_device_with_an_open_port(tmp_path: Path) -> None:
    device = Device(shows_its_state(tmp_path, "voltage source"), state="x0", state_range=(0, 1))
    tile = cosim.Tile(device, state=torch.rand(3, 2, generator=torch.Generator().manual_seed(0)).double())
    volts = torch.tensor([[0.1, -0.2, 0.05]], dtype=torch.float64)
    found = {engine: cosim.solve(tile, volts, engine=engine).currents for engine in ("newton", "ngspice")}
    peak = float(found["newton"].abs().max())
    assert found["ngspice"].numpy() == pytest.approx(found["newton"].numpy(), abs=NGSPICE_EXACT * peak)


def test_ports_that_nobody_uses_are_grounded(tmp_path: Path) -> None:
    device = Device(write(tmp_path, "spare", "p, n, nc", "analog I(p, n) <+ 1e-3*V(p, n);"))
    assert (device.ports.unused, device.ports.ground) == (("nc",), ("nc",))
    assert float(device.current(0.5)) == pytest.approx(5e-4, rel=MODEL_CURRENT)


def test_ports_are_opened_and_grounded_as_asked(tmp_path: Path) -> None:
    """Three resistors in a star: the third leg carries nothing, or all that its own voltage asks for."""
    path = write(
        tmp_path,
        "star",
        "a, b, c",
        "electrical m; analog begin "
        "I(a, m) <+ V(a, m)/1e3; I(b, m) <+ V(b, m)/2e3; I(c, m) <+ V(c, m)/5e3; end",
    )
    with pytest.raises(ModelError, match=r"star has the ports a, b, c, and it is not clear which two"):
        Device(path)
    assert float(Device(path, open="c").current(0.3)) == pytest.approx(0.3 / 3e3, rel=MODEL_CURRENT)
    assert Device(path, terminals=("c", "a"), open=["b"]).ir.terminals == ("c", "a")
    grounded = 0.3 / (1e3 + 1 / (1 / 2e3 + 1 / 5e3))
    assert float(Device(path, ground=("c",)).current(0.3)) == pytest.approx(grounded, rel=MODEL_CURRENT)
    driven = Device(path, terminals=("a", "b", "c"))
    assert float(driven.current(0.3, c=0.0)) == pytest.approx(grounded, rel=MODEL_CURRENT)
    ends = ngspice_currents(path, {"a": 0.3, "b": 0.0, "c": 0.7})
    found = driven.terminal_currents({"c": 0.7, "b": 0.0, "a": 0.3})
    assert {n: float(i) for n, i in found.items()} == pytest.approx(ends, rel=NGSPICE_EXACT, abs=1e-16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"open": "e"}, r"open='e': star has no port 'e'; it has a, b, c"),
        ({"ground": ("a",), "open": ("a",)}, r"port a of star is named in open= and in ground=: in one"),
        ({"terminals": ("a",)}, r"terminals=\('a',\): name two"),
        ({"terminals": {"a": 1}}, r"terminals=.*give names of ports"),
        ({"open": ("a", "b")}, r"star needs two terminals that carry a current: only c is left"),
        ({"terminals": ("a", "a")}, r"port a of star is named in terminals= and in terminals="),
    ],
)  # fmt: skip
def test_wrong_ports_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    legs = "I(a, b) <+ V(a, b); I(b, c) <+ V(b, c);"
    with pytest.raises((SpecError, ModelError), match=message):
        Device(write(tmp_path, "star", "a, b, c", f"analog begin {legs} end"), **options)


def test_a_gate_and_a_heater_are_not_taken_for_shown(tmp_path: Path) -> None:
    """A load of its own is no state; the message names the pair that was found."""
    gate = "analog I(p, n) <+ 1e-3*V(g)*V(p, n);"
    heater = "analog begin I(g) <+ V(g)/50.0; I(p, n) <+ 1e-3*(1.0 + V(g)*V(g))*V(p, n); end"
    leaking = "analog begin I(g, n) <+ 1e-12*V(g, n); I(p, n) <+ 1e-3*V(g, n)*V(p, n); end"
    for name, body in {"gate": gate, "heater": heater}.items():
        with pytest.raises(
            ModelError, match=rf"{name} has the ports p, n, g, and it is not clear what its port g"
        ):
            Device(write(tmp_path, name, "p, n, g", body))
    with pytest.raises(ModelError, match=r"which two carry .* terminals=\(\"p\", \"n\"\)"):
        Device(write(tmp_path, "leaking", "p, n, g", leaking))


def test_four_terminals_are_those_of_ngspice(tmp_path: Path) -> None:
    path = write(tmp_path, "mosfet", "d, g, s, b", MOSFET)
    device = Device(path, terminals=("d", "s", "g", "b"))
    for volts in ({"d": 1.0, "g": 0.8, "s": 0.0, "b": 0.0}, {"d": 0.1, "g": 1.2, "s": 0.05, "b": -0.3}):
        wanted = ngspice_currents(path, volts)
        found = {name: float(current) for name, current in device.terminal_currents(volts).items()}
        peak = max(map(abs, wanted.values()))
        assert found == pytest.approx(wanted, abs=NGSPICE_EXACT * peak)
        if volts["s"] == 0:
            same = device.current(volts["d"], g=volts["g"], b=volts["b"])
            assert float(same) == pytest.approx(wanted["d"], rel=NGSPICE_EXACT)


def test_currents_of_terminals_are_differentiable_and_broadcast(tmp_path: Path) -> None:
    device = Device(write(tmp_path, "mosfet", "d, g, s, b", MOSFET), terminals=("d", "s", "g", "b"))
    gate = torch.linspace(0.2, 1.2, 5, dtype=torch.float64, requires_grad=True)
    drain = torch.tensor([[0.3], [1.0]], dtype=torch.float64)
    current = device.terminal_currents({"d": drain, "g": gate, "s": 0, "b": 0})["d"]
    assert current.shape == (2, 5)
    (slope,) = torch.autograd.grad(current.sum(), gate)
    step = 1e-5
    ends = [device.current(drain, g=gate.detach() + sign * step, b=0.0).sum(0) for sign in (1, -1)]
    assert slope.numpy() == pytest.approx(((ends[0] - ends[1]) / (2 * step)).numpy(), rel=1e-6)


def test_a_gate_waveform_runs_alike_in_both_engines(tmp_path: Path) -> None:
    """The gate charges an internal state; the drain current follows both."""
    path = write(
        tmp_path,
        "synapse",
        "d, g, s",
        "electrical y; parameter real w0 = 0.1 from [0:1]; real w;\n"
        "analog begin w = w0 + V(y); I(y) <+ ddt(V(y)) - 1e6*V(g, s)*(1.0 - w);\n"
        "I(d, s) <+ 1e-4*w*V(d, s); I(g, d) <+ ddt(1e-15*V(g, d)); end",
    )
    device = Device(path, terminals=("d", "s", "g"), state="w0", state_range=(0, 1), state_node="y")
    time = np.linspace(0.0, 1e-6, 41)
    gate = torch.from_numpy(np.interp(time, [0, 2e-7, 3e-7, 7e-7, 8e-7, 1e-6], [0, 0, 1, 1, 0, 0]))
    flux = np.concatenate([[0], np.cumsum(0.5 * np.diff(time) * (gate[1:] + gate[:-1]).numpy())])
    ours = device.simulate(np.full(41, 0.2), time=time, state=0.1, g=gate)
    assert ours.state.numpy() == pytest.approx(1 - 0.9 * np.exp(-1e6 * flux), abs=TRANSIENT_REFINED)
    more = {"time": time, "state": 0.1, "g": gate}
    theirs = device.simulate(np.full(41, 0.2), engine="ngspice", max_step=3e-9, **more)
    peak = float(ours.current.abs().max())
    assert theirs.current.numpy() == pytest.approx(ours.current.numpy(), abs=TRANSIENT_REFINED * peak)
    behind = device.simulate(np.full(41, 0.2), series=1e3, **more)
    assert torch.allclose(behind.device_voltage, 0.2 - 1e3 * behind.current, atol=1e-9)
    follow = gate.clone().requires_grad_(True)
    device.simulate(np.full(41, 0.2), time=time, state=0.1, g=follow).state[-1].backward()
    step, shape = 1e-4, torch.zeros(41, dtype=torch.float64)
    shape[20] = step
    end = [
        float(device.simulate(np.full(41, 0.2), time=time, state=0.1, g=gate + s * shape).state[-1])
        for s in (1, -1)
    ]
    assert follow.grad is not None
    assert float(follow.grad[20]) == pytest.approx((end[0] - end[1]) / (2 * step), rel=1e-3)


def test_what_a_driven_terminal_needs_is_said(tmp_path: Path) -> None:
    device = Device(write(tmp_path, "mosfet", "d, g, s, b", MOSFET), terminals=("d", "s", "g"), ground="b")
    with pytest.raises(SpecError, match=r"mosfet needs the voltage of its terminal g: give g= in V"):
        device.current(0.1)
    with pytest.raises(SpecError, match=r"mosfet takes no voltage of 'q': the terminals to give one for: g"):
        device.current(0.1, g=0.5, q=1.0)
    with pytest.raises(SpecError, match=r"g has shape \(3,\): give one number, or a waveform"):
        device.simulate([0.0, 0.1], 1e-9, g=[0.0, 0.1, 0.2])
    with pytest.raises(SpecError, match=r"mosfet has the terminals d, s, g: a cell of a tile has two"):
        cosim.Tile(device, shape=(2, 2))
    assert device.replace(k=1e-4).ir.terminals == ("d", "s", "g")


def test_merged_nodes_keep_their_pairs(tmp_path: Path) -> None:
    """A resistance of 0 merges its internal node with a port that leaves: both are ground then."""
    path = write(
        tmp_path,
        "merges",
        "a, b, c",
        "electrical i; parameter real r = 0.0; analog begin "
        "if (r > 0) I(i, c) <+ V(i, c)/r; else V(i, c) <+ 0; "
        "I(a, b) <+ 1e-3*V(a, b); I(a, i) <+ 2e-3*V(a, i); end",
    )
    ir = compile_model(path)
    wired = rewire(ir, ("a", "b"), ("c",))
    assert [(pair.first, pair.second) for pair in wired.collapsible] == [(2, None)]
    for r, wanted in ((0.0, 3e-3), (500.0, 2e-3)):
        device = Device(path, ground="c", r=r)
        assert float(device.current(0.5)) == pytest.approx(0.5 * wanted, rel=MODEL_CURRENT)
    with pytest.raises(ModelError, match=r"the current into a is not the current out of b"):
        cosim.Tile(device, shape=(2, 2))
