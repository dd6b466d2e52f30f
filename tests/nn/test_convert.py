"""Conversion of whole networks: what is converted, the report, save and load, tuning, accuracy."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import cosim
from cosim.errors import SpecError
from cosim.nn.effects import DeviceFaults, DeviceVariability, FiniteStates, ReadNoise
from cosim.nn.hardware import Hardware
from cosim.nn.layers import Conv, Linear
from cosim.nn.mapping import SingleColumn
from cosim.nn.model import ConvertedModel
from cosim.nn.registry import register
from tolerances import ACTS, AUTOCAST, BFLOAT16, DECISIONS_KEPT, LAYER_FLOAT32, TUNING_HELPS

# the network has a Conv1d, which the default layers leave out; test_inputs_of_networks.py is about that
pytestmark = pytest.mark.filterwarnings("ignore:these weights stay digital")

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = cosim.Wires(row=5.0, column=5.0)


class Network(nn.Module):
    """Convolutions with and without bias, batch norm, a layer used twice, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.mixer = nn.Conv1d(4, 4, 3, padding=1, groups=4)
        self.twice = nn.Linear(36, 36)
        self.head = nn.Linear(36, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x).flatten(2)
        x = self.mixer(x).unflatten(2, (4, 4))[:, :, :3, :3].flatten(1)
        return self.head(self.twice(self.twice(x).relu()))


def network() -> Network:
    model = Network()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(10))


def converted(**options: Any) -> ConvertedModel:
    return cosim.convert(network(), device=DEVICE, **{"tile_shape": (16, 16), **options})


def of(model: nn.Module) -> ConvertedModel:
    return cosim.convert(model, device=DEVICE)


def normed(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but old networks have it
        return nn.utils.weight_norm(layer)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


def test_ideal_conversion_is_the_digital_network_and_leaves_it_alone():
    model = network()
    before = copy.deepcopy(model.state_dict())
    wanted = model(images())
    mnn = cosim.convert(model, device=DEVICE, layers=(nn.Linear, nn.Conv1d, nn.Conv2d))
    assert distance(mnn(images()), wanted) <= LAYER_FLOAT32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model.head, nn.Linear)
    assert isinstance(mnn.head, Linear)
    assert isinstance(mnn.features[0], Conv)
    assert not mnn.training


def test_later_changes_of_the_digital_layer_do_not_reach_the_crossbar():
    digital = nn.Linear(4, 3)
    layer, x = Linear(digital, Hardware(device=DEVICE)), torch.rand(2, 4)
    wanted = digital(x).detach()
    with torch.no_grad():
        digital.weight.zero_()
        digital.bias.zero_()
    layer.matmul.digital = True
    assert distance(layer(x), wanted) <= LAYER_FLOAT32


def test_every_module_keeps_its_mode():
    model = network().train()
    model.features[1].eval()
    model.head.eval()
    mnn = cosim.convert(model, device=DEVICE)
    assert (mnn.training, mnn.twice.training, mnn.features[1].training, mnn.head.training) == (
        True,
        True,
        False,
        False,
    )


def test_report():
    report = converted(exclude="head").report
    by_name = {layer.name: layer for layer in report.layers}
    assert list(by_name) == ["features.0", "features.1", "mixer", "twice", "head"]
    assert {name for name, layer in by_name.items() if layer.converted} == {"features.0", "twice"}
    assert by_name["features.1"].reason == "BatchNorm2d is not among layers="
    assert by_name["mixer"].reason == "Conv1d is not among layers="
    assert by_name["head"].reason == "in exclude="
    twice = by_name["twice"]
    assert (twice.weights, twice.cells, twice.tiles) == (36 * 37, 36 * 72, 3 * 5)
    assert twice.utilisation == pytest.approx(36 * 72 / (15 * 256))
    assert report.cells == 36 * 72 + 9 * 8
    assert report.tiles == 16
    assert report.utilisation == pytest.approx(report.cells / (16 * 256))
    assert json.loads(json.dumps(report.to_dict()))["tiles"] == 16
    assert "in exclude=" in str(report)
    assert len(str(report).splitlines()) == 7


def test_a_layer_used_twice_is_one_layer():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    mnn = cosim.convert(model, device=DEVICE)
    assert mnn.model.get_submodule("0") is mnn.model.get_submodule("2")
    assert len(mnn.products) == 1


def test_include_and_exclude():
    assert [layer.name for layer in converted(include=["features.*", "head"]).report.converted] == [
        "features.0",
        "head",
    ]
    assert [layer.name for layer in converted(exclude="t*").report.converted] == ["features.0", "head"]


def test_only_exact_types_and_registered_ones():
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # the parameter keeps torch's name
            return 2 * super().forward(x)

    class OnCrossbar(Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    model = nn.Sequential(Doubled(4, 3), nn.Linear(3, 2))
    report = cosim.convert(model, device=DEVICE).report
    assert [layer.reason for layer in report.layers] == [
        "Doubled is a Linear with methods of its own: register a converter for it",
        "",
    ]
    with pytest.raises(SpecError, match="no crossbar layer for Doubled: choose from Linear, Conv1d"):
        cosim.convert(model, device=DEVICE, layers=(Doubled,))
    register(Doubled, OnCrossbar)
    mnn = cosim.convert(model, device=DEVICE, layers=(nn.Linear, Doubled))
    x = torch.rand(3, 4)
    assert distance(mnn(x), model(x)) <= LAYER_FLOAT32


def test_a_layer_with_hooks_stays_digital():
    model = network()
    model.head.register_forward_hook(lambda *_: None)
    assert {layer.name: layer.reason for layer in cosim.convert(model, device=DEVICE).report.skipped}[
        "head"
    ] == "has forward hooks, which a crossbar layer would lose"


# torch says that nested tensors are not used with these options
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("kinds", ["L", "A", "LA"])
def test_transformer_encoders_call_their_converted_layers(kinds: str):
    layers = [{"L": nn.Linear, "A": nn.MultiheadAttention}[kind] for kind in kinds]
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    mnn = cosim.convert(model, device=DEVICE, layers=layers, tile_shape=(16, 16))
    x = torch.rand(2, 5, 8)
    with torch.no_grad():
        assert distance(mnn(x), model(x)) <= LAYER_FLOAT32
        broken = cosim.convert(model, device=DEVICE, layers=layers, effects=[DeviceFaults(lrs=0.2)])
        assert distance(broken(x), model(x)) > ACTS


def test_digital_switch_and_engines():
    mnn, wanted = converted(wires=WIRES), network()(images())
    analog = mnn(images())
    assert distance(analog, wanted) > ACTS
    assert distance(mnn.digital()(images()), wanted) <= LAYER_FLOAT32
    assert torch.equal(mnn.digital(False)(images()), analog)
    for engine in ("newton", "ngspice"):
        assert distance(mnn.use_engine(engine)(images(2)), analog[:2]) <= LAYER_FLOAT32
    assert distance(mnn.use_engine("ideal")(images()), wanted) <= LAYER_FLOAT32
    with pytest.raises(SpecError, match="no engine 'exact'"):
        mnn.use_engine("exact")


OPTIONS: dict[str, Any] = {
    "wires": WIRES,
    "dac": cosim.DAC(bits=8),
    "adc": cosim.ADC(bits=8),
    "effects": [
        DeviceVariability(parameters={"r_on": torch.distributions.Uniform(9e3, 11e3)}),
        DeviceFaults(lrs=0.01),
        ReadNoise(sigma=0.01),
    ],
}


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_state_dict_round_trip(tmp_path: Path):
    mnn = converted(**OPTIONS)
    mnn.calibrate(images())
    mnn.tune(images(), per="tile")
    torch.save(mnn.state_dict(), tmp_path / "state.pt")
    other = converted(**OPTIONS, seed=1)
    assert not torch.equal(other(images()), copy.deepcopy(mnn)(images()))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other(images()), mnn(images()))  # what follows from the cells is computed again
    for engine in ("newton", "linear"):
        assert torch.equal(other.use_engine(engine)(images(2)), mnn.use_engine(engine)(images(2)))


def test_whole_model_round_trip(tmp_path: Path):
    mnn = converted(**OPTIONS)
    mnn.calibrate(images())
    mnn.tune(images())
    mnn.use_engine("newton")(images(1))  # with what is cached on the way
    wanted = copy.deepcopy(mnn)(images(2))
    torch.save(mnn, tmp_path / "model.pt")
    for other in (torch.load(tmp_path / "model.pt", weights_only=False), pickle.loads(pickle.dumps(mnn))):
        assert torch.equal(other(images(2)), wanted)
        assert other.report == mnn.report


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_deepcopy_is_independent():
    mnn = converted(**OPTIONS)
    other = copy.deepcopy(mnn)
    other.add_effects([DeviceFaults(hrs=1.0)])
    wanted = mnn(images())
    assert torch.equal(copy.deepcopy(converted(**OPTIONS))(images()), wanted)
    assert not torch.equal(other(images()), wanted)


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_the_seed_decides_everything():
    assert torch.equal(converted(**OPTIONS)(images()), converted(**OPTIONS)(images()))
    assert not torch.equal(converted(**OPTIONS, seed=1)(images()), converted(**OPTIONS)(images()))


def test_dtype_and_device_moves():
    mnn = converted(wires=WIRES)
    single = mnn(images())
    assert distance(mnn.double()(images().double()).float(), single) <= LAYER_FLOAT32
    mnn.use_engine("newton")(images(1).double())
    assert mnn.to("cpu")(images(1).double()).dtype == torch.float64


def test_half_precision_networks_keep_their_cells_in_single():
    mnn, wanted = converted(wires=WIRES, adc=cosim.ADC(bits=10)), network()(images())
    mnn.calibrate(images())
    half = mnn.to(torch.bfloat16)(images().to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert mnn.head.matmul.conductance.dtype == torch.float32
    assert distance(half.float(), wanted) < BFLOAT16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distance(converted(engine="newton")(images(2)).float(), wanted[:2]) < AUTOCAST


@pytest.mark.gpu
def test_moves_between_devices():
    for options in ({"wires": WIRES}, OPTIONS, {**OPTIONS, "engine": "newton"}):
        mnn = converted(**options)
        for product in mnn.products.values():
            product.read_noise.zero_()
            product.prepare()
        wanted = mnn(images())
        moved = mnn.to("cuda")
        assert distance(moved(images().cuda()).cpu(), wanted) <= 1e2 * LAYER_FLOAT32
        assert torch.equal(mnn.to("cpu")(images()), wanted)
    parallel = nn.DataParallel(converted(wires=WIRES).cuda())
    assert parallel(images().cuda()).shape == (5, 3)


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
def test_tuning_on_given_inputs_is_idempotent_and_helps(per: str):
    mnn, wanted = converted(wires=cosim.Wires(row=100.0, column=100.0)), network()(images())
    before = distance(mnn(images()), wanted)
    first = mnn.tune(images(), per=per)
    tuned = mnn(images())
    second = mnn.tune(images(), per=per)
    assert torch.equal(mnn(images()), tuned)
    assert first == second
    assert distance(tuned, wanted) < TUNING_HELPS * before
    assert {layer.name for layer in first.layers} == set(mnn.products)
    assert all(layer.rmse_after < layer.rmse_before for layer in first.layers)
    assert len(str(first).splitlines()) == 1 + len(first.layers)
    mnn.digital()
    assert distance(mnn(images()), wanted) <= LAYER_FLOAT32  # tuning is part of the crossbars


def test_tuning_without_inputs_and_layers_not_reached():
    mnn = converted(wires=cosim.Wires(row=100.0, column=100.0))
    assert all(layer.rmse_after < layer.rmse_before for layer in mnn.tune().layers)

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    report = cosim.convert(Half(), device=DEVICE).tune([torch.rand(8, 3), torch.rand(8, 3)])
    assert report.untouched == ("spare.matmul",)
    assert report.layers[0].samples == 16


def test_calibration_keeps_the_mode_and_takes_batches():
    model = network().train()
    mnn = cosim.convert(model, device=DEVICE, dac=cosim.DAC(bits=8))
    mean = mnn.features[1].running_mean.clone()
    mnn.calibrate([images(2), (images(3),)])
    assert mnn.training
    assert torch.equal(mnn.features[1].running_mean, mean)
    assert float(mnn.features[0].matmul.full_scale) == float(images(3).max())
    assert not mnn.features[0].matmul.digital


@pytest.mark.parametrize("scheme", [None, SingleColumn()])
def test_accuracy_with_everything_at_once(scheme: Any):
    """Wires, converters, spread and finite states: the decisions of a small classifier survive tuning."""
    generator = torch.Generator().manual_seed(11)
    centres = torch.randn(5, 40, generator=generator)
    labels = torch.arange(500) % 5
    x = centres[labels] + 0.7 * torch.randn(500, 40, generator=generator)
    model = nn.Sequential(nn.Linear(40, 5))
    with torch.no_grad():  # the classifier of Gaussian classes of equal spread, in closed form
        model[0].weight.copy_(centres)
        model[0].bias.copy_(-0.5 * centres.square().sum(1))
    spread = cosim.Device("vteam", r_on=torch.distributions.Normal(1e4, 1e3), r_off=1e6)
    mnn = cosim.convert(
        model,
        device=spread,
        tile_shape=(16, 16),
        wires=cosim.Wires(row=2.0, column=2.0),
        dac=cosim.DAC(bits=8),
        adc=cosim.ADC(bits=8),
        effects=[FiniteStates(states=32)],
        scheme=scheme,
    )
    mnn.calibrate(x)
    report = mnn.tune(x, per="column")
    agreement = (mnn(x).argmax(1) == model(x).argmax(1)).double().mean()
    assert float(agreement) > DECISIONS_KEPT
    assert report.layers[0].r2 > DECISIONS_KEPT


def test_parts_of_the_network_are_found():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    mnn = of(model)
    assert len(mnn) == 3
    assert list(mnn) == list(mnn.model)
    assert isinstance(mnn[0], Linear)
    assert [type(part) for part in mnn[1:]] == [nn.ReLU, Linear]
    assert of(nn.ModuleDict({"a": nn.Linear(3, 4)}))["a"].matmul.weight.shape[-1] == 3
    whole = of(nn.Linear(3, 4))
    assert whole  # although it has no length
    with pytest.raises(TypeError, match=r"object of type 'Linear' has no len\(\)"):
        len(whole)


def test_pruning_that_ended_and_lazy_layers_that_were_called_are_converted():
    model = nn.Sequential(nn.LazyLinear(4), prune.l1_unstructured(nn.Linear(4, 2), "weight", 0.5))
    wanted = model(torch.ones(1, 3))
    prune.remove(model[1], "weight")
    assert distance(of(model)(torch.ones(1, 3)), wanted) <= LAYER_FLOAT32


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_gradients_reach_the_inputs():
    mnn = converted(**OPTIONS)
    x = images().requires_grad_()
    mnn(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert float(x.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: of(nn.Sequential(nn.Flatten(), prune.identity(nn.Linear(4, 3), "weight"))),
            r"1.weight is computed from other tensors and cannot be copied: end pruning with torch",
        ),
        (lambda: of(prune.identity(nn.Linear(4, 3), "bias")), "^bias is computed from other tensors"),
        (lambda: of(normed(nn.Linear(4, 3))), "the old weight_norm with remove_weight_norm"),
        (
            lambda: of(nn.Sequential(nn.LazyLinear(3))),
            "0.weight has no shape yet: call the network once with a batch, then convert it",
        ),
        *(
            (
                lambda seed=seed: converted(seed=seed),
                f"seed is {seed!r}: it must be a whole number, at least 0",
            )
            for seed in (1.5, True, -1, 2**63, None, "a")
        ),
        (lambda: converted().add_effects([], seed=1.5), "seed is 1.5: it must be a whole number"),
        (lambda: converted().tune(seed=1.5), "seed is 1.5: it must be a whole number"),
        (lambda: converted().calibrate(images(), seed=1.5), "seed is 1.5: it must be a whole number"),
        (lambda: converted(include="tail*"), r"include: no layer is called 'tail\*'; the first are features"),
        (lambda: converted(exclude=["head", "x"]), "exclude: no layer is called 'x'"),
        (lambda: converted(layers=(nn.Embedding,)), "no crossbar layer for Embedding: choose from Linear"),
        (lambda: converted(layers=("Linear",)), "no crossbar layer for 'Linear'"),
        (lambda: converted(engine="spice"), "no engine 'spice': choose from ideal"),
        (lambda: converted(effects=["faults"]), "effects is 'faults': it must be of cosim.nn.effects.Effect"),
        (lambda: converted(wires=2.0), "wires is 2.0: it must be of cosim.wires.Wires"),
        (lambda: converted().add_effects(["faults"]), r"effects is \['faults'\]"),
        (lambda: converted().tune(per="row"), "per is 'row': choose from layer, tile, column"),
        (
            lambda: converted().tune(images(), samples=0),
            "samples is 0: it must be a whole number, at least 1",
        ),
        (lambda: converted().calibrate(3), "inputs is 3: give a tensor, an array, a tuple"),
        (lambda: register(3, Linear), "3 is not a subclass of torch.nn.Module"),
        (lambda: register(nn.Bilinear, 3), "3 cannot be called"),
        (lambda: Hardware(device=DEVICE, scheme="double"), "scheme is 'double'"),
    ],
)
def test_wrong_values_are_refused(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()
