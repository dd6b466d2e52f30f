"""Verilog-A grammar, first part: expressions and attribute lists, and the edits of the token list.

An edit is recorded where published files write something that OpenVAF refuses, and only one
meaning fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cosim.devices.syntax import Call, Expression, Name, Operation
from cosim.devices.tokens import Token, parse_error, refusal, words
from cosim.errors import ModelError, ParseError

__all__ = ["ARRAY", "Edits", "ExpressionParser"]

ARRAY = "arrays and buses are not supported: use one scalar per element"
_UNARY = frozenset({"+", "-", "!", "~", "&", "|", "^", "~&", "~|", "~^", "^~"})
_BINARY = words("+ - * / % ** < <= > >= == != === !== && || & | ^ ^~ ~^ << >> <<< >>>")
_DEEPEST = 100


@dataclass(slots=True)
class Edits:
    """Changes to the token list: whole lines put before a token, and other texts for one."""

    lines: dict[int, list[str]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)

    def drop(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            self.texts[index] = ""


class ExpressionParser:
    """A cursor over preprocessed tokens that reads expressions and attribute lists."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.edits = Edits()
        self.notes: list[str] = []
        self._at = 0
        self._depth = 0

    # --- the cursor -------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        index = self._at + ahead
        return self.tokens[index].text if index < len(self.tokens) else ""

    def _next(self) -> Token:
        if self._at == len(self.tokens):
            raise parse_error(
                self.tokens[-1], f"the file ends behind {self.tokens[-1].text!r}: something is open"
            )
        self._at += 1
        return self.tokens[self._at - 1]

    def _take(self, *texts: str) -> Token | None:
        return self._next() if self._peek() in texts else None

    def _expect(self, text: str) -> Token:
        token = self._next()
        if token.text != text:
            raise self._unexpected(token, repr(text))
        return token

    def _name(self, what: str) -> Token:
        token = self._next()
        if token.kind != "name":
            raise self._unexpected(token, what)
        return token

    def _unexpected(self, token: Token, expected: str) -> ParseError | ModelError:
        if token.text == "[":
            return refusal(token, ARRAY)
        return parse_error(token, f"unexpected {token.text!r}: expected {expected}")

    def _deeper(self, step: int) -> None:
        self._depth += step
        if self._depth > _DEEPEST:
            raise parse_error(
                self.tokens[self._at - 1], f"nested more than {_DEEPEST} deep: use variables in between"
            )

    def _text(self, start: int, stop: int) -> str:
        """The mended text of a span, without white space."""
        return "".join(self.edits.texts.get(i, self.tokens[i].text) for i in range(start, stop))

    def _skip_balanced(self, opened: Token) -> None:
        """Behind the ``)`` that closes the ``(`` just read."""
        depth = 1
        while depth:
            if self._at == len(self.tokens):
                raise parse_error(opened, "'(' is not closed")
            token = self._next()
            if token.text == "[":
                raise refusal(token, ARRAY)
            depth += (token.text == "(") - (token.text == ")")

    # --- attributes -------------------------------------------------------------------------

    def _attributes(self) -> dict[str, str]:
        """Name -> text of the value, of every attribute list here. Missing commas are put in."""
        found: dict[str, str] = {}
        while self._take("(*"):
            while not self._take("*)"):
                name = self._name("the name of an attribute").text
                start = self._at
                if self._take("="):
                    self._expression()
                    found[name] = self._text(start + 1, self._at)
                else:
                    found[name] = ""
                if self._peek() not in ("*)", ","):
                    self.edits.texts[self._at - 1] = self.tokens[self._at - 1].text + ","
                self._take(",")
        return found

    def _skip_attributes(self) -> None:
        self._attributes()

    def _moved_attributes(self) -> dict[str, str]:
        """Attributes in a place where OpenVAF does not take them: dropped here, to be put in front."""
        start = self._at
        found = self._attributes()
        self.edits.drop(start, self._at)
        return found

    # --- expressions ------------------------------------------------------------------------

    def _expression(self) -> Expression:
        self._deeper(+1)
        operands = [self._operand()]
        operators: list[str] = []
        sure = 0
        while self._peek() in _BINARY:
            operators.append(self._next().text)
            if operators[-1] in ("&&", "||") and not sure:
                sure = len(operands)
            operands.append(self._operand())
        value = operands[0]
        if len(operands) > 1:
            value = Operation(tuple(operands), tuple(operators), sure or len(operands))
        if self._take("?"):
            then = self._expression()
            self._expect(":")
            value = Operation((value, then, self._expression()), ("?", ":"), 1)
        self._deeper(-1)
        return value

    def _operand(self) -> Expression:
        while self._peek() in _UNARY:
            self._next()
        return self._primary()

    def _primary(self) -> Expression:
        token = self._next()
        if token.kind == "number":
            self._mend_number(token)
        elif token.text == "(":
            value = self._expression()
            self._expect(")")
            return value
        elif token.text == "'{":
            values = self._list("}")
            return Operation(values, (), len(values)) if values else None
        elif token.kind in ("name", "system"):
            return self._name_or_call(token)
        elif token.kind not in ("string", "macro"):
            raise self._unexpected(token, "a value")
        return None

    def _name_or_call(self, token: Token) -> Expression:
        start = self._at - 1
        if self._take("("):
            if self._peek() == "<":  # port flow I(<p>)
                self._next()
                self._name("a port")
                self._expect(">")
                self._expect(")")
                return Call(token, ())
            if token.text == "$limit":
                return self._limit(token, start)
            return Call(token, self._list(")"))
        if self._peek() == "[":
            raise refusal(self._next(), ARRAY)
        if self._peek() == "." and self._peek(1):
            raise refusal(token, "hierarchical names are not supported: use a name of this module")
        return Call(token, ()) if token.kind == "system" else Name(token)

    def _list(self, closing: str) -> tuple[Expression, ...]:
        values: list[Expression] = []
        if self._take(closing):
            return ()
        while True:
            empty = self._peek() in (",", closing)
            values.append(None if empty else self._expression())
            if self._take(closing):
                return tuple(values)
            self._expect(",")

    def _limit(self, token: Token, start: int) -> Expression:
        """``$limit(V(a), ...)`` is V(a) in a converged solution: the rest is dropped."""
        value = self._expression()
        rest = self._at
        if self._take(","):
            self._list(")")
        else:
            self._expect(")")
        self.edits.texts[start] = ""
        self.edits.drop(rest, self._at - 1)
        self.notes.append(f"{token.where}: $limit is taken as its first argument")
        return value

    def _mend_number(self, token: Token) -> None:
        """OpenVAF wants a digit on both sides of the point."""
        text = re.sub(r"\A\.", "0.", token.text)
        text = re.sub(r"\.(?![0-9])(?=.)", ".0", text)
        if text != token.text:
            self.edits.texts[self._at - 1] = text
