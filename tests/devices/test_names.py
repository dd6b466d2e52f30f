"""Names of a user's file: the API takes every one; what SPICE would misread is called otherwise there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import cosim
from cosim.errors import SpecError
from tolerances import CLOSED_FORM, NGSPICE_EXACT, TRANSIENT

HEAD = '`include "disciplines.vams"\nmodule named(p, n); inout p, n; electrical p, n'
INSTANCE = '(* type = "instance" *) '


def written(folder: Path, text: str) -> Path:
    path = folder / "named.va"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["", INSTANCE])
@pytest.mark.parametrize("names", ["m", "M", "level", "model", "self", "state", "write", "g G", "Rs rS rs_2"])
def test_parameters_of_any_name_reach_every_engine(names: str, kind: str, tmp_path: Path) -> None:
    called = names.split()
    declared = "".join(f"{kind}parameter real {name} = 1e-3;\n" for name in called)
    path = written(
        tmp_path, f"{HEAD};\n{declared}analog I(p, n) <+ ({' + 2 * '.join(called)}) * V(p, n);\nendmodule"
    )
    values: dict[str, Any] = {name: 1e-3 * (k + 2) for k, name in enumerate(called)}
    device = cosim.Device(path, **values)
    wanted = values[called[0]] + sum(2 * values[name] for name in called[1:])
    assert dict(device.given) == values
    assert float(device.current(0.5)) == pytest.approx(0.5 * wanted, rel=CLOSED_FORM)
    for engine in ("newton", "ngspice"):
        found = cosim.solve(cosim.Tile(device, shape=(1, 1)), [0.5], engine=engine)
        assert float(found.currents) == pytest.approx(0.5 * wanted, rel=NGSPICE_EXACT)
    cells = device.replace(**{called[-1]: torch.full((1, 2), 7e-3, dtype=torch.float64)})
    shared, own = (
        cosim.solve(cosim.Tile(cells, shape=(1, 2)), [0.5], engine=e) for e in ("newton", "ngspice")
    )
    assert torch.allclose(shared.currents, own.currents, rtol=NGSPICE_EXACT, atol=0)
    trace = device.simulate([0.5, 0.5], 1e-9, engine="ngspice")
    assert trace.current.tolist() == pytest.approx([0.5 * wanted] * 2, rel=NGSPICE_EXACT)


@pytest.mark.parametrize("node", ["Y", "y", "STATE", "Y_2"])
def test_state_nodes_of_any_name_are_read_from_ngspice(node: str, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"{HEAD}, y_2, {node};\n{INSTANCE}parameter real x0 = 0.5 from [0:1];\n"
        f"{INSTANCE}parameter integer on = 0 from [0:1]; real x;\n"
        f"analog begin x = x0 + V({node}); I(p, y_2) <+ 1e-3*(1 + x)*V(p, y_2); I(y_2, n) <+ V(y_2, n);\n"
        f"I({node}) <+ ddt(1e-9*V({node}));\n"
        f"I({node}) <+ on == 1 && $abstime > 0 ? -1e-3*V(p, n) : 1e-3*V({node}); end\nendmodule",
    )
    device = cosim.Device(path, state="x0", state_range=(0, 1), state_node=node, write="on")
    torch_, ngspice = (device.simulate([0.0, 0.1, 0.1], 1e-6, 0.25, engine=e) for e in ("torch", "ngspice"))
    assert float(ngspice.state[-1] - ngspice.state[0]) == pytest.approx(0.15, rel=TRANSIENT)
    assert torch.allclose(torch_.state, ngspice.state, rtol=TRANSIENT)


def test_a_branch_current_may_be_the_state(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"{HEAD}; branch (p, n) coil;\nanalog V(coil) <+ I(coil) + ddt(1e-6*I(coil));\nendmodule"
    )
    device = cosim.Device(path, state_node="flow(coil)")
    traces = [device.simulate([0.0, 1.0, 1.0], 1e-6, engine=engine) for engine in ("torch", "ngspice")]
    assert torch.allclose(traces[0].state, traces[1].state, atol=TRANSIENT)
    assert float(traces[1].state[-1]) > 0.5


@pytest.mark.parametrize(
    "current", ["V(p, gnd) - V(n, gnd)", "V(p) - V(gnd, n) - 2*V(n, gnd) + V(gnd)", "V(p, n)"]
)
@pytest.mark.parametrize("declared", ["electrical gnd; ground gnd;", "ground gnd; electrical gnd;"])
def test_a_ground_node_is_at_0_volt(current: str, declared: str, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"{HEAD}; {declared}\nanalog begin I(p, n) <+ 1e-3*({current}); I(n, gnd) <+ 0; end\nendmodule",
    )
    device = cosim.Device(path)
    assert device.ir.nodes[0].name == "p"
    assert [node.name for node in device.ir.nodes] == ["p", "n"]
    found = [cosim.solve(cosim.Tile(device, shape=(1, 1)), [0.3], engine=e) for e in ("newton", "ngspice")]
    assert [float(f.currents) for f in found] == pytest.approx([3e-4, 3e-4], rel=NGSPICE_EXACT)


def test_a_line_may_hold_two_includes(tmp_path: Path) -> None:
    (tmp_path / "one.va").write_text("`define ONE 1e-3\n")
    (tmp_path / "two.va").write_text("`define TWO 2e-3\n")
    path = written(
        tmp_path,
        '`include "disciplines.vams" `include "one.va"; `include "two.va" `define THREE 3e-3\n'
        "module named(p, n); inout p, n; electrical p, n;\n"
        "analog I(p, n) <+ (`ONE + `TWO + `THREE)*V(p, n);\nendmodule",
    )
    assert float(cosim.Device(path).current(1.0)) == pytest.approx(6e-3, rel=CLOSED_FORM)


# --- states that do not move --------------------------------------------------------------------------

SWITCHED = (
    f"{HEAD}, y;\n{INSTANCE}parameter real x0 = 0.5 from [0:1];\n"
    "parameter integer on = 0 from [0:1]; real x;\n"
    "analog begin x = x0 + V(y); I(p, n) <+ 1e-3*(1 + x)*V(p, n);\n"
    "I(y) <+ ddt(1e-9*V(y)) + (on == 1 && $abstime > 0 ? -1e-3*V(p, n) : 1e-3*V(y)); end\nendmodule"
)
STATE: dict[str, Any] = {"state": "x0", "state_range": (0.0, 1.0)}


def test_a_state_node_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"named has no internal node 'zz'; it has: y"):
        cosim.Device(written(tmp_path, SWITCHED), **STATE, state_node="zz")


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_a_write_switch_that_nobody_named_is_found(engine: str, tmp_path: Path) -> None:
    path = written(tmp_path, SWITCHED)
    device = cosim.Device(path, **STATE, state_node="y")
    assert device.write_parameter == "on"
    assert (
        device.replace(on=0).simulate([0.0, 0.1, 0.1], 1e-6, 0.25, engine=engine).state.tolist() == [0.25] * 3
    )
    for moving in (device, device.replace(on=1), cosim.Device(path, **STATE, state_node="y", write="on")):
        trace = moving.simulate([0.0, 0.1, 0.1], 1e-6, 0.25, engine=engine)
        assert float(trace.state[-1]) == pytest.approx(0.4, rel=TRANSIENT)


def test_a_switch_of_a_bundled_model_is_a_parameter() -> None:
    assert cosim.Device("vteam", write=1).given == {"write": 1}
    with pytest.raises(SpecError, match=r"'vteam' is a bundled model: its state and polarity are known"):
        cosim.Device("vteam", write="write")
