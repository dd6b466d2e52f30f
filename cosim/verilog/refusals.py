"""Functions and tasks of Verilog-AMS that cosim does not have, each with what to write instead."""

from __future__ import annotations

from cosim.errors import ModelError, ParseError
from cosim.verilog.tokens import Token, parse_error, refusal, words

__all__ = ["REMEDIES", "unknown_call"]

_FILTER = "is not supported: use laplace_nd, which is continuous in time"
_FILES = "file access is not supported: use $table_model, or pass the values as parameters"

# "prefix*" stands for every name that starts so
REMEDIES = {
    "absdelay": "is not supported: put a transmission line into the netlist, or use laplace_nd",
    "zi_*": _FILTER,
    **dict.fromkeys(
        words(
            "$fopen $fgets $fscanf $fread $fseek $ftell $rewind $ferror $feof $swrite $sformat $sscanf "
            "$readmemh $readmemb"
        ),
        _FILES,
    ),
}


def unknown_call(token: Token) -> ParseError | ModelError:
    """The refusal of a call: with what to write instead, or of a name that nobody knows."""
    name = token.text
    for known, text in REMEDIES.items():
        if name == known or (known.endswith("*") and name.startswith(known[:-1])):
            return refusal(token, f"{name}{' ' if text.startswith('is ') else ': '}{text}")
    return parse_error(token, f"function {name} is not known")
