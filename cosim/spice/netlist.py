"""A tile as netlist files, for a simulator that the user runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosim.arrays import Array
from cosim.crossbar import Tile
from cosim.errors import SpecError
from cosim.spice.deck import Deck
from cosim.spice.dialects import ngspice
from cosim.spice.rules import check_deck
from cosim.spice.tile import LIBRARY, check_batch, lower_tile, per_cell, tile_deck

__all__ = ["DIALECTS", "write_netlist"]

DIALECTS: dict[str, Callable[[Deck], dict[str, str]]] = {"ngspice": ngspice.write_deck}


def write_netlist(
    tile: Tile, folder: str | os.PathLike[str], *, dialect: str = "ngspice", voltages: Array | None = None
) -> list[Path]:
    """Write ``tile`` as a netlist into ``folder``, and return the paths of the files.

    models.sp holds the model card, dut.sp one subcircuit ``tile`` with ports rows then columns and the
    wire resistances as parameters, device.osdi the compiled model. With ``voltages (*tiles, batch,
    rows)`` V there is also testbench.sp: run ``ngspice -b testbench.sp`` in the folder, the column
    currents come in result.raw. Of several tiles each gets a folder of its own, tile_<index>.
    The same tile gives the same text, byte for byte.

    Raises SpecError for a dialect that is not in ``DIALECTS``, or voltages that do not fit.

    >>> import cosim, tempfile
    >>> tile = cosim.Tile(cosim.Device("vteam"), state=[[0.0, 1.0]])
    >>> [path.name for path in write_netlist(tile, tempfile.mkdtemp(), voltages=[[0.1]])]
    ['device.osdi', 'dut.sp', 'models.sp', 'testbench.sp']
    """
    if dialect not in DIALECTS:
        raise SpecError(f"no dialect {dialect!r}: use one of {', '.join(sorted(DIALECTS))}")
    batches = None if voltages is None else check_batch(tile, voltages)
    library = tile.device.osdi(per_cell=per_cell(tile)).read_bytes()
    written = []
    for index in np.ndindex(tile.shape[:-2] if batches is None else batches.shape[:-2]):
        place = Path(folder, "_".join(["tile", *map(str, index)])) if index else Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        texts = DIALECTS[dialect](_deck(tile, index, None if batches is None else batches[index]))
        files = {name: text.encode("ascii") for name, text in texts.items()} | {LIBRARY: library}
        for name in sorted(files):
            (place / name).write_bytes(files[name])
            written.append(place / name)
    return written


def _deck(tile: Tile, index: tuple[int, ...], volts: np.ndarray | None) -> Deck:
    circuit = lower_tile(tile, index)
    if volts is not None:
        return check_deck(tile_deck(circuit, volts))
    # checked with drivers, written without: a subcircuit alone reaches no ground
    check_deck(tile_deck(circuit, np.zeros((1, tile.rows))))
    return replace(tile_deck(circuit, np.zeros((1, tile.rows))), elements=(), analyses=(), saves=())
