"""Verilog-A grammar, second part: modules, declarations and statements."""

from __future__ import annotations

import re

from cosim.devices.expressions import ARRAY, ExpressionParser
from cosim.devices.refusals import refuse_event
from cosim.devices.syntax import (
    Assign,
    Block,
    Branching,
    Call,
    Contribute,
    Declaration,
    Event,
    Expression,
    Function,
    Loop,
    Module,
    Null,
    Parameter,
    Statement,
)
from cosim.devices.tokens import Token, parse_error, refusal, words

__all__ = ["Parser"]

_TYPES = frozenset({"real", "integer", "string"})
_DIRECTIONS = frozenset({"inout", "input", "output"})
_DIGITAL = words("initial always assign wire reg logic tri supply0 supply1 time event defparam specify")
_CLOSING = words("end endcase endfunction endmodule else module analog")
_PRINTS = words("$strobe $display $monitor $write $debug $info $warning $error")
_INSTANCE = "module instances are not supported: write the equations of the sub-module here"


class Parser(ExpressionParser):
    """Recursive descent over preprocessed tokens.

    ``edits`` collects the mended slips and the attributes put in front of parameters, ``notes``
    what was left out.
    """

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self._blocks = 0

    # --- files and modules ------------------------------------------------------------------

    def source(self) -> list[Module]:
        modules: list[Module] = []
        while self._at < len(self.tokens):
            self._skip_attributes()
            token = self._next()
            if token.text in ("module", "macromodule"):
                self.edits.texts[self._at - 1] = "module"
                modules.append(self._module())
            elif token.text in ("nature", "discipline"):
                self._skip_past(f"end{token.text}", token)
            elif token.text == ";":  # `include "file"; is a common slip
                self.edits.drop(self._at - 1, self._at)
            elif token.kind != "include":
                raise self._unexpected(token, "a module")
        return modules

    def _skip_past(self, text: str, opened: Token) -> None:
        while self._at < len(self.tokens):
            if self._next().text == text:
                return
        raise parse_error(opened, f"{opened.text!r} without {text!r}")

    def _module(self) -> Module:
        module = Module(token=self._name("the name of the module"), name="")
        module.name = module.token.text
        if self._peek() == "#":
            raise refusal(self._next(), "parameters in the module header: declare them in the module's body")
        if self._take("("):
            self._skip_balanced(self.tokens[self._at - 1])
        self._expect(";")
        while self._peek() != "endmodule":
            if self._at == len(self.tokens):
                raise parse_error(module.token, f"module {module.name} without endmodule")
            self._item(module)
        self._next()
        if self._peek() == ":":  # endmodule : name
            self._next()
            self._name("the name of the module")
            self.edits.drop(self._at - 2, self._at)
        return module

    def _item(self, module: Module) -> None:
        start = self._at
        attributes = self._attributes()
        token = self._next()
        if token.text == "parameter":
            self._parameter(module, start, attributes)
        elif token.text in ("localparam", "aliasparam", "branch", "ground") or token.text in _DIRECTIONS:
            self._skip_statement(token)
            if token.text == "ground":
                names = self.tokens[start : self._at]
                module.grounds += [name.text for name in names[1:] if name.kind == "name"]
        elif token.text in _TYPES:
            module.variables.extend(self._declarators(token))
        elif token.text == "analog":
            self._analog(module)
        elif token.text == ";":  # `end;` is a common slip
            self.edits.drop(self._at - 1, self._at)
        elif token.text in _DIGITAL:
            raise refusal(token, f"{token.text!r} is digital Verilog: write the model as an analog block")
        elif token.kind == "name":
            self._nets(token)
        else:
            raise self._unexpected(token, "a declaration, an analog block or 'endmodule'")

    def _skip_statement(self, first: Token) -> None:
        """Behind the ``;``; number slips on the way are mended."""
        while (token := self._next()).text != ";":
            if token.text == "[":
                raise refusal(token, ARRAY)
            if token.text in ("endmodule", "begin", "parameter", "analog"):
                raise parse_error(token, f"';' is missing behind {first.text!r} of line {first.line}")
            self._mend_number(token)

    def _nets(self, discipline: Token) -> None:
        if self._peek() == "#" or (self._peek(1) == "(" and self._peek() != "("):
            raise refusal(discipline, _INSTANCE)
        if self._peek() != "[" and self.tokens[min(self._at, len(self.tokens) - 1)].kind != "name":
            raise self._unexpected(discipline, "a declaration, an analog block or 'endmodule'")
        self._skip_statement(discipline)

    def _declarators(self, declared: Token) -> list[Declaration]:
        found = []
        while True:
            token = self._name(f"the name of a {declared.text} variable")
            initial = self._take("=") is not None
            found.append(Declaration(token, initial, self._expression() if initial else None))
            if self._take(";"):
                return found
            self._expect(",")

    def _analog(self, module: Module) -> None:
        if self._take("function"):
            module.functions.append(self._function())
        elif (token := self._take("initial")) is not None:
            module.initial.append(Event(token, "initial", True, self._statement()))
        else:
            module.analog.append(self._statement())

    def _function(self) -> Function:
        self._take(*_TYPES)
        token = self._name("the name of the analog function")
        self._expect(";")
        arguments: list[tuple[str, Token]] = []
        declarations: list[Declaration] = []
        body: list[Statement] = []
        while not self._take("endfunction"):
            self._skip_attributes()
            first = self._peek()
            if first in _DIRECTIONS:
                self._next()
                arguments.extend((first, d.token) for d in self._declarators(self.tokens[self._at - 1]))
            elif first in _TYPES:
                declarations.extend(self._declarators(self._next()))
            elif first in ("parameter", "localparam"):
                self._skip_statement(self._next())
            else:
                body.append(self._statement())
        directions, names = zip(*arguments, strict=True) if arguments else ((), ())
        return Function(token, directions, names, Block(tuple(declarations), tuple(body)))

    # --- parameters --------------------------------------------------------------------------

    def _parameter(self, module: Module, start: int, attributes: dict[str, str]) -> None:
        """One declaration, with its attributes in front, for each name of the list."""
        index = self._at - 1
        self.edits.drop(start, index)
        attributes |= self._moved_attributes()
        kind = self._take(*_TYPES)
        head: list[str] = []
        while True:
            shared = attributes | self._moved_attributes()
            index = index if not head else self._at
            parameter = self._parameter_assignment(kind, shared)
            module.parameters.append(parameter)
            self.edits.lines[index] = [_attribute_list(parameter.attributes), *head]
            if self._take(";"):
                return
            self._expect(",")
            self.edits.texts[self._at - 1] = ";"
            head = ["parameter" if kind is None else f"parameter {kind.text}"]

    def _parameter_assignment(self, kind: Token | None, attributes: dict[str, str]) -> Parameter:
        token = self._name("the name of the parameter")
        self._expect("=")
        default = self._at
        self._expression()
        stop = self._at
        ranges, moved = self._ranges()
        return Parameter(
            name=token.text,
            token=token,
            type=self._type_of(default, stop) if kind is None else kind.text,
            default=self._text(default, stop),
            ranges=ranges,
            attributes=attributes | moved,
        )

    def _type_of(self, start: int, stop: int) -> str:
        """The type of a parameter without one: that of its default value."""
        texts = [self.tokens[i] for i in range(start, stop)]
        if any(t.kind == "string" for t in texts):
            return "string"
        whole = all(t.kind != "name" and (t.kind != "number" or t.text.isdigit()) for t in texts)
        return "integer" if whole else "real"

    def _ranges(self) -> tuple[str, dict[str, str]]:
        """The text of the ``from`` and ``exclude`` clauses, and the attributes in between."""
        clauses: list[str] = []
        attributes = self._moved_attributes()
        while (word := self._take("from", "exclude")) is not None:
            start = self._at
            if self._peek() in ("(", "[") and self._is_interval():
                self._interval()
            else:
                self._expression()
            clauses.append(f"{word.text} {self._text(start, self._at)}")
            attributes |= self._moved_attributes()
        return " ".join(clauses), attributes

    def _is_interval(self) -> bool:
        """Whether the bracket here holds a ``:`` or ``,`` of its own."""
        depth = 0
        for index in range(self._at, len(self.tokens)):
            text = self.tokens[index].text
            depth += (text in "([") - (text in ")]")
            if depth == 0 or text == ";":
                return False
            if depth == 1 and text in (":", ","):
                return True
        return False

    def _interval(self) -> None:
        self._next()
        self._bound()
        separator = self._next()
        if separator.text not in (":", ","):
            raise self._unexpected(separator, "':' between the bounds of a range")
        self.edits.texts[self._at - 1] = ":"
        self._bound()
        if self._take(")", "]") is None:
            raise self._unexpected(self._next(), "')' or ']' behind a range")

    def _bound(self) -> None:
        if self._peek() == "+" and self._peek(1) == "inf":
            self.edits.drop(self._at, self._at + 1)
        self._expression()

    # --- statements -------------------------------------------------------------------------

    def _statement(self) -> Statement:
        self._deeper(+1)
        self._skip_attributes()
        token = self._next()
        statement: Statement
        match token.text:
            case ";":
                statement = Null(token)
            case "begin":
                statement = self._block()
            case "if":
                statement = self._if()
            case "case" | "casex" | "casez":
                statement = self._case(token)
            case "for" | "while":
                statement = self._loop(token)
            case "@":
                statement = self._event(token)
            case _:
                statement = self._simple(token)
        self._deeper(-1)
        return statement

    def _block(self) -> Block:
        begin = self._at - 1
        named = self._take(":") is not None
        if named:
            self._name("the name of the block")
        declarations: list[Declaration] = []
        body: list[Statement] = []
        while not self._take("end"):
            self._skip_attributes()
            if self._peek() in _TYPES:
                declarations.extend(self._declarators(self._next()))
            elif self._peek() == "parameter":
                raise refusal(self._next(), "parameter inside a block: declare it in the module's body")
            elif self._peek() == "localparam":
                self._skip_statement(self._next())
            else:
                body.append(self._statement())
        if self._peek() == ":":  # end : name
            self._next()
            self._name("the name of the block")
            self.edits.drop(self._at - 2, self._at)
        if self._peek() == ";" and self._peek(1) == "else":  # `end; else` is a common slip
            self._next()
            self.edits.drop(self._at - 1, self._at)
        if declarations and not named:
            self._blocks += 1
            self.edits.texts[begin] = f"begin : cosim_block_{self._blocks}"
        return Block(tuple(declarations), tuple(body))

    def _parenthesis(self) -> tuple[Expression, str]:
        self._expect("(")
        start = self._at
        value = self._expression()
        text = self._text(start, self._at)
        self._expect(")")
        return value, text

    def _if(self) -> Branching:
        condition, text = self._parenthesis()
        then = self._statement()
        other = self._statement() if self._take("else") else Null(self.tokens[self._at - 1])
        return Branching(condition, (), (then, other), True, text)

    def _case(self, token: Token) -> Branching:
        if token.text != "case":
            raise refusal(token, f"{token.text!r} is digital Verilog: write 'case'")
        condition, _ = self._parenthesis()
        labels: list[Expression] = []
        arms: list[Statement] = []
        complete = False
        while not self._take("endcase"):
            if self._take("default"):
                complete = True
                self._take(":")
            else:
                labels.append(self._expression())
                while self._take(","):
                    labels.append(self._expression())
                self._expect(":")
            arms.append(self._statement())
        return Branching(condition, tuple(labels), tuple(arms), complete, "")

    def _loop(self, token: Token) -> Loop:
        nothing = Null(token)
        if token.text == "while":
            condition, _ = self._parenthesis()
            return Loop(token, nothing, condition, self._statement(), nothing, False)
        self._expect("(")
        start = self._at
        before = self._assignment()
        self._expect(";")
        condition = self._expression()
        self._expect(";")
        first = _first_test(self._text(start, self._at))
        after = self._assignment()
        self._expect(")")
        return Loop(token, before, condition, self._statement(), after, first)

    def _assignment(self) -> Assign:
        target = self._name("a variable")
        self._expect("=")
        return Assign(target, self._expression())

    def _event(self, token: Token) -> Event:
        self._expect("(")
        start = self._at
        kinds: list[str] = []
        plain = False
        while True:
            event = self._name("initial_step")
            kind = event.text
            if kind not in ("initial_step", "final_step"):
                raise refuse_event(event)
            kinds.append(kind)
            if self._take("("):
                self._skip_balanced(self.tokens[self._at - 1])
            else:
                plain = plain or kind == "initial_step"
            if not self._take("or", ","):
                break
        self._expect(")")
        if plain and set(kinds) == {"initial_step"}:  # with or("tran"): the plain one covers all
            self.edits.drop(start + 1, self._at - 1)
            self.edits.texts[start] = "initial_step"
        kind = next((k for k in kinds if k != "initial_step"), "initial_step")
        return Event(token, kind, plain, self._statement())

    def _simple(self, token: Token) -> Statement:
        """An assignment, a contribution, or a call."""
        start = self._at - 1
        if token.text in _PRINTS:
            return self._print(token, start)
        if token.kind not in ("name", "system") or token.text in _CLOSING:
            raise self._unexpected(token, "a statement")
        if self._peek() == "=":
            self._next()
            value = self._expression()
            self._expect(";")
            return Assign(token, value)
        self._at = start
        target = self._primary()
        end = self._next()
        if end.text == "<+":
            value = self._expression()
            self._expect(";")
            return Contribute(token, (target, value))
        if end.text == ":":
            raise refusal(
                token, "indirect branch contribution: solve the equation for the quantity and use '<+'"
            )
        if end.text == "=" and isinstance(target, Call):
            raise parse_error(end, f"'=' cannot set a branch: write {token.text}(...) <+ ...")
        if end.text != ";" or not (isinstance(target, Call) or token.kind == "system"):
            raise self._unexpected(end, "'=', '<+' or ';'")
        return Contribute(token, (target,))

    def _print(self, token: Token, start: int) -> Null:
        """Printing has no effect on the equations: the statement is dropped."""
        if self._take("("):
            self._skip_balanced(self.tokens[self._at - 1])
        self._expect(";")
        self.edits.drop(start, self._at - 1)
        self.notes.append(f"{token.where}: {token.text} is dropped: nothing is printed during a solve")
        return Null(token)


def _attribute_list(attributes: dict[str, str]) -> str:
    entries = {**attributes, "type": '"instance"'}
    return "(* " + ", ".join(f"{name}={value}" if value else name for name, value in entries.items()) + " *)"


def _first_test(text: str) -> bool:
    """Whether ``k=0;k<3;`` is true the first time: both numbers must be literal."""
    match = re.fullmatch(r"(\w+)=(-?\d+);(\w+)(<|<=|>|>=)(-?\d+);", text)
    if match is None or match.group(1) != match.group(3):
        return False
    start, stop = int(match.group(2)), int(match.group(5))
    return {"<": start < stop, "<=": start <= stop, ">": start > stop, ">=": start >= stop}[match.group(4)]
