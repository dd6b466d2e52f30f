"""The instruction dictionaries of openvaf-py, as one Function of the IR; identities become aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from cosim.devices import ir
from cosim.devices.ir import Constant, Function, Input, Instruction
from cosim.devices.pruning import prune
from cosim.errors import ModelError

__all__ = ["Flow", "constants_of", "value_name"]

_IDENTITY = "optbarrier"  # keeps OpenVAF's own simplifier from merging values

Call: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Instruction | str | None]


class Flow:
    """The instructions of one function, translated; identities become aliases."""

    def __init__(
        self, mir: Mapping[str, Any], inputs: list[Input], constants: dict[str, Constant], call: Call
    ) -> None:
        self.constants = constants
        self._inputs = inputs
        self._alias: dict[str, str] = {}
        self._order: list[str] = []
        self._phis: dict[str, list[Mapping[str, Any]]] = {name: [] for name in mir["blocks"]}
        self._code: dict[str, list[Instruction]] = {name: [] for name in mir["blocks"]}
        self._end: dict[str, ir.Jump | ir.Branch] = {}
        self._entry = mir["instructions"][0]["block"]
        for code in mir["instructions"]:
            self._translate(code, call, mir.get("function_decls", {}))

    def _translate(self, code: Mapping[str, Any], call: Call, declared: Mapping[str, Any]) -> None:
        block, opcode = code["block"], code["opcode"]
        if opcode == "br":
            self._end[block] = ir.Branch(code["condition"], code["true_block"], code["false_block"])
        elif opcode == "jmp":
            self._end[block] = ir.Jump(code["destination"])
        elif opcode == "phi":
            self._phis[block].append(code)
        elif opcode == _IDENTITY:
            self._alias[code["result"]] = code["operands"][0]
        elif opcode == "call":
            made = call(code, declared)
            if isinstance(made, Instruction):
                self._code[block].append(made)
            elif made is not None and code.get("result") is not None:
                self._alias[code["result"]] = made
        else:
            self._code[block].append(Instruction(code["result"], opcode, tuple(code["operands"])))

    def resolve(self, value: str) -> str:
        while value in self._alias:
            value = self._alias[value]
        return value

    def entry(self, mir_name: str) -> str | None:
        """The value of ``mir_N``; None where it is the constant 0."""
        value = self.resolve(value_name(mir_name))
        constant = self.constants.get(value)
        return None if constant is not None and constant.literal == 0.0 else value

    def function(self, roots: Iterable[str]) -> Function:
        """The function, without what no root and no effect needs."""
        names = [self._entry, *(name for name in self._code if name != self._entry)]
        reachable = self._reachable()
        raw = [self._block(name, reachable) for name in names if name in reachable]
        blocks, needed = prune(raw, [self.resolve(root) for root in roots])
        types = self._types(blocks)
        typed = tuple(
            replace(block, phis=tuple(replace(phi, type=types[phi.result]) for phi in block.phis))
            for block in blocks
        )
        return Function(
            tuple(i for i in self._inputs if i.value in needed),
            tuple(c for c in self.constants.values() if c.value in needed),
            typed,
        )

    def _reachable(self) -> set[str]:
        found, pending = {self._entry}, [self._entry]
        while pending:
            end = self._end.get(pending.pop())
            targets = (
                () if end is None else (end.target,) if isinstance(end, ir.Jump) else (end.true, end.false)
            )
            pending.extend(t for t in targets if t not in found)
            found.update(targets)
        return found

    def _block(self, name: str, reachable: set[str]) -> ir.Block:
        phis = tuple(
            ir.Phi(
                code["result"],
                "real",  # set in function(), where every operand is known
                tuple(
                    (p["block"], self.resolve(p["value"]))
                    for p in code["phi_operands"]
                    if p["block"] in reachable
                ),
            )
            for code in self._phis[name]
        )
        code = tuple(
            Instruction(c.result, c.opcode, tuple(self.resolve(v) for v in c.operands))
            for c in self._code[name]
        )
        end = self._end.get(name, ir.Return())
        if isinstance(end, ir.Branch):
            end = ir.Branch(self.resolve(end.condition), end.true, end.false)
        return ir.Block(name, phis, code, end)

    def _types(self, blocks: tuple[ir.Block, ...]) -> dict[str, ir.Type]:
        types: dict[str, ir.Type] = {i.value: i.type for i in self._inputs}
        types |= {c.value: c.type for c in self.constants.values()}
        for block in blocks:
            for code in block.code:
                opcode = ir.OPCODES.get(code.opcode)
                if opcode is None:
                    raise ModelError(f"openvaf opcode {code.opcode!r} is not in the opcode table")
                if code.result is not None and opcode.result is not None:
                    types[code.result] = opcode.result
        pending = [phi for block in blocks for phi in block.phis]
        while pending:
            known = [phi for phi in pending if any(v in types for _, v in phi.incoming)]
            if not known:
                raise ModelError(f"phi {pending[0].result} has no typed operand")
            for phi in known:
                types[phi.result] = next(types[v] for _, v in phi.incoming if v in types)
            pending = [phi for phi in pending if phi.result not in types]
        return types


def value_name(mir_name: str) -> str:
    return "v" + mir_name.removeprefix("mir_")


def constants_of(mir: Mapping[str, Any], strings: Mapping[str, str]) -> Iterator[tuple[str, Constant]]:
    kinds: tuple[tuple[str, ir.Type], ...] = (
        ("constants", "real"),
        ("int_constants", "integer"),
        ("bool_constants", "boolean"),
    )
    for key, type_ in kinds:
        for value, literal in mir[key].items():
            yield value, Constant(value, type_, literal)
    for value, literal in strings.items():
        yield value, Constant(value, "string", literal)
