"""The syntax tree of a Verilog-A source (Verilog-AMS LRM 2.4, the analog subset)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cosim.verilog.tokens import Token

__all__ = [
    "AnalogFunction",
    "Argument",
    "Assign",
    "Binary",
    "Block",
    "BranchDeclaration",
    "Call",
    "CallStatement",
    "Case",
    "Choice",
    "Contribute",
    "Discipline",
    "Event",
    "Expression",
    "For",
    "If",
    "Indexed",
    "Indirect",
    "Instance",
    "Interval",
    "Module",
    "Name",
    "Net",
    "Null",
    "Number",
    "Parameter",
    "PortFlow",
    "Range",
    "Repeat",
    "Source",
    "Statement",
    "Text",
    "Unary",
    "Variable",
    "Vector",
    "While",
]


# --- expressions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A literal; an ``int`` where the text has no point, exponent or scale factor."""

    token: Token
    value: float | int


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    token: Token
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    token: Token


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """``name[index]``, also of several dimensions."""

    token: Token
    index: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function, system function, analog operator or access function; None for an empty argument."""

    token: Token
    arguments: tuple[Expression | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PortFlow:
    """``I(<port>)``: the current through a port."""

    token: Token
    port: Name | Indexed


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    token: Token
    operand: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    token: Token
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """``condition ? then : other``."""

    token: Token
    condition: Expression
    then: Expression
    other: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """``'{a, b, c}``, a replication ``'{3{a}}`` written out."""

    token: Token
    items: tuple[Expression, ...]


Expression: TypeAlias = Number | Text | Name | Indexed | Call | PortFlow | Unary | Binary | Choice | Vector


# --- declarations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """``[first:last]`` behind a name: the bounds of an array or bus."""

    first: Expression
    last: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """One ``from`` or ``exclude`` clause: an interval, or the values of a list."""

    exclude: bool
    low: Expression | None = None  # None: infinity
    high: Expression | None = None
    low_open: bool = False
    high_open: bool = False
    values: tuple[Expression, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parameter:
    """``parameter``, ``localparam`` (``local``) or ``aliasparam`` (``alias_of``)."""

    token: Token
    type: str
    default: Expression | None
    dimensions: tuple[Range, ...] = ()
    intervals: tuple[Interval, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    local: bool = False
    alias_of: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    token: Token
    type: str
    dimensions: tuple[Range, ...] = ()
    initial: Expression | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """A net, or a port without a discipline yet (``discipline`` empty)."""

    token: Token
    discipline: str
    bus: Range | None = None
    ground: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class BranchDeclaration:
    """``branch (a, b) name`` or ``branch (<port>) name``."""

    token: Token
    terminals: tuple[Name | Indexed, ...]
    port: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    token: Token
    direction: str
    type: str = "real"
    dimensions: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class AnalogFunction:
    token: Token
    type: str
    arguments: tuple[Argument, ...]
    variables: tuple[Variable, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A module placed in another: ``resistor #(.r(2k)) r1(a, b);``."""

    token: Token
    module: Token
    parameters: tuple[tuple[str, Expression], ...]  # "" for a parameter given by position
    connections: tuple[tuple[str, Expression | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Discipline:
    token: Token
    potential: str  # access function, "" where there is none
    flow: str


# --- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    token: Token


@dataclass(frozen=True, slots=True, eq=False)
class Assign:
    target: Name | Indexed
    value: Expression

    @property
    def token(self) -> Token:
        return self.target.token


@dataclass(frozen=True, slots=True, eq=False)
class Contribute:
    access: Call
    value: Expression

    @property
    def token(self) -> Token:
        return self.access.token


@dataclass(frozen=True, slots=True, eq=False)
class Indirect:
    """``V(out) : V(a) == V(b);``: the quantity that makes both sides equal."""

    access: Call
    left: Expression
    right: Expression

    @property
    def token(self) -> Token:
        return self.access.token


@dataclass(frozen=True, slots=True, eq=False)
class CallStatement:
    call: Call

    @property
    def token(self) -> Token:
        return self.call.token


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    token: Token
    name: str
    parameters: tuple[Parameter, ...]
    variables: tuple[Variable, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class If:
    token: Token
    condition: Expression
    then: Statement
    other: Statement | None


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Arms in order; an empty tuple of labels is ``default``."""

    token: Token
    selector: Expression
    arms: tuple[tuple[tuple[Expression, ...], Statement], ...]


@dataclass(frozen=True, slots=True, eq=False)
class For:
    token: Token
    before: Assign
    condition: Expression
    after: Assign
    body: Statement


@dataclass(frozen=True, slots=True, eq=False)
class While:
    token: Token
    condition: Expression
    body: Statement


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    token: Token
    count: Expression
    body: Statement


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """``@(a or b) body``; ``analog initial`` is the event ``initial``."""

    token: Token
    events: tuple[Call, ...]
    body: Statement


Statement: TypeAlias = (
    Null | Assign | Contribute | Indirect | CallStatement | Block | If | Case | For | While | Repeat | Event
)


@dataclass(slots=True, eq=False)
class Module:
    token: Token
    ports: list[Token] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    nets: list[Net] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    branches: list[BranchDeclaration] = field(default_factory=list)
    functions: list[AnalogFunction] = field(default_factory=list)
    genvars: list[Token] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    analog: list[Statement] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.token.text


@dataclass(slots=True, eq=False)
class Source:
    """All modules and disciplines of a file, and what was forgiven on the way."""

    modules: list[Module] = field(default_factory=list)
    disciplines: dict[str, Discipline] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
