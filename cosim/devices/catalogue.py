"""The bundled Verilog-A models and what cosim has to know of each beyond its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cosim.checks import as_integer, as_interval, as_number, as_path, shown
from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.memory import Memory, remembered
from cosim.devices.ranges import parameter_range
from cosim.errors import SpecError
from cosim.shipped import VERILOG_A

__all__ = ["CATALOGUE", "CatalogueEntry", "bundled_entry", "entry", "user_entry"]


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One bundled model. A number that a parameter of the model sets is given as that parameter's name.

    The state is ``state_parameter + state_scale*V(state_node)``, in the unit of ``state_parameter``.
    """

    name: str
    path: Path
    state_parameter: str
    state_range: tuple[float | str, float | str] | None  # None: not known
    state_scale: float | str = 1.0
    state_node: str = "y"
    write_parameter: str = "write"
    set_polarity: int  # sign of v that lowers the resistance, with the default parameters
    polarity_parameter: str | None = None  # +1 or -1: v > 0 raises or lowers the resistance
    summary: str
    reference: str

    def polarity(self, parameters: Mapping[str, Any]) -> int:
        """Sign of the voltage that lowers the resistance, with these parameter values.

        >>> entry("data_driven").polarity({}), entry("data_driven").polarity({"eta": -1})
        (-1, 1)
        """
        if self.polarity_parameter is None or self.polarity_parameter not in parameters:
            return self.set_polarity
        return -1 if float(parameters[self.polarity_parameter]) > 0 else 1


def _model(name: str, **fields: Any) -> CatalogueEntry:
    return CatalogueEntry(name=name, path=VERILOG_A / name / f"{name}.va", **fields)


CATALOGUE: dict[str, CatalogueEntry] = {
    model.name: model
    for model in (
        _model(
            "vteam",
            state_parameter="x_init",
            state_range=(0.0, 1.0),
            set_polarity=-1,
            summary="threshold memristor with linear or exponential I-V; x = 1 is OFF",
            reference="Kvatinsky et al., IEEE TCAS-II 62(8), 786, 2015",
        ),
        _model(
            "data_driven",
            state_parameter="r_init",
            state_range=("r_min", "r_max"),
            state_scale="r_scale",
            set_polarity=-1,
            polarity_parameter="eta",
            summary="ReRAM fitted to pulse measurements, exponential rate; the state is R in ohm",
            reference="Messaris et al., IEEE TCAD 37(12), 3151, 2018",
        ),
        _model(
            "data_driven_2021",
            state_parameter="r_init",
            state_range=("r_min", "r_max"),
            state_scale="r_scale",
            set_polarity=1,
            polarity_parameter="eta",
            summary="ReRAM fitted to pulse measurements, quadratic rate; the state is R in ohm",
            reference="arXiv:1703.01167; arXiv:2012.02267",
        ),
        _model(
            "stanford_pku",
            state_parameter="gap_init",
            state_range=("g_min", "g_max"),
            state_scale=1e-9,
            set_polarity=1,
            summary="filament RRAM with a tunnelling gap, field and heat driven; the state is the gap in m",
            reference="Jiang et al., IEEE TED 63(5), 1884, 2016",
        ),
        _model(
            "linear_ion_drift",
            state_parameter="x_init",
            state_range=(0.0, 1.0),
            set_polarity=1,
            summary="linear ion drift with window functions and thresholds; x = 1 is ON",
            reference="Strukov et al., Nature 453, 80, 2008",
        ),
    )
}


def entry(name: str) -> CatalogueEntry:
    """The bundled model called ``name``; SpecError lists the names if there is none.

    >>> entry("vteam").state_range
    (0.0, 1.0)
    """
    if name not in CATALOGUE:
        names = ", ".join(CATALOGUE)
        raise SpecError(f"no bundled model is called {name!r}: use one of {names}, or the path of a .va file")
    return CATALOGUE[name]


def bundled_entry(model: str | Path, own: tuple[Any, ...]) -> CatalogueEntry:
    """The entry of a bundled model; SpecError where ``own``, what ``user_entry`` takes, is given too."""
    if own != (None, None, None, None, None, None):
        raise SpecError(f"{model!r} is a bundled model: its state and polarity are known, do not give them")
    return CATALOGUE[str(model)]


def user_entry(
    model: str | Path,
    state: str | None,
    state_range: tuple[float, float] | None,
    state_node: str | None,
    state_scale: float | None,
    write: str | None,
    set_polarity: int | None,
) -> CatalogueEntry:
    """A catalogue entry for a file of the user."""
    path = as_path(model, "model")
    if path.suffix != ".va":
        raise SpecError(
            f"no bundled model {str(model)!r}: choose from {', '.join(sorted(CATALOGUE))}, or give a .va file"
        )
    if not path.is_file():
        raise SpecError(f"{path} does not exist: give the path of a Verilog-A file")
    if state_range is not None:
        state_range = as_interval(state_range, "state_range")
    if set_polarity is not None and as_integer(set_polarity, "set_polarity") not in (1, -1):
        raise SpecError(f"set_polarity is {shown(set_polarity)}: it must be +1 or -1")
    state_scale = 1.0 if state_scale is None else as_number(state_scale, "state_scale")
    if state_scale == 0:
        raise SpecError(f"state_scale is {state_scale}: it must be finite and not 0")
    return CatalogueEntry(
        name=path.stem,
        path=path,
        state_parameter=state or "",
        state_range=state_range,
        state_scale=state_scale,
        state_node=state_node or "",
        write_parameter=write or "",
        set_polarity=set_polarity or 0,
        summary="user's file",
        reference="",
    )


def remember(
    entry: CatalogueEntry,
    ir: DeviceIR,
    given: Mapping[str, Scalar],
    temperature: float,
    scale: float | None,
) -> tuple[CatalogueEntry, Memory | None]:
    """The state of a device, and its entry with what the caller did not tell of it."""
    node, parameter, write = entry.state_node, entry.state_parameter, entry.write_parameter
    if CATALOGUE.get(entry.name) is entry:
        return entry, Memory(node=node, parameter=parameter, absolute=False, write=write, found=False)
    memory = remembered(ir, given, temperature, node=node, parameter=parameter, write=write, scale=scale)
    if memory is not None:
        node, parameter, write = memory.node, memory.parameter, memory.write
        entry = replace(entry, state_scale=memory.scale)
    return replace(
        entry,
        state_node=node,
        state_parameter=parameter,
        write_parameter=write,
        state_range=entry.state_range or parameter_range(ir, parameter),
    ), memory
