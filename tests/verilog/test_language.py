"""What the language says, construct by construct: values in closed form, derivatives by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cosim.devices.interp import Conditions, run_setup
from cosim.errors import ModelError, ParseError
from tolerances import CLOSED_FORM, FINITE_DIFFERENCE
from verilog.host import at, cell, current, model


def value(expression: str, v: float = 0.0, declarations: str = "", before: str = "") -> float:
    return float(at(cell(f"{before} I(p, n) <+ {expression};", declarations), [v, 0.0]).resist[0])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2*3", 7.0),
        ("2*3 % 4", 2.0),
        ("10 - 4 - 3", 3.0),
        ("2**-1 + 2**3**2", 64.5),  # from the left, as Verilog has it
        ("-2**2", 4.0),  # a unary operator binds tighter
        ("7/2", 3.0),
        ("7/2.0", 3.5),
        ("-7/2", -3.0),
        ("-7 % 3", -1.0),
        ("1 + 1 << 2", 8.0),
        ("1 << 2 + 1", 8.0),
        ("6 & 3 | 8", 10.0),
        ("5 ^ 1 & 3", 4.0),
        ("3 > 2 > 1", 0.0),
        ("1 ? 2 : 0 ? 3 : 4", 2.0),
        ("0 ? 2 : 0 ? 3 : 4", 4.0),
        ("(1 ? 0 : 1) ? 2 : 3", 3.0),
        ("1 ? 0 ? 5 : 6 : 7", 6.0),
        ("!0 + !5", 1.0),
        ("1.5k + 2m + 1u", 1500.002001),
        ("1T/1G", 1000.0),
        ("-8 >>> 1", -4.0),
        ("~5", -6.0),
        ("1 == 1.0 && 2 != 3 || 0", 1.0),
        ("abs(-3) + max(1, 2.5) + min(4, 3)", 8.5),
        ("$clog2(9)", 4.0),
        ("int(-2.7) + int(2.7)", 0.0),
        ('"a" == "a" ? 1.0 : 2.0', 1.0),
        ('"ab\\\n c" == "ab c" ? 1.0 : 2.0', 1.0),
        ('"\\101\\\\" == "A\\\\" ? 1.0 : 2.0', 1.0),
        ("'h1F + 8'b1_01 + 12 'd5 + 'o17", 56.0),
        ("32'hffffffff", -1.0),
        ("100*(&(-1)) + 10*(|0) + (^7) + (~^7)*1000", 101.0),
        ('potential(p, n)*0 + $simparam("gmin")*1e12', 1.0),
        ("`M_PI", math.pi),
        ("`P_Q*1e19", 1.602176462),
    ],
)
def test_operators(expression: str, expected: float):
    assert value(expression) == pytest.approx(expected, rel=1e-15)


FUNCTIONS = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos,
    "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "asinh": math.asinh,
    "atanh": math.atanh,
    "exp": math.exp, "ln": math.log, "log": math.log10, "sqrt": math.sqrt, "acosh": math.acosh,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_derivatives(name: str):
    v, h = 0.4, 1e-6
    argument = "(1.3 + V(p, n))" if name == "acosh" else "V(p, n)"
    shift = 1.3 if name == "acosh" else 0.0
    found = at(cell(f"I(p, n) <+ {name}({argument});"), [v, 0.0])
    assert found.resist[0] == pytest.approx(FUNCTIONS[name](v + shift), rel=1e-15)
    slope = (FUNCTIONS[name](v + shift + h) - FUNCTIONS[name](v + shift - h)) / (2 * h)
    assert found.jacobian_resist[0, 0] == pytest.approx(slope, rel=FINITE_DIFFERENCE)


@pytest.mark.parametrize(
    ("expression", "slope"),
    [
        ("hypot(V(p, n), 2)", 0.5 / math.hypot(0.5, 2)),
        ("atan2(V(p, n), 2)", 2 / 4.25),
        ("atan2(2, V(p, n))", -2 / 4.25),
        ("pow(V(p, n), 3)", 0.75),
        ("pow(2, V(p, n))", math.log(2) * math.sqrt(2)),
        ("V(p, n) % 0.3", 1.0),
        ("0.7 % V(p, n)", -1.0),
        ("limexp(100*V(p, n))", 100 * math.exp(50)),
        ("limexp(200*V(p, n))", 200 * math.exp(80)),
        ("abs(-V(p, n))", 1.0),
        ("(V(p, n) > 0 ? V(p, n)**2 : 0)", 1.0),
        ("floor(V(p, n)*10)*V(p, n)", 5.0),
    ],
)
def test_derivatives_in_closed_form(expression: str, slope: float):
    found = at(cell(f"I(p, n) <+ {expression};"), [0.5, 0.0])
    assert found.jacobian_resist[0, 0] == pytest.approx(slope, rel=CLOSED_FORM)


@pytest.mark.parametrize(
    "expression", ["sqrt(V(p, n))", "pow(V(p, n), 0.5)", "V(p, n)**0.3", "hypot(V(p, n), 0)"]
)
def test_slopes_are_finite_where_they_are_singular(expression: str):
    found = at(cell(f"I(p, n) <+ {expression};"), [0.0, 0.0])
    assert found.resist[0] == 0.0
    assert np.isfinite(found.jacobian_resist).all()


def test_twenty_thousand_terms_and_parentheses():
    count = 20_000
    assert value("+".join(["1"] * count)) == count
    assert value("(" * count + "1" + ")" * count) == 1
    assert value("(1+" * 5000 + "1" + ")" * 5000) == 5001


def test_loops_arrays_and_functions():
    ir = cell(
        "c = '{1.0, 0.5, 0.25}; acc = 0; for (k = 2; k >= 0; k = k - 1) acc = acc*V(p, n) + c[k];"
        "j = V(p, n) > 0 ? 2 : 1; I(p, n) <+ f(acc, b)*c[j] + b;",
        "real c[0:2]; real acc, b; integer j, k;"
        "analog function real f; input x; output y; real x, y; begin y = x*x; f = x + y; end endfunction",
    )
    v = 0.3
    acc = 1 + 0.5 * v + 0.25 * v * v
    found = at(ir, [v, 0.0])
    assert found.resist[0] == pytest.approx((acc + acc**2) * 0.25 + acc**2, rel=CLOSED_FORM)
    slope = (0.5 + 0.5 * v) * ((1 + 2 * acc) * 0.25 + 2 * acc)
    assert found.jacobian_resist[0, 0] == pytest.approx(slope, rel=CLOSED_FORM)


def test_a_loop_with_a_bound_that_only_the_run_knows():
    ir = cell(
        "acc = 1; k = 0; while (acc < 10 + V(p, n)) begin acc = acc*(2 + V(p, n)); k = k + 1; end "
        "I(p, n) <+ acc + k;",
        "real acc; integer k;",
    )
    v = 0.25
    acc, slope, k = 1.0, 0.0, 0
    while acc < 10 + v:
        slope = slope * (2 + v) + acc
        acc, k = acc * (2 + v), k + 1
    found = at(ir, [v, 0.0])
    assert found.resist[0] == pytest.approx(acc + k, rel=CLOSED_FORM)
    assert found.jacobian_resist[0, 0] == pytest.approx(slope, rel=CLOSED_FORM)


def test_a_loop_is_repeated_as_often_as_a_parameter_or_a_voltage_says():
    body = "x = 1; repeat ({}) begin repeat (2) x = x*(1 + V(p, n)); end I(p, n) <+ x;"
    ir = cell(body.format("count"), "parameter integer count = 2; real x;")
    for count in (-1, 0, 2, 5):
        found = at(ir, [0.5, 0.0], count=count)
        turns = 2 * max(0, count)
        assert found.resist[0] == pytest.approx(1.5**turns, rel=CLOSED_FORM)
        assert found.jacobian_resist[0, 0] == pytest.approx(turns * 1.5 ** (turns - 1), rel=CLOSED_FORM)
    by_voltage = cell(body.format("10*V(p, n)"), "real x;")
    assert at(by_voltage, [0.3, 0.0]).resist[0] == pytest.approx(1.3**6, rel=CLOSED_FORM)


def test_a_node_without_an_equation_is_held_at_0():
    ir = cell("I(p, n) <+ 1m*V(p, n) + V(lost);", "electrical lost, unused;")
    found = at(ir, [1.0, 0.0])
    assert np.linalg.matrix_rank(found.jacobian_resist[2:, 2:]) == len(ir.nodes) - 2
    assert current(ir, 1.0) == pytest.approx(1e-3)


def test_charges_add_up_wherever_ddt_stands():
    ir = cell(
        "i = ddt(1n*V(p, n)*V(p, n)); I(p, n) <+ i + 0.5*i; I(p, n) <+ -(2*ddt(1n*V(p, n)))/4;", "real i;"
    )
    found = at(ir, [2.0, 0.0])
    assert found.react[0] == pytest.approx(1.5 * 4e-9 - 1e-9, rel=CLOSED_FORM)
    assert found.jacobian_react[0, 0] == pytest.approx(1.5 * 4e-9 - 0.5e-9, rel=CLOSED_FORM)


def test_a_derivative_inside_an_expression_is_an_unknown():
    ir = cell("I(p, n) <+ V(p, n)*ddt(1n*V(p, n));")
    assert [node.kind for node in ir.nodes] == ["voltage", "voltage", "implicit"]
    found = at(ir, [2.0, 0.0, 3.0])
    assert found.resist[0] == pytest.approx(6.0, rel=CLOSED_FORM)  # V times the unknown
    assert found.resist[2], found.react[2] == pytest.approx((3.0, -2e-9), rel=CLOSED_FORM)


def test_ddx_also_of_ddx():
    ir = model(
        "module m(d, g, s); inout d, g, s; electrical d, g, s; real id, gm;"
        "analog begin id = V(g, s)*V(g, s)*V(g, s)*V(d, s); gm = ddx(id, V(g));"
        "I(d, s) <+ ddx(gm, V(g)); end endmodule"
    )
    found = at(ir, {"d": 0.5, "g": 0.7})
    assert found.resist[0] == pytest.approx(6 * 0.7 * 0.5, rel=CLOSED_FORM)
    assert found.jacobian_resist[0, 1] == pytest.approx(6 * 0.5, rel=CLOSED_FORM)


def test_voltage_sources_probes_and_instances():
    ir = model(
        "module res(a, b); inout a, b; electrical a, b; parameter real r = 1k from (0:inf);"
        "analog V(a, b) <+ r*I(a, b); endmodule"
        " module m(p, n); inout p, n; electrical p, n, k; parameter real rr = 2k;"
        "res #(.r(rr)) r1(p, k); res #(3k) r2(.a(k), .b(n)); endmodule"
    )
    assert current(ir, 1.0) == pytest.approx(1 / 5e3, rel=CLOSED_FORM)
    assert current(ir, 1.0, rr=7e3) == pytest.approx(1e-4, rel=CLOSED_FORM)


def test_the_last_kind_of_contribution_rules():
    ir = cell("if (V(p, n) > 0.5) V(p, n) <+ 100*I(p, n) + 0.1; else I(p, n) <+ 1m*V(p, n);")
    assert current(ir, 0.3) == pytest.approx(0.3e-3, rel=CLOSED_FORM)
    assert current(ir, 0.7) == pytest.approx(0.6 / 100, rel=CLOSED_FORM)


@pytest.mark.parametrize(("mode", "expected"), [(0, 1e-3), (1, 1 / 1010)])
def test_nodes_merge_where_a_parameter_says_so(mode: int, expected: float):
    ir = cell("if (mode == 0) V(p, k) <+ 0; else I(p, k) <+ V(p, k)/10; I(k, n) <+ V(k, n)/1k;",
              "electrical k; parameter integer mode = 0;")  # fmt: skip
    setup = run_setup(ir, {"mode": mode})
    assert len(setup.collapsed) == (mode == 0)
    if mode == 1:
        assert current(ir, 1.0, mode=mode) == pytest.approx(expected, rel=CLOSED_FORM)


def test_port_flow_counts_what_comes_in():
    ir = cell("I(p, k) <+ 1m*V(p, k); I(k, n) <+ 1m*V(k, n); I(p, n) <+ 0.25*I(<p>);", "electrical k;")
    assert current(ir, 1.0) == pytest.approx(0.5e-3 / 0.75, rel=CLOSED_FORM)


def test_an_indirect_contribution_solves_its_equation():
    ir = cell("V(o): V(o)*V(o)*V(o) + V(o) == V(p, n); I(p, n) <+ 1m*V(o);", "electrical o;")
    assert current(ir, 2.0) == pytest.approx(1e-3, rel=CLOSED_FORM)


def test_buses_genvars_and_ground():
    ir = cell(
        "for (i = 0; i < 3; i = i + 1) I(k[i], k[i + 1]) <+ V(k[i], k[i + 1])*1m*(i + 1);"
        "V(p, k[0]) <+ 0*I(p, k[0]); I(k[3], gnd) <+ 1m*V(k[3], gnd);",
        "electrical [0:3] k; electrical gnd; ground gnd; genvar i;",
    )
    assert current(ir, 1.0) == pytest.approx(1e-3 / (1 + 1 / 2 + 1 / 3 + 1), rel=CLOSED_FORM)


def test_parameters_ranges_and_aliases():
    ir = cell(
        "I(p, n) <+ c*($param_given(a) ? 10 : 1);",
        "parameter real a = 1 from (0:10] exclude 5 exclude (7:8); parameter real b = 2*a from [a:inf);"
        'localparam real c = a*b; aliasparam bb = b; parameter string mode = "lin" from \'{"lin", "exp"};',
    )
    assert at(ir, [0, 0]).resist[0] == 2.0
    assert at(ir, [0, 0], a=3.0).resist[0] == 180.0
    for given, expected in (
        ({"a": 5.0}, ("a",)), ({"a": 7.5}, ("a",)), ({"a": 7.0}, ()), ({"a": 0.0}, ("a",)),
        ({"a": 3.0, "b": 2.0}, ("b",)), ({"b": math.inf}, ("b",)), ({"mode": "log"}, ("mode",)),
    ):  # fmt: skip
        assert run_setup(ir, given).out_of_range == expected, given


def test_what_depends_on_parameters_alone_is_computed_once():
    ir = cell("k = exp(a)/a; I(p, n) <+ k*V(p, n);", "parameter real a = 2; real k;")
    assert {code.opcode for block in ir.evaluate.blocks for code in block.code} == {"fmul", "fneg"}


def test_a_side_not_taken_leaves_nothing_behind():
    ir = cell("if (mode == 1) begin q = exp(a); x = q*V(p, n); end else x = 1.0; I(p, n) <+ x;",
              "parameter integer mode = 0; parameter real a = 1; real q, x;")  # fmt: skip
    assert at(ir, [0.5, 0.0]).resist[0] == 1.0
    assert at(ir, [0.5, 0.0], mode=1).resist[0] == pytest.approx(0.5 * math.e, rel=CLOSED_FORM)


def test_idt_starts_at_its_initial_value_and_then_integrates():
    ir = cell("I(p, n) <+ idt(3*V(p, n), 0.25);")
    still = at(ir, [1.0, 0.0, 0.7])
    assert (still.resist[2], still.react[2]) == pytest.approx((0.45, 0.0))
    running = at(ir, [1.0, 0.0, 0.7], Conditions(integrating=True))
    assert (running.resist[2], running.react[2]) == pytest.approx((-3.0, 0.7))


@pytest.mark.parametrize(
    ("body", "declarations", "error", "message"),
    [
        (
            'if (V(p, n) > 0) s = "a"; I(p, n) <+ s == "a" ? 1 : 2;',
            "string s;",
            ModelError,
            "the text variable s is read before it is set",
        ),
        ("I(p, n) <+ y;", "", ParseError, "y is not declared"),
        ("I(p, n) <+ f(1);", "", ParseError, "function f is not known"),
        ("I(p, q) <+ 1;", "", ParseError, "q is not a net"),
        ("x = 1;", "parameter real x = 2;", ParseError, "x is not a variable: it cannot be set"),
        ("I(p, n) <+ (1 + 2;", "", ParseError, "'(' is not closed"),
        ("I(p, n) <+ 1 +;", "", ParseError, "unexpected ';': expected an expression"),
        ("I(p, n) = 1;", "", ParseError, "'=' cannot set a branch: write I(...) <+ ..."),
        ("I(p, n) <+ a[3];", "real a[0:2];", ParseError, "index 3 of a is outside [0:2]"),
        ("I(p, n) <+ ;", "", ParseError, "unexpected ';'"),
        ("x++; I(p, n) <+ x;", "real x;", ParseError, "'++' is not Verilog-A: write x = x + ..."),
        ("I(p, n) <+ 4'd16;", "", ParseError, "4'd16 does not fit its size"),
    ],
)
def test_refusals_name_the_place_and_the_reason(body: str, declarations: str, error: type, message: str):
    with pytest.raises(error) as raised:
        cell(body, declarations)
    assert message in str(raised.value)
    assert ".va:" in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        "if (V(p,n) > 0) g = tanh(7/k);",
        "if (V(p,n) > 0) begin if (b > 1) j = 7/k; else j = 3; g = 0.1*j; end",
        "if (V(p,n) > 0) g = (b > 7%k) ? b : 2*b;",
    ],
)
def test_what_may_fail_is_not_computed_where_control_does_not_come(body: str):
    """A division that k = 0 spoils stays behind its condition, and so does what is made of it."""
    ir = cell(
        f"g = 0.5; {body} I(p,n) <+ g*V(p,n);",
        "parameter real b = 0.5; parameter integer k = 2; real g; integer j;",
    )
    expected = {"tanh": math.tanh(3), "0.1": 0.3, "b : ": 1.0}
    (g,) = (value for mark, value in expected.items() if mark in body)
    assert current(ir, 2.0) == pytest.approx(2 * g, rel=1e-15)
    assert current(ir, -2.0, k=0) == -1.0
