"""What other simulators forgive is read as they read it; where the meaning is a guess a note says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosim.devices.interp import run_setup
from cosim.errors import CosimError
from cosim.verilog.compile import compile_verilog
from tolerances import CLOSED_FORM
from verilog.host import at, cell, current, model

BODY = "analog I(p, n) <+ 2*V(p, n); endmodule"


@pytest.mark.parametrize(
    "head",
    [
        "module m(p, n); inout (* desc=\"a\" *) p; inout n; electrical p, n; ",
        "module m((* desc=\"a\" *) p, n); inout p (* desc=\"a\" *), n; electrical p, n; ",
        "(* desc=\"a\" *) module m(p, n) (* vendor=\"b\" *); inout p, n; electrical p, n; ",
        "module m(inout (* a=\"b\" *) electrical p (* c=\"d\" *), inout electrical n); ",
        "module m(p, n); electrical p, n; branch (p, n) (* a=\"b\" *) one (* c=\"d\" *), two; ",
        "module m(p, n); ",
        "macromodule m(p, n); inout p; inout p, n; electrical p; electrical n; ",
    ],
)  # fmt: skip
def test_heads_of_modules(head: str):
    assert at(model(head + BODY), [0.5, 0.0]).resist[0] == pytest.approx(1.0, rel=CLOSED_FORM)


def test_headers_under_any_name_and_files_in_latin_1(tmp_path: Path):
    path = tmp_path / "model"
    path.write_bytes(
        b'`include "discipline.h" `include <constants.va>\n// \xb5A\n`include "ams/cds/disciplines.vams"\n'
        b"module m(p, n); inout p, n; electrical p, n; analog I(p, n) <+ V(p, n)*`M_PI; endmodule"
    )
    assert at(compile_verilog(path), [1.0, 0.0]).resist[0] == pytest.approx(3.141592653589793)
    path.write_bytes(b"module m(p, n); inout p, n; electrical p, n; real \xb5; endmodule")
    with pytest.raises(CosimError, match=r"model:1: character 'µ' has no meaning here"):
        compile_verilog(path)


def test_a_header_beside_the_model_wins(tmp_path: Path):
    (tmp_path / "constants.vams").write_text("`define P_Q 2.0\n")
    path = tmp_path / "m.va"
    path.write_text('`include "constants.vams"\nmodule m(p, n); inout p, n; electrical p, n;'
                    " analog I(p, n) <+ `P_Q*V(p, n); endmodule")  # fmt: skip
    assert at(compile_verilog(path), [1.0, 0.0]).resist[0] == 2.0


def test_generate_around_analog_blocks():
    ir = model(
        "module m(p, n); inout p, n; electrical p, n; parameter integer two = 1; genvar k;"
        "generate for (k = 1; k < 4; k = k + 1) begin : g analog I(p, n) <+ k*V(p, n); end endgenerate "
        "if (two == 2) analog I(p, n) <+ 10*V(p, n); else begin analog I(p, n) <+ 20*V(p, n); end endmodule"
    )
    assert at(ir, [1.0, 0.0]).resist[0] == 26.0
    assert at(ir, [1.0, 0.0], two=2).resist[0] == 16.0


def test_digital_initial_and_nets_that_only_an_instance_names_are_notes():
    ir = model(
        "module r(a, b); inout a, b; electrical a, b; analog I(a, b) <+ V(a, b); endmodule\n"
        "module m(p, n); inout p, n; electrical p, n; real g; initial begin g = 3; end\n"
        "r r1(p, k); r r2(.a(k), .b(n)); analog I(p, n) <+ g*V(p, n); endmodule"
    )
    assert current(ir, 1.0) == pytest.approx(3.5, rel=CLOSED_FORM)
    assert any("read as 'analog initial'" in note for note in ir.notes)
    assert any("net k is not declared: taken as electrical" in note for note in ir.notes)


def test_sizes_that_a_parameter_sets_keep_its_default():
    ir = cell(
        "for (k = 0; k < count; k = k + 1) begin I(line[k], line[k + 1]) <+ V(line[k], line[k + 1])*g[k]; end"
        " V(p, line[0]) <+ 0; I(line[last], n) <+ V(line[last], n);",
        "parameter integer count = 3 from [1:inf); localparam integer last = count;"
        "electrical [0:last] line; genvar k; parameter real g[0:count - 1] = '{3{2.0}};",
    )  # fmt: skip
    assert run_setup(ir, {"count": 3}).out_of_range == ()
    assert run_setup(ir, {"count": 4}).out_of_range == ("count",)
    assert ir.parameter("count").range == "3 only: the size of an array or bus depends on it"
    assert len([node for node in ir.nodes if node.name.startswith("line")]) == 4


def test_strings_join():
    assert at(cell('if ({"a", "b"} == "ab") I(p, n) <+ 1;'), [0.0, 0.0]).resist[0] == 1.0
