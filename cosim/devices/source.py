"""Source pre-pass: a Verilog-A file -> the text that is given to OpenVAF, and what was declared in it.

The text has includes inlined, macros expanded, dialect slips mended, and ``(* type="instance" *)``
on every parameter: only then does OpenVAF export dependent defaults and ranges. What would
compile into something else than it says is refused here, with file and line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cosim.devices.expressions import Edits
from cosim.devices.flow import check_module
from cosim.devices.parser import Parser
from cosim.devices.preprocess import preprocess
from cosim.devices.refusals import check_words, find_features
from cosim.devices.syntax import Module, Parameter
from cosim.devices.tokens import Token
from cosim.errors import ParseError

__all__ = ["ParameterDeclaration", "PreparedSource", "prepare"]


@dataclass(frozen=True, kw_only=True)
class ParameterDeclaration:
    """One parameter as the source declares it.

    ``type`` is ``real``, ``integer`` or ``string``; ``is_instance`` the author's own choice;
    ``default`` and ``ranges`` the source's text (``from (0:inf)``); ``file`` and ``line`` the place.
    """

    name: str
    module: str
    type: str
    is_instance: bool
    default: str
    ranges: str
    units: str
    description: str
    file: str
    line: int


@dataclass(frozen=True, kw_only=True)
class PreparedSource:
    """What OpenVAF compiles, and what the source declares.

    ``line_map[k - 1]`` is the (file, line) that line ``k`` of ``text`` comes from. ``features``
    names what needs care: ddt, idt, idtmod, ddx, limexp, limit, noise, abstime, analysis, simparam,
    temperature, discontinuity, loop, initial_step, string_parameter. ``notes`` says what was left out.
    ``grounds`` are the nodes that each module declares as ground. ``digest`` is of ``text`` and of the
    author's instance parameters; comments do not change it.
    """

    path: Path
    text: str
    modules: tuple[str, ...]
    parameters: tuple[ParameterDeclaration, ...]
    grounds: dict[str, frozenset[str]]
    features: frozenset[str]
    notes: tuple[str, ...]
    line_map: tuple[tuple[str, int], ...]
    digest: str

    def place(self, line: int) -> tuple[str, int]:
        """The (file, line) of the author's source behind line ``line`` of ``text``."""
        return self.line_map[min(max(line, 1), len(self.line_map)) - 1]


def prepare(path: Path | str) -> PreparedSource:
    """Read a Verilog-A file, check it, and make the text for the compiler.

    Raises ParseError when the file cannot be read as Verilog-A, ModelError when it asks for
    something that cosim refuses. Both messages start with ``file:line:``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "r.va").write_text('''module r(p, n);
    ...   inout p, n; electrical p, n;
    ...   parameter real g = 1m from [0,inf) (* units="S" *);
    ...   analog I(p, n) <+ g*V(p, n);
    ... endmodule''')
    >>> source = prepare(folder / "r.va")
    >>> source.modules, source.parameters[0].units, source.parameters[0].ranges
    (('r',), 'S', 'from [0:inf)')
    """
    path = Path(path)
    tokens = preprocess(path)
    check_words(tokens)
    parser = Parser(tokens)
    modules = parser.source()
    if not modules:
        raise ParseError("no module in this file: a model starts with 'module name(ports);'", path=str(path))
    for module in modules:
        check_module(module)
    text, line_map = _write(tokens, parser.edits)
    parameters = tuple(_declared(module, parameter) for module in modules for parameter in module.parameters)
    instances = "".join(f"\n{p.module} {p.name}" for p in parameters if p.is_instance)
    return PreparedSource(
        path=path,
        text=text,
        modules=tuple(module.name for module in modules),
        parameters=parameters,
        grounds={module.name: frozenset(module.grounds) for module in modules},
        features=find_features(tokens, frozenset(parameter.type for parameter in parameters)),
        notes=tuple(parser.notes),
        line_map=tuple(line_map),
        digest=hashlib.sha256((text + instances).encode()).hexdigest(),
    )


def _declared(module: Module, parameter: Parameter) -> ParameterDeclaration:
    attributes = parameter.attributes
    return ParameterDeclaration(
        name=parameter.name,
        module=module.name,
        type=parameter.type,
        is_instance=_unquote(attributes.get("type", "")) == "instance",
        default=parameter.default,
        ranges=parameter.ranges,
        units=_unquote(attributes.get("units", "")),
        description=_unquote(attributes.get("desc", "")),
        file=parameter.token.file,
        line=parameter.token.line,
    )


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _write(tokens: list[Token], edits: Edits) -> tuple[str, list[tuple[str, int]]]:
    """The edited tokens at their columns, one line of text per line of source that has any."""
    lines: list[str] = []
    line_map: list[tuple[str, int]] = []
    last: Token | None = None  # the token in front, when it is on the same line of the text
    for index, token in enumerate(tokens):
        place = (token.file, token.line)
        for line in edits.lines.get(index, ()):
            lines.append(line)
            line_map.append(place)
            last = None
        text = edits.texts.get(index, token.text)
        if not text:
            continue
        if last is None or place != (last.file, last.line):
            lines.append("")
            line_map.append(place)
            last = None
        lines[-1] += " " * _gap(last, token, len(lines[-1])) + text
        last = None if token.kind == "include" else token
    return "\n".join(lines) + "\n", line_map


def _gap(last: Token | None, token: Token, length: int) -> int:
    """Spaces that bring ``token`` to its column; at least one where the source has any."""
    wanted = max(token.column - 1 - length, 0)
    if last is None:
        return wanted
    joined = not (last.macro or token.macro) and last.column + len(last.text) == token.column
    return wanted if joined else max(wanted, 1)
