"""Printer: one function of DeviceIR as C. Blocks become labels and jumps, phis assignments on the edges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from cosim.devices.ir import FUNCTIONS, SYMBOLS, Block, Branch, Constant, Function, Input, Jump
from cosim.devices.print_kept import C_TYPES
from cosim.text import Emitter, quote_c

__all__ = ["EXPRESSIONS", "print_function"]

EXPRESSIONS: dict[str, str] = {
    **{name: f"{name}({{0}})" for name in FUNCTIONS},
    **{name: f"{{0}} {sign} {{1}}" for name, sign in SYMBOLS.items()},
    "ln": "log({0})",
    "log": "log10({0})",
    "ln_positive": "cosim_ln_positive({0})",
    "nonzero": "cosim_nonzero({0}, {1})",
    "uniform": "cosim_uniform({0}, {1}, {2}, {3})",
    "pow_slope": "cosim_pow_slope({0}, {1}, {2})",
    "finite": "cosim_finite({0})",
    "frem": "fmod({0}, {1})",
    "pow": "pow({0}, {1})",
    "hypot": "hypot({0}, {1})",
    "atan2": "atan2({0}, {1})",
    "fneg": "-{0}",
    "ineg": "-{0}",
    "inot": "~{0}",
    "bnot": "!{0}",
    "idiv": "cosim_idiv({0}, {1}, &failed)",
    "irem": "cosim_irem({0}, {1}, &failed)",
    "ishl": "cosim_shl({0}, {1})",
    "ishr": "cosim_shr({0}, {1})",
    "clog2": "cosim_clog2({0})",
    "seq": "strcmp({0}, {1}) == 0",
    "sne": "strcmp({0}, {1}) != 0",
    "ifcast": "(double){0}",
    "bfcast": "(double){0}",
    "ficast": "cosim_round({0}, &failed)",
    "bicast": "(int32_t){0}",
    "ibcast": "{0} != 0",
    "fbcast": "{0} != 0.0",
    "simparam": "cosim_simparam(paras, {0}, {1})",
    "analysis": "cosim_analysis({0}, flags)",
    "collapse": "self->collapsed[{0}] = true",
    "fatal": "failed = true; cosim_say(handle, {0})",
    "out_of_range": "cosim_out_of_range({0}, result)",
}


def print_function(
    out: Emitter, function: Function, read: Callable[[Input], str], numbers: Mapping[str, int]
) -> None:
    """Declarations, then the blocks; control falls out at the end.

    read: the text of an input. numbers: parameter -> its number in the descriptor.
    """
    reported = {c.operands[0] for b in function.blocks for c in b.code if c.opcode == "out_of_range"}
    for constant in function.constants:
        if constant.value in reported:
            out.line(f"const uint32_t {constant.value} = {numbers[str(constant.literal)]};")
        else:
            out.line(f"const {C_TYPES[constant.type]} {constant.value} = {_literal(constant)};")
    for source in function.inputs:
        out.line(f"const {C_TYPES[source.type]} {source.value} = {read(source)};")
    known = {i.value for i in function.inputs} | {c.value for c in function.constants}
    for value, type_ in function.types().items():
        if value not in known:
            out.line(f"{C_TYPES[type_]} {value} = {'NULL' if type_ == 'string' else '0'};")
    _Blocks(out, function).print()


class _Blocks:
    def __init__(self, out: Emitter, function: Function) -> None:
        self.out = out
        self.blocks = {block.name: block for block in function.blocks}
        arrivals = Counter(target for block in function.blocks for target in block.successors())
        # a branch whose sides are empty and meet at once is a choice of values: block -> where they meet
        self.choices: dict[str, str] = {}
        for block in function.blocks:
            sides = (
                [self.blocks[name] for name in block.successors()] if isinstance(block.end, Branch) else []
            )
            meet = {side.end.target if isinstance(side.end, Jump) else None for side in sides}
            (target,) = meet if len(meet) == 1 else (None,)
            if target and all(_is_empty(side) and arrivals[side.name] == 1 for side in sides):
                self.choices[block.name] = target
        hidden = {side for name in self.choices for side in self.blocks[name].successors()}
        self.shown = [block for block in function.blocks if block.name not in hidden]

    def print(self) -> None:
        following = [*(block.name for block in self.shown[1:]), "end"]
        for block, after in zip(self.shown, following, strict=True):
            self.out.line(f"L_{block.name}:;")
            for code in block.code:
                text = EXPRESSIONS[code.opcode].format(*code.operands)
                self.out.line(f"{text};" if code.result is None else f"{code.result} = {text};")
            self.end(block, after)
        self.out.line("L_end:;")

    def end(self, block: Block, after: str) -> None:
        if block.name in self.choices:
            self.choose(block)
            self.go(self.choices[block.name], after)
        elif isinstance(block.end, Jump):
            self.edge(block.name, block.end.target, after)
        elif isinstance(block.end, Branch):
            with self.out.block(f"if ({block.end.condition}) {{", "} else {"):
                self.edge(block.name, block.end.true, "")
            with self.out.block("", "}"):
                self.edge(block.name, block.end.false, "")
        else:
            self.go("end", after)

    def choose(self, block: Block) -> None:
        assert isinstance(block.end, Branch)
        for phi in self.blocks[self.choices[block.name]].phis:
            values = dict(phi.incoming)
            true, false = values[block.end.true], values[block.end.false]
            self.out.line(f"{phi.result} = {block.end.condition} ? {true} : {false};")

    def edge(self, source: str, target: str, after: str) -> None:
        """Assign the phis of ``target`` at once, then jump."""
        phis = [(phi, dict(phi.incoming)[source]) for phi in self.blocks[target].phis]
        if {phi.result for phi, _ in phis}.isdisjoint(value for _, value in phis):
            for phi, value in phis:
                self.out.line(f"{phi.result} = {value};")
        else:  # the variables of a loop may change places
            with self.out.block("{", "}"):
                for phi, value in phis:
                    self.out.line(f"{C_TYPES[phi.type]} next_{phi.result} = {value};")
                for phi, _ in phis:
                    self.out.line(f"{phi.result} = next_{phi.result};")
        self.go(target, after)

    def go(self, target: str, after: str) -> None:
        if target != after:
            self.out.line(f"goto L_{target};")


def _is_empty(block: Block) -> bool:
    return not block.code and not block.phis and isinstance(block.end, Jump)


def _literal(constant: Constant) -> str:
    if constant.type == "string":
        return quote_c(str(constant.literal))
    if constant.type == "boolean":
        return "true" if constant.literal else "false"
    if constant.type == "integer":
        return f"INT32_C({constant.literal})" if int(constant.literal) > -(2**31) else "INT32_MIN"
    number = float(constant.literal)
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    return number.hex()
