"""Random Verilog-A modules: what compact models are made of.

Every module is smooth where it is evaluated: functions get arguments inside their domain, and nothing
divides by what may be 0. So two compilers have no excuse to differ, in values or in slopes. What the
judge (OpenVAF-Reloaded, 2026-08) cannot do is left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["write_module"]

_LITERALS = ["0.5", "2.0", "1m", "3", "0.1", "1.5", "-0.7", "25e-3", "1k"]
_TERMINALS = ["p", "n"]
_REALS = ["ra", "rb", "rc"]
_INTEGERS = ["ia", "ib"]
# functions of one argument, around what keeps them smooth and finite for every real argument
_SAFE = {
    "exp": "exp(tanh({0}))",
    "ln": "ln(1.0 + pow({0}, 2))",
    "log": "log(1.5 + ({0})*({0}))",
    "sqrt": "sqrt(0.25 + ({0})*({0}))",
    "sin": "sin({0})",
    "cos": "cos({0})",
    "tan": "tan(0.9*tanh({0}))",
    "asin": "asin(0.9*tanh({0}))",
    "acos": "acos(0.9*tanh({0}))",
    "atan": "atan({0})",
    "sinh": "sinh(tanh({0}))",
    "cosh": "cosh(tanh({0}))",
    "tanh": "tanh({0})",
    "asinh": "asinh({0})",
    "acosh": "acosh(1.5 + ({0})*({0}))",
    "atanh": "atanh(0.9*tanh({0}))",
    "abs": "abs({0})",
    "floor": "floor({0})",
    "negative": "(-({0}))",
}
_PAIRS = ["({0} + {1})", "({0} - {1})", "({0})*({1})", "({0})/(1.0 + pow({1}, 2))"]
_PAIRS += ["min({0}, {1})", "max({0}, {1})", "pow(0.5 + abs({0}), tanh({1}))", "(0.5 + abs({0}))**tanh({1})"]
_INTEGER_PAIRS = ["({0} + {1})", "({0} - {1})", "({0})*({1})", "({0})/(1 + abs({1}))", "({0})%(3 + abs({1}))"]
_INTEGER_PAIRS += ["(({0}) & ({1}))", "(({0}) | ({1}))", "(({0}) ^ ({1}))", "((abs({0}) % 9) << 2)"]
_COMPARISONS = ["<", ">", "<=", ">="]


@dataclass
class _Writer:
    """Draws the pieces of one module; ``nets`` and ``functions`` are what its text may name."""

    random: random.Random
    nets: list[str]
    functions: list[str] = field(default_factory=list)
    depth: int = 0

    def one(self, items: list[str]) -> str:
        return self.random.choice(items)

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    # --- expressions --------------------------------------------------------------------------

    def probe(self) -> str:
        first, second = self.one(self.nets), self.one([*self.nets, ""])
        return f"V({first})" if second in ("", first) else f"V({first},{second})"

    def real(self, size: int) -> str:
        if size <= 0:
            kind = self.random.randint(0, 9)
            if kind < 4:
                return self.probe()
            if kind < 6:
                return self.one(_REALS)
            return self.one(["a", "b"]) if kind < 8 else self.one(_LITERALS)
        kind = self.random.randint(0, 99)
        if kind < 45:
            return self.one(_PAIRS).format(self.real(size - 1), self.real(size - 2))
        if kind < 75:
            return _SAFE[self.one(list(_SAFE))].format(self.real(size - 1))
        if kind < 83:
            return f"({self.condition(1)} ? {self.real(size - 1)} : {self.real(size - 2)})"
        if kind < 90 and self.functions:
            return f"{self.one(self.functions)}({self.real(size - 2)}, {self.real(0)})"
        return self.integer(1) if kind < 95 else self.real(0)

    def integer(self, size: int) -> str:
        if size <= 0:
            return self.one([*_INTEGERS, "k", "2", "7", "-3"])
        return self.one(_INTEGER_PAIRS).format(self.integer(size - 1), self.integer(size - 1))

    def condition(self, size: int) -> str:
        if size > 0 and self.chance(30):
            return f"({self.condition(size - 1)} {self.one(['&&', '||'])} !({self.condition(size - 1)}))"
        if self.chance(30):
            return f"({self.integer(1)} {self.one([*_COMPARISONS, '==', '!='])} {self.integer(0)})"
        return f"({self.real(1)} {self.one(_COMPARISONS)} {self.real(1)} + 0.0123)"

    # --- statements ---------------------------------------------------------------------------

    def block(self, most: int) -> str:
        return " ".join(["begin", *(self.statement() for _ in range(self.random.randint(1, most))), "end"])

    def statement(self) -> str:
        kinds = [self.assignment] * 5 + [self.integer_assignment] * 2
        if self.depth < 2:
            kinds += [self.if_else, self.if_else, self.for_loop, self.while_loop]
        self.depth += 1
        text = kinds[self.random.randint(0, len(kinds) - 1)]()
        self.depth -= 1
        return text

    def assignment(self) -> str:
        # tanh keeps loops from running away
        return f"{self.one(_REALS)} = {self.real(2)};" if self.depth < 2 else f"ra = tanh({self.real(1)});"

    def integer_assignment(self) -> str:
        return f"{self.one(_INTEGERS)} = ({self.integer(1)}) % 50;"

    def if_else(self) -> str:
        other = f" else {self.block(2)}" if self.chance(60) else ""
        return f"if ({self.condition(1)}) {self.block(2)}{other}"

    def for_loop(self) -> str:
        counter = f"i{self.depth}"
        last = self.one(["3", "k"])
        return f"for ({counter} = 0; {counter} < {last}; {counter} = {counter} + 1) {self.block(1)}"

    def while_loop(self) -> str:
        counter = f"i{self.depth}"
        body = f"{counter} = {counter} + 1; rb = 0.5*rb + tanh({self.real(1)});"
        return f"{counter} = 0; while ({counter} < 4 && abs(rb) < 1.5) begin {body} end"

    # --- contributions ------------------------------------------------------------------------

    def flow(self, *, charge: bool = True) -> str:
        first, second = self.one(self.nets), self.one(self.nets)
        access = f"I({first})" if first == second else f"I({first},{second})"
        text = f"{access} <+ 1e-3*({self.real(2)});"
        if charge and self.chance(40):
            factor = self.one(["", "a*", "-2.0*"])
            # the judge drops a charge that no voltage changes
            text += f" {access} <+ {factor}ddt(1e-12*(3.7*V(p,n) + {self.real(2)}));"
        return text

    def conditional_flow(self) -> str:
        # an operator such as ddt may not depend on a condition that changes
        return f"if ({self.condition(1)}) {self.flow(charge=False)} else {self.flow(charge=False)}"

    def function(self, name: str) -> str:
        body = f"{name} = {_SAFE[self.one(list(_SAFE))].format('x')}*y + u;"
        declarations = "input x, y; real x, y, u;"
        return f"analog function real {name}; {declarations} begin u = tanh(x - y); {body} end endfunction"


def write_module(name: str, source: random.Random) -> str:
    """The text of a module ``name`` of the ports p and n, the inner nodes x and y, parameters a, b and k."""
    writer = _Writer(source, [*_TERMINALS, "x", "y"][: source.randint(2, 4)])
    inner = [net for net in writer.nets if net not in _TERMINALS]
    functions = [writer.function(f"f{k}") for k in range(source.randint(0, 2))]
    writer.functions = [f"f{k}" for k in range(len(functions))]
    statements = [f"{name} = {writer.one(_LITERALS)};" for name in _REALS]
    statements += [f"{name} = {k};" for k, name in enumerate(_INTEGERS)]
    statements += [writer.statement() for _ in range(source.randint(1, 6))]
    # every inner node has a path of its own, so that its equation is one
    statements += [f"I({net},n) <+ 1e-3*V({net},n);" for net in inner]
    flows = [writer.flow, writer.flow, writer.conditional_flow]
    statements += [flows[source.randint(0, 2)]() for _ in range(source.randint(1, 3))]
    nets = f"electrical {', '.join(inner)};" if inner else ""
    lines = [
        f"module {name}(p, n); inout p, n; electrical p, n; {nets}",
        "parameter real a = 1.2; parameter real b = -0.4; parameter integer k = 2 from [0:5];",
        f"real {', '.join(_REALS)}; integer {', '.join(_INTEGERS)}, i0, i1, i2, i3;",
        *functions,
        "analog begin",
        *("  " + statement for statement in statements),
        "end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"
