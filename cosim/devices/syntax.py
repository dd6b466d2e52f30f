"""The syntax tree of a Verilog-A source: what the checks need, and no more.

Declarations, statements, and which names an expression reads; operators and numbers are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cosim.devices.tokens import Token

__all__ = [
    "Assign",
    "Block",
    "Branching",
    "Call",
    "Contribute",
    "Declaration",
    "Event",
    "Expression",
    "Function",
    "Loop",
    "Module",
    "Name",
    "Null",
    "Operation",
    "Parameter",
    "Statement",
]


@dataclass(frozen=True, slots=True)
class Name:
    token: Token


@dataclass(frozen=True, slots=True)
class Call:
    token: Token
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """Operands in the order of evaluation; only the first ``sure`` are evaluated for certain."""

    operands: tuple[Expression, ...]
    operators: tuple[str, ...]
    sure: int


Expression = Name | Call | Operation | None  # None: a literal


@dataclass(frozen=True, slots=True)
class Declaration:
    """One variable; ``initial`` tells whether it has an initialiser."""

    token: Token
    initial: bool
    value: Expression = None


@dataclass(frozen=True, slots=True)
class Null:
    token: Token


@dataclass(frozen=True, slots=True)
class Assign:
    target: Token
    value: Expression


@dataclass(frozen=True, slots=True)
class Contribute:
    """A contribution, or a call as a statement: what its expressions read."""

    token: Token
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Block:
    declarations: tuple[Declaration, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Branching:
    """``if`` (two arms) and ``case`` (many). ``text`` is the condition without white space."""

    condition: Expression
    labels: tuple[Expression, ...]
    arms: tuple[Statement, ...]
    complete: bool
    text: str


@dataclass(frozen=True, slots=True)
class Loop:
    """``for`` and ``while``; ``runs`` when the first test is certainly true."""

    token: Token
    before: Statement
    condition: Expression
    body: Statement
    after: Statement
    runs: bool


@dataclass(frozen=True, slots=True)
class Event:
    """``@(initial_step) body``, ``analog initial body``; ``plain`` when there is no list of analyses."""

    token: Token
    kind: str
    plain: bool
    body: Statement


Statement = Null | Assign | Contribute | Block | Branching | Loop | Event


@dataclass(frozen=True, slots=True)
class Function:
    token: Token
    directions: tuple[str, ...]
    arguments: tuple[Token, ...]
    block: Block


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    name: str
    token: Token
    type: str
    default: str
    ranges: str
    attributes: dict[str, str]


@dataclass(kw_only=True, slots=True)
class Module:
    name: str
    token: Token
    parameters: list[Parameter] = field(default_factory=list)
    grounds: list[str] = field(default_factory=list)
    variables: list[Declaration] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    initial: list[Statement] = field(default_factory=list)
    analog: list[Statement] = field(default_factory=list)
