"""What MemTorch's own tests never checked: twelve points, through the public API, against independent truth.

Each point in full, with every option, is in the tests of its part; here is one strict case of each.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cosim
import cosim.memtorch as memtorch
from cosim.devices.catalogue import CATALOGUE
from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality import NonIdeality, apply_nonidealities
from cosim.memtorch.mn.Module import patch_model
from cosim.nn.effects import DeviceFaults, DeviceVariability, FiniteStates, ProgrammingNoise, ReadNoise
from cosim.nn.mapping import SingleColumn
from nn.test_layers import CONVOLUTIONS
from reference.nodal import dense_currents
from tolerances import (
    INVERSE,
    LAYER_FLOAT32,
    LINEAR_EXACT,
    MEMTORCH_FLOAT32,
    NEWTON_EXACT,
    NGSPICE_LINEAR,
    NGSPICE_NEWTON,
    PROGRAMMED,
    ROUNDING,
    SINGLE_COLUMN_TUNED,
    TORCH_TRANSIENT,
    TRANSIENT,
)

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = cosim.Wires(row=2.0, column=3.0)
PARAMS = {"r_on": 1e4, "r_off": 1e5}


def drawn(*shape: int, seed: int = 20, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(outputs: int, inputs: int, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(0.3 * drawn(*parameter.shape, dtype=torch.float32))
    return layer


def patch(network: nn.Module, **options: Any) -> Any:
    given = {"memristor_model": memtorch.bh.memristor.VTEAM, "memristor_model_params": PARAMS, **options}
    return patch_model(copy.deepcopy(network), module_parameters_to_patch=[nn.Linear], verbose=False, **given)


def distance(found: torch.Tensor, wanted: Any) -> float:
    truth = torch.as_tensor(wanted)
    return float((found - truth).abs().max() / truth.abs().max())


# --- 1: line resistance ------------------------------------------------------------------------------------

RESISTANCES = [(5.0, 2.0), (0.0, 2.0), (5.0, 0.0), (0.0, 0.0)]  # ohm: source and sense, each line segment


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 6), (6, 1)])
@pytest.mark.parametrize(("source", "line"), RESISTANCES)
def test_01_passive_matches_ngspice_and_nodal_analysis(source: float, line: float, shape: tuple[int, int]):
    cells = 1e-6 + 9.9e-5 * drawn(*shape).sigmoid()
    volts = 0.2 * drawn(3, shape[0], seed=21)
    wanted = torch.as_tensor(dense_currents(cells, volts, line, line, source, source))
    wires = cosim.Wires(row=line, column=line, source=source, sense=source)
    tile = cosim.Tile(DEVICE, conductance=cells, wires=wires)
    for engine, limit in (("linear", LINEAR_EXACT), ("newton", NEWTON_EXACT), ("ngspice", NGSPICE_LINEAR)):
        assert distance(cosim.solve(tile, volts, engine=engine).currents, wanted) <= limit, engine
    ground = torch.zeros(shape[1])
    passive = memtorch.bh.crossbar.solve_passive(cells, volts[0], ground, source, line)
    assert distance(passive, wanted[0]) <= LINEAR_EXACT
    again = memtorch.bh.crossbar.solve_passive(cells, volts, ground, source, line, n_input_batches=3)
    assert distance(again, wanted) <= LINEAR_EXACT


def test_01_passive_layers_are_two_networks_subtracted():
    """MemTorch solves one network of G+ - G-, with negative resistors."""
    layer = patch(linear(4, 6, bias=False).double(), source_resistance=5.0, line_resistance=2.0)
    x = drawn(3, 6)
    tile = layer.matmul.tile()
    cells = tile.conductance.reshape(tile.shape[-2:])
    volts = torch.zeros(3, tile.rows, dtype=torch.float64)
    volts[:, :6] = 0.1 * x
    currents = torch.as_tensor(dense_currents(cells, volts, 2.0, 2.0, 5.0, 5.0))[:, :8] / 0.1
    wanted = (currents[:, 0::2] - currents[:, 1::2]) / layer.matmul.scale
    assert distance(layer(x), wanted) <= 100 * LINEAR_EXACT  # differences of currents


# --- 2: convolutions ---------------------------------------------------------------------------------------


# torch says so of its own convolutions
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "options", "space"), CONVOLUTIONS)
def test_02_convolutions_are_torchs(kind: Any, options: dict, space: tuple[int, ...], bias: bool):
    digital = kind(4, 8, **{**options, "bias": bias}).requires_grad_(False)
    for parameter in digital.parameters():
        parameter.copy_(0.4 * drawn(*parameter.shape, dtype=torch.float32))
    converted = cosim.convert(digital, device=DEVICE, layers=[kind], tile_shape=(16, 10))
    x = drawn(3, 4, *space, dtype=torch.float32)
    assert distance(converted(x), digital(x)) <= LAYER_FLOAT32
    slow = converted.use_engine("newton")  # window by window, every tile solved
    assert distance(slow(x[:1]), digital(x[:1])) <= LAYER_FLOAT32


# --- 3, 4: tuning, batches ---------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "tile_shape": (8, 6),
    "wires": cosim.Wires(row=50.0, column=50.0),
    "dac": cosim.DAC(bits=8),
    "adc": cosim.ADC(bits=10),
}


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
@pytest.mark.parametrize("effects", [(), (ReadNoise(sigma=0.01), DeviceFaults(hrs=0.05))])
def test_03_tuning_again_changes_nothing(per: str, effects: Any):
    model, x = linear(7, 20), drawn(200, 20, dtype=torch.float32).clamp(-1, 1)
    converted = cosim.convert(model, device=DEVICE, **EVERYTHING, effects=effects)
    reports = [converted.tune(x, per=per) for _ in range(3)]
    assert reports[0] == reports[1] == reports[2]
    if not effects:  # a line cannot mend cells that are broken
        assert reports[0].layers[0].rmse_after < reports[0].layers[0].rmse_before


def test_03_memtorchs_tune_again_changes_nothing():
    patched, x = patch(linear(7, 20), line_resistance=50.0), drawn(9, 20, dtype=torch.float32)
    patched.tune_()
    once = patched(x)
    patched.tune_()
    assert torch.equal(patched(x), once)


@pytest.mark.parametrize("engine", ["ideal", "linear", "newton", "ngspice"])
@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_04_an_output_does_not_depend_on_its_batch(engine: str):
    model, x = linear(7, 20), drawn(5, 20, dtype=torch.float32)
    converted = cosim.convert(model, device=DEVICE, **EVERYTHING, engine=engine).calibrate(x)
    together = converted(x)
    step = float(together.abs().max()) * LAYER_FLOAT32
    outlier = converted(torch.cat([100 * x[:1], x]))[1:]
    alone = torch.cat([converted(row[None]) for row in x])
    for found in (outlier, alone):
        torch.testing.assert_close(found, together, rtol=0, atol=step)


def test_04_memtorchs_scaling_and_adc_do_not_depend_on_the_batch():
    options = {"max_input_voltage": 0.3, "ADC_resolution": 8, "quant_method": "linear", "tile_shape": (8, 6)}
    patched, x = patch(linear(7, 20), **options), drawn(5, 20, dtype=torch.float32).clamp(-1, 1)
    outlier = patched(torch.cat([100 * x[:1], x]))[1:]
    torch.testing.assert_close(outlier, patched(x), rtol=0, atol=LAYER_FLOAT32)


# --- 5, 7: non-idealities ----------------------------------------------------------------------------------

LEVELS = 5
TOGETHER = [
    DeviceFaults(lrs=0.1, hrs=0.15),
    FiniteStates(states=LEVELS),
    DeviceVariability(parameters={"r_on": torch.distributions.Uniform(9e3, 11e3)}),
    ProgrammingNoise(sigma=0.02),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_05_non_idealities_compose_in_any_order_and_reach_every_engine(
    order: tuple[int, ...], tmp_path: Path
):
    model, x = linear(3, 10, bias=False).double(), drawn(2, 10)
    converted = cosim.convert(
        model, device=DEVICE, tile_shape=(6, 6), wires=WIRES, effects=[TOGETHER[k] for k in order]
    )
    ((_, product),) = converted.products.items()
    cells = product.cells()
    count = cells.conductance.numel()
    assert cells.stuck is not None
    assert [int((cells.stuck == k).sum()) for k in (1, 2)] == [int(0.15 * count), int(0.1 * count)]
    for stuck, bound in ((1, cells.low), (2, cells.high)):
        where = cells.stuck == stuck
        assert torch.equal(cells.actual[where], bound.expand(cells.shape)[where])
    assert len(cells.high.unique()) == count  # every device has an r_on of its own
    outputs = {engine: converted.use_engine(engine)(x) for engine in ("linear", "newton", "ngspice")}
    for engine in ("newton", "ngspice"):
        assert distance(outputs[engine], outputs["linear"]) <= 100 * NGSPICE_LINEAR
    assert distance(outputs["linear"], model(x)) > 0.01
    assert states_in_deck(product.tile(), tmp_path) == pytest.approx(product.tile().state.flatten().tolist())


def states_in_deck(tile: cosim.Tile, folder: Path) -> list[float]:
    """The states of all cells as the ngspice decks have them; a tile has a deck of its own."""
    states, r_on = [], tile.device.given["r_on"]
    assert isinstance(r_on, torch.Tensor)
    for index in itertools.product(*(range(n) for n in tile.shape[:-2])):
        device = tile.device.replace(r_on=r_on[index])
        one = cosim.Tile(device, state=tile.state[index], wires=tile.wires)
        files = cosim.write_netlist(one, folder, dialect="ngspice", voltages=[0.1] * tile.rows)
        (deck,) = (path.read_text() for path in files if path.name == "dut.sp")
        states += [float(text) for text in re.findall(r"x_init=([-+.\de]+)", deck)]
    return states


@pytest.mark.parametrize("scheme", [None, SingleColumn()])
def test_07_finite_states_act(scheme: Any):
    options: dict[str, Any] = {"device": DEVICE, "tile_shape": (8, 6), "scheme": scheme}
    model = linear(9, 30, bias=False)
    converted = cosim.convert(model, **options, effects=[FiniteStates(states=LEVELS)])
    found = converted.matmul.conductance.double()
    levels = torch.linspace(1e-6, 1e-4, LEVELS, dtype=torch.float64)
    nearest = (found[..., None] - levels).abs().amin(-1)
    assert float(nearest.max()) <= MEMTORCH_FLOAT32 * 1e-4
    assert len(found.unique()) == LEVELS
    moved = (found - cosim.convert(model, **options).matmul.conductance).abs()
    assert 0 < float(moved.max()) <= float(levels[1] - levels[0]) / 2 * (1 + MEMTORCH_FLOAT32)


def test_07_memtorchs_finite_states_act_and_keep_the_faults():
    patched = patch(linear(9, 30))
    arguments = {"lrs_proportion": 0.25, "hrs_proportion": 0.1, "electroform_proportion": 0.0}
    kinds = [NonIdeality.DeviceFaults, NonIdeality.FiniteConductanceStates]
    apply_nonidealities(patched, kinds, conductance_states=LEVELS, **arguments)
    product = patched.matmul
    assert len(product.conductance.unique()) == LEVELS
    assert int((product.stuck == 2).sum()) == int(0.25 * product.conductance.numel())
    assert product.conductance[product.stuck == 2].unique().tolist() == pytest.approx([1 / PARAMS["r_on"]])


# --- 6: device models --------------------------------------------------------------------------------------

# V and s of a half sine that moves the state from the middle of its range, but not to an end
PULSES = {
    "vteam": (-0.3, 1e-9),
    "data_driven": (-1.2, 1e-3),
    "data_driven_2021": (1.2, 1e-5),
    "stanford_pku": (1.45, 4e-8),
    "linear_ion_drift": (1.5, 0.2),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_06_what_is_set_is_read(name: str):
    device = cosim.Device(name)
    low, high = sorted(float(device.conductance(state)) for state in device.state_range)
    wanted = torch.linspace(low, high, 12, dtype=torch.float64).reshape(3, 4)
    assert distance(device.current(0.1, device.state_for(wanted)), 0.1 * wanted) <= INVERSE
    tile = cosim.Tile(device, conductance=wanted)
    rows = 0.1 * torch.eye(3, dtype=torch.float64)  # one row at a time
    assert distance(cosim.solve(tile, rows, engine="ngspice").currents, 0.1 * wanted) <= NGSPICE_NEWTON


@pytest.mark.parametrize("name", CATALOGUE)
def test_06_a_waveform_may_be_split_and_sampled_finely(name: str):
    device, (volts, seconds) = cosim.Device(name), PULSES[name]
    low, high = device.state_range
    start = 0.5 * (low + high)

    def run(samples: int, **options: Any) -> Any:
        phase = torch.linspace(0.0, math.pi, samples + 1, dtype=torch.float64)
        wave = volts * torch.sin(phase)
        return wave, device.simulate(wave, seconds / samples, state=start, **options)

    wave, whole = run(48)
    first = device.simulate(wave[:21], seconds / 48, state=start)
    second = device.simulate(wave[20:], seconds / 48, state=first.state[-1])
    parts = torch.cat([first.state, second.state[1:]])
    assert float((parts - whole.state).abs().max()) <= TORCH_TRANSIENT * (high - low)
    ends = [float(run(16)[1].state[-1]), float(whole.state[-1]), float(run(144)[1].state[-1])]
    errors = [abs(end - ends[2]) / (high - low) for end in ends[:2]]
    assert errors[1] <= errors[0] / 4 + TORCH_TRANSIENT  # second order in the sample time
    assert TRANSIENT < abs(ends[2] - start) / (high - low) < 0.5 - TRANSIENT  # it moves, inside its range
    found = float(run(48, engine="ngspice")[1].state[-1])
    assert abs(found - ends[1]) <= TRANSIENT * (high - low)


# --- 8, 9, 10 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_08_a_single_column_is_signed(sign: float):
    model, x = linear(5, 12), drawn(6, 12, dtype=torch.float32)
    model.weight.abs_().mul_(sign)
    converted = cosim.convert(model, device=DEVICE, tile_shape=(5, 3), scheme=SingleColumn())
    assert converted.report.cells == 60
    assert distance(converted(x), model(x)) <= LAYER_FLOAT32
    patched = patch(model, scheme=memtorch.bh.Scheme.SingleColumn)
    assert distance(patched(x), model(x)) <= LAYER_FLOAT32
    wired = cosim.convert(model, device=DEVICE, tile_shape=(5, 3), wires=WIRES, scheme=SingleColumn())
    wired.tune(per="column")
    assert distance(wired(x), model(x)) <= SINGLE_COLUMN_TUNED


@pytest.mark.parametrize("engine", ["linear", "newton"])
def test_09_save_and_load(engine: str, tmp_path: Path):
    x = drawn(4, 20, dtype=torch.float32)
    options: dict[str, Any] = {**EVERYTHING, "device": DEVICE, "effects": [*TOGETHER, ReadNoise(sigma=0.01)]}
    converted = cosim.convert(linear(7, 20), **options, engine=engine).calibrate(x)
    converted.tune(x.repeat(3, 1))
    torch.save(converted, tmp_path / "model.pt")
    torch.save(converted.state_dict(), tmp_path / "state.pt")
    other = cosim.convert(linear(7, 20), **options, engine=engine, seed=1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    whole = torch.load(tmp_path / "model.pt", weights_only=False)
    wanted = converted(x)
    assert torch.equal(other(x), wanted)
    assert torch.equal(whole(x), wanted)


def test_09_memtorchs_model_can_be_saved():
    patched, file, x = patch(linear(7, 20)), io.BytesIO(), drawn(4, 20, dtype=torch.float32)
    patched.tune_()
    torch.save(patched, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), patched(x))


@pytest.mark.parametrize(("r_on", "r_off"), [(1e4, 1e5), (200.0, 3e3)])
def test_10_the_users_resistances_are_honoured(r_on: float, r_off: float, tmp_path: Path):
    params = {"r_on": r_on, "r_off": r_off}
    ends = pytest.approx([1 / r_off, 1 / r_on], rel=MEMTORCH_FLOAT32)

    def extremes(g: torch.Tensor) -> list[float]:
        return [float(g.min()), float(g.max())]

    layer = patch(linear(9, 30), memristor_model_params=params)
    assert extremes(layer.matmul.conductance) == ends
    assert extremes(layer.crossbars[0].conductance_matrix) == ends
    device = layer.crossbars[0].devices[0, 0]
    assert (device.r_on, device.r_off) == pytest.approx((r_on, r_off))
    faulty = copy.deepcopy(layer)
    shares = {"lrs_proportion": 0.5, "hrs_proportion": 0.5, "electroform_proportion": 0.0}
    apply_nonidealities(faulty, [NonIdeality.DeviceFaults], **shares)
    assert faulty.matmul.conductance.unique().tolist() == ends
    coarse = apply_nonidealities(
        copy.deepcopy(layer), [NonIdeality.FiniteConductanceStates], conductance_states=2
    )
    assert coarse.matmul.conductance.unique().tolist() == ends
    torch.manual_seed(0)
    drawn_at_random = patch(linear(60, 60), memristor_model_params=params, random_crossbar_init=True)
    spread = extremes(drawn_at_random.crossbars[0].conductance_matrix)
    assert 1 / r_off * (1 - MEMTORCH_FLOAT32) <= spread[0] < spread[1] <= 1 / r_on * (1 + MEMTORCH_FLOAT32)
    tile = layer.matmul.tile()
    one = cosim.Tile(tile.device, state=tile.state.reshape(tile.shape[-2:]))
    files = cosim.write_netlist(one, tmp_path, dialect="ngspice", voltages=[0.1] * tile.rows)
    card = next(path.read_text() for path in files if path.name == "models.sp")
    found = {name: float(text) for name, text in re.findall(r"(r_on|r_off)=(\S+)", card)}
    assert found == pytest.approx(params)


# --- 11: programming ---------------------------------------------------------------------------------------

LEVEL = {"VTEAM": 1.0, "Data_Driven": 1.2, "Data_Driven2021": 1.2, "Stanford_PKU": 1.8, "LinearIonDrift": 2.0}
CASES = [(name, {}) for name in LEVEL]


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("neighbours", [True, False])
def test_11_naive_program_converges_in_both_directions(name: str, arguments: dict, neighbours: bool):
    model = getattr(memtorch.bh.memristor, name)
    crossbar = memtorch.bh.crossbar.Crossbar(model, arguments, (2, 3))
    device = crossbar.devices[0, 1]
    low, high = 1 / device.r_off, 1 / device.r_on
    for start, target in ((0.8, 0.4), (0.3, 0.6)):
        begin = low + start * (high - low)
        crossbar.conductance_matrix = torch.full((2, 3), begin, dtype=torch.float64)
        wanted = low + target * (high - low)
        found = memtorch.bh.crossbar.naive_program(
            crossbar,
            (0, 1),
            wanted,
            pos_voltage_level=LEVEL[name],
            neg_voltage_level=-LEVEL[name],
            simulate_neighbours=neighbours,
        )
        assert found.g == pytest.approx(wanted, rel=PROGRAMMED)
        matrix = crossbar.conductance_matrix
        assert float(matrix[0, 1]) == pytest.approx(wanted, rel=PROGRAMMED)
        apart = torch.tensor([[False, False, False], [True, False, True]])  # neither row nor column
        assert matrix[apart].tolist() == pytest.approx([begin] * 2)
        half = torch.stack([matrix[0, 0], matrix[0, 2], matrix[1, 1]])
        moved = (half - begin) * (1 if target > start else -1) / (wanted - begin).__abs__()
        # half the voltage moves them the same way and less, or not at all below the threshold
        assert bool(((moved >= -ROUNDING) & (moved < 1)).all())
        assert neighbours or float(moved.abs().max()) <= ROUNDING


# --- 12: converters ----------------------------------------------------------------------------------------


def test_12_an_unknown_quant_method_raises():
    with pytest.raises(SpecError, match="ADC.method is 'cubic': choose from linear, log, minmax, log_minmax"):
        cosim.ADC(bits=8, method="cubic")
    with pytest.raises(SpecError, match="ADC.method is 'cubic'"):
        patch(linear(3, 4), ADC_resolution=8, quant_method="cubic")
    with pytest.raises(SpecError, match="quant_method is 'cubic': choose from linear"):
        memtorch.bh.Quantize.quantize(torch.rand(3), 4, 0.0, "cubic")
    with pytest.raises(SpecError, match="quant_method=None: give both for an ADC"):
        patch(linear(3, 4), ADC_resolution=8)
