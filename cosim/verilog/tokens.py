"""Verilog-A text -> tokens that know their file, line and column. Nothing is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cosim.errors import ModelError, ParseError

__all__ = ["Token", "parse_error", "refusal", "tokenize", "words"]

_PATTERN = re.compile(
    r"""
      (?P<newline>\r\n|\n|\r)
    | (?P<continuation>\\[ \t]*(?:\r\n|\n|\r))
    | (?P<space>[ \t\f\v\ufeff\u00a0]+)
    | (?P<comment>//[^\r\n]*|/\*(?s:.)*?\*/)
    | (?P<string>"(?:[^"\\\r\n]|\\[ \t]*(?:\r\n|\n|\r)|\\[^\r\n])*")
    | (?P<number>(?:[0-9][0-9_]*[ \t]*)?'[sS]?[bBoOdDhH][ \t]*[0-9a-fA-F_xXzZ?]+
        |(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)
        (?:[eE][+-]?[0-9]+|[TGMKkmunpfa](?![\w$]))?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_$]*|\\[^\s]+)
    | (?P<system>\$[A-Za-z_][A-Za-z0-9_$]*)
    | (?P<macro>`[A-Za-z_][A-Za-z0-9_]*)
    | (?P<operator>\(\*(?!\)) | \*\) | '\{ | <\+ | <<< | >>> | << | >> | <= | >= | === | !== | == | !=
        | && | \|\| | \*\* | ~\^ | \^~ | ~& | ~\| | /(?!\*) | [-+*%<>=!&|^~?:;,.()\[\]{}@\#])
    """,
    re.VERBOSE | re.ASCII,
)
_TRIVIA = frozenset({"newline", "continuation", "space", "comment"})


@dataclass(frozen=True, slots=True)
class Token:
    """One token. ``kind`` is the name of its group in the pattern, ``bad`` for what fits none.

    A token that comes out of a macro has the place of the macro's use, and the macro's name.
    """

    kind: str
    text: str
    file: str
    line: int
    column: int
    macro: str = ""

    @property
    def is_trivia(self) -> bool:
        return self.kind in _TRIVIA

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def parse_error(token: Token, message: str) -> ParseError:
    """A ParseError (this is not Verilog-A) at the place of ``token``."""
    return ParseError(message + _inside(token), path=token.file, line=token.line)


def refusal(token: Token, message: str) -> ModelError:
    """A ModelError (this is Verilog-A that cosim refuses) at the place of ``token``."""
    return ModelError(f"{token.where}: {message}{_inside(token)}")


def _inside(token: Token) -> str:
    return f" (in the expansion of {token.macro})" if token.macro else ""


def tokenize(text: str, file: str) -> list[Token]:
    """All tokens of ``text``, white space and comments too: their texts joined are ``text``.

    >>> [t.text for t in tokenize("I(p) <+ 1k; // c", "m.va") if not t.is_trivia]
    ['I', '(', 'p', ')', '<+', '1k', ';']
    """
    tokens: list[Token] = []
    position, line, line_start = 0, 1, 0
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None:
            kind, value = "bad", _bad_text(text, position)
        else:
            kind, value = match.lastgroup or "bad", match.group()
        tokens.append(Token(kind, value, file, line, position - line_start + 1))
        position += len(value)
        if "\n" in value or "\r" in value:
            breaks = [found.end() for found in re.finditer(r"\r\n|\n|\r", value)]
            line += len(breaks)
            line_start = position - len(value) + breaks[-1]
    return tokens


def _bad_text(text: str, position: int) -> str:
    """What is skipped as one bad token: an open comment to the end, an open string to the line's end."""
    if text.startswith("/*", position):
        return text[position:]
    if text[position] == '"':
        return re.split(r"[\r\n]", text[position:], maxsplit=1)[0]
    return text[position]


def words(text: str) -> frozenset[str]:
    """The words of a text; how the tables of reserved words are written."""
    return frozenset(text.split())
