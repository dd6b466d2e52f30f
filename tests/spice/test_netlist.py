"""Netlist files: golden text, byte for byte, and runnable as they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim.errors import SpecError
from cosim.shipped import NETLISTS
from cosim.spice.rawfile import parse_raw
from reference.nodal import dense_currents
from tolerances import NGSPICE_LINEAR, NGSPICE_PRINTED

GOLDEN = NETLISTS / "ngspice"

VOLTS = [[0.1, -0.2, 0.3], [0.05, 0.15, 1e-7]]

# the digest in the header follows the model's text and the version its release: neither is pinned here
VOLATILE = ("* written by: cosim ", "* model: ")


def tile_3x5() -> cosim.Tile:
    """Not symmetric in anything: it pins the order of axes, names and wires."""
    states = np.arange(15).reshape(3, 5) / 16
    wires = cosim.Wires(row=2.0, column=3.0, source=5.0, sense=7.0)
    return cosim.Tile(cosim.Device("vteam", r_on=10e3, r_off=1e6), state=states, wires=wires)


def tile_merged() -> cosim.Tile:
    """Nodes merge on the word lines and at the sense ends."""
    return cosim.Tile(
        cosim.Device("stanford_pku"),
        state=[[0.2e-9, 1.7e-9], [1.0e-9, 0.5e-9]],
        wires=cosim.Wires(row=0.0, column=2.5, source=0.0, sense=0.0),
    )


CASES = {
    "tile_3x5": (tile_3x5, VOLTS),
    "tile_2x2_merged": (tile_merged, [[0.5, -0.25]]),
    "tile_3x5_dut": (tile_3x5, None),
}


def steady(text: str) -> str:
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(VOLATILE)]
    return re.sub(r"(?m)^(\.model \S+ \w+)_[0-9a-f]{12}", r"\1", "".join(lines))


@pytest.mark.parametrize("name", CASES)
def test_text_is_the_golden_one(name, tmp_path, update_golden):
    make, voltages = CASES[name]
    folder = GOLDEN / name if update_golden else tmp_path
    written = cosim.write_netlist(make(), folder, voltages=voltages, name="bank")
    texts = {path.name: path.read_text() for path in written if path.suffix == ".sp"}
    if update_golden:
        (folder / "device.osdi").unlink()  # native code of this machine
    golden = {path.name: path.read_text() for path in (GOLDEN / name).glob("*.sp")}
    assert set(texts) == set(golden)
    for file, text in texts.items():
        assert steady(text) == steady(golden[file]), (
            f"{name}/{file}: run pytest --update-golden and look at it"
        )


def test_two_writes_are_the_same_bytes(tmp_path):
    first, second = (
        {
            path.name: path.read_bytes()
            for path in cosim.write_netlist(tile_3x5(), tmp_path / k, voltages=VOLTS)
        }
        for k in "ab"
    )
    assert first == second
    assert set(first) == {"device.osdi", "dut.sp", "models.sp", "testbench.sp"}


def test_a_user_can_run_the_testbench_from_another_folder(tmp_path):
    tile = tile_3x5()
    cosim.write_netlist(tile, tmp_path / "net", voltages=VOLTS)
    run = subprocess.run(
        ["ngspice", "-b", str(tmp_path / "net" / "testbench.sp")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (plot,) = parse_raw((tmp_path / "result.raw").read_bytes())
    expected = dense_currents(tile.conductance.numpy(), VOLTS, 2, 3, 5, 7)
    assert plot.names == ("v(v-sweep)", *(f"i(vsense{j})" for j in range(5)))
    assert np.abs(plot.values[:, 1:] - expected).max() < NGSPICE_LINEAR * np.abs(expected).max()


def test_several_tiles_get_folders_of_their_own(tmp_path):
    device = cosim.Device("vteam")
    tiles = cosim.Tile(device, state=np.linspace(0, 1, 6).reshape(3, 1, 2))
    written = cosim.write_netlist(tiles, tmp_path, voltages=[[0.1]])
    assert [str(path.relative_to(tmp_path)) for path in written if path.name == "dut.sp"] == [
        f"tile_{k}/dut.sp" for k in range(3)
    ]
    alone = cosim.Tile(device, state=tiles.state[1])
    cosim.write_netlist(alone, tmp_path / "alone", voltages=[[0.1]])
    assert (tmp_path / "alone" / "dut.sp").read_text() == (tmp_path / "tile_1" / "dut.sp").read_text()


def test_an_unknown_dialect_names_the_known_ones(tmp_path):
    with pytest.raises(SpecError, match="dialect is 'spectre': choose from ngspice"):
        cosim.write_netlist(tile_3x5(), tmp_path, dialect="spectre")
    assert list(tmp_path.iterdir()) == []


def test_voltages_that_do_not_fit_write_nothing(tmp_path):
    with pytest.raises(SpecError, match="the last axis must be 3"):
        cosim.write_netlist(tile_3x5(), tmp_path / "net", voltages=[[0.1]])
    assert not (tmp_path / "net").exists()


# --- several tiles in one deck ---------------------------------------------------------------------


def two_kinds() -> dict[str, cosim.Tile]:
    """Other cells in each; the second sets r_on on every instance, so that its library is another one."""
    spread = torch.tensor([[10e3, 20e3]], dtype=torch.float64)
    return {
        "first": cosim.Tile(cosim.Device("vteam", r_on=10e3, r_off=1e6), state=[[0.0, 0.5]]),
        "other_cells": cosim.Tile(cosim.Device("vteam", r_on=10e3, r_off=1e6), state=[[1.0, 0.25]]),
        "other_library": cosim.Tile(cosim.Device("vteam", r_on=spread, r_off=1e6), state=[[0.0, 0.5]]),
        "other_card": cosim.Tile(cosim.Device("vteam", r_on=20e3, r_off=1e6), state=[[0.0, 0.5]]),
    }


def run_together(folder: Path, tiles: dict[str, cosim.Tile], **names: str) -> dict[str, list[float]]:
    """Column currents, A, of 1 x 2 tiles at 0.1 V, all included in one deck, by ngspice."""
    includes, circuit, libraries = [], ["V1 word 0 0.1"], []
    for label, tile in tiles.items():
        cosim.write_netlist(tile, folder / label, name=names.get(label))
        includes += [f".include {label}/models.sp", f".include {label}/dut.sp"]
        libraries.append(f"pre_osdi {label}/device.osdi")
        subcircuit = re.search(r"^\.subckt (\S+)", (folder / label / "dut.sp").read_text(), re.MULTILINE)
        assert subcircuit is not None
        circuit += [f"V{label}{j} {label}{j} 0 0" for j in range(2)]
        circuit.append(f"X{label} word {label}0 {label}1 {subcircuit[1]}")
    commands = [".control", *libraries, "op", "set numdgt=12", "print all", ".endc", ".end"]
    text = "\n".join(["several tiles", *includes, *circuit, *commands])
    (folder / "top.sp").write_text(text)
    done = subprocess.run(
        ["ngspice", "-b", "top.sp"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "redefinition" not in done.stderr
    printed = re.findall(r"^v(\w+)#branch = (\S+)", done.stdout, re.MULTILINE)
    found = {name: float(value) for name, value in printed}
    return {label: [found[f"{label}{j}"] for j in range(2)] for label in tiles}


@pytest.mark.parametrize("names", [{}, {"first": "bank0", "other_cells": "bank1"}])
def test_several_exported_tiles_keep_their_own_cells_in_one_deck(tmp_path: Path, names: dict[str, str]):
    tiles = two_kinds()
    found = run_together(tmp_path, tiles, **names)
    for label, tile in tiles.items():
        expected = 0.1 * tile.conductance[0].numpy()
        np.testing.assert_allclose(found[label], expected, rtol=NGSPICE_PRINTED, err_msg=label)


def test_a_given_name_is_the_name_of_the_subcircuit(tmp_path: Path):
    tiles = cosim.Tile(cosim.Device("vteam"), state=np.linspace(0, 1, 4).reshape(2, 1, 2))
    cosim.write_netlist(tiles, tmp_path, name="bank", voltages=[[0.1]])
    for k in range(2):
        assert f".subckt bank_{k} r0 c0 c1" in (tmp_path / f"tile_{k}" / "dut.sp").read_text()
        assert f".model bank_{k}_cell vteam_" in (tmp_path / f"tile_{k}" / "models.sp").read_text()


@pytest.mark.parametrize("name", ["", "0bank", "a b", "bank.sp\n.end", 7])
def test_a_name_that_no_netlist_can_hold_is_refused(tmp_path: Path, name: object):
    with pytest.raises(SpecError, match="is not an identifier"):
        cosim.write_netlist(tile_3x5(), tmp_path / "net", name=name)
    assert not (tmp_path / "net").exists()
