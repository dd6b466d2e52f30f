"""What simulators see as the names of a module, its parameters and its nodes; the API keeps the author's.

SPICE reads some names in its own way, does not tell capitals apart, and splits text at brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from cosim.devices.ir import DeviceIR

__all__ = ["osdi_aliases", "osdi_name", "osdi_nodes", "osdi_parameters"]

# what SPICE takes for a device or a model type of its own before it looks into an OSDI library
_MODULES = """
    asrc bjt bsim1 bsim2 bsim3 bsim3v0 bsim3v1 bsim3v32 b4soi bsim4 bsim4v5 bsim4v6 bsim4v7 b3soipd b3soifd
    b3soidd capacitor cccs ccvs cpllines cswitch diode hfet1 hfet2 hicum2 hisim2 hisimhv1 hisimhv2 inductor
    mutual isource jfet jfet2 ltra mes mesa mos1 mos2 mos3 mos6 mos9 resistor soi3 switch tranline transline
    urc vbic vccs vcvs vsource vdmos nbjt nbjt2 numd numd2 numos
    r res c cap l ind d npn pnp lpnp njf pjf nmf pmf nhfet phfet nmos pmos nsoi psoi vdmosn vdmosp sw csw
    vswitch iswitch txl cpl
"""
# ngspice multiplies a current by m, and drops level from a model card
_PARAMETERS = ("m", "level")


def osdi_name(module: str) -> str:
    """Name in the OSDI library of a Verilog-A module: another one where SPICE has a device of that name.

    >>> osdi_name("vteam"), osdi_name("Diode")
    ('vteam', 'va_Diode')
    """
    name = _plain(module)
    return f"va_{name}" if name.lower() in _MODULES.split() else name


def osdi_parameters(ir: DeviceIR) -> dict[str, str]:
    """Parameter -> its name in the OSDI library and in netlists, an identifier of C as well."""
    return _apart(ir.parameter_names, _PARAMETERS, _plain)


def osdi_aliases(ir: DeviceIR) -> dict[str, tuple[str, ...]]:
    """Parameter -> its further names in the OSDI library, without those that SPICE reads in its own way."""
    taken = {name.lower() for name in (*_PARAMETERS, *osdi_parameters(ir).values())}
    found: dict[str, tuple[str, ...]] = {}
    for parameter in ir.parameters:
        kept = []
        for alias in parameter.aliases:
            if _plain(alias) == alias and alias.lower() not in taken:
                taken.add(alias.lower())
                kept.append(alias)
        found[parameter.name] = tuple(kept)
    return found


def osdi_nodes(ir: DeviceIR) -> dict[str, str]:
    """Node -> its name in the OSDI library, by which netlists save it: lower case, letters and digits."""
    return _apart((node.name for node in ir.nodes), (), _word)


def _plain(name: str) -> str:
    """Letters, digits and _ behind a letter: neither an escaped name nor one that starts with _ or $."""
    text = re.sub(r"\W+", "_", name, flags=re.ASCII)
    return text if text[:1].isalpha() else f"p{text}"


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "node"


def _apart(names: Iterable[str], reserved: Iterable[str], change: Callable[[str], str]) -> dict[str, str]:
    """Names that differ in more than their case, as few changed as can be."""
    wanted = [(name, change(name)) for name in names]
    plain = {text.lower() for _, text in wanted}
    taken, found = set(reserved), {}
    for name, text in wanted:
        number, candidate = 2, text
        while candidate.lower() in taken or (candidate != text and candidate.lower() in plain):
            candidate, number = f"{text}_{number}", number + 1
        taken.add(candidate.lower())
        found[name] = candidate
    return found
