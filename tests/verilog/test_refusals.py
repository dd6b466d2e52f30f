"""What the front end forgives, with a note, and what it refuses, with the place and the remedy."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cosim
from cosim.devices.interp import run_setup
from cosim.devices.ir import Parameter
from cosim.devices.print_c import print_c
from cosim.errors import CosimError, ModelError, ParseError
from cosim.verilog.compile import compile_verilog
from cosim.verilog.refusals import REMEDIES
from cosim.verilog.tokens import tokenize
from tolerances import LONG_SUM
from verilog.host import current_of, module, write

FUNCTION = "analog function real f; input a; output b; real a, b; begin b = a; f = 2*a; end endfunction"

# --- parameters --------------------------------------------------------------------------------


def test_parameters_as_they_are_declared(tmp_path: Path):
    text = module(
        parameter="real r = 2.0 from (0:inf) exclude 1; "
        '(* desc="count", type = "instance", units="" *) '
        'parameter integer k = 3, l = k + 1; parameter string s = "a"; parameter u = 4; '
        "localparam real loc = 1; "
        'aliasparam R2 = r; (* units="V" *) (* desc="volts" *) parameter real v = 1'
    )
    assert compile_verilog(write(tmp_path, text)).parameters == (
        Parameter("r", "real", False, range="(0:inf) exclude 1", default=2.0, aliases=("R2",)),
        Parameter("k", "integer", True, description="count", default=3),
        Parameter("l", "integer", True, description="count", default=None),
        Parameter("s", "string", False, default="a"),
        Parameter("u", "integer", False, default=4),
        Parameter("v", "real", False, units="V", description="volts", default=1.0),
    )


@pytest.mark.parametrize(
    ("slip", "plain"),
    [
        ("real r = 2 from (0,inf)", "real r = 2 from (0:inf)"),
        ("real r = 2 from [0, 10] exclude (3,4)", "real r = 2 from [0:10] exclude (3:4)"),
        ("real r = 2 from (-inf:+inf)", "real r = 2 from (-inf:inf)"),
        ("real r = .5", "real r = 0.5"),
        ("real r = 1.e1", "real r = 1.0e1"),
        ('real r = 2 (* desc="x" *) from (0:inf)', '(* desc="x" *) parameter real r = 2 from (0:inf)'),
        ('real r = 2 from (0:inf) (* desc="x" *)', '(* desc="x" *) parameter real r = 2 from (0:inf)'),
        ('real (* desc="x" *) r = 2 from (0:inf)', '(* desc="x" *) parameter real r = 2 from (0:inf)'),
        (
            'real r = 2 (* desc="x" units="V" *), q = 3 (* units="A" *)',
            '(* desc="x", units="V" *) parameter real r = 2; (* units="A" *) parameter real q = 3',
        ),
    ],
)
def test_parameter_slips(tmp_path: Path, slip: str, plain: str):
    """Bounds of an interval are compared by what they let through: their text is the author's."""
    plain = plain if plain.startswith("(*") else f"parameter {plain}"
    models = [
        compile_verilog(write(tmp_path, module(parameter="real x = 0").replace("parameter real x = 0", text)))
        for text in (f"parameter {slip}", plain)
    ]
    told = [[(p.name, p.units, p.description, p.default) for p in model.parameters] for model in models]
    assert told[0] == told[1]
    for value in (-1e300, -1.0, 0.0, 1e-300, 2.0, 3.0, 3.5, 4.0, 10.0, 10.5, 1e300):
        outside = [run_setup(model, {"r": value}).out_of_range for model in models]
        assert outside[0] == outside[1], value


# --- what is forgiven ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slip", "plain"),
    [
        ("end;\nendmodule", "end\nendmodule"),
        ("end\nendmodule : m", "end\nendmodule"),
        ("macromodule m(", "module m("),
    ],
)
def test_module_slips(tmp_path: Path, slip: str, plain: str):
    text = module()
    assert plain in text
    assert current_of(tmp_path, text.replace(plain, slip)) == current_of(tmp_path, text) == 0.25


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("if (r > 1) begin x = .5; end; else x = 7; I(p, n) <+ x;", 0.5),
        ("begin real z; z = 3; x = z; end I(p, n) <+ x;", 3),
        ("begin : b x = 3; end : b I(p, n) <+ x;", 3),
        ("begin : b parameter real q = 4; x = q; end I(p, n) <+ x;", 4),
        ('@(initial_step or initial_step("tran")) x = 3*r; I(p, n) <+ x;', 6),
        ('I(p, n) <+ $limit(V(p, n), "pnjlim", .026, 1)*2;', 1),
        ('x = 1; if (V(p, n) > 0) $strobe("v %g, (%g)", V(p, n), x); else x = 2; I(p, n) <+ x;', 1),
        ('$display; x = 1; $monitor(""); @(final_step) $strobe("end"); I(p, n) <+ x;', 1),
        ("x = 1; repeat (3) x = 2*x; I(p, n) <+ x;", 8),
        ("x = 1; generate x = 5; endgenerate I(p, n) <+ x;", 5),
        ("I(p, n) <+ V(p, n)*2 + white_noise(1) + flicker_noise(1, 2);", 1),
    ],
)
def test_statement_slips(tmp_path: Path, body: str, expected: float):
    assert current_of(tmp_path, module(body, "real x;")) == expected


def test_parameters_in_the_header(tmp_path: Path):
    text = module("I(p, n) <+ z;").replace("m(p, n);", "m #(parameter real z = 1) (p, n);")
    assert current_of(tmp_path, text) == 1.0
    assert current_of(tmp_path, text, z=3.0) == 3.0


@pytest.mark.parametrize(
    ("body", "notes"),
    [
        ("$strobe(V(p));\nI(p, n) <+ V(p, n);", ["6: $strobe is dropped: nothing is printed during a solve"]),
        ('I(p, n) <+ $limit(V(p, n), "pnjlim", 1, 2);', ["6: $limit is taken as its first argument"]),
        (
            "I(p, n) <+ white_noise(1)\n + V(p, n);",
            ["6: white_noise is left out: there is no noise analysis"],
        ),
        (
            'I(p, n) <+ ac_stim("ac", 1);',
            ["6: ac_stim is left out: give the stimulus to a source outside the model"],
        ),
        ("if (r > 1) begin end; else ; I(p, n) <+ 1;", ["6: ';' between 'end' and 'else': ignored"]),
    ],
)
def test_what_is_dropped_is_noted(tmp_path: Path, body: str, notes: list[str]):
    found = compile_verilog(write(tmp_path, module(body))).notes
    assert [note.split("m.va:")[1] for note in found] == notes


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REMEDIES))
def test_functions_that_are_refused(tmp_path: Path, name: str):
    called = name.replace("*", "nd")
    text = f"I(p, n) <+ 0;\nx = {called}(V(p), 1, 1);"
    with pytest.raises(ModelError) as caught:
        compile_verilog(write(tmp_path, module(text, "real x;")))
    assert str(caught.value) in (
        f"{tmp_path}/m.va:7: {called} {REMEDIES[name]}",
        f"{tmp_path}/m.va:7: {called}: {REMEDIES[name]}",
    )


REFUSED = [
    ("@(posedge p) x = 1;", r"'posedge' is digital Verilog: write @\(cross\("),
    ("V(p, n) = 1;", r"'=' cannot set a branch: write V\(\.\.\.\) <\+"),
    ("x[0] = 1;", "x is not an array"),
    ("x = V(p[1]);", "p is not a bus"),
    ("casex (1) 1: x = 1; endcase", "'casex' is digital Verilog: write 'case'"),
    ("x = top.y;", "hierarchical names are not supported: declare the quantity in this module"),
    ("@(initial_step) I(p, n) <+ 1;", "a contribution inside an event: set a variable there"),
    ("x = nothing(1);", "function nothing is not known"),
    ("x = y;", "y is not declared"),
    ("x = 'd;", "character"),
]


@pytest.mark.parametrize(("statement", "message"), REFUSED, ids=[statement for statement, _ in REFUSED])
def test_refused_statements(tmp_path: Path, statement: str, message: str):
    with pytest.raises(CosimError, match=rf"m\.va:7: {message}"):
        compile_verilog(write(tmp_path, module(f"I(p, n) <+ 0;\n{statement}", "real x;")))


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("other #(.r(1)) o1(p, n);", "module other is not in this file: include the file that has it"),
        ("reg w;", "'reg' is digital Verilog: write the model as an analog block"),
        ("always x = 1;", "'always' is digital Verilog"),
        ("branch (p, n) b[0:2];", "arrays of branches are not supported: name each branch"),
        ("optical o;", "discipline optical is not known: include the file that declares it"),
        ("real r;", "r is declared twice"),
    ],
)
def test_refused_declarations(tmp_path: Path, declaration: str, message: str):
    with pytest.raises(CosimError, match=rf"m\.va:4: .*{message}"):
        compile_verilog(write(tmp_path, module(declarations=declaration)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(p, n) <+ ;", r"m\.va:6: unexpected ';': expected an expression"),
        ("I(p, n) + 1;", r"m\.va:6: unexpected '\+': expected '=', '<\+' or ';'"),
        ("x + 1", r"m\.va:6: unexpected '\+'"),
        ("if x = 1;", r"m\.va:6: unexpected 'x': expected '\('"),
        ('$strobe("open);', r"m\.va:6: string is not closed on its line"),
        ("x = 1; /* open", r"m\.va:6: comment /\* is not closed"),
        ("x = é;", r"m\.va:6: character 'é' has no meaning here"),
        ("begin", r"m\.va:8: unexpected 'endmodule': expected a statement"),
        ("x = 1\nI(p, n) <+ x;", r"m\.va:6: ';' is missing behind '1'"),
        ("x = max(1, 2;", r"m\.va:6: unexpected ';': expected ',' or '\)'"),
        ("x = " + "abs(" * 300 + "1" + ")" * 300 + ";", r"m\.va:6: nested more than 150 deep"),
    ],
)
def test_syntax_errors(tmp_path: Path, text: str, message: str):
    with pytest.raises(ParseError, match=message):
        compile_verilog(write(tmp_path, module(text, "real x;")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("endmodule\n", "", r"m\.va:2: module m without endmodule"),
        ("module m(p, n);", "module m(p, n", r"m\.va:2: unexpected 'inout': expected ',' or '\)'"),
        ("real r = 2.0;", "real r = 2.0", r"m\.va:3: ';' is missing behind '2\.0'"),
        ("electrical p, n;", "electrical p, n", r"m\.va:2: ';' is missing behind 'n'"),
        ("electrical p, n;", "electrical p, n; branch (p, n) b", r"m\.va:2: ';' is missing behind 'b'"),
        ("endmodule\n", "endmodule\nI(p)", r"m\.va:9: unexpected 'I': expected a module"),
    ],
)
def test_module_errors(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(ParseError, match=message):
        compile_verilog(write(tmp_path, module().replace(old, new)))


# --- arbitrary input ----------------------------------------------------------------------------

SEED_TEXT = module(
    "if (V(p) > 0) x = 1; else begin : b real q; q = f(x0, x); x = q; end\n@(initial_step) x0 = 1;\n"
    'for (k = 0; k < 3; k = k + 1) x = x + `F(k);\n$strobe("%g", x);\nI(p, n) <+ $limit(V(p), "a")*x;',
    f"`define F(a) (a*2)\n`ifdef Z\nreal no[0:1];\n`endif\nreal x, x0; integer k;\n{FUNCTION}",
    'real r = 1.e3 from (0,inf) (* desc="d" units="V" *), s = 2',
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mutated_sources_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, seed: int):
    """Tokens dropped, doubled, swapped: a source is compiled, or refused with one of our errors."""
    draw = random.Random(seed)
    texts = [token.text for token in tokenize(SEED_TEXT, "f")]
    for _ in range(draw.randint(1, 4)):
        a, b = draw.randrange(len(texts)), draw.randrange(len(texts))
        match draw.randrange(4):
            case 0:
                del texts[a]
            case 1:
                texts.insert(a, texts[b])
            case 2:
                texts[a], texts[b] = texts[b], texts[a]
            case _:
                texts[a] = draw.choice(
                    ["(", ")", "`", "(*", "*)", '"', "begin", "end", ";", "\\", "é", "/*", "@"]
                )
    path = write(tmp_path_factory.mktemp("mutated"), "".join(texts))
    try:
        compile_verilog(path)
    except CosimError as error:
        assert path.name in str(error)  # noqa: PT017  most are refused


LONG = {
    "sum": "I(p, n) <+ 1e-9*(" + " + ".join(["V(p, n)"] * 8000) + ");",
    "signs": "I(p, n) <+ 8e-6*(" + "- " * 8000 + "V(p, n));",
    "parentheses": f"I(p, n) <+ 8e-6*{'(' * 8000}V(p, n){')' * 8000};",
    "statements": "v = 0; " + "v = v + V(p, n); " * 8000 + "I(p, n) <+ 1e-9*v;",
}


@pytest.mark.parametrize(
    "kind",
    ["sum", "parentheses", *(pytest.param(k, marks=pytest.mark.slow) for k in ("signs", "statements"))],
)
def test_8000_terms_are_evaluated(kind: str, tmp_path: Path):
    """In torch with its gradient; an overflow of the stack would end this process."""
    path = write(tmp_path, module(LONG[kind], "real v;"))
    device = cosim.Device(path)
    volts = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    device.current(volts).backward()
    assert float(device.current_and_slope(volts.detach(), None)[1]) == pytest.approx(8e-6, rel=LONG_SUM)
    assert float(volts.grad) == pytest.approx(8e-6, rel=LONG_SUM)  # type: ignore[arg-type]  # it has one
    print_c(device.ir, device.ir.parameter_names)


def test_long_chains_are_compiled_quickly(tmp_path: Path):
    """What is known of one condition must not double with each ``if``."""
    chain = "".join(f"if (r > {k}) x = {k}; else " for k in range(90)) + "x = 0;"
    assert current_of(tmp_path, module(f"{chain} I(p, n) <+ x;", "real x;"), r=50.5) == 0
