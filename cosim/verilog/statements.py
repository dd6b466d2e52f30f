"""Verilog-A grammar, second part: variables, parameters and statements."""

from __future__ import annotations

import itertools

from cosim.verilog.expressions import ExpressionParser
from cosim.verilog.tokens import Token, parse_error, refusal, words
from cosim.verilog.tree import (
    Assign,
    Binary,
    Block,
    Call,
    CallStatement,
    Case,
    Contribute,
    Event,
    For,
    If,
    Indexed,
    Indirect,
    Interval,
    Name,
    Null,
    Parameter,
    Range,
    Repeat,
    Statement,
    Variable,
    While,
)

__all__ = ["TYPES", "StatementParser"]

TYPES = words("real integer string genvar")
_DIGITAL_STATEMENTS = {
    **dict.fromkeys(
        words("forever wait fork join disable assign deassign force release"), "write analog statements"
    ),
    **dict.fromkeys(words("casex casez"), "write 'case'"),
    **dict.fromkeys(words("posedge negedge"), "write @(cross(V(node) - threshold, 1))"),
}
_CLOSING = words("end endcase endfunction endmodule else module analog endgenerate")
_DEEPEST = 150  # statements within one another; else if counts once


class StatementParser(ExpressionParser):
    """Reads declarations that modules, blocks and functions share, and statements."""

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self._nesting = 0
        self._generating = 0  # how many generate constructs are open: analog blocks stand in them

    # --- declarations -----------------------------------------------------------------------

    def _ranges(self) -> tuple[Range, ...]:
        """``[first:last]`` any number of times; ``[size]`` counts from 0."""
        found = []
        while (opened := self._accept("[")) is not None:
            first = self._expression()
            if not self._accept(":"):
                raise parse_error(opened, "a range needs two bounds: write [0:3]")
            found.append(Range(first, self._expression()))
            self._expect("]")
        return tuple(found)

    def _variables(self, kind: str) -> list[Variable]:
        """The names of one declaration, up to its ``;``."""
        shared = self._ranges()  # real [0:3] a;
        found = []
        while True:
            token = self._name(f"the name of a {kind} variable")
            dimensions = self._ranges() or shared
            initial = self._expression() if self._accept("=") else None
            self._attributes()
            found.append(Variable(token, kind, dimensions, initial))
            if not self._goes_on():
                return found

    def _parameters(self, word: Token, attributes: dict[str, str]) -> list[Parameter]:
        """The rest of a ``parameter`` or ``localparam`` declaration, up to its ``;`` or ``)``."""
        found = []
        kind, shared = self._parameter_type()
        while True:
            attributes = attributes | self._attributes()
            token = self._name("the name of the parameter")
            dimensions = self._ranges() or shared
            self._expect("=")
            default = self._expression()
            own = attributes | self._attributes()
            intervals = []
            while (clause := self._accept("from", "exclude")) is not None:
                intervals.append(self._interval(clause))
                own |= self._attributes()
            found.append(
                Parameter(
                    token=token,
                    type=kind,
                    default=default,
                    dimensions=dimensions,
                    intervals=tuple(intervals),
                    attributes=own,
                    local=word.text == "localparam",
                )
            )
            if not self._accept(","):
                return found
            if self._accept("parameter"):  # of a module's header: the next declaration
                kind, shared = self._parameter_type()

    def _parameter_type(self) -> tuple[str, tuple[Range, ...]]:
        kind = self._accept("real", "integer", "string")
        return ("" if kind is None else kind.text), self._ranges()

    def _interval(self, clause: Token) -> Interval:
        start = self._at
        exclude = clause.text == "exclude"
        if self._accept("'{", "{"):
            values = list(self._vector(clause).items)
            return Interval(exclude, values=tuple(values), text=self._text(start))
        opened = self._accept("(", "[")
        if opened is None or not self._is_interval():
            if opened is not None:
                self._at -= 1
            return Interval(exclude, values=(self._expression(),), text=self._text(start))
        low = self._bound("-inf")
        separator = self._next()
        if separator.text == ",":
            self._note(separator, "a range with ',' between its bounds: read as ':'")
        elif separator.text != ":":
            raise self._unexpected(separator, "':' between the bounds of a range")
        high = self._bound("inf")
        closed = self._accept(")", "]")
        if closed is None:
            raise self._unexpected(self._next(), "')' or ']' behind a range")
        text = self._text(start)
        return Interval(exclude, low, high, opened.text == "(", closed.text == ")", text=text)

    def _is_interval(self) -> bool:
        """Whether the bracket just opened holds a ``:`` or ``,`` of its own."""
        depth = 1
        for token in itertools.islice(self.tokens, self._at, None):
            depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
            if depth == 0 or token.text == ";":
                return False
            if depth == 1 and token.text in (":", ","):
                return True
        return False

    def _bound(self, infinite: str):
        sign = self._accept("+", "-")
        if self._accept("inf"):
            if (infinite == "-inf") != (sign is not None and sign.text == "-"):
                raise parse_error(self.tokens[self._at - 1], f"this bound can only be {infinite}")
            return None
        if sign is not None:
            self._at -= 1
        return self._expression()

    # --- statements -------------------------------------------------------------------------

    def _statement(self) -> Statement:
        self._attributes()
        token = self._next()
        if token.text == ";":
            return Null(token)
        self._deeper_statement(token, +1)
        statement = self._compound(token)
        self._deeper_statement(token, -1)
        return statement

    def _deeper_statement(self, token: Token, step: int) -> None:
        self._nesting += step
        if self._nesting > _DEEPEST:
            raise parse_error(token, f"statements are nested more than {_DEEPEST} deep")

    def _compound(self, token: Token) -> Statement:
        match token.text:
            case "begin":
                return self._block(token)
            case "if":
                return self._if(token)
            case "case":
                return self._case(token)
            case "for":
                return self._for(token)
            case "while":
                return While(token, self._parenthesis(), self._statement())
            case "repeat":
                return Repeat(token, self._parenthesis(), self._statement())
            case "generate":
                return self._generate(token)
            case "analog" if self._generating:
                return self._statement()
            case "@":
                return self._event(token)
        if token.text in _DIGITAL_STATEMENTS:
            raise refusal(token, f"{token.text!r} is digital Verilog: {_DIGITAL_STATEMENTS[token.text]}")
        return self._simple(token)

    def _block(self, token: Token) -> Block:
        name = self._name("the name of the block").text if self._accept(":") else ""
        variables: list[Variable] = []
        parameters: list[Parameter] = []
        body: list[Statement] = []
        while not self._accept("end"):
            attributes = self._attributes()
            if self._peek() in TYPES:
                variables.extend(self._variables(self._next().text))
            elif (word := self._accept("parameter", "localparam")) is not None:
                parameters.extend(self._parameters(word, attributes))
                self._expect(";")
            else:
                body.append(self._statement())
        if self._accept(":"):  # end : name
            self._name("the name of the block")
        if self._peek() == ";" and self._peek(1) == "else":
            self._note(self._next(), "';' between 'end' and 'else': ignored")
        return Block(token, name, tuple(parameters), tuple(variables), tuple(body))

    def _generate(self, token: Token) -> Block:
        body: list[Statement] = []
        self._generating += 1
        while not self._accept("endgenerate"):
            body.append(self._statement())
        self._generating -= 1
        return Block(token, "", (), (), tuple(body))

    def _parenthesis(self):
        self._expect("(")
        value = self._expression()
        self._expect(")")
        return value

    def _if(self, token: Token) -> If:
        """An ``if``; a chain of ``else if`` is read without going deeper."""
        links = [(token, self._parenthesis(), self._statement())]
        last: Statement | None = None
        while self._accept("else"):
            if (again := self._accept("if")) is None:
                last = self._statement()
                break
            links.append((again, self._parenthesis(), self._statement()))
        for place, condition, then in reversed(links):
            last = If(place, condition, then, last)
        assert isinstance(last, If)
        return last

    def _case(self, token: Token) -> Case:
        selector = self._parenthesis()
        arms: list[tuple[tuple, Statement]] = []
        while not self._accept("endcase"):
            labels = []
            if self._accept("default"):
                self._accept(":")
            else:
                labels.append(self._expression())
                while self._accept(","):
                    labels.append(self._expression())
                self._expect(":")
            arms.append((tuple(labels), self._statement()))
        return Case(token, selector, tuple(arms))

    def _for(self, token: Token) -> For:
        self._expect("(")
        before = self._assignment()
        self._expect(";")
        condition = self._expression()
        self._expect(";")
        after = self._assignment()
        self._expect(")")
        return For(token, before, condition, after, self._statement())

    def _assignment(self) -> Assign:
        target = self._reference("a variable")
        self._refuse_update(target.token)
        self._expect("=")
        return Assign(target, self._expression())

    def _refuse_update(self, target: Token) -> None:
        """``x++`` and ``x += 1`` of other languages."""
        first, second = self._peek(), self._peek(1)
        if first in ("+", "-", "*", "/") and second in (first, "="):
            raise parse_error(
                target, f"'{first}{second}' is not Verilog-A: write {target.text} = {target.text} {first} ..."
            )

    def _event(self, token: Token) -> Event:
        """``@(a or b, c) statement``, ``@name statement``."""
        events = []
        if self._accept("("):
            while True:
                if (word := self._accept("posedge", "negedge")) is not None:
                    raise refusal(word, f"{word.text!r} is digital Verilog: {_DIGITAL_STATEMENTS[word.text]}")
                event = self._primary()
                if isinstance(event, Name):
                    event = Call(event.token, ())
                if not isinstance(event, Call):
                    raise self._unexpected(self.tokens[self._at - 1], "an event, such as initial_step")
                events.append(event)
                if not self._accept("or", ","):
                    break
            self._expect(")")
        else:
            events.append(Call(self._name("an event"), ()))
        return Event(token, tuple(events), self._statement())

    def _simple(self, token: Token) -> Statement:
        """An assignment, a contribution, or a call."""
        if token.kind not in ("name", "system") or token.text in _CLOSING:
            raise self._unexpected(token, "a statement")
        self._at -= 1
        target = self._primary()
        self._refuse_update(token)
        end = self._next()
        if isinstance(target, Name | Indexed) and end.text == "=":
            value = self._expression()
            self._expect(";")
            return Assign(target, value)
        if isinstance(target, Name) and end.text == ";":
            return CallStatement(Call(target.token, ()))
        if not isinstance(target, Call):
            raise self._unexpected(end, "'='")
        if end.text == "<+":
            value = self._expression()
            self._expect(";")
            return Contribute(target, value)
        if end.text == ":":
            return self._indirect(target)
        if end.text == "=":
            raise parse_error(end, f"'=' cannot set a branch: write {token.text}(...) <+ ...")
        if end.text != ";":
            raise self._unexpected(end, "'=', '<+' or ';'")
        return CallStatement(target)

    def _indirect(self, target: Call) -> Indirect:
        start = self.tokens[self._at - 1]
        equation = self._expression()
        self._expect(";")
        if not isinstance(equation, Binary) or equation.token.text != "==":
            raise parse_error(start, "an indirect contribution is written V(out) : left == right;")
        return Indirect(target, equation.left, equation.right)
