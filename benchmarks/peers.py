"""Other people's crossbar solvers as contenders; none of them is a dependency of cosim."""

from __future__ import annotations

import importlib.util
import logging
import warnings

import torch

from cosim.bench.contenders import Contender, SetUp
from cosim.bench.problems import Problem

__all__ = ["INSTALL", "peers"]

INSTALL = "pip install --no-deps badcrossbar==1.1.0 pathvalidate sigfig"


def peers() -> tuple[Contender, ...]:
    """badcrossbar (Joksas and Mehonic, SoftwareX 12, 100617, 2020); it factorises in every call."""
    found = all(importlib.util.find_spec(name) for name in ("badcrossbar", "pathvalidate", "sigfig"))
    return (
        Contender(
            name="badcrossbar",
            load=_load_badcrossbar,
            sets_up=False,
            fits=lambda case: case.linear,
            missing="" if found else f"not installed: {INSTALL}",
        ),
    )


def _load_badcrossbar(problem: Problem) -> SetUp:
    with warnings.catch_warnings(record=True):  # it warns that it cannot draw without cairo
        import badcrossbar  # pyright: ignore[reportMissingImports]  a peer, see INSTALL

    for name in ("", "badcrossbar"):  # it makes every library report its steps on standard output
        logging.getLogger(name).setLevel(logging.WARNING)
    resistance = (1 / problem.tile.conductance).cpu().numpy()
    wires = problem.tile.wires

    def currents(voltages: torch.Tensor) -> torch.Tensor:
        solution = badcrossbar.compute(
            voltages.cpu().numpy().T,
            resistance,
            r_i_word_line=float(wires.row),
            r_i_bit_line=float(wires.column),
            node_voltages=False,
            all_currents=False,
        )
        return torch.from_numpy(solution.currents.output)

    return lambda: currents
