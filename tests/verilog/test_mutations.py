"""Models with tokens and characters lost, doubled and swapped: a model or an error with its place, soon."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from cosim.errors import CosimError
from cosim.shipped import VERILOG_A
from cosim.verilog.compile import compile_verilog
from cosim.verilog.tokens import tokenize
from verilog.host import cell, model

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/data/va", "tests/verilog/classic", "examples")
SOURCES = [
    path.read_text()
    for path in sorted(
        [
            *VERILOG_A.glob("*/*.va"),
            *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.va")),
        ]
    )
]
WORDS = """
    begin end ( ) '{ } { <+ = == : , ; ? if else case endcase for while repeat generate genvar analog inf 0 -1
    1e400 99999999999 1/0 8'hff % << ** && ddt idt idtmod ddx limexp $limit V(p) I(<p>) "x" `M_PI `ifdef
    `define $fatal $table_model laplace_nd transition slew last_crossing $random $rdist_normal @(initial_step)
    branch electrical ground integer string real parameter localparam aliasparam from exclude [ ] [0:3] # .
""".split()  # noqa: SIM905  one line for each step is easier to read and to add to


def mutated(text: str, generator: random.Random, pool: list[str]) -> str:
    for _ in range(generator.choice([1, 1, 1, 2, 4])):
        words = [token.text for token in tokenize(text, "m.va")]
        i, j = (generator.randrange(len(words)) for _ in range(2))
        match generator.randrange(8):
            case 0:
                del words[i]
            case 1:
                words.insert(j, words[i])
            case 2:
                words[i], words[j] = words[j], words[i]
            case 3:
                words[i] = generator.choice(pool)
            case 4:
                words.insert(i, generator.choice(pool))
            case 5:
                del words[i : i + generator.randrange(1, 20)]
            case kind:
                joined = "".join(words)
                at = generator.randrange(len(joined))
                other = chr(generator.randrange(1, 0x2000)) if kind == 6 else ""
                words = [joined[:at], other, joined[at + 1 :]]
        text = "".join(words) or ";"
    return text


def compile_mutants(folder: Path, first: int, count: int) -> int:
    """How many mutants are models; each other one is an error of ours with file and line."""
    pool = [
        token.text for text in SOURCES for token in tokenize(text, "") if not token.is_trivia
    ] + WORDS * 20
    path, models = folder / "m.va", 0
    for seed in range(first, first + count):
        generator = random.Random(seed)
        path.write_text(mutated(generator.choice(SOURCES), generator, pool), encoding="utf-8")
        start = time.perf_counter()
        said = str(path)
        try:
            compile_verilog(path)
            models += 1
        except CosimError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"mutant {seed}: {error!r}") from error
        assert str(path) in said, f"mutant {seed}: no place in {said!r}"
        assert time.perf_counter() - start < 10, f"mutant {seed} takes too long"
    return models


def test_a_hundred_mutants(tmp_path: Path):
    assert 0 < compile_mutants(tmp_path, 0, 100) < 100


@pytest.mark.slow
def test_thousands_of_mutants(tmp_path: Path):
    compile_mutants(tmp_path, 1000, 4000)


TOO_LARGE = {
    "an endless loop": (
        "for (k = 0; k < 4; k = +1) x = x + V(p, n); I(p, n) <+ x;", "integer k; real x;",
        "va:4: this loop never ends",
    ),
    "macros that double": (
        "I(p, n) <+ " + "`D(" * 30 + "1" + ")" * 30 + ";", "\n`define D(x) x+x\n", "more than 500000 words"
    ),
    "macros in macros": (
        "I(p, n) <+ `A0 1;",
        "\n" + "".join(f"`define A{k} `A{k + 1} `A{k + 1}\n" for k in range(40)) + "`define A40 1+\n",
        "more than 200000 uses of macros",
    ),
    "an array": ("I(p, n) <+ a[5];", "real a[0:100000000];", "a has 100000001 elements"),
    "a bus": ("I(p, n) <+ 1;", "electrical [0:100000000] k;", "k has 100000001 elements"),
    "a replication": ("I(p, n) <+ 1;", "parameter real b[0:1] = '{100000000{1.0}};", "more than 20000"),
    "replications": (
        "I(p, n) <+ 1;", "parameter real b[0:1] = '{999{'{999{'{999{1}}}}}};", "more than 20000"
    ),
    "nested vectors": (
        "I(p, n) <+ 1;", "parameter real b[0:1] = " + "'{" * 500 + "}" * 500 + ";", "150 deep"
    ),
    "calls": ("I(p, n) <+ " + "sin(" * 5000 + "1" + ")" * 5000 + ";", "", "nested more than 150 deep"),
    "conditions": ("if (V(p, n) > 0) " * 5000 + "I(p, n) <+ 1;", "", "nested more than"),
    "a chain of else if": (
        "".join(f"if (V(p, n) > {k}) I(p, n) <+ {k}; else " for k in range(1000)) + ";",
        "", "nested more than",
    ),
    "arms": (
        "k = V(p, n); case (k) " + "".join(f"{j}: x = {j};" for j in range(1000)) + " endcase I(p, n) <+ x;",
        "integer k; real x;", "nested more than",
    ),
    "functions": (
        "I(p, n) <+ f0(V(p, n));",
        "".join(
            f"analog function real f{k}; input x; real x; f{k} = f{k + 1}(x) + f{k + 1}(x + 1); endfunction "
            for k in range(30)
        ) + "analog function real f30; input x; real x; f30 = x; endfunction",
        "more than 50000 statements",
    ),
}  # fmt: skip


LONG = ("functions", "macros that double", "macros in macros")  # a few seconds until the limit is met


@pytest.mark.parametrize("name", [name for name in TOO_LARGE if name not in LONG])
def test_what_is_too_large_or_too_deep_is_told(name: str):
    body, declarations, message = TOO_LARGE[name]
    with pytest.raises(CosimError, match=message):
        cell(body, declarations)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_what_doubles_at_each_step_is_told(name: str):
    body, declarations, message = TOO_LARGE[name]
    with pytest.raises(CosimError, match=message):
        cell(body, declarations)


def test_modules_within_modules_are_counted():
    chain = "".join(
        f"module m{k}(p, n); inout p, n; electrical p, n; m{k + 1} a(p, n); endmodule " for k in range(100)
    )
    with pytest.raises(CosimError, match="50 within one another"):
        model(chain + "module m100(p, n); inout p, n; electrical p, n; analog I(p, n) <+ V(p, n); endmodule")


@pytest.mark.parametrize("expression", ['-"x"', '+"x"', '~"x"', 'abs("x")', '2 ** "x"', "-s"])
def test_a_text_is_no_number(expression: str):
    with pytest.raises(CosimError, match=r"va:5: a string stands where a number is needed"):
        cell(f"I(p, n) <+ {expression};", '\nparameter string s = "q";')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Vd(p): V(p, n) == 0;", "Vd is not an access function: '<\\+' and ':' need"),
        ("@(initial_step) V(p): V(p, n) == 0;", "a contribution inside an event"),
    ],
)
def test_an_indirect_contribution_has_a_branch(body: str, message: str):
    with pytest.raises(CosimError, match=message):
        cell(body)
