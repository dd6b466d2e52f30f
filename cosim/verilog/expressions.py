"""Verilog-A grammar, first part: a cursor over tokens, expressions and attributes.

Operators are read with an explicit stack: a sum of a hundred thousand terms, or as many parentheses,
costs memory and not the interpreter's stack.
"""

from __future__ import annotations

import re

from cosim.errors import ModelError, ParseError
from cosim.verilog.constants import CONSTANTS, SCALE_FACTORS
from cosim.verilog.tokens import Token, parse_error, refusal, words
from cosim.verilog.tree import (
    Binary,
    Call,
    Choice,
    Expression,
    Indexed,
    Name,
    Number,
    PortFlow,
    Text,
    Unary,
    Vector,
)

__all__ = ["KEYWORDS", "MOST_ELEMENTS", "ExpressionParser", "string_of"]

_UNARY = words("+ - ! ~ & | ^ ~& ~| ~^ ^~")
_PRECEDENCE = {
    operator: level
    for level, operators in enumerate(
        (
            "||",
            "&&",
            "|",
            "^ ^~ ~^",
            "&",
            "== != === !==",
            "< <= > >=",
            "<< >> <<< >>>",
            "+ -",
            "* / %",
            "**",
        )
    )
    for operator in operators.split()
}
MOST_ELEMENTS = 20_000  # of an array or a bus
_DEEPEST = 150  # calls within one another
KEYWORDS = words(
    "begin end if else case endcase default for while repeat analog module endmodule parameter localparam "
    "aliasparam real integer string branch ground inout input output genvar function endfunction "
    "from exclude generate endgenerate"
)


class ExpressionParser:
    """A cursor over preprocessed tokens that reads expressions and attribute lists."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.notes: list[str] = []
        self._at = 0
        self._depth = 0

    # --- the cursor -------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        index = self._at + ahead
        return self.tokens[index].text if index < len(self.tokens) else ""

    def _next(self) -> Token:
        if self._at == len(self.tokens):
            last = self.tokens[-1]
            raise parse_error(last, f"the file ends behind {last.text!r}: something is open")
        self._at += 1
        return self.tokens[self._at - 1]

    def _accept(self, *texts: str) -> Token | None:
        return self._next() if self._peek() in texts else None

    def _expect(self, text: str) -> Token:
        token = self._next()
        if token.text != text:
            before = self.tokens[self._at - 2]
            if text == ";" and (before.file, before.line) != (token.file, token.line):
                raise parse_error(before, f"';' is missing behind {before.text!r}")
            raise self._unexpected(token, repr(text))
        return token

    def _comma(self) -> None:
        """Between the items of a list in parentheses."""
        if self._peek() != ")" and not self._accept(","):
            raise self._unexpected(self._next(), "',' or ')'")

    def _goes_on(self) -> bool:
        """Whether another name of a declaration follows: a ``,`` here, and not the ``;`` at its end."""
        if self._accept(","):
            return True
        self._expect(";")
        return False

    def _name(self, what: str) -> Token:
        token = self._next()
        if token.kind != "name" or token.text in KEYWORDS:
            raise self._unexpected(token, what)
        return token

    def _unexpected(self, token: Token, expected: str) -> ParseError | ModelError:
        return parse_error(token, f"unexpected {token.text!r}: expected {expected}")

    def _note(self, token: Token, message: str) -> None:
        self.notes.append(f"{token.where}: {message}")

    def _text(self, start: int) -> str:
        """The text from token ``start`` to the cursor, without white space."""
        return "".join(token.text for token in self.tokens[start : self._at])

    # --- attributes -------------------------------------------------------------------------

    def _attributes(self) -> dict[str, str]:
        """Name -> text of the value, of every attribute list here; missing commas are forgiven."""
        found: dict[str, str] = {}
        while self._accept("(*"):
            while not self._accept("*)"):
                name = self._name("the name of an attribute").text
                start = self._at + 1
                found[name] = ""
                if self._accept("="):
                    self._expression()
                    found[name] = _unquote(self._text(start))
                self._accept(",")
        return found

    # --- expressions ------------------------------------------------------------------------

    def _expression(self) -> Expression:
        """One expression, by precedence. Open operators, ``(`` and ``?`` wait in ``pending``."""
        values: list[Expression] = []
        pending: list[tuple[str, Token]] = []
        while True:
            self._prefixes(pending)
            values.append(self._primary())
            if not self._behind_operand(values, pending):
                break
        while pending:
            kind, token = pending[-1]
            if kind in ("(", "?"):
                closing = "')'" if kind == "(" else "':'"
                raise parse_error(
                    token, f"{kind!r} is not closed: expected {closing} before {self._peek()!r}"
                )
            _reduce(values, pending)
        return values[0]

    def _prefixes(self, pending: list[tuple[str, Token]]) -> None:
        """Unary operators and opening parentheses in front of an operand."""
        while True:
            if (token := self._accept("(")) is not None:
                pending.append(("(", token))
            elif self._peek() in _UNARY:
                pending.append(("unary", self._next()))
            else:
                return

    def _behind_operand(self, values: list[Expression], pending: list[tuple[str, Token]]) -> bool:
        """Read operators behind an operand; whether another operand follows."""
        while True:
            text, opened = self._peek(), _innermost(pending)
            if text == ")" and "(" in (kind for kind, _ in pending):
                while pending[-1][0] not in ("(", "?"):
                    _reduce(values, pending)
                if pending.pop()[0] == "?":
                    raise self._unexpected(self._next(), "':' of a choice")
                self._next()
            elif text == "?":
                while pending and pending[-1][0] in ("unary", "binary"):
                    _reduce(values, pending)
                pending.append(("?", self._next()))
                return True
            elif text == ":" and opened == "?":
                while pending[-1][0] != "?":
                    _reduce(values, pending)
                pending[-1] = (":", pending[-1][1])
                self._next()
                return True
            elif text in _PRECEDENCE:
                token = self._next()
                self._attributes()
                while pending and _binds_tighter(pending[-1], token):
                    _reduce(values, pending)
                pending.append(("binary", token))
                return True
            else:
                return False

    def _deeper(self, step: int) -> None:
        self._depth += step
        if self._depth > _DEEPEST:
            raise parse_error(
                self.tokens[self._at - 1], f"nested more than {_DEEPEST} deep: use variables in between"
            )

    def _primary(self) -> Expression:
        token = self._next()
        if token.kind == "number":
            return Number(token, _number(token))
        if token.kind == "string":
            return Text(token, string_of(token.text))
        if token.kind == "macro":
            return Number(token, CONSTANTS[token.text[1:]])
        if token.text == "'{" or token.text == "{":
            return self._vector(token)
        if token.kind not in ("name", "system") or token.text in KEYWORDS:
            raise self._unexpected(token, "an expression")
        if token.text == "inf":
            return Number(token, float("inf"))
        if self._peek() == "(":
            return self._call(token)
        if self._peek() == "[":
            return Indexed(token, self._indices())
        if self._peek() == ".":
            raise refusal(token, "hierarchical names are not supported: declare the quantity in this module")
        return Call(token, ()) if token.kind == "system" else Name(token)

    def _call(self, token: Token) -> Expression:
        self._expect("(")
        self._deeper(+1)
        if self._accept("<"):
            port = self._reference("a port")
            self._expect(">")
            self._expect(")")
            self._deeper(-1)
            return PortFlow(token, port)
        arguments: list[Expression | None] = []
        while not self._accept(")"):
            if self._peek() == ",":
                arguments.append(None)
            else:
                arguments.append(self._expression())
            if self._peek() == "," and self._peek(1) == ")":
                arguments.append(None)
            self._comma()
        self._deeper(-1)
        return Call(token, tuple(arguments))

    def _reference(self, what: str) -> Name | Indexed:
        token = self._name(what)
        return Indexed(token, self._indices()) if self._peek() == "[" else Name(token)

    def _indices(self) -> tuple[Expression, ...]:
        found = []
        while self._accept("["):
            found.append(self._expression())
            if self._peek() == ":":
                raise refusal(self._next(), "a part of an array cannot be selected: name one element")
            self._expect("]")
        return tuple(found)

    def _vector(self, token: Token) -> Vector:
        items: list[Expression] = []
        self._deeper(+1)
        while not self._accept("}"):
            first = self._expression()
            if self._accept("{"):  # a replication
                inner = self._vector(token)
                if not (isinstance(first, Number) and isinstance(first.value, int)):
                    raise refusal(token, "a replication needs a literal count, such as '{3{0.0}}")
                if len(inner.items) * first.value > MOST_ELEMENTS:
                    raise refusal(token, f"an array of more than {MOST_ELEMENTS} elements")
                items.extend(inner.items * first.value)
            else:
                items.append(first)
            if self._peek() != "}":
                self._expect(",")
        self._deeper(-1)
        return Vector(token, tuple(items))


def _innermost(pending: list[tuple[str, Token]]) -> str:
    """The kind of the innermost ``(`` or ``?`` that waits for its end."""
    return next((kind for kind, _ in reversed(pending) if kind in ("(", "?")), "")


def _binds_tighter(waiting: tuple[str, Token], token: Token) -> bool:
    kind, operator = waiting
    if kind == "unary":
        return True
    return kind == "binary" and _PRECEDENCE[operator.text] >= _PRECEDENCE[token.text]


def _reduce(values: list[Expression], pending: list[tuple[str, Token]]) -> None:
    """Apply the operator on top of ``pending``."""
    kind, token = pending.pop()
    if kind == "unary":
        values.append(Unary(token, values.pop()))
    elif kind == "binary":
        right = values.pop()
        values.append(Binary(token, values.pop(), right))
    else:
        other, then = values.pop(), values.pop()
        values.append(Choice(token, values.pop(), then, other))


def _number(token: Token) -> float | int:
    text = token.text.replace("_", "")
    if "'" in text:
        return _sized(token, text.replace(" ", "").replace("\t", "").lower())
    if text.isdigit():
        value = float(text)
        return value if value >= 2**31 else int(text)
    factor = SCALE_FACTORS.get(text[-1], "")
    if factor:
        return float(text[:-1] + factor)
    return float(text)


def _sized(token: Token, text: str) -> int:
    """``8'hff``, ``'b101``: a size in bits, a base, and digits of that base."""
    size, _, rest = text.partition("'")
    rest = rest.removeprefix("s")
    bases = {"b": 2, "o": 8, "d": 10, "h": 16}
    try:
        value = int(rest[1:], bases[rest[0]])
        bits = int(size) if size else 32
    except ValueError as error:
        raise parse_error(token, f"{token.text} is not a number of base {bases[rest[0]]}") from error
    if not 1 <= bits <= 32 or value >= 2**bits:
        raise parse_error(token, f"{token.text} does not fit its size: an integer has 32 bits")
    return value - 2**32 if value >= 2**31 else value


def _unquote(text: str) -> str:
    return string_of(text) if len(text) > 1 and text[0] == text[-1] == '"' else text


def string_of(text: str) -> str:
    """The characters of a string literal: escapes read, a line that goes on joined."""
    return re.sub(r"\\(?:[ \t]*(\r\n|\n|\r)|([0-7]{1,3})|(.))", _unescaped, text[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return ""
    return chr(int(match[2], 8)) if match[2] else {"n": "\n", "t": "\t"}.get(match[3], match[3])
