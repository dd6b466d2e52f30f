"""A tile as netlist files, for a simulator that the user runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosim.arrays import Array
from cosim.checks import as_choice, as_instance, as_path
from cosim.crossbar import Tile
from cosim.files import check_writable, write_asked
from cosim.spice.deck import Deck, DeviceInstance
from cosim.spice.dialects import ngspice
from cosim.spice.rules import check_deck
from cosim.spice.tile import LIBRARY, TileCircuit, check_batch, lower_tile, per_cell, tile_deck
from cosim.text import check_identifier

__all__ = ["DIALECTS", "write_netlist"]

DIALECTS: dict[str, Callable[[Deck], dict[str, str]]] = {"ngspice": ngspice.write_deck}


def write_netlist(
    tile: Tile,
    folder: str | os.PathLike[str],
    *,
    dialect: str = "ngspice",
    voltages: Array | None = None,
    name: str | None = None,
) -> list[Path]:
    """Write ``tile`` as a netlist into ``folder``, and return the paths of the files.

    dut.sp holds one subcircuit ``name`` with ports rows then columns and the wire resistances as
    parameters, models.sp its model card ``<name>_cell``, device.osdi the compiled model. With ``voltages
    (*tiles, batch, rows)`` V there is also testbench.sp: run ``ngspice -b testbench.sp`` in the folder,
    the column currents come in result.raw. Of several tiles each gets a folder of its own, tile_<index>,
    and its index after a name that is given.

    name: tile_<digest of the circuit> unless given, so that tiles that differ may be included in one
    deck. SPICE takes capital and small letters for the same. The same tile gives the same text, byte for
    byte.

    Raises SpecError for a dialect that is not in ``DIALECTS``, a name that is not an identifier,
    voltages that do not fit, or a folder that cannot be written.

    >>> import cosim, tempfile
    >>> tile = cosim.Tile(cosim.Device("vteam"), state=[[0.0, 1.0]])
    >>> [path.name for path in write_netlist(tile, tempfile.mkdtemp(), voltages=[[0.1]])]
    ['device.osdi', 'dut.sp', 'models.sp', 'testbench.sp']
    """
    tile = as_instance(tile, "tile", Tile, "cosim.Tile(device, ...)")
    folder = as_path(folder, "folder")
    write = DIALECTS[as_choice(dialect, "dialect", sorted(DIALECTS))]
    if name is not None:
        check_identifier(name)
    batches = None if voltages is None else check_batch(tile, voltages)
    check_writable(folder)
    module = _module(tile)
    library = tile.device.osdi(per_cell=per_cell(tile), module=module).read_bytes()
    written = []
    for index in np.ndindex(tile.shape[:-2] if batches is None else batches.shape[:-2]):
        place = folder / "_".join(["tile", *map(str, index)]) if index else folder
        check_writable(place)
        circuit = _renamed(lower_tile(tile, index), module, name and "_".join([name, *map(str, index)]))
        texts = write(_deck(circuit, None if batches is None else batches[index]))
        files = {name: text.encode("ascii") for name, text in texts.items()} | {LIBRARY: library}
        for file in sorted(files):
            written.append(write_asked(place / file, files[file]))
    return written


def _module(tile: Tile) -> str:
    """A name for the compiled model: ngspice keeps the first of two modules of one name, without a word.

    Another model has another name, and so has the same one with other parameters on each instance.
    """
    device = tile.device
    return f"{device.name}_{_digest(device.ir.digest, *per_cell(tile))}"


def _renamed(circuit: TileCircuit, module: str, name: str | None) -> TileCircuit:
    """``circuit`` with names of its own, which other netlists in one deck do not have."""
    card = replace(circuit.card, module=module)
    name = name or f"tile_{_digest(repr(circuit.subcircuit), repr(card))}"
    card = replace(card, name=f"{name}_cell")
    elements = (
        replace(element, model=card.name) if isinstance(element, DeviceInstance) else element
        for element in circuit.subcircuit.elements
    )
    return replace(
        circuit, card=card, subcircuit=replace(circuit.subcircuit, name=name, elements=tuple(elements))
    )


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def _deck(circuit: TileCircuit, volts: np.ndarray | None) -> Deck:
    if volts is not None:
        return check_deck(tile_deck(circuit, volts))
    # checked with drivers, written without: a subcircuit alone reaches no ground
    deck = check_deck(tile_deck(circuit, np.zeros((1, circuit.rows))))
    return replace(deck, elements=(), analyses=(), saves=())
