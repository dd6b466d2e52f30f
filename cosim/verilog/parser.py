"""Verilog-A grammar, third part: files, disciplines and modules."""

from __future__ import annotations

import re
from dataclasses import replace

from cosim.verilog.expressions import KEYWORDS
from cosim.verilog.statements import TYPES, StatementParser
from cosim.verilog.tokens import Token, parse_error, refusal, words
from cosim.verilog.tree import (
    AnalogFunction,
    Argument,
    BranchDeclaration,
    Call,
    Discipline,
    Event,
    Expression,
    Instance,
    Module,
    Name,
    Net,
    Parameter,
    Range,
    Source,
    Statement,
    Variable,
)

__all__ = ["STANDARD_DISCIPLINES", "parse"]

_DIRECTIONS = words("inout input output")
_DIGITAL = words("always assign reg logic tri supply0 supply1 time event defparam specify primitive")
_WIRES = words("wire wreal")

# access functions (potential, flow) of disciplines.vams
STANDARD_DISCIPLINES = {
    **{"electrical": ("V", "I"), "voltage": ("V", ""), "current": ("", "I"), "magnetic": ("MMF", "Phi")},
    **{"thermal": ("Temp", "Pwr"), "kinematic": ("Pos", "F"), "kinematic_v": ("Vel", "F")},
    **{"rotational": ("Theta", "Tau"), "rotational_omega": ("Omega", "Tau"), "ddiscrete": ("", "")},
}


def parse(tokens: list[Token]) -> Source:
    """The syntax tree of preprocessed ``tokens``; ParseError or ModelError with file and line."""
    return _Parser(tokens).source()


class _Parser(StatementParser):
    def __init__(self, tokens: list[Token]) -> None:
        super().__init__([_unescaped(token) for token in tokens])
        self._source = Source(notes=self.notes)
        self._natures: dict[str, str] = {}  # nature -> access function
        self._disciplines: set[str] = set(STANDARD_DISCIPLINES)

    # --- files and disciplines --------------------------------------------------------------

    def source(self) -> Source:
        while self._at < len(self.tokens):
            self._attributes()
            token = self._next()
            match token.text:
                case "module" | "macromodule":
                    self._source.modules.append(self._module())
                case "nature":
                    self._nature()
                case "discipline":
                    self._discipline()
                case ";":
                    self._note(token, "a ';' between modules: ignored")
                case "paramset" | "connectmodule" | "connectrules" | "primitive" | "config":
                    raise refusal(token, f"{token.text} is not supported: write a module")
                case _:
                    raise self._unexpected(token, "a module")
        return self._source

    def _nature(self) -> None:
        name = self._name("the name of the nature").text
        parent = ""
        if self._accept(":"):
            parent = self._name("the parent nature").text
        self._accept(";")
        access = self._natures.get(parent, "")
        while not self._accept("endnature"):
            attribute = self._next()
            if attribute.text == ";":
                continue
            self._expect("=")
            value = self._expression()
            if attribute.text == "access" and isinstance(value, Name):
                access = value.token.text
            self._accept(";")
        self._natures[name] = access

    def _discipline(self) -> None:
        token = self._name("the name of the discipline")
        self._accept(";")
        access = {"potential": "", "flow": ""}
        while not self._accept("enddiscipline"):
            word = self._next()
            if word.text in access:
                nature = self._next()
                if self._accept(".") or nature.text == ".":  # potential.abstol = ...
                    self._next()
                    self._expect("=")
                    self._expression()
                else:
                    access[word.text] = self._natures.get(nature.text, _STANDARD_ACCESS.get(nature.text, ""))
            self._accept(";")
        self._disciplines.add(token.text)
        self._source.disciplines[token.text] = Discipline(token, access["potential"], access["flow"])

    # --- modules ----------------------------------------------------------------------------

    def _module(self) -> Module:
        module = Module(self._name("the name of the module"))
        self._attributes()
        if self._accept("#"):
            self._expect("(")
            while not self._accept(")"):
                attributes = self._attributes()
                word = self._next()
                if word.text not in ("parameter", "localparam"):
                    raise self._unexpected(word, "'parameter'")
                module.parameters.extend(self._parameters(word, attributes))
        if self._accept("("):
            self._ports(module)
        self._attributes()
        self._expect(";")
        while not self._accept("endmodule"):
            if self._at == len(self.tokens):
                raise parse_error(module.token, f"module {module.name} without endmodule")
            self._item(module)
        if self._accept(":"):
            self._name("the name of the module")
        return module

    def _ports(self, module: Module) -> None:
        """``(p, n)`` or ``(inout electrical p, n)``."""
        discipline, bus = "", None
        while not self._accept(")"):
            self._attributes()
            if self._accept(*_DIRECTIONS):
                self._attributes()
                discipline, bus = "", None
                if (
                    self.tokens[self._at].kind == "name" and self.tokens[self._at + 1].kind == "name"
                ) or self._peek() in self._disciplines:
                    discipline = self._next().text
                bus = self._bus()
            token = self._name("a port")
            module.ports.append(token)
            module.nets.append(Net(token, discipline, bus or self._bus()))
            self._attributes()
            self._comma()

    def _bus(self) -> Range | None:
        ranges = self._ranges()
        return ranges[0] if ranges else None

    def _item(self, module: Module) -> None:
        attributes = self._attributes()
        token = self._next()
        text = token.text
        if text in ("parameter", "localparam"):
            module.parameters.extend(self._parameters(token, attributes))
            self._expect(";")
        elif text == "aliasparam":
            module.parameters.append(self._alias(attributes))
        elif text in _DIRECTIONS:
            self._direction(module)
        elif text == "branch":
            self._branches(module)
        elif text == "ground":
            self._nets(module, "", ground=True)
        elif text == "genvar":
            module.genvars.extend(variable.token for variable in self._variables("genvar"))
        elif text in TYPES:
            module.variables.extend(self._variables(text))
        elif text == "analog":
            self._analog(module, token)
        elif text == "generate":
            module.analog.append(self._generate(token))
        elif text in ("for", "if", "case", "begin"):  # a conditional or loop around analog blocks
            self._at -= 1
            self._generating += 1
            module.analog.append(self._statement())
            self._generating -= 1
        elif text == "initial":
            self._note(token, "'initial' of digital Verilog: read as 'analog initial'")
            module.analog.append(Event(token, (Call(token, ()),), self._statement()))
        elif text == ";":
            self._note(token, "a ';' without a statement: ignored")
        elif text in _DIGITAL:
            raise refusal(token, f"{text!r} is digital Verilog: write the model as an analog block")
        elif text in _WIRES:
            self._nets(module, "electrical")
        elif token.kind == "name":
            self._nets_or_instance(module, token)
        else:
            raise self._unexpected(token, "a declaration, an analog block or 'endmodule'")

    def _alias(self, attributes: dict[str, str]) -> Parameter:
        token = self._name("the name of the alias")
        self._expect("=")
        target = self._next().text  # a parameter, or a system parameter such as $mfactor
        self._expect(";")
        return Parameter(token=token, type="", default=None, attributes=attributes, alias_of=target)

    def _direction(self, module: Module) -> None:
        """``inout p, n;`` and ``inout electrical p, n;``."""
        discipline = ""
        self._attributes()
        if self._peek() in self._disciplines or self._peek(1) not in (",", ";", "[", "(*", ""):
            discipline = self._next().text if self._peek() != "[" else ""
        bus = self._bus()
        while True:
            self._attributes()
            token = self._name("a port")
            if token.text not in {port.text for port in module.ports}:
                raise parse_error(token, f"{token.text} is not a port of module {module.name}")
            if discipline or bus is not None:
                module.nets.append(Net(token, discipline, bus))
            self._attributes()
            if not self._goes_on():
                return

    def _nets(self, module: Module, discipline: str, *, ground: bool = False) -> None:
        shared = self._bus()
        while True:
            token = self._name("the name of a net")
            module.nets.append(Net(token, discipline, self._bus() or shared, ground))
            if self._accept("="):
                self._note(token, "an initial value of a net: ignored, use nodeset or ic of the simulator")
                self._expression()
            self._attributes()
            if not self._goes_on():
                return

    def _branches(self, module: Module) -> None:
        while True:
            self._expect("(")
            port = self._accept("<") is not None
            terminals = [self._reference("a net")]
            if port:
                self._expect(">")
            while self._accept(","):
                terminals.append(self._reference("a net"))
            self._expect(")")
            while True:
                self._attributes()
                token = self._name("the name of the branch")
                if self._peek() == "[":
                    raise refusal(token, "arrays of branches are not supported: name each branch")
                module.branches.append(BranchDeclaration(token, tuple(terminals), port))
                self._attributes()
                if not self._accept(","):
                    break
                if self._peek() == "(":
                    break
            if self._peek() != "(":
                self._expect(";")
                return

    def _nets_or_instance(self, module: Module, first: Token) -> None:
        if first.text in self._disciplines and self._peek(1) != "(":
            self._nets(module, first.text)
        elif self._peek() == "#" or self._peek(1) == "(":
            self._instance(module, first)
        elif first.text in self._disciplines or self._peek(1) in (",", ";", "["):
            raise parse_error(
                first, f"discipline {first.text} is not known: include the file that declares it"
            )
        else:
            raise self._unexpected(first, "a declaration, an analog block or 'endmodule'")

    def _instance(self, module: Module, kind: Token) -> None:
        parameters: list[tuple[str, Expression]] = []
        if self._accept("#"):
            self._expect("(")
            parameters = [(name, value) for name, value in self._connections() if value is not None]
        while True:
            token = self._name("the name of the instance")
            if self._peek() == "[":
                raise refusal(token, "arrays of instances are not supported: write each instance")
            self._expect("(")
            connections = tuple(self._connections())
            module.instances.append(Instance(token, kind, tuple(parameters), connections))
            if not self._goes_on():
                return

    def _connections(self) -> list[tuple[str, Expression | None]]:
        """``.name(value), ...`` or ``value, ...`` up to the ``)``."""
        found: list[tuple[str, Expression | None]] = []
        while not self._accept(")"):
            if self._accept("."):
                name = self._next().text
                self._expect("(")
                value = None if self._peek() == ")" else self._expression()
                self._expect(")")
                found.append((name, value))
            else:
                found.append(("", None if self._peek() == "," else self._expression()))
            self._comma()
        return found

    def _analog(self, module: Module, token: Token) -> None:
        if self._accept("function"):
            module.functions.append(self._function())
        elif (word := self._accept("initial")) is not None:
            module.analog.append(Event(token, (Call(word, ()),), self._statement()))
        else:
            module.analog.append(self._statement())

    def _function(self) -> AnalogFunction:
        kind = self._accept("real", "integer", "string")
        token = self._name("the name of the analog function")
        arguments: list[Argument] = []
        if self._accept("("):  # ANSI: (input real x, output integer k)
            direction, type_ = "input", "real"
            while not self._accept(")"):
                if (word := self._accept(*_DIRECTIONS)) is not None:
                    direction, type_ = word.text, "real"
                if (word := self._accept("real", "integer", "string")) is not None:
                    type_ = word.text
                name = self._name("an argument")
                arguments.append(Argument(name, direction, type_, self._ranges()))
                self._comma()
        self._expect(";")
        variables: list[Variable] = []
        body: list[Statement] = []
        while not self._accept("endfunction"):
            self._attributes()
            if (word := self._accept(*_DIRECTIONS)) is not None:
                arguments.extend(self._function_arguments(word.text))
            elif self._peek() in TYPES:
                variables.extend(self._variables(self._next().text))
            elif (word := self._accept("parameter", "localparam")) is not None:
                values = self._parameters(word, {})
                variables.extend(Variable(p.token, p.type or "real", p.dimensions, p.default) for p in values)
                self._expect(";")
            else:
                body.append(self._statement())
        types = {variable.token.text: variable for variable in variables}
        typed = tuple(_typed_argument(argument, types) for argument in arguments)
        names = {argument.token.text for argument in arguments}
        locals_ = tuple(variable for variable in variables if variable.token.text not in names)
        return AnalogFunction(token, "real" if kind is None else kind.text, typed, locals_, tuple(body))

    def _function_arguments(self, direction: str) -> list[Argument]:
        kind = self._accept("real", "integer", "string")
        return [
            Argument(variable.token, direction, "real" if kind is None else kind.text, variable.dimensions)
            for variable in self._variables("real")
        ]


def _unescaped(token: Token) -> Token:
    """An escaped name as what it names; one that the grammar knows otherwise keeps its backslash."""
    name = token.text[1:]
    if token.kind != "name" or token.text[0] != "\\" or name in KEYWORDS or not re.search(r"\w", name):
        return token
    return replace(token, text=name)


def _typed_argument(argument: Argument, types: dict[str, Variable]) -> Argument:
    """An argument with the type that a declaration of its own gives it."""
    own = types.get(argument.token.text)
    if own is None:
        return argument
    return Argument(argument.token, argument.direction, own.type, own.dimensions or argument.dimensions)


_STANDARD_ACCESS = {
    **{"Voltage": "V", "Current": "I", "Charge": "Q", "Flux": "Phi", "Magneto_Motive_Force": "MMF"},
    **{"Temperature": "Temp", "Power": "Pwr", "Position": "Pos", "Velocity": "Vel", "Force": "F"},
    **{"Acceleration": "Acc", "Impulse": "Imp", "Angle": "Theta", "Angular_Velocity": "Omega"},
    **{"Angular_Acceleration": "Alpha", "Angular_Force": "Tau"},
}
