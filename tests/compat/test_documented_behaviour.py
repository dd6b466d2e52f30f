"""What the documentation of 1.1.0 says of returns, defaults, orders of arguments and attributes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from cosim.errors import SpecError
from cosim.memtorch.bh import memristor as models
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, init_crossbar, simulate_matmul
from cosim.memtorch.bh.crossbar.Program import naive_program
from cosim.memtorch.bh.crossbar.Tile import gen_tiles, tile_matmul
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.bh.nonideality.DeviceFaults import apply_cycle_variability
from cosim.memtorch.bh.nonideality.NonLinear import apply_non_linear
from cosim.memtorch.bh.Quantize import quantize
from cosim.memtorch.bh.StochasticParameter import StochasticParameter, unpack_parameters
from cosim.memtorch.map.Module import naive_tune
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.mn.Module import patch_model
from tolerances import HELD, MEMTORCH_FLOAT32, NGSPICE_HELD, PROGRAMMED, ROUNDING

NAMES = ["LinearIonDrift", "VTEAM", "Data_Driven", "Data_Driven2021", "Stanford_PKU"]
ENDS = {"r_on": 100, "r_off": 1600}


def linear(rows: int = 6, outputs: int = 4, **options: Any) -> Any:
    torch.manual_seed(0)
    return memtorch.mn.Linear(nn.Linear(rows, outputs), models.VTEAM, ENDS, verbose=False, **options)


# --- devices ------------------------------------------------------------------------------------------------


def test_simulate_returns_the_conductance_after_each_sample():
    """VTEAM at a constant voltage above v_off: w grows by k_off (v/v_off - 1) m/s, R with it."""
    device = models.VTEAM(r_on=50, r_off=1000, time_series_resolution=1e-8)
    found = device.simulate(torch.full((40,), 0.1))
    share = 5e-4 * (0.1 / 0.02 - 1) * 1e-8 * np.arange(1, 41) / 3e-9
    assert isinstance(found, torch.Tensor)
    assert (1 / found).tolist() == pytest.approx(50 + 950 * share, rel=HELD)
    assert float(found[-1]) == device.g
    view = Crossbar(models.VTEAM, {"time_series_resolution": 1e-8}, (1, 1)).devices[0, 0]
    assert torch.allclose(view.simulate(torch.full((40,), 0.1)), found, rtol=HELD)
    assert view.g == pytest.approx(device.g, rel=HELD)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_conductance_is_that_of_the_device(name: str):
    for as_memtorch in (False, True):
        device = getattr(models, name)(time_series_resolution=1e-6, as_memtorch=as_memtorch)
        found = device.simulate(np.full(5, 1.2))
        assert found.shape == (5,)
        assert float(found[-1]) == pytest.approx(device.g, rel=ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_the_bipolar_plot_has_a_symmetric_logarithmic_axis(name: str, monkeypatch: pytest.MonkeyPatch):
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    device = getattr(models, name)(time_series_resolution=1e-5)
    device.plot_bipolar_switching_behaviour(1.5, 500)
    axis: Any = plt.gca()
    current = axis.lines[0].get_ydata()
    threshold = axis.yaxis.get_transform().linthresh
    assert axis.get_yscale() == "symlog"
    assert current.min() < 0 < current.max()
    # nearly all of the current is where the axis is logarithmic, and it has few decades
    assert np.mean(np.abs(current) > threshold) > 0.95
    assert np.log10(np.abs(current).max() / threshold) < 12
    device.plot_hysteresis_loop(1e-3, 1.5, 1e3, log_scale=True)
    axis = plt.gca()
    assert axis.yaxis.get_transform().linthresh < np.abs(axis.lines[0].get_ydata()).max()
    plt.close("all")


# amplitude (V) of a half sine and s per sample, so that a device goes some way and does not run into a bound
SLOW = {
    "LinearIonDrift": (2.0, 1e-3),
    "VTEAM": (0.5, 3e-9),
    "Data_Driven": (1.1, 1e-4),
    "Data_Driven2021": (1.1, 3e-7),
    "Stanford_PKU": (1.5, 3e-8),
}


@pytest.mark.parametrize("name", NAMES)
def test_ngspice_runs_the_waveform_of_a_memristor(name: str):
    amplitude, step = SLOW[name]
    volts = amplitude * np.sin(np.linspace(0, np.pi, 21))
    ours, theirs = (getattr(models, name)(time_series_resolution=step) for _ in range(2))
    middle = 0.5 * (1 / ours.r_on + 1 / ours.r_off) * 0.8
    for device in (ours, theirs):
        device.set_conductance(middle)
    start = ours.g
    current = ours.simulate(volts, return_current=True)
    found = theirs.simulate(volts, return_current=True, engine="ngspice")
    assert np.abs(found - current).max() < NGSPICE_HELD * np.abs(current).max()
    assert theirs.g == pytest.approx(ours.g, rel=NGSPICE_HELD)
    assert abs(ours.g / start - 1) > 0.01
    with pytest.raises(SpecError, match="engine is 'spectre': choose from torch, ngspice"):
        ours.simulate(volts, engine="spectre")
    with pytest.raises(SpecError, match="as_memtorch=True is MemTorch's own arithmetic"):
        getattr(models, name)(as_memtorch=True).simulate(volts, engine="ngspice")


# --- devices of the user ------------------------------------------------------------------------------------


class Exponential(Memristor):
    """ln R falls at a constant rate under positive voltages above a threshold, and rises under negative."""

    def __init__(self, time_series_resolution=1e-3, r_off=16e3, r_on=100.0, speed=50.0, **kwargs):
        args = unpack_parameters(locals())
        super().__init__(args.r_off, args.r_on, args.time_series_resolution, 0.6, -0.6)
        self.speed = args.speed

    def simulate(self, voltage_signal, return_current=False):
        currents, conductances = [], []
        for volt in np.asarray(voltage_signal).ravel():
            currents.append(volt * self.g)
            if not self.neg_write_threshold < volt < self.pos_write_threshold:
                self.set_conductance(self.g * np.exp(self.speed * volt * self.time_series_resolution))
            conductances.append(self.g)
        return np.array(currents) if return_current else torch.tensor(conductances)

    def plot_hysteresis_loop(
        self, duration=1, amplitude=1, frequency=1, log_scale=False, return_result=False
    ):
        return super().plot_hysteresis_loop(self, duration, amplitude, frequency, log_scale, return_result)


class Curved(Exponential):
    def current(self, voltage):
        return self.g * np.sinh(voltage)


class Plain(Memristor):
    """As the documentation has it: simulate(voltage_signal) alone."""

    def simulate(self, voltage_signal):
        return torch.full((len(voltage_signal),), self.g)


def test_a_device_of_the_user_has_what_the_base_class_documents():
    device = Plain(1000, 50, 1e-3, 0.2, -0.1)
    assert (device.r_off, device.r_on, device.time_series_resolution) == (1000, 50, 1e-3)
    assert (device.pos_write_threshold, device.neg_write_threshold) == (0.2, -0.1)
    assert device.get_resistance() == 50
    device.set_conductance(1.0)
    assert device.g == 1 / 50
    device.set_conductance(1 / 400)
    assert device.get_resistance() == pytest.approx(400)
    plotted: Any = models.Memristor.plot_hysteresis_loop(device, 1, 2.0, 1, return_result=True)
    volts, current = plotted
    assert current == pytest.approx(volts / 400, rel=MEMTORCH_FLOAT32)
    loop: Any = Exponential().plot_hysteresis_loop(return_result=True)
    assert len(loop[0]) == 1001
    assert loop[1].max() > 1 / 100 * 0.5
    for wrong, message in (
        ((50, 1000, 1e-3), "r_on is 1000.0 ohm and r_off is 50.0 ohm: r_off must be above r_on"),
        ((1000, 50, 0), r"time_series_resolution \(s\) is 0: it must be a finite number, above 0"),
        (("much", 50, 1e-3), "r_off is 'much': it must be a finite number"),
        ((StochasticParameter(1000, std=1), 50, 1e-3), "draw first, with unpack_parameters"),
    ):
        with pytest.raises(SpecError, match=message):
            Plain(*wrong)


def test_crossbars_of_a_device_of_the_user():
    crossbar = Crossbar(Exponential, {"r_off": 1000}, (2, 3))
    crossbar.conductance_matrix = torch.full((2, 3), 1 / 300)
    view = crossbar.devices[1, 2]
    assert (view.r_on, view.r_off) == pytest.approx((100, 1000))
    path = view.simulate(torch.tensor([1.0, 0.5, -1.0, -1.0]))
    # exp(+-0.05) per sample, and nothing below the threshold
    wanted = np.exp([0.05, 0.05, 0.0, -0.05]) / 300
    assert path.tolist() == pytest.approx(wanted, rel=MEMTORCH_FLOAT32)
    assert float(crossbar.conductance_matrix[1, 2]) == pytest.approx(wanted[-1], rel=MEMTORCH_FLOAT32)
    with pytest.raises(SpecError, match="Exponential is a class in Python: use simulate"):
        view.device  # noqa: B018  the access is what is tested
    needs = "Plain needs r_off, r_on, time_series_resolution: give memristor_model_params"
    with pytest.raises(SpecError, match=needs):
        Crossbar(Plain, {}, (2, 2))


def test_every_cell_of_a_device_of_the_user_is_drawn():
    torch.manual_seed(0)
    spread = {"r_off": StochasticParameter(loc=1000, scale=50), "r_on": StochasticParameter(loc=100, scale=5)}
    devices = Crossbar(Exponential, spread, (20, 20)).devices.ravel()
    r_off, r_on = (np.array([getattr(d, name) for d in devices]) for name in ("r_off", "r_on"))
    assert r_off.std() == pytest.approx(50, rel=0.15)
    assert r_on.mean() == pytest.approx(100, rel=0.02)
    assert len(np.unique(r_off)) == 400


def test_networks_of_a_device_of_the_user():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(3, 5)
    patched = patch_model(copy.deepcopy(network), Exponential, {}, [nn.Linear], verbose=False)
    assert torch.allclose(patched(x), network(x), atol=1e-5)
    apply_non_linear(patched[0])  # its own curve is a straight line
    assert torch.allclose(patched(x), network(x), atol=1e-5)
    curved = patch_model(copy.deepcopy(network), Curved, {}, [nn.Linear], verbose=False)
    for act in (
        lambda: apply_non_linear(curved[0]),
        lambda: simulate_matmul(x, curved[0].crossbars[0]),
    ):
        with pytest.raises(SpecError, match=r"Curved is a class in Python with a current\(\) of its own"):
            act()


def test_a_device_of_the_user_is_programmed_by_its_own_simulate():
    crossbar = Crossbar(Exponential, {"r_off": 1000}, (2, 2))
    crossbar.conductance_matrix = torch.full((2, 2), 1 / 300)
    levels = {"pos_voltage_level": 1.0, "neg_voltage_level": -1.0, "rel_tol": 0.03}
    naive_program(crossbar, (0, 1), 1 / 200, **levels)
    steps = round(np.log(300 / 200) / 0.05)  # whole pulses of 1 ms, each exp(0.05)
    found = crossbar.conductance_matrix
    assert float(found[0, 1]) == pytest.approx(np.exp(0.05 * steps) / 300, rel=MEMTORCH_FLOAT32)
    assert found[[0, 1, 1], [0, 0, 1]].tolist() == pytest.approx([1 / 300] * 3)  # V/2 is below the threshold
    naive_program(crossbar, (0, 1), 1 / 500, pulse_duration=2e-3, refactory_period=1e-3, **levels)
    assert float(crossbar.conductance_matrix[0, 1]) == pytest.approx(1 / 500, rel=0.03)
    layer = memtorch.mn.Linear(
        nn.Linear(3, 2), Exponential, {}, naive_map, False, naive_program, {"rel_tol": 0.05}, verbose=False
    )
    exact = memtorch.mn.Linear(layer_of(layer), Exponential, {}, verbose=False)
    for one, other in zip(layer.crossbars, exact.crossbars, strict=True):
        assert torch.allclose(one.conductance_matrix, other.conductance_matrix, rtol=0.06)


def layer_of(layer: Any) -> nn.Linear:
    """The digital layer under a memristive one."""
    digital = nn.Linear(layer.in_features, layer.out_features)
    digital.load_state_dict(layer.digital_state())
    return digital


# --- crossbars ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conductances_have_the_type_of_the_weights(dtype: torch.dtype):
    weights, x = torch.tensor([[1.0, -0.5, 0.25]], dtype=dtype), torch.ones(2, 3, dtype=dtype)
    found, _ = init_crossbar(weights, models.VTEAM, ENDS, True, naive_map, None, tile_shape=None)
    assert (x @ found[0].conductance_matrix).dtype == dtype
    own = Crossbar(models.VTEAM, ENDS, (3, 1))
    assert own.conductance_matrix.dtype == torch.get_default_dtype()
    own.conductance_matrix = torch.full((3, 1), 1 / 300, dtype=dtype)
    assert own.conductance_matrix.dtype == dtype


def test_writing_one_cell_keeps_all_digits_of_the_others():
    crossbar = Crossbar(models.VTEAM, ENDS, (2, 2))
    crossbar.devices[0, 0].set_conductance(1 / 333)
    crossbar.conductance_matrix[1, 1] = 1 / 500
    assert crossbar.devices[0, 0].get_resistance() == pytest.approx(333, rel=ROUNDING)


@pytest.mark.parametrize("scheme", list(memtorch.bh.Scheme))
@pytest.mark.parametrize("tile_shape", [None, (2, 3)])
def test_the_operation_of_init_crossbar_takes_crossbars_and_an_operation(scheme, tile_shape):
    torch.manual_seed(0)
    weights, x = torch.randn(4, 5), torch.rand(3, 5)
    found, out = init_crossbar(
        weights, models.VTEAM, ENDS, True, naive_map, None, scheme=scheme, tile_shape=tile_shape
    )

    def product(crossbar: Any) -> torch.Tensor:
        if tile_shape is None:
            return x @ crossbar.conductance_matrix
        cut = gen_tiles(x, tile_shape, input=True)
        places = torch.arange(6).reshape(3, 2)
        return tile_matmul(*cut, x.shape, crossbar.conductance_matrix, places, (5, 4))

    full = (1 / 100 - 1 / 1600) * (1 if scheme is memtorch.bh.Scheme.DoubleColumn else 0.5)
    siemens = full / float(weights.abs().max())
    assert torch.allclose(out(found, product), x @ weights.T * siemens, rtol=1e-4, atol=1e-7)
    if tile_shape is None:
        matrix = out(found, lambda crossbar: crossbar.conductance_matrix)
        assert torch.allclose(matrix, weights.T * siemens, rtol=1e-4, atol=1e-8)


def test_the_eighth_argument_of_tile_matmul_is_not_a_resistance():
    torch.manual_seed(0)
    a, b = torch.rand(3, 6), torch.rand(6, 5)
    cut = (*gen_tiles(a, (4, 4), input=True), a.shape, *gen_tiles(b, (4, 4)), b.shape)
    named = tile_matmul(*cut, ADC_resolution=8, ADC_overflow_rate=0.1, quant_method="linear")
    assert torch.equal(tile_matmul(*cut, 8, 0.1, "linear"), named)
    with pytest.raises(SpecError, match="ADC_resolution=8, quant_method=None: give both for an ADC"):
        tile_matmul(*cut, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crossbar_shape": (5, 6)}, r"crossbar_shape is \(5, 6\): this crossbar is 6x5"),
        ({"tiles_map": torch.tensor([[1, 0], [2, 3]])}, "this crossbar has tiles 0 to 3 in order"),
        ({"nl": 1}, "nl is 1: it must be True or False"),
        ({"max_input_voltage": 0}, r"max_input_voltage \(V\) is 0: it must be a finite number, above 0"),
    ],
)
def test_what_simulate_matmul_is_told_of_the_tiles_is_checked(options: dict, message: str):
    crossbar = Crossbar(models.VTEAM, ENDS, (6, 5), (4, 3))
    volts = torch.full((2, 6), 0.1)
    right = {"crossbar_shape": (6, 5), "tiles_map": gen_tiles(torch.ones(6, 5), (4, 3))[1], "nl": False}
    assert torch.equal(simulate_matmul(volts, crossbar, **right), simulate_matmul(volts, crossbar))
    with pytest.raises(SpecError, match=message):
        simulate_matmul(volts, crossbar, **options)


# --- programming --------------------------------------------------------------------------------------------


def test_defaults_of_naive_program():
    defaults = {n: p.default for n, p in inspect.signature(naive_program).parameters.items()}
    documented = {"rel_tol": 0.01, "pulse_duration": 1e-3, "refactory_period": 0, "simulate_neighbours": True}
    documented |= {"timeout": 10, "timeout_adjustment": 1e-9}
    documented |= {"pos_voltage_level": 1.0, "neg_voltage_level": -1.0}
    assert {name: defaults[name] for name in documented} == documented


@pytest.mark.parametrize("adjustment", [1e-9, 5.0, 500.0])
def test_a_device_at_its_bound_is_freed_by_the_adjustment(adjustment: float, monkeypatch: pytest.MonkeyPatch):
    """Joglekar's window is 0 at r_on: the first step off it is the adjustment, in ohm."""
    crossbar = Crossbar(models.LinearIonDrift, {}, (1, 1))
    seen = []
    view = type(crossbar.devices[0, 0])
    write = view.set_conductance
    monkeypatch.setattr(view, "set_conductance", lambda self, g: (seen.append(1 / g), write(self, g))[1])
    volts = {"pos_voltage_level": 2.0, "neg_voltage_level": -2.0, "failure_iteration_threshold": 10_000}
    found = naive_program(crossbar, (0, 0), 1 / 4000, timeout_adjustment=adjustment, **volts)
    assert found.get_resistance() == pytest.approx(4000, rel=PROGRAMMED)
    crept, freed = seen[:2]  # by a pulse that should have reached the target, and by the adjustment
    assert crept == pytest.approx(100, rel=1e-6)
    assert freed - crept == pytest.approx(adjustment, rel=1e-3)


def test_parameters_of_a_programming_routine_replace_the_default():
    given: list[dict] = []

    def routine(crossbar, point, conductance, **options):
        given.append(options)
        crossbar.device(point).set_conductance(conductance)

    def plain(crossbar, point, conductance):
        given.append({})
        crossbar.device(point).set_conductance(conductance)

    def tolerant(crossbar, point, conductance, rel_tol):
        given.append({"rel_tol": rel_tol})

    network = nn.Sequential(nn.Linear(1, 1))
    for function, params, wanted in (
        (routine, {"pulse_duration": 1.0}, {"pulse_duration": 1.0}),
        (routine, {}, {}),
        (plain, None, {}),
        (tolerant, None, {"rel_tol": 0.1}),
    ):
        options = {"transistor": False, "programming_routine": function, "verbose": False}
        given.clear()
        patch_model(
            copy.deepcopy(network),
            models.VTEAM,
            ENDS,
            [nn.Linear],
            programming_routine_params=params,
            **options,
        )
        assert given == [wanted] * 2
    with pytest.raises(
        SpecError, match="plain has no argument 'rel_tol'; it has: crossbar, point, conductance"
    ):
        patch_model(
            network,
            models.VTEAM,
            ENDS,
            [nn.Linear],
            programming_routine_params={"rel_tol": 1},
            **options | {"programming_routine": plain},
        )


# --- converters and mapping ---------------------------------------------------------------------------------


def test_the_documents_spelling_of_min_max():
    x = torch.linspace(-1, 2, 50)
    assert torch.equal(quantize(x, 4, 0.0, "min-max"), quantize(x, 4, 0.0, "minmax"))
    adc = {"ADC_resolution": 6, "max_input_voltage": 0.3}
    inputs = torch.rand(3, 6)
    one, other = (linear(quant_method=name, **adc) for name in ("min-max", "minmax"))
    assert torch.equal(one(inputs), other(inputs))
    assert one.quant_method == "min-max"
    a, b = torch.rand(3, 6), torch.rand(6, 5)
    cut = (*gen_tiles(a, (4, 4), input=True), a.shape, *gen_tiles(b, (4, 4)), b.shape)
    assert torch.equal(tile_matmul(*cut, 6, 0.0, "min-max"), tile_matmul(*cut, 6, 0.0, "minmax"))
    volts = torch.rand(2, 3)
    crossbar = Crossbar(models.VTEAM, ENDS, (3, 3))
    coded = [
        simulate_matmul(volts, crossbar, ADC_resolution=6, quant_method=name)
        for name in ("min-max", "minmax")
    ]
    assert torch.equal(*coded)


@pytest.mark.parametrize("method", ["linear", "log", "log_minmax", "min-max", "tanh", None])
def test_nothing_lies_outside_min_and_max(method: str | None):
    x = torch.linspace(-2, 2, 201)
    found = quantize(x, 4, 0.0, method, min=-0.3, max=0.7)
    assert -0.3 - 1e-6 <= float(found.min()) <= float(found.max()) <= 0.7 + 1e-6
    above = quantize(x, 3, 0.0, method, max=0.7)
    assert float(above.max()) <= 0.7 + 1e-6


def test_cycle_variability_without_arguments_says_what_it_needs():
    with pytest.raises(SpecError, match=r"r_on_kwargs is \{\}: Normal needs loc, scale"):
        apply_cycle_variability(linear())


def test_sweeps_that_change_nothing_are_told():
    with pytest.warns(UserWarning, match="sweep_duration=2 has no effect: every device has its exact I-V"):
        apply_non_linear(linear(), sweep_duration=2)


# --- layers -------------------------------------------------------------------------------------------------

DIGITAL = {
    "Linear": (nn.Linear(6, 4), (3, 6)),
    "Conv1d": (nn.Conv1d(2, 3, 3), (2, 2, 9)),
    "Conv2d": (nn.Conv2d(2, 3, 3), (2, 2, 7, 7)),
    "Conv3d": (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
}


@pytest.mark.parametrize("name", DIGITAL)
def test_layers_are_those_of_torch(name: str):
    digital, shape = DIGITAL[name]
    x = torch.rand(shape)
    layer = getattr(memtorch.mn, name)(digital, models.VTEAM, ENDS, verbose=False)
    assert isinstance(layer, type(digital))
    assert torch.allclose(layer.forward(input=x), digital(x), atol=1e-5)
    assert torch.allclose(layer.forward_legacy(x), digital(x), atol=1e-6)
    assert not any(product.digital for product in layer.products)
    again = copy.deepcopy(layer)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("name", DIGITAL)
def test_layers_take_their_arguments_in_the_documented_order(name: str):
    torch.manual_seed(0)  # other weights may clip more than a converter keeps quiet about
    digital, shape = DIGITAL[name]
    x = torch.rand(shape)
    make = getattr(memtorch.mn, name)
    scheme = memtorch.bh.Scheme.SingleColumn
    order = (naive_map, True, None, {}, 0.1, scheme, (8, 2), 0.5, 6, 0.1, "linear", False)
    layer = make(digital, models.VTEAM, ENDS, *order)
    named = make(
        digital,
        models.VTEAM,
        ENDS,
        p_l=0.1,
        scheme=scheme,
        tile_shape=(8, 2),
        max_input_voltage=0.5,
        ADC_resolution=6,
        ADC_overflow_rate=0.1,
        quant_method="linear",
        verbose=False,
    )
    assert torch.equal(layer(x), named(x))
    attributes = ("mapping_routine", "transistor", "programming_routine", "programming_routine_params", "p_l")
    attributes += ("scheme", "tile_shape", "max_input_voltage", "ADC_resolution", "ADC_overflow_rate")
    assert tuple(getattr(layer, n) for n in (*attributes, "quant_method", "verbose")) == order
    with pytest.raises(SpecError, match="p_l of a layer cannot be changed: patch the digital network again"):
        layer.p_l = 0.2
    with pytest.raises(SpecError, match="a memristive layer has no option 'tile'"):
        make(digital, models.VTEAM, ENDS, tile=(8, 2))


def test_patch_model_takes_its_arguments_in_the_documented_order():
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(6, 4)), torch.rand(3, 6)
    scheme = memtorch.bh.Scheme.DoubleColumn
    positional = (naive_map, True, None, {}, None, scheme, (4, 4), 0.3, 8, 0.0, "linear", False)
    named = {"tile_shape": (4, 4), "max_input_voltage": 0.3, "ADC_resolution": 8, "quant_method": "linear"}
    one = patch_model(copy.deepcopy(network), models.VTEAM, ENDS, [nn.Linear], *positional)
    other = patch_model(copy.deepcopy(network), models.VTEAM, ENDS, [nn.Linear], **named, verbose=False)
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("name", DIGITAL)
def test_transform_output_is_what_tuning_found(name: str):
    digital, shape = DIGITAL[name]
    x = torch.rand(shape)
    layer = getattr(memtorch.mn, name)(digital, models.VTEAM, ENDS, source_resistance=20.0, verbose=False)
    bias = layer.bias.reshape(-1, *[1] * (len(shape) - 2)) if name != "Linear" else layer.bias
    raw = layer(x) - bias
    assert torch.equal(layer.transform_output(raw), raw)
    layer.tune()
    assert torch.allclose(layer(x), layer.transform_output(raw) + bias, atol=1e-5)
    assert not torch.allclose(layer.transform_output(raw), raw, rtol=1e-3)
    layer.transform_output = lambda output: 2 * output - 0.5
    assert torch.allclose(layer(x), 2 * raw - 0.5 + bias, atol=1e-5)
    with pytest.raises(SpecError, match="transform_output is no line"):
        layer.transform_output = torch.tanh
    line = naive_tune(layer, (64, *shape[1:]), verbose=False)
    tuned = layer(x)
    layer.transform_output = line
    assert torch.equal(layer(x), tuned)


def test_legacy_layers_and_the_switch():
    layer = linear(source_resistance=50.0)
    x = torch.rand(3, 6)
    digital = layer_of(layer)
    crossed = layer(x)
    assert torch.allclose(layer.forward_legacy(x), digital(x))
    assert torch.equal(layer(x), crossed)
    assert layer.forward_legacy(True) is None
    assert torch.allclose(layer(x), digital(x))
    assert not torch.allclose(crossed, digital(x))
    with pytest.raises(SpecError, match=r"forward_legacy\('x'\): give a tensor of inputs, or True or False"):
        layer.forward_legacy("x")


# --- converters without calibrate ---------------------------------------------------------------------------


def test_tuned_digits_with_converters_are_as_good_as_calibrated_ones():
    """Pixels 0 to 16 through 8-bit converters in MemTorch's way: patch_model, tune_, then inference."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = torch.tensor(digits["data"], dtype=torch.float32)
    y = torch.tensor(digits["target"])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x[:1200]), y[:1200]).backward()
        optimiser.step()

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(x[1200:]).argmax(1) == y[1200:]).float().mean())

    converters = {"ADC_resolution": 8, "quant_method": "linear", "max_input_voltage": 0.3}
    tuned, calibrated = (
        patch_model(copy.deepcopy(network), models.VTEAM, ENDS, [nn.Linear], verbose=False, **converters)
        for _ in range(2)
    )
    tuned.tune_()
    calibrated.calibrate(x[:1200])
    assert accuracy(network) > 0.9
    assert accuracy(tuned) > accuracy(network) - 0.02
    assert abs(accuracy(tuned) - accuracy(calibrated)) < 0.02


# --- passive networks in float32 ----------------------------------------------------------------------------

PASSIVE: dict[str, tuple[dict, float]] = {
    "VTEAM": ({"r_off": 2500}, 1.0),
    "Data_Driven2021": ({}, 1.8),
    "Stanford_PKU": ({}, 1.8),
    "LinearIonDrift": ({}, 2.0),
}


@pytest.mark.parametrize("name", PASSIVE)
def test_float32_networks_are_programmed_without_transistors(name: str):
    """From a new device, at its highest conductance; targets lie on the bounds, rounded to float32."""
    params, volts = PASSIVE[name]
    levels = {"pos_voltage_level": volts, "neg_voltage_level": -volts, "simulate_neighbours": False}
    levels |= {"pulse_duration": 1e-2, "rel_tol": 0.05}
    torch.manual_seed(0)
    digital = nn.Linear(3, 2)
    model = getattr(models, name)
    layer = memtorch.mn.Linear(digital, model, params, naive_map, False, naive_program, levels, verbose=False)
    exact = memtorch.mn.Linear(digital, model, params, verbose=False)
    for found, wanted in zip(layer.crossbars, exact.crossbars, strict=True):
        assert found.conductance_matrix.dtype == torch.float32
        assert torch.allclose(found.conductance_matrix, wanted.conductance_matrix, rtol=0.06)
    assert len(layer.crossbars[0].conductance_matrix.unique()) > 2
