"""Functions of the compatibility namespace against MemTorch's numbers, and where they must differ."""

from __future__ import annotations

import gzip
import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from compat.reference import FUNCTIONS, array
from cosim.errors import ParseError, SpecError
from cosim.memtorch import utils
from cosim.memtorch.bh import Scheme, StochasticParameter, crossbar
from cosim.memtorch.bh.crossbar.Tile import gen_tiles, tile_matmul, tiled_inference
from cosim.memtorch.bh.memristor import VTEAM
from cosim.memtorch.bh.Quantize import quantize
from cosim.memtorch.bh.StochasticParameter import draw_resistances, unpack_parameters
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from tolerances import MEMTORCH_FLOAT32


def close(value: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(
        value, wanted, rtol=MEMTORCH_FLOAT32, atol=MEMTORCH_FLOAT32 * float(wanted.abs().max())
    )


# --- stochastic parameters ------------------------------------------------------------------------------


def test_samples_follow_the_distribution_and_stay_in_bounds():
    torch.manual_seed(1)
    drawn = StochasticParameter(loc=200.0, scale=20.0, min=180, max=210).draw((20_000,))
    assert float(drawn.min()) == 180
    assert float(drawn.max()) == 210
    assert float(drawn.median()) == pytest.approx(200, abs=1)
    one = StochasticParameter(torch.distributions.Uniform, low=1.0, high=2.0, function=False)
    assert isinstance(one, float)
    assert 1 <= one <= 2


def test_mean_and_std_of_the_case_study():
    sampler = StochasticParameter(2.5e3, std=50, min=2)
    assert sampler.mean == 2500
    assert sampler(return_mean=True) == 2500
    assert StochasticParameter(100, std=0, min=1)() == 100


def test_unknown_argument_of_a_distribution():
    with pytest.raises(SpecError, match="Normal has no argument 'sigma'; it takes: loc, scale"):
        StochasticParameter(loc=1.0, sigma=2.0)


def test_r_off_is_above_r_on_in_every_draw():
    torch.manual_seed(2)
    near, far, wide = (
        StochasticParameter(loc=mean, scale=std, min=1)
        for mean, std in ((100.0, 60.0), (300.0, 60.0), (100.0, 500.0))
    )
    with pytest.warns(UserWarning, match="the lower resistance was taken as r_on") as caught:
        r_on, r_off = draw_resistances(wide, far, (5000,), resample_threshold=0)
    assert len(caught) == 1
    assert bool((r_off > r_on).all())
    r_on, r_off = draw_resistances(near, far, (500,), resample_threshold=50)
    assert bool((r_off > r_on).all())


@pytest.mark.parametrize("r_on", [1000.0, StochasticParameter(1000, std=0)])
def test_equal_resistances_are_refused(r_on):
    with pytest.raises(SpecError, match="equal, or too close, after 5 draws"):
        unpack_parameters({"r_on": r_on, "r_off": 1000.0})


@pytest.mark.filterwarnings("ignore:.* overlap")
def test_devices_whose_draws_both_end_at_the_bound_do_not_stop_a_crossbar():
    torch.manual_seed(0)
    clamped = [StochasticParameter(loc=1.0, scale=std, min=50) for std in (60.0, 80.0)]
    with pytest.warns(UserWarning, match=r"are the same in \d+ of 400 devices, which hold nothing"):
        r_on, r_off = draw_resistances(*clamped, (400,))
    assert bool((r_off > r_on).all())
    assert 0.05 < float((r_off < 1.001 * r_on).double().mean()) < 0.5
    with pytest.raises(SpecError, match=r"r_on and r_off are equal, 200 ohm: give them more distance"):
        crossbar.Crossbar(VTEAM, {"r_on": 200, "r_off": 200}, (2, 2))


# --- quantisation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("q_linear_b4_o0.1", (4, 0.1, "linear")),
        ("q_linear_b8_o0.0", (8, 0.0, "linear")),
        ("q_levels_5", (5, 0.0, None)),
    ],
)
def test_quantisers_that_memtorch_has_right(key: str, arguments: tuple):
    assert close(quantize(array("q_x"), *arguments), array(key))


def test_memtorchs_log_only_on_demand():
    x = array("q_x")
    assert close(quantize(x, 4, 0.0, "log", as_memtorch=True), array("q_log_b4_o0.0"))
    small = torch.tensor([0.01, -0.02, 0.3, 0.9])
    error = (quantize(small, 8, 0.0, "log").abs().log() - small.abs().log()).abs().max()
    assert float(error) < 0.1
    assert float((quantize(small, 8, 0.0, "log", as_memtorch=True).abs() - 1).abs().max()) == 0


def test_a_bound_of_zero_counts():
    assert float(quantize(array("q_x"), 4, 0.0, "linear", min=0.0, max=2.0).min()) == 0


@pytest.mark.parametrize("method", ["linear", "log", "log_minmax", "minmax", "tanh"])
def test_every_documented_method_has_few_values(method: str):
    x = torch.linspace(-1, 1, 1001)
    assert 2 <= len(quantize(x, 3, 0.0, method).unique()) <= 9


def test_in_place_and_constant_tensors():
    x = torch.tensor([0.1, 0.9])
    result = quantize(x, 2, 0.0, "linear", override_original=True)
    assert torch.equal(x, result)
    assert torch.equal(quantize(torch.full((3,), 0.3), 4), torch.full((3,), 0.3))
    with pytest.raises(SpecError, match="quant_method is 'cubic': choose from linear"):
        quantize(x, 4, 0.0, "cubic")


# --- mapping and scaling ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_l", "tag"), [(None, "none"), (0.5, "0.5")])
def test_naive_map_of_the_double_column(p_l: float | None, tag: str):
    r_on, r_off = FUNCTIONS["naive_map"]["r_on"], FUNCTIONS["naive_map"]["r_off"]
    positive, negative = naive_map(array("map_w"), r_on, r_off, Scheme.DoubleColumn, p_l)
    assert close(positive, array(f"map_dc_pos_{tag}"))
    assert close(negative, array(f"map_dc_neg_{tag}"))


def test_a_single_column_keeps_the_sign():
    w, (r_on, r_off) = array("map_w"), (100.0, 16000.0)
    g = naive_map(w, r_on, r_off, Scheme.SingleColumn)
    middle, half = 0.5 * (1 / r_on + 1 / r_off), 0.5 * (1 / r_on - 1 / r_off)
    assert close((g - middle) / half * float(w.abs().max()), w)
    memtorchs = naive_map(w, r_on, r_off, Scheme.SingleColumn, as_memtorch=True)
    assert close(memtorchs, array("map_sc_none"))
    assert float(memtorchs[w < 0].max()) == pytest.approx(1 / r_off)


@pytest.mark.parametrize(("volts", "force"), [(0.3, False), (5.0, True), (5.0, False)])
def test_naive_scale(volts: float, force: bool):
    scaled = naive_scale(SimpleNamespace(max_input_voltage=volts), array("scale_x"), force)
    assert close(scaled, array(f"scale_v{volts}_f{int(force)}"))


# --- tiles ------------------------------------------------------------------------------------------------


def test_tiles_are_memtorchs():
    a, a_map = gen_tiles(array("tile_a"), (4, 3), input=True)
    b, b_map = gen_tiles(array("tile_b"), (4, 3))
    for found, key in ((a, "tile_at"), (a_map, "tile_am"), (b, "tile_bt"), (b_map, "tile_bm")):
        assert torch.equal(found.float(), array(key))


def test_tile_products():
    a, b = array("tile_a"), array("tile_b")
    cut = (*gen_tiles(a, (4, 3), input=True), a.shape, *gen_tiles(b, (4, 3)), b.shape)
    assert close(tile_matmul(*cut), a @ b)
    quantised = tile_matmul(*cut, ADC_resolution=4, quant_method="linear")
    assert close(quantised, array("tile_out_linear_b4_o0.0"))
    again = tiled_inference(
        a, *gen_tiles(b, (4, 3)), b.shape, (4, 3), ADC_resolution=4, quant_method="linear"
    )
    assert torch.equal(again, quantised)
    with pytest.raises(SpecError, match="give both for an ADC"):
        tile_matmul(*cut, ADC_resolution=4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (3,), (3,)), r"V_WL has shape \(3,\): give \(2,\) or \(batch, 2\)"),
        (((2, 3), (1, 1, 2), (3,)), r"V_WL has shape \(1, 1, 2\): give"),
        (((2, 3), (2,), (2,)), r"V_BL has shape \(2,\): give \(3,\)"),
        (((2, 3), (2,), (0,)), r"V_BL has shape \(0,\): give \(3,\)"),
        (((2, 3, 1), (2,), (3,)), r"conductance_matrix has shape \(2, 3, 1\): give \(rows, columns\)"),
        (((0, 3), (0,), (3,)), r"conductance_matrix has shape \(0, 3\): give"),
    ],
)
def test_passive_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...], message: str):
    with pytest.raises(SpecError, match=message):
        crossbar.solve_passive(*map(torch.ones, shapes), 1.0, 1.0)


def test_passive_currents_equal_a_nodal_analysis():
    g, v = array("pas_5x3_G"), array("pas_5x3_V")
    solve = crossbar.solve_passive
    assert close(solve(g, v, torch.zeros(3), 5.0, 2.0), array("pas_5x3_5.0_2.0_mnaI"))
    batch = solve(g, torch.stack([v, 2 * v]), torch.zeros(3), 5.0, 2.0, n_input_batches=2)
    assert close(batch[1], 2 * batch[0])
    assert close(solve(g, v, torch.zeros(3), 0.0, 0.0), v @ g)
    nearly = solve(g, v, torch.zeros(3), 1e-6, 2.0)
    assert torch.allclose(solve(g, v, torch.zeros(3), 0.0, 2.0), nearly, rtol=1e-4)
    with pytest.raises(SpecError, match="one voltage for all bit lines"):
        solve(g, v, torch.tensor([0.0, 1.0, 0.0]), 1.0, 1.0)


def test_programming_signal():
    time, volts = crossbar.gen_programming_signal(*FUNCTIONS["sig_0_arguments"])
    assert torch.tensor(time).float().tolist() == pytest.approx(array("sig_0_t").tolist())
    assert torch.equal(torch.tensor(volts).float(), array("sig_0_v"))
    with pytest.raises(SpecError, match="pulse_duration is 0.00015 s: it must be a multiple"):
        crossbar.gen_programming_signal(1, 1.5e-4, 0, 1.0, 1e-4)


# --- utilities --------------------------------------------------------------------------------------------


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def test_mnist_from_local_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 50), ("t10k", 20)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    train, validation, test = utils.LoadMNIST(batch_size=8, data_dir=tmp_path)
    assert [len(loader.dataset) for loader in (train, validation, test)] == [40, 10, 20]
    images, labels = next(iter(test))
    assert images.shape == (4, 1, 28, 28)
    assert labels.tolist() == [0, 1, 2, 3]
    assert utils.LoadMNIST(validation=False, data_dir=tmp_path)[1] is None
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"none"))
    with pytest.raises(ParseError, match="this is no IDX file of unsigned bytes"):
        utils.LoadMNIST(data_dir=tmp_path)


def test_cifar_from_local_files(tmp_path: Path):
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for k, name in enumerate(names):
        batch = {b"data": np.full((10, 3072), k, np.uint8), b"labels": list(range(10))}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    train, validation, test = utils.LoadCIFAR10(batch_size=10, data_dir=tmp_path)
    assert len(train.dataset) + len(validation.dataset) == 50
    images, _ = next(iter(test))
    assert images.shape == (5, 3, 32, 32)
    assert float(images[0, 0, 0, 0]) == pytest.approx((5 / 255 - 0.4914) / 0.2023)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": print}))
    with pytest.raises(ParseError, match="does not belong in a CIFAR-10 file"):
        utils.LoadCIFAR10(data_dir=tmp_path)


PurePickler: Any = vars(pickle)["_Pickler"]  # the one in Python can be extended


class Python2Pickler(PurePickler):
    """Strings and array names as Python 2 and numpy 1 wrote them: what the real CIFAR-10 files hold."""

    dispatch: ClassVar[dict] = dict(PurePickler.dispatch)

    def save_text(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text


def cifar_files(folder: Path, *, binary: bool) -> np.ndarray:
    """Six small files in the form of the original ones; returns the images of the test batch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 4, 3072), dtype=np.uint8)
    for k, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = [3, 8, 0, 9]
        if binary:
            rows = np.concatenate([np.array(labels, np.uint8)[:, None], images[k]], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
            continue
        batch = {
            "batch_label": name,
            "labels": labels,
            "data": images[k],
            "filenames": ["cat_s_000907.png"] * 4,
        }
        file = io.BytesIO()
        Python2Pickler(file, 2).dump(batch)
        (folder / name).write_bytes(
            file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        )
    return images[-1]


@pytest.mark.parametrize("binary", [False, True])
def test_cifar_files_as_they_are_distributed(tmp_path: Path, binary: bool):
    folder = tmp_path / "cifar-10-batches"
    folder.mkdir()
    wanted = cifar_files(folder, binary=binary)
    train, _, test = utils.LoadCIFAR10(batch_size=8, validation=False, data_dir=tmp_path)
    assert len(train.dataset) == 20
    images, labels = next(iter(test))
    assert labels.tolist() == [3, 8, 0, 9]
    mean, spread = (
        torch.tensor(v).reshape(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    )
    pixels = torch.from_numpy(wanted.astype(np.float32)).reshape(4, 3, 32, 32) / 255
    assert close(images, (pixels - mean) / spread)


def test_damaged_cifar_files_are_named(tmp_path: Path):
    cifar_files(tmp_path, binary=True)
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(5000))
    with pytest.raises(ParseError, match=r"data_batch_3.bin: 5000 bytes are no images of 3073 bytes"):
        utils.LoadCIFAR10(data_dir=tmp_path)


def test_code_in_a_cifar_file_is_not_run(tmp_path: Path):
    cifar_files(tmp_path, binary=False)
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self):
            return Path.touch, (trap,)

    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({b"data": Trap()}, protocol=2))
    with pytest.raises(
        ParseError, match=r"data_batch_2: this is no batch of CIFAR-10: .* does not belong in"
    ):
        utils.LoadCIFAR10(data_dir=tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("load", [utils.LoadMNIST, utils.LoadCIFAR10])
def test_absent_data_sets_say_what_is_missing(load, tmp_path: Path):
    with pytest.raises(SpecError, match="cosim downloads nothing: get the data from https"):
        load(data_dir=tmp_path)


def test_small_helpers():
    assert utils.convert_range(5, 0, 10, 0, 1) == 0.5
    assert utils.clip(-1, 0, 1) == 0
    assert utils.pad_tensor(torch.ones(4, 4), (2, 2)).shape == (4, 4)
    with pytest.raises(SpecError, match="it must have a width"):
        utils.convert_range(1, 1, 1, 0, 1)
