"""Parameters of every kind, what checks them, and what tools see of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import cosim
from cosim.devices import ir as device_ir
from cosim.devices.interp import run_setup
from cosim.devices.print_torch import TorchModel
from cosim.errors import ParseError, SpecError
from tolerances import CLOSED_FORM, NGSPICE_PRINTED
from verilog.host import at, cell, model
from verilog.simulator import plot, run

CELL = "v1 a 0 0.5\nn1 a 0 dev"


def test_an_array_parameter_is_one_parameter_for_each_element():
    ir = cell(
        "I(p, n) <+ V(p, n)*(a[0] + 10*a[1] + 100*a[2] + 1000*m[1][0]) + ($param_given(a) ? 0.5 : 0);",
        "parameter real a[0:2] = '{1, 2, 3} from (0:10); parameter real a_0 = 7; "
        "parameter integer k[1:2] = '{2{4}};"
        "localparam real m[0:1][0:1] = '{'{1, 2}, '{k[1], 4}};",
    )
    assert ir.parameter_names == ("a__0", "a__1", "a__2", "a_0", "k_1", "k_2")  # a_0 is the author's
    assert [ir.parameter(name).array for name in ("a__0", "a_0", "k_2")] == ["a", "", "k"]
    assert at(ir, [1.0, 0.0]).resist[0] == pytest.approx(4321.0, rel=CLOSED_FORM)
    assert at(ir, [1.0, 0.0], a__1=5.0, k_1=6).resist[0] == pytest.approx(6351.5, rel=CLOSED_FORM)
    assert run_setup(ir, {"a__2": 11.0}).out_of_range == ("a__2",)
    again = device_ir.load(device_ir.dump(ir))
    assert again == ir


def test_an_instance_gives_an_array_a_string_and_an_element_of_its_own_array():
    ir = model(
        "module r(a, b); inout a, b; electrical a, b; parameter real g[0:1] = '{1, 2};"
        'parameter string mode = "sum";'
        ' analog I(a, b) <+ (mode == "sum" ? g[0] + g[1] : g[0])*V(a, b); endmodule'
        " module m(p, n); inout p, n; electrical p, n; parameter real c[0:2] = '{3, 4, 5};"
        'r #(.g(\'{c[2], 7})) r1(p, n); r #(.mode("first")) r2(p, n); endmodule'
    )
    assert at(ir, [1.0, 0.0]).resist[0] == pytest.approx(13.0, rel=CLOSED_FORM)
    with pytest.raises(ParseError, match=r"g has 2 elements, 3 are given"):
        model(
            "module r(a, b); inout a, b; electrical a, b; parameter real g[0:1] = '{1, 2};"
            "analog I(a, b) <+ g[0]*V(a, b); endmodule module m(p, n); inout p, n; electrical p, n;"
            "r #(.g('{1, 2, 3})) r1(p, n); endmodule"
        )


def test_a_string_parameter_chooses_in_every_engine():
    ir = cell(
        'case (law) "two words": y = 1m*V(p, n); "\\"q\\"": y = 2m*V(p, n); default: y = 3m*V(p, n); endcase'
        " I(p, n) <+ y;",
        'parameter string law = "two words" from \'{"two words", "\\"q\\"", "x"}; real y;',
    )
    for law, factor in (("two words", 1e-3), ('"q"', 2e-3), ("x", 3e-3)):
        assert at(ir, [0.5, 0.0], law=law).resist[0] == pytest.approx(0.5 * factor, rel=CLOSED_FORM)
        found = TorchModel(ir, {"law": law})([torch.tensor([0.5]), torch.zeros(1)], {})
        assert float(found.resist[0]) == pytest.approx(0.5 * factor, rel=1e-6)
    assert run_setup(ir, {"law": "y"}).out_of_range == ("law",)
    with pytest.raises(SpecError, match="parameter law of m is 3: it must be a string"):
        TorchModel(ir, {"law": 3})
    for text, factor in (("dev", 1e-3), ('dev2\n.model dev2 m law="x"', 3e-3)):
        found = plot(ir, CELL.replace("dev", text), "op")
        assert found["i(v1)"] == pytest.approx(-0.5 * factor, rel=NGSPICE_PRINTED)


def test_a_device_takes_texts(tmp_path: Path):
    path = tmp_path / "m.va"
    path.write_text(
        'module m(p, n); inout p, n; electrical p, n; parameter string law = "one"; aliasparam kind = law;\n'
        'analog I(p, n) <+ (law == "a \\"b\\"; .end" ? 3m : 1m)*V(p, n); endmodule\n'
    )
    text = 'a "b"; .end'  # no simulator sees it
    for given, factor in (({}, 1e-3), ({"law": text}, 3e-3), ({"kind": text}, 3e-3)):
        device = cosim.Device(path, **given)
        assert float(device.current(0.5)) == pytest.approx(0.5 * factor, rel=CLOSED_FORM)
        tile = cosim.Tile(device, shape=(1, 1))
        for engine in ("newton", "ngspice"):
            found = cosim.solve(tile, [[0.5]], engine=engine).currents
            assert float(found) == pytest.approx(0.5 * factor, rel=NGSPICE_PRINTED), engine
    assert cosim.Device(path, law=text).digest != cosim.Device(path).digest
    with pytest.raises(SpecError, match="parameter law of m is 3: give it as text, where the device is made"):
        cosim.Device(path, law=3)


def test_tools_set_a_parameter_by_its_alias():
    ir = cell("I(p, n) <+ g*V(p, n);", "parameter real g = 1m; aliasparam gg = g; aliasparam M = g;")
    assert ir.parameter("gg").name == "g"
    found = plot(ir, CELL.replace("dev", "dev2\n.model dev2 m gg=4m"), "op")
    assert found["i(v1)"] == pytest.approx(-2e-3, rel=NGSPICE_PRINTED)


def test_names_that_tools_read_in_their_own_way_are_renamed_for_them():
    ir = cell(
        "I(p, n) <+ (_g + M + m + \\a-b + \\begin )*V(p, n);",
        "parameter real _g = 1m, M = 2m, m = 4m, \\a-b = 8m, \\begin = 16m;",
    )
    assert ir.parameter_names == ("_g", "M", "m", "a-b", "\\begin")
    found = plot(ir, CELL.replace("dev", "dev2\n.model dev2 m p_g=32m a_b=64m"), "op")
    assert found["i(v1)"] == pytest.approx(-0.5 * (2 + 4 + 16 + 32 + 64) * 1e-3, rel=NGSPICE_PRINTED)
    model = TorchModel(ir, {"M": 0.0, "_g": 0.0}, ["a-b"])
    values = model([torch.ones(1), torch.zeros(1)], {"a-b": torch.tensor([3.0])})
    assert float(values.resist[0]) == pytest.approx(3.02, rel=1e-6)


GIVES_UP = [
    ('if (g < 0) $fatal(1, "g is %g, not %d", g, 1);', "$fatal: g is <g>, not <1>"),
    ('if (g < 0) begin $strobe("g is too small\\n"); $finish; end', "$finish: g is too small"),
    ('if (g < 0) $error("no");', "$error: no"),
    ("if (g < 0) $stop(1);", "$stop"),
]


@pytest.mark.parametrize(("body", "message"), GIVES_UP)
def test_a_model_that_ends_the_run_for_its_parameters_is_an_error(body: str, message: str):
    ir = cell(body + " I(p, n) <+ g*V(p, n);", "parameter real g = 1m;")
    assert run_setup(ir, {}).fatal == ()
    (said,) = run_setup(ir, {"g": -1.0}).fatal
    assert said.endswith(message)
    with pytest.raises(SpecError, match=r"m does not run with these parameters: m\d+\.va:4: \$"):
        TorchModel(ir, {"g": -1.0})
    varying = TorchModel(ir, {}, ["g"])
    varying.check({"g": torch.tensor([1.0, 2.0])})
    with pytest.raises(SpecError, match="does not run with these parameters"):
        varying.check({"g": torch.tensor([1.0, -2.0])})
    result = run(ir, CELL.replace("dev", "dev2\n.model dev2 m g=-1"), "op")
    assert message in result.stdout
    assert "aborted" in result.stderr


def test_fatal_under_a_voltage_has_no_solution_there_and_one_elsewhere():
    ir = cell('if (V(p, n) > 1) $fatal(0, "too high"); I(p, n) <+ 1m*V(p, n);')
    values = TorchModel(ir, {})([torch.tensor([0.5, 2.0]), torch.zeros(2)], {}).resist[0]
    assert torch.isnan(torch.as_tensor(values)).tolist() == [False, True]
    assert plot(ir, CELL, "op")["i(v1)"] == pytest.approx(-0.5e-3, rel=NGSPICE_PRINTED)
    result = run(ir, CELL.replace("0.5", "2"), "op")
    assert "too high" in result.stdout
    assert "out.raw" not in result.files or b"i(v1)" not in result.files["out.raw"]


def test_finish_under_a_voltage_is_a_note():
    ir = cell("if (V(p, n) > 1) $finish; I(p, n) <+ 1m*V(p, n);")
    assert at(ir, [2.0, 0.0]).resist[0] == pytest.approx(2e-3, rel=CLOSED_FORM)


def test_a_device_takes_arrays_and_aliases(tmp_path: Path):
    path = tmp_path / "m.va"
    path.write_text(
        "module m(p, n); inout p, n; electrical p, n; parameter real a[0:1] = '{1, 2}, g = 4;\n"
        "aliasparam gg = g; analog I(p, n) <+ (a[0] + 10*a[1] + 100*g)*V(p, n);\nendmodule\n"
    )
    volt = torch.tensor([1.0], dtype=torch.float64)
    both = torch.tensor([3.0, 5.0])
    for given, expected in (
        ({}, 421.0),
        ({"a": [3, 5.0]}, 453.0),
        ({"a": both}, 453.0),
        ({"a_1": 0.0, "gg": 1.0}, 101.0),
    ):
        assert float(cosim.Device(path, **given).current(volt)) == pytest.approx(expected, rel=CLOSED_FORM)
    for given, message in (
        ({"a": [1.0]}, "parameter a of m is [1.0]: it is an array, give 2 values"),
        ({"a": 1.0}, "it is an array, give 2 values"),
        ({"a": torch.tensor(1.0)}, "it is an array, give 2 values"),
        ({"gg": 1.0, "g": 2.0}, "parameter g of m is given twice"),
        ({"a": [1.0, 2.0], "a_1": 2.0}, "parameter a_1 of m is given twice"),
    ):
        with pytest.raises(SpecError, match=re.escape(message)):
            cosim.Device(path, **given)
