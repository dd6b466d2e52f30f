"""Verilog-A preprocessor: includes inlined, conditionals decided, macros expanded.

The result is a flat list of tokens. The standard headers are known, so that their include lines leave
nothing, and the constants that they define stay macro uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cosim.errors import ParseError
from cosim.verilog.constants import CONSTANTS
from cosim.verilog.tokens import Token, parse_error, tokenize, words

__all__ = ["preprocess"]

_HEADER = re.compile(r"(?:.*/)?(discipline|constant)s?\.(?:vams|va|vah|h)\Z", re.IGNORECASE)
# what compact models ask for; the first selects what a compiler of equations understands
_PREDEFINED = frozenset({"__OPENVAF__", "__VAMS_COMPACT_MODELING__"})
# directives without a meaning for an analog model: the rest of their line is dropped
_DROPPED = words(
    "timescale resetall celldefine endcelldefine default_nettype default_discipline default_transition "
    "begin_keywords end_keywords line pragma"
)
_CONDITIONALS = frozenset({"ifdef", "ifndef", "elsif", "else", "endif"})
_OPEN, _CLOSE = frozenset({"(", "[", "{", "'{", "(*"}), frozenset({")", "]", "}", "*)"})
_DEEPEST = 64
_MOST_EXPANSIONS = 200_000
_MOST_TOKENS = 500_000  # of macros


@dataclass(frozen=True, kw_only=True)
class _Macro:
    parameters: tuple[str, ...] | None
    body: tuple[Token, ...]


def preprocess(path: Path) -> list[Token]:
    """The tokens that the parser sees, without white space and comments."""
    run = _Preprocessor()
    run.file(path, ())
    return run.out


def _read_source(path: Path, *, asked_by: Token | None = None) -> str:
    """The text of a source file, or ParseError that says why it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "is a folder, not a file" if path.is_dir() else (error.strerror or "unreadable").lower()
        message = f"cannot read {path}: {reason}"
        raise (ParseError(message) if asked_by is None else parse_error(asked_by, message)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # a µ in a comment; elsewhere it is an error still
    if "\0" in text:
        raise ParseError("not a text file: it holds zero bytes", path=str(path), line=1)
    return text


class _Cursor:
    """Tokens of one file, read in order."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0

    def next(self) -> Token | None:
        if self.position == len(self.tokens):
            return None
        self.position += 1
        return self.tokens[self.position - 1]

    def peek(self) -> Token | None:
        return None if self.position == len(self.tokens) else self.tokens[self.position]

    def line(self) -> list[Token]:
        """The rest of the line, with continuation lines, without the newline."""
        start = self.position
        while self.position < len(self.tokens) and not self._ends_line(self.position):
            self.position += 1
        return self.tokens[start : self.position]

    def _ends_line(self, position: int) -> bool:
        before = self.tokens[position - 1] if position else None
        continued = before is not None and before.kind == "comment" and before.text.endswith("\\")
        return self.tokens[position].kind == "newline" and not continued

    def arguments(self, use: Token) -> list[list[Token]]:
        """The arguments of a macro use; the cursor stands behind its name."""
        while self.position < len(self.tokens) and self.tokens[self.position].is_trivia:
            self.position += 1
        first = self.next()
        if first is None or first.text != "(":
            raise parse_error(use, f"macro {use.text} takes arguments: write {use.text}(...)")
        arguments: list[list[Token]] = [[]]
        depth = 0
        while (token := self.next()) is not None:
            if depth == 0 and token.text == ")":
                return arguments
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if depth == 0 and token.text == ",":
                arguments.append([])
            elif not token.is_trivia:
                arguments[-1].append(token)
        raise parse_error(use, f"the argument list of macro {use.text} is not closed: add ')'")


class _Preprocessor:
    def __init__(self) -> None:
        self.macros: dict[str, _Macro] = {}
        self.included: set[str] = set()
        self.out: list[Token] = []
        self.expansions = self.placed = 0

    def file(self, path: Path, stack: tuple[Path, ...], asked_by: Token | None = None) -> None:
        cursor = _Cursor(tokenize(_read_source(path, asked_by=asked_by), str(path)))
        conditions: list[tuple[Token, bool, bool]] = []  # directive, branch active, one already taken
        stack = (*stack, path.resolve())
        while (token := cursor.next()) is not None:
            name = token.text[1:] if token.kind == "macro" else ""
            if name in _CONDITIONALS:
                self._conditional(token, name, cursor, conditions)
            elif not all(active for _, active, _ in conditions):
                continue
            elif token.kind == "macro":
                self._macro_token(token, name, cursor, path, stack)
            elif not token.is_trivia:
                self.out.append(_checked(token))
        if conditions:
            raise parse_error(conditions[-1][0], f"{conditions[-1][0].text} without `endif")

    def _conditional(
        self, token: Token, name: str, cursor: _Cursor, conditions: list[tuple[Token, bool, bool]]
    ) -> None:
        if name in ("ifdef", "ifndef"):
            active = self._defined(_word(token, cursor)) == (name == "ifdef")
            conditions.append((token, active, active))
            return
        if not conditions:
            raise parse_error(token, f"{token.text} without `ifdef")
        opened, _, taken = conditions.pop()
        if name == "endif":
            return
        active = not taken and (name == "else" or self._defined(_word(token, cursor)))
        conditions.append((opened, active, taken or active))

    def _defined(self, name: str) -> bool:
        known = name in CONSTANTS and "constants" in self.included
        known = known or (name == "DISCIPLINES_VAMS" and "disciplines" in self.included)
        return known or name in self.macros or name in _PREDEFINED

    def _macro_token(
        self, token: Token, name: str, cursor: _Cursor, path: Path, stack: tuple[Path, ...]
    ) -> None:
        if name == "define":
            self._define(token, cursor.line())
        elif name == "undef":
            self.macros.pop(_word(token, cursor), None)
        elif name == "undefineall":
            self.macros.clear()
        elif name == "include":
            self._include(token, cursor, path, stack)
        elif name in _DROPPED:
            cursor.line()
        else:
            self.out.extend(self._expand(token, cursor, ()))

    def _define(self, token: Token, line: list[Token]) -> None:
        while line and line[0].is_trivia:
            line = line[1:]
        if not line or line[0].kind != "name":
            raise parse_error(token, "`define needs a name")
        rest, parameters = line[1:], None
        if rest and rest[0].text == "(":  # only without a space is it a parameter list
            end = next((i for i, t in enumerate(rest) if t.text == ")"), None)
            inside = [t for t in rest[1:end] if not t.is_trivia]
            names = inside[::2]
            if end is None or any(t.kind != "name" for t in names) or {t.text for t in inside[1::2]} - {","}:
                raise parse_error(
                    token, f"the parameter list of macro {line[0].text} is not names and commas"
                )
            parameters, rest = tuple(t.text for t in names), rest[end + 1 :]
        body = tuple(t for t in rest if not t.is_trivia)
        self.macros[line[0].text] = _Macro(parameters=parameters, body=body)

    def _include(self, token: Token, cursor: _Cursor, path: Path, stack: tuple[Path, ...]) -> None:
        name = _include_name(token, cursor)
        target = path.parent / name
        header = None if target.is_file() else _HEADER.match(name)
        if header is not None:
            family = header.group(1).lower() + "s"
            self.included.add(family)
            if family == "constants":
                for constant in CONSTANTS.keys() & self.macros.keys():
                    del self.macros[constant]
            return
        if target.resolve() in stack or len(stack) >= _DEEPEST:
            raise parse_error(token, f'`include "{name}" includes itself')
        self.file(target, stack, token)

    def _expand(self, use: Token, cursor: _Cursor, active: tuple[str, ...]) -> Iterator[Token]:
        name = use.text[1:]
        macro = self.macros.get(name)
        if macro is None:
            if name not in CONSTANTS:
                raise parse_error(use, f"macro {use.text} is not defined: add its `define or the `include")
            self.included.add("constants")
            yield use
            return
        self.expansions += 1
        if self.expansions > _MOST_EXPANSIONS:
            raise parse_error(use, f"more than {_MOST_EXPANSIONS} uses of macros")
        if name in active or len(active) >= _DEEPEST:
            raise parse_error(use, f"macro {use.text} expands to itself")
        bound = self._bind(use, macro, cursor, active)
        body: list[Token] = []
        for token in macro.body:
            body.extend(bound.get(token.text, [token]) if token.kind == "name" else [token])
        yield from self._rescan(body, use, (*active, name))

    def _bind(
        self, use: Token, macro: _Macro, cursor: _Cursor, active: tuple[str, ...]
    ) -> dict[str, list[Token]]:
        if macro.parameters is None:
            return {}
        arguments = cursor.arguments(use)
        if not macro.parameters and arguments == [[]]:
            return {}
        if len(arguments) != len(macro.parameters):
            want = len(macro.parameters)
            raise parse_error(use, f"macro {use.text} takes {want} arguments, not {len(arguments)}")
        expanded = [list(self._rescan(argument, use, active)) for argument in arguments]
        return dict(zip(macro.parameters, expanded, strict=True))

    def _rescan(self, tokens: list[Token], use: Token, active: tuple[str, ...]) -> Iterator[Token]:
        cursor = _Cursor(tokens)
        while (token := cursor.next()) is not None:
            self.placed += 1
            if self.placed > _MOST_TOKENS:
                raise parse_error(use, f"macros expand to more than {_MOST_TOKENS} words")
            placed = replace(token, file=use.file, line=use.line, column=use.column)
            placed = replace(placed, macro=use.macro or use.text)
            if token.kind == "macro" and token.text[1:] in _CONDITIONALS | {"define", "include", "undef"}:
                raise parse_error(placed, f"{token.text} inside a macro: move it out")
            if token.kind == "macro":
                yield from self._expand(placed, cursor, active)
            else:
                yield _checked(placed)


def _checked(token: Token) -> Token:
    if token.kind != "bad":
        return token
    if token.text.startswith("/*"):
        raise parse_error(token, "comment /* is not closed: add */")
    if token.text.startswith('"'):
        raise parse_error(token, 'string is not closed on its line: add "')
    raise parse_error(token, f"character {token.text!r} has no meaning here")


def _word(token: Token, cursor: _Cursor) -> str:
    while (word := cursor.next()) is not None and word.kind == "space":
        continue
    if word is None or word.kind != "name":
        raise parse_error(token, f"{token.text} needs a name")
    return word.text


def _include_name(token: Token, cursor: _Cursor) -> str:
    """The name behind an include; the line may go on behind it."""
    text = ""
    while (word := cursor.peek()) is not None and word.kind != "newline":
        cursor.next()
        text += "" if word.is_trivia else word.text
        if word.kind == "string" or (text.startswith("<") and word.text == ">"):
            break
    match = re.match(r'"([^"]+)"\Z|<([^>]+)>\Z', text)
    if match is None:
        raise parse_error(token, '`include needs a file name: `include "name.va"')
    while (word := cursor.peek()) is not None and (word.kind == "space" or word.text == ";"):
        cursor.next()
    return match.group(1) or match.group(2)
