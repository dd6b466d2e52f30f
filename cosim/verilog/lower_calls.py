"""Lowering: analog operators and system functions."""

from __future__ import annotations

from cosim.devices.ir import Type
from cosim.devices.simulator import SIMULATOR_PARAMETERS
from cosim.verilog.constants import CONSTANTS
from cosim.verilog.lower_expressions import ExpressionLowering
from cosim.verilog.scope import Branch, Constant, Term
from cosim.verilog.ssa import Value
from cosim.verilog.tokens import parse_error, refusal
from cosim.verilog.tree import Call, Name, Parameter

__all__ = ["CallLowering"]

_NOISE = frozenset({"white_noise", "flicker_noise", "noise_table", "noise_table_log", "ac_stim"})
_THERMAL = CONSTANTS["P_K_NIST2010"] / CONSTANTS["P_Q_NIST2010"]  # V/K; the last ones of LRM 2.4


class CallLowering(ExpressionLowering):
    """What has a meaning of its own in the language, beside arithmetic."""

    def system_call(self, call: Call) -> Term | None:
        match call.token.text:
            case "ddt":
                return self._ddt(call)
            case "idt":
                return self.integral(call)
            case "idtmod":
                return self._idtmod(call)
            case "ddx":
                return self._ddx(call)
            case "$limit":
                return self._limit(call)
            case "analysis":
                return self._analysis(call)
            case "$simparam":
                return self._simparam(call)
            case "$simparam$str":
                return self._simparam_text(call)
            case "$test$plusargs" | "$value$plusargs":
                return Term(self.builder.literal(0))  # no command line is the model's
            case "$param_given":
                return self._param_given(call)
            case "$port_connected":
                return self._port_connected(call)
            case "$temperature":
                return Term(self.input_of("temperature", "$temperature"))
            case "$vt":
                return self._thermal_voltage(call)
            case "$abstime" | "$realtime":
                return Term(self.circuit_of(call.token).input("abstime", "$abstime"))
            case "$mfactor":
                return Term(self.input_of("mfactor", "mfactor"))
            case name if name in _NOISE:
                return self._noise(call)
        return None

    def _noise(self, call: Call) -> Term:
        """Nothing in the large-signal equations."""
        self.circuit_of(call.token)
        name = call.token.text
        stimulus = "give the stimulus to a source outside the model"
        why = stimulus if name == "ac_stim" else "there is no noise analysis"
        self.notes.append(f"{call.token.where}: {name} is left out: {why}")
        return Term(self.builder.literal(0.0))

    def _ddt(self, call: Call) -> Term:
        self.circuit_of(call.token)
        charge = self.real_of(self.arguments_of(call, 1, 2)[0], call.token)
        return Term(self.builder.literal(0.0), charge)

    def integral(self, call: Call) -> Term:
        """An unknown y with dy/dt = f; where time stands still y is the initial value, or f is 0."""
        circuit = self.circuit_of(call.token)
        arguments = self.arguments_of(call, 1, 2)
        index, value = circuit.new_implicit()
        rate = self.real_of(arguments[0], call.token)
        residual = self.builder.emit("fneg", rate)
        charge = value
        if len(arguments) > 1:
            initial = self.real_of(arguments[1], call.token)
            running = circuit.input("integrating", "integrating", "boolean")
            held = self.builder.emit("fsub", value, initial)
            residual = self.builder.choose(running, residual, held)
            charge = self.builder.choose(running, value, self.builder.literal(0.0))
        self.environment["equation", index] = Term(residual, charge)
        return Term(value)

    def _idtmod(self, call: Call) -> Term:
        arguments = self.arguments_of(call, 1, 5)
        value = self.integral(Call(call.token, tuple(arguments[:2]))).value
        if len(arguments) < 3:
            return Term(value)
        emit = self.builder.emit
        modulus = self.real_of(arguments[2], call.token)
        offset = self.real_of(arguments[3], call.token) if len(arguments) > 3 else self.builder.literal(0.0)
        shifted = emit("fsub", value, offset)
        turns = emit("floor", emit("fdiv", shifted, modulus))
        return Term(emit("fsub", value, emit("fmul", turns, modulus)))

    def _ddx(self, call: Call) -> Term:
        """A placeholder: derivatives are taken when the whole function is known."""
        circuit = self.circuit_of(call.token)
        arguments = self.arguments_of(call, 2, 2)
        by = arguments[1]
        if not isinstance(by, Call) or by.token.text not in self.access:
            raise parse_error(call.token, "ddx takes an expression and V(node) or I(branch)")
        value = self.real_of(arguments[0], call.token)
        potential = self.access[by.token.text] == "potential"
        if potential and len(by.arguments) == 1 and not self._is_branch(by):
            target = str(self.net(by.arguments[0], by.token).index)
        else:
            branch, turned = self.access_branch(by)
            probe = circuit.voltage(branch.first, branch.second) if potential else circuit.flow(branch)
            slope = self.builder.emit("ddx", value, self.builder.literal(probe.name))
            return Term(self.builder.emit("fneg", slope) if turned else slope)
        return Term(self.builder.emit("ddx", value, self.builder.literal(f"#{target}")))

    def _is_branch(self, call: Call) -> bool:
        first = call.arguments[0]
        return isinstance(first, Name) and isinstance(self.scope.find(first.token.text), Branch)

    def _limit(self, call: Call) -> Term:
        """$limit only helps Newton on its way; at the solution it is its first argument."""
        arguments = [argument for argument in call.arguments if argument is not None]
        if not arguments:
            raise parse_error(call.token, "$limit takes at least one argument")
        self.notes.append(f"{call.token.where}: $limit is taken as its first argument")
        return Term(self.value(arguments[0]))

    def _analysis(self, call: Call) -> Term:
        self.circuit_of(call.token)
        result = self.builder.literal(0)
        for argument in self.all_given(call):
            name = self.value(argument)
            if name.literal is None or name.type != "string":
                raise parse_error(call.token, 'analysis() takes names of analyses, such as "tran"')
            result = self.builder.emit("ior", result, self.builder.emit("analysis", name))
        return Term(result)

    def _simparam(self, call: Call) -> Term:
        arguments = self.arguments_of(call, 1, 2)
        name = self.value(arguments[0])
        if name.literal is None or name.type != "string":
            raise parse_error(call.token, '$simparam takes a name, such as "gmin"')
        if len(arguments) == 2:
            return Term(self.builder.emit("simparam", name, self.real_of(arguments[1], call.token)))
        known = SIMULATOR_PARAMETERS.get(str(name.literal))
        if known is None:
            raise refusal(call.token, f'$simparam("{name.literal}") needs a default as a second argument')
        return Term(self.builder.emit("simparam", name, self.builder.literal(known)))

    def _simparam_text(self, call: Call) -> Term:
        """What a simulator would say of itself, as far as it is known while compiling."""
        arguments = self.arguments_of(call, 1, 2)
        name = self.value(arguments[0]).literal
        if name == "module":
            return Term(self.builder.literal(self.module))
        if len(arguments) == 2:
            return Term(self.value(arguments[1]))
        raise refusal(
            call.token, f'$simparam$str("{name}") is not known: give a default as a second argument'
        )

    def _param_given(self, call: Call) -> Term:
        arguments = self.arguments_of(call, 1, 1)
        name = arguments[0]
        symbol = self.scope.find(name.token.text) if isinstance(name, Name) else None
        if not isinstance(symbol, Parameter) and not (isinstance(symbol, Constant) and symbol.parameter):
            raise parse_error(call.token, "$param_given takes the name of a parameter")
        assert self.given is not None
        return Term(self.given(symbol.token.text if isinstance(symbol, Parameter) else name.token.text))

    def _port_connected(self, call: Call) -> Term:
        self.net(self.arguments_of(call, 1, 1)[0], call.token)
        return Term(self.builder.literal(1))

    def input_of(self, kind: str, name: str, type_: Type = "real") -> Value:
        if self.circuit is None:
            raise AssertionError(f"no {kind} here")
        return self.circuit.input(kind, name, type_)

    def _thermal_voltage(self, call: Call) -> Term:
        arguments = self.arguments_of(call, 0, 1)
        if arguments:
            temperature = self.real_of(arguments[0], call.token)
        else:
            temperature = self.input_of("temperature", "$temperature")
        return Term(self.builder.emit("fmul", self.builder.literal(_THERMAL), temperature))
