"""Words of Verilog-A that cosim refuses, each with what to write instead; and words to take care of."""

from __future__ import annotations

from itertools import pairwise

from cosim.devices.tokens import Token, refusal, words
from cosim.errors import ModelError

__all__ = ["check_words", "find_features", "refuse_event"]

_SMOOTH = "write the condition as a smooth function of voltages and states"
_EVENTS = {
    "cross": _SMOOTH,
    "above": _SMOOTH,
    "timer": "make the waveform in the source outside the model, or use $abstime",
}
_RANDOM = "random numbers are not drawn inside a model: draw in Python and pass an instance parameter"
_FILTER = "is not supported: write the filter with an internal node and ddt"
_FILES = "file access is not supported: pass the values as parameters"
_STOP = "a model cannot end the run: give the parameter a range (from ...) or limit the quantity"
_GENERATE = "generate constructs are not supported: write the statements out"
_KEYWORDS = {
    "repeat": "repeat is not supported: use for with constant bounds",
    "genvar": _GENERATE,
    "generate": _GENERATE,
    "endgenerate": _GENERATE,
    "disable": "disable is not supported: use if and else",
    "paramset": "paramset is not supported: write a module",
    "connectmodule": "connectmodule is not supported: write a module",
}
_FUNCTIONS = {
    "transition": "transition is not supported: use an internal node with ddt, or tanh, for a smooth edge",
    "slew": "slew is not supported: use an internal node with ddt and a limited current",
    "absdelay": "absdelay is not supported (it would return its argument undelayed): use a chain of RC nodes",
    "last_crossing": "last_crossing is not supported: use an internal node as the state",
    "noise_table": "noise_table is not supported: use white_noise or flicker_noise",
    "ac_stim": "ac_stim is not supported: use a source outside the model",
    "$table_model": "$table_model is not supported: use a polynomial or an analog function",
    "$bound_step": "$bound_step is not supported: delete it and set the maximum step of the analysis",
    "$realtime": "$realtime is not supported: use $abstime",
    "$fatal": _STOP,
    "$finish": _STOP,
    "$stop": _STOP,
    "$random": _RANDOM,
    "$arandom": _RANDOM,
}
_PREFIXES = {
    "$rdist_": _RANDOM,
    "$dist_": _RANDOM,
    "laplace_": f"laplace_* {_FILTER}",
    "zi_": f"zi_* {_FILTER}",
    "$test$": "$test$plusargs is not supported: use a parameter",
    "$value$": "$value$plusargs is not supported: use a parameter",
    "$simparam$str": "$simparam$str is not supported: use a parameter",
}
_FILE_TASKS = words(
    "$fopen $fclose $fdisplay $fwrite $fstrobe $fmonitor $fdebug $fgets $fscanf $fread $fseek $ftell "
    "$rewind $fflush $ferror $feof $swrite $sformat $sscanf $readmemh $readmemb"
)
_FEATURES = {
    "ddt": "ddt",
    "idt": "idt",
    "idtmod": "idtmod",
    "ddx": "ddx",
    "limexp": "limexp",
    "$limit": "limit",
    "white_noise": "noise",
    "flicker_noise": "noise",
    "$abstime": "abstime",
    "analysis": "analysis",
    "$simparam": "simparam",
    "$temperature": "temperature",
    "$vt": "temperature",
    "$discontinuity": "discontinuity",
    "for": "loop",
    "while": "loop",
    "initial_step": "initial_step",
}


def check_words(tokens: list[Token]) -> None:
    """Raise ModelError at the first operator, keyword, function or system task that cosim refuses."""
    for token, behind in pairwise([*tokens, *tokens[-1:]]):
        if token.text == "~":
            raise refusal(token, "~ is compiled as a negation by OpenVAF: write -x - 1 instead of ~x")
        if token.kind == "system" or (token.kind == "name" and behind.text == "("):
            message = _refused_call(token.text)
        else:
            message = _KEYWORDS.get(token.text) if token.kind == "name" else None
        if message is not None:
            raise refusal(token, message if token.text in message else f"{token.text}: {message}")


def _refused_call(name: str) -> str | None:
    if name in _FILE_TASKS:
        return _FILES
    prefixed = (message for prefix, message in _PREFIXES.items() if name.startswith(prefix))
    return _FUNCTIONS.get(name) or _KEYWORDS.get(name) or next(prefixed, None)


def refuse_event(token: Token) -> ModelError:
    """The refusal of an event that is neither initial_step nor final_step."""
    remedy = _EVENTS.get(token.text, "only @(initial_step) is")
    return refusal(token, f"@({token.text}) is not supported: {remedy}")


def find_features(tokens: list[Token], parameter_types: frozenset[str]) -> frozenset[str]:
    """Names of what the source uses and the compiler must treat with care."""
    used = {token.text for token in tokens if token.kind in ("name", "system")}
    found = {feature for word, feature in _FEATURES.items() if word in used}
    return frozenset(found | ({"string_parameter"} & {f"{kind}_parameter" for kind in parameter_types}))
