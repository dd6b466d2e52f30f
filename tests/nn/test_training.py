"""Training through the hardware: gradients, straight-through estimators, draws per step, what eval sees."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Normal, Uniform
from torch.func import functional_call

import cosim
from cosim.errors import SpecError
from cosim.nn.effects import (
    CycleVariability,
    DeviceFaults,
    DeviceVariability,
    Drift,
    Effect,
    FiniteStates,
    ProgrammingNoise,
    ReadNoise,
    StuckLines,
)
from cosim.nn.functional import matmul
from cosim.nn.hardware import Hardware
from cosim.nn.mapping import BitSlicing, DoubleColumn, Scheme, SingleColumn
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.model import ConvertedModel
from cosim.nn.registry import register
from tolerances import (
    ACTS,
    GRADIENT_DIFFERENCE,
    LAYER_FLOAT32,
    LEFT_BY_TUNING,
    PRODUCT_EXACT,
    TRAINED_ACTS,
    WON_BACK,
)

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = cosim.Wires(row=20.0, column=30.0)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


def product(weight: torch.Tensor, **options: Any) -> CrossbarMatmul:
    options = {"device": DEVICE, "tile_shape": (6, 6), "trainable": True, **options}
    return CrossbarMatmul(weight, Hardware(**options))


class Small(nn.Module):
    """A convolution, a layer used twice, a recurrent layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, groups=1)
        self.twice = nn.Linear(16, 16)
        self.memory = nn.GRU(16, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).flatten(2).relu()
        x = self.twice(self.twice(x).relu())
        return self.head(self.memory(x)[0].mean(1))


def network() -> Small:
    model = Small()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(10))


LAYERS = (nn.Linear, nn.Conv2d, nn.GRU)
NOISE: dict[str, Any] = {
    "device": cosim.Device("vteam", r_on=Normal(1e4, 5e2), r_off=1e6),
    "wires": WIRES,
    "effects": (ProgrammingNoise(sigma=0.05), DeviceFaults(lrs=0.02)),
}


def converted(model: nn.Module | None = None, **options: Any) -> ConvertedModel:
    options = {"device": DEVICE, "tile_shape": (16, 36), "layers": LAYERS, "trainable": True, **options}
    return cosim.convert(network() if model is None else model, **options)


def descend(model: ConvertedModel, steps: int = 2) -> None:
    """A few steps of training, in training mode."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    x = images().to(next(model.parameters()).device)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()


# --- gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [DoubleColumn(), DoubleColumn(p_l=0.2), SingleColumn()])
@pytest.mark.parametrize(
    "options", [{}, {"wires": WIRES}, {"wires": WIRES, "effects": [Drift(seconds=100.0, nu=0.05)]}]
)
def test_gradients_through_mapping_and_wires_are_exact(scheme: Scheme, options: dict[str, Any]):
    """Also of the largest weight, which sets the scale of all others, and with edge tiles."""
    layer = product(drawn(3, 8), scheme=scheme, **options)

    def outputs(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        layer.redraw()  # gradcheck changes .data
        return functional_call(layer, {"weight": weight}, (inputs,))

    weight, inputs = (x.requires_grad_() for x in (drawn(1, 3, 8), drawn(2, 8, seed=4)))
    assert torch.autograd.gradcheck(outputs, (weight, inputs))
    assert (
        float(torch.autograd.grad(outputs(weight, inputs).sum(), weight)[0].abs().max()) > 0
    )  # it depends on it


def test_newton_gradients_agree_with_differences():
    layer = product(
        drawn(2, 3),
        device=cosim.Device("stanford_pku"),
        wires=cosim.Wires(row=200.0, column=300.0),
        dac=cosim.DAC(v_max=0.4),
        scheme=SingleColumn(),
    )
    layer.set_engine("newton", tolerance=1e-14)
    inputs, chosen = drawn(3, 3, seed=4), drawn(3, 2, seed=5)

    def loss() -> torch.Tensor:
        return (layer(inputs) * chosen).sum()

    loss().backward()
    assert layer.weight.grad is not None
    step, differences = 1e-4, torch.zeros(1, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        for place in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
            where, sides = (0, *place.tolist()), []
            for sign in (1, -1):
                layer.weight[where] += sign * step
                sides.append(float(loss()))
                layer.weight[where] -= sign * step
            differences[where] = (sides[0] - sides[1]) / (2 * step)
    assert distance(layer.weight.grad, differences) <= GRADIENT_DIFFERENCE
    layer.set_engine("linear")
    layer.zero_grad()
    loss().backward()
    assert distance(layer.weight.grad, differences) > ACTS  # the cells are not linear


@pytest.mark.parametrize(
    "options",
    [
        {"effects": [FiniteStates(states=5)]},
        {"effects": [FiniteStates(states=9)], "scheme": SingleColumn()},
        {"scheme": BitSlicing(bits=4, slice_bits=1)},
    ],
)
def test_rounded_conductances_pass_the_gradient_of_the_exact_ones(options: dict[str, Any]):
    weight, inputs = drawn(3, 8), drawn(4, 8, seed=4)
    weight[1, 2] = 0.0  # where the cells of a pair change places
    layer, exact = product(weight, **options), product(weight)
    chosen = drawn(4, 3, seed=5)
    rounded = layer(inputs)
    assert distance(rounded, exact(inputs)) > ACTS
    (rounded * chosen).sum().backward()
    assert layer.weight.grad is not None
    wanted = chosen.T @ inputs
    free = weight.abs() < weight.abs().max()  # the largest sets the scale
    assert distance(layer.weight.grad[0][free], wanted[free]) <= PRODUCT_EXACT


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_converters_pass_gradients_straight_where_they_do_not_clip():
    weight, inputs = drawn(3, 4), drawn(6, 4, seed=4)
    inputs[0, 0] = 1.5  # beyond full scale
    limit = 5e-6
    layer = product(
        weight,
        tile_shape=(8, 8),
        dac=cosim.DAC(bits=4, full_scale=1.0),
        adc=cosim.ADC(bits=3, method="minmax", range=(-limit, limit)),
    )
    inputs.requires_grad_()
    outputs = layer(inputs)
    chosen = drawn(6, 3, seed=5)
    (outputs * chosen).sum().backward()
    with torch.no_grad():
        driven = (inputs.clamp(-1, 1) * 7).round() / 7  # what the 4-bit DAC gives
        currents = driven @ weight.T * float(layer.scale) * 0.1
        clipped = currents.abs() > limit
        assert bool(clipped.any())
        assert not bool(clipped.all())
        passing = torch.where(clipped, 0.0, chosen)
        to_weight, to_inputs = passing.T @ driven, torch.where(inputs.abs() > 1, 0.0, passing @ weight)
    assert layer.weight.grad is not None
    assert inputs.grad is not None
    free = weight.abs() < weight.abs().max()
    assert distance(layer.weight.grad[0][free], to_weight[free]) <= PRODUCT_EXACT
    assert distance(inputs.grad, to_inputs) <= PRODUCT_EXACT


def test_no_input_and_read_noise_have_finite_gradients():
    layer = product(drawn(3, 8), wires=WIRES, effects=[ReadNoise(sigma=0.1)])
    layer(torch.zeros(2, 8, dtype=torch.float64)).sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("engine", ["ideal", "linear", "newton"])
@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_every_parameter_learns(where: str, engine: str):
    mnn = converted(engine=engine, adc=cosim.ADC(bits=8), dac=cosim.DAC(bits=8), **NOISE).to(where)
    mnn.calibrate(images().to(where))
    before = {name: value.detach().clone() for name, value in mnn.named_parameters()}
    assert set(before) == {
        *(f"model.{n}.matmul.weight" for n in ("conv", "twice", "head")),
        *(f"model.{n}.bias" for n in ("conv", "twice")),
        *(f"model.memory.steps.{k}.{n}.weight" for k in (0, 1) for n in ("input", "hidden")),
        *(f"model.memory.steps.{k}.{n}_bias" for k in (0, 1) for n in ("input", "hidden")),
    }
    descend(mnn, steps=1)
    for name, value in mnn.named_parameters():
        assert bool(value.isfinite().all()), name
        assert not torch.equal(value, before[name]), name


# --- draws ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [
        ProgrammingNoise(sigma=0.05),
        DeviceFaults(lrs=0.1),
        StuckLines(rows=0.2),
        DeviceVariability(parameters={"r_on": Uniform(9e3, 11e3)}),
        CycleVariability(r_on=Uniform(9e3, 3e4), r_off=Uniform(5e4, 1e6)),
        Drift(seconds=100.0, nu=0.05, spread=0.02),
        ReadNoise(sigma=0.05),
    ],
    ids=lambda effect: type(effect).__name__,
)
def test_what_is_random_is_drawn_at_every_step_and_frozen_in_eval(effect: Effect):
    weight, inputs = drawn(6, 12), drawn(4, 12, seed=4)
    layer = product(weight, wires=WIRES, effects=[effect])
    chip = product(weight, wires=WIRES, effects=[effect], trainable=False)
    seen = []
    for _ in range(3):
        outputs = layer.train()(inputs)
        outputs.sum().backward()
        seen.append(outputs.detach())
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    layer.eval()
    if isinstance(effect, ReadNoise):  # reads fluctuate on a finished chip, too
        assert not torch.equal(layer(inputs), layer(inputs))
        return
    assert torch.equal(layer(inputs), layer(inputs))
    assert torch.equal(layer(inputs), chip(inputs))  # the chip that a conversion with this seed gives
    repeated = product(weight, wires=WIRES, effects=[effect]).train()
    for wanted in seen:
        repeated.redraw()
        assert torch.equal(repeated(inputs), wanted)


def test_one_call_writes_every_product_once():
    """Also a layer that is used twice, a recurrent one, and a call without gradients."""
    mnn = converted(**NOISE)
    for calls in (1, 2, 3, 4):
        if calls > 2:
            with torch.no_grad():
                mnn(images())
        else:
            mnn(images()).sum().backward()
        assert {int(p.random_state[2]) for p in mnn.products.values()} == {calls}
    mnn.eval()(images())
    assert {int(p.random_state[2]) for p in mnn.products.values()} == {4}


def test_a_graph_serves_a_step_and_a_new_one_is_made_for_the_next():
    layer, inputs = product(drawn(3, 8), wires=WIRES).eval(), drawn(2, 8, seed=4)
    with torch.no_grad():
        wanted = layer(inputs)
    for _ in range(2):  # in eval mode as well: what is frozen is the draw, not the weights
        layer.zero_grad()
        outputs = layer(inputs) + layer(inputs)
        assert torch.equal(outputs.detach(), 2 * wanted)
        outputs.sum().backward()
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) > 0


def test_further_effects_are_part_of_every_step():
    mnn = converted(wires=WIRES)
    mnn.add_effects([DeviceFaults(hrs=1.0)])
    for mode in (True, False):
        mnn.train(mode)(images())
        for found in mnn.products.values():
            assert float(found.conductance.detach().max()) == pytest.approx(1e-6, rel=LAYER_FLOAT32)
    wrong = DeviceVariability(parameters={"ron": Normal(1e4, 1.0)})
    with pytest.raises(SpecError, match="vteam has no parameter 'ron'"):
        mnn.add_effects([wrong])
    mnn(images())  # what cannot be is not kept


# --- what eval sees ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", DEVICES)
def test_eval_computes_with_the_trained_weights_on_the_same_chip(where: str):
    mnn = converted(**NOISE).to(where)
    before = mnn.eval()(images().to(where)).detach()
    descend(mnn)
    trained = network()
    trained.load_state_dict(mnn.digital_state_dict())
    fresh = converted(trained, trainable=False, **NOISE).eval()
    for engine in ("linear", "newton"):
        found = mnn.eval().use_engine(engine)(images().to(where))
        wanted = fresh.use_engine(engine)(images())
        assert distance(found.cpu(), wanted) <= LAYER_FLOAT32
        assert distance(found, before) > TRAINED_ACTS
    assert distance(mnn.digital()(images().to(where)).cpu(), trained(images())) <= LAYER_FLOAT32


def test_ngspice_evaluates_what_was_trained():
    mnn = converted(nn.Sequential(nn.Linear(4, 3)), **NOISE)
    inputs = torch.rand(2, 4)
    optimiser = torch.optim.SGD(mnn.parameters(), lr=0.1)
    mnn(inputs).square().mean().backward()
    optimiser.step()
    linear = mnn.eval()(inputs)
    assert distance(mnn.use_engine("ngspice")(inputs), linear) <= LAYER_FLOAT32
    with pytest.raises(SpecError, match="'ngspice' has no gradients: train with 'linear' or 'newton'"):
        mnn.train()(inputs)


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a faulty chip clips, and says so
def test_ranges_and_lines_are_those_of_the_chip_also_within_a_step():
    options = {**NOISE, "adc": cosim.ADC(bits=8), "seed": 3}
    chip, mnn = (converted(**options).train(mode) for mode in (False, True))
    mnn(images())
    for model in (chip, mnn):
        model.calibrate(images())
    mnn(images())
    assert chip.tune(images()) == mnn.tune(images())
    for name, found in mnn.products.items():
        assert torch.equal(found.adc_high, chip.products[name].adc_high)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("change", ["step", "copy", "data", "behind"])
@torch.no_grad()  # nothing else than the change tells that the cells are out of date
def test_no_change_of_the_weights_is_missed(mode: bool, change: str):
    layer, inputs = product(drawn(3, 8), wires=WIRES).train(mode), drawn(2, 8, seed=4)
    other = drawn(1, 3, 8, seed=6)
    layer(inputs)
    if change == "step":
        layer.weight.grad = layer.weight - other
        torch.optim.SGD(layer.parameters(), lr=1.0).step()
    elif change == "copy":
        layer.weight.copy_(other)
    elif change == "data":
        layer.weight.data = other
    else:  # torch does not tell; a change of mode makes sure
        layer.weight.data.copy_(other)
        layer.train(mode)
    wanted = product(other[0], wires=WIRES)(inputs)
    assert distance(layer(inputs), wanted) <= PRODUCT_EXACT


def test_state_dict_of_a_training_step_is_the_chip(tmp_path: Path):
    mnn = converted(dac=cosim.DAC(bits=8), adc=cosim.ADC(bits=8), **NOISE)
    mnn.calibrate(images())
    mnn.tune(images(), per="column")
    descend(mnn)
    mnn(images())  # in the middle of a step
    torch.save(mnn.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    wanted = mnn.eval()(images()).detach()
    for trainable in (True, False):  # to go on training, and to compute only
        other = converted(
            dac=cosim.DAC(bits=8), adc=cosim.ADC(bits=8), **{**NOISE, "seed": 1}, trainable=trainable
        )
        assert not torch.equal(other.eval()(images()), wanted)
        other.load_state_dict(state)
        assert torch.equal(other(images()), wanted)
    again = converted(dac=cosim.DAC(bits=8), adc=cosim.ADC(bits=8), **NOISE, seed=1)
    again.load_state_dict(state)
    descend(again, 1)
    descend(mnn, 1)
    assert torch.equal(again.eval()(images()), mnn.eval()(images()))  # training goes on as if never stopped


def test_copies_in_the_middle_of_a_step_are_independent():
    mnn = converted(**NOISE)
    descend(mnn)
    loss = mnn(images()).square().mean()
    copies = copy.deepcopy(mnn), pickle.loads(pickle.dumps(mnn))
    loss.backward()  # the step of the original goes on
    wanted = copy.deepcopy(mnn).eval()(images()).detach()
    descend(mnn)
    for other in copies:
        assert other.report == mnn.report
        assert torch.equal(other.eval()(images()), wanted)
        descend(other)
    assert not torch.equal(mnn.eval()(images()), wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(5, 3),
        lambda: nn.Linear(5, 3, bias=False),
        lambda: nn.Conv1d(4, 6, 3, groups=2),
        lambda: nn.Conv3d(1, 2, (1, 2, 3)),
        lambda: nn.RNN(3, 4, num_layers=2, nonlinearity="relu"),
        lambda: nn.LSTM(3, 4, bidirectional=True, proj_size=2),
        lambda: nn.GRUCell(3, 4, bias=False),
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
        lambda: nn.MultiheadAttention(8, 2, kdim=5, vdim=3, bias=False),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2))),
    ],
)
def test_weights_go_back_to_the_digital_network(make: Callable[[], nn.Module]):
    model = make()
    kinds = {type(m) for m in model.modules()} - {nn.Sequential, nn.BatchNorm1d}
    kinds = {kind for kind in kinds if kind.__name__ != "NonDynamicallyQuantizableLinear"}
    mnn = converted(model, layers=kinds)
    state = mnn.digital_state_dict()
    wanted = model.state_dict()
    assert set(state) == set(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in state.items())
    with torch.no_grad():
        for parameter in mnn.parameters():
            parameter += 1.0
    other = make()
    other.load_state_dict(mnn.digital_state_dict())
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, wanted[name] + 1.0), name
    assert all(torch.equal(value, wanted[name]) for name, value in state.items())  # a copy


def test_report_and_frozen_layers():
    model = network()
    model.twice.requires_grad_(False)
    mnn = converted(model, **NOISE)
    assert mnn.report.trainable
    assert mnn.report.to_dict()["trainable"] is True
    assert str(mnn.report).endswith("trainable")
    assert not any(p.requires_grad for p in mnn.twice.parameters())
    before = mnn.twice.matmul.weight.clone()
    descend(mnn)
    assert torch.equal(mnn.twice.matmul.weight, before)
    assert not converted(trainable=False).report.trainable
    assert list(converted(trainable=False).parameters()) == []


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # the parameter keeps torch's name
        return 2 * super().forward(x)


class Anonymous(nn.Module):
    """A registered layer that does not say what its digital parameters are."""

    def __init__(self, digital: nn.Linear, hardware: Hardware, *, generator: torch.Generator) -> None:
        super().__init__()
        self.product = CrossbarMatmul(digital.weight, hardware, generator=generator)


def anonymous() -> ConvertedModel:
    register(Doubled, Anonymous)
    return converted(nn.Sequential(Doubled(3, 2)), layers=(Doubled,))


def tied() -> nn.Module:
    embedding, head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
    head.weight = embedding.weight
    return nn.Sequential(embedding, head)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: converted(trainable="yes"), "trainable is 'yes': it must be True or False"),
        (
            lambda: converted(engine="ngspice"),
            "trainable=True with engine='ngspice', which has no gradients: train with 'linear' or 'newton'",
        ),
        (
            lambda: converted(network().requires_grad_(False)),
            r"no converted layer has a weight that requires a gradient: call requires_grad_\(True\)",
        ),
        (lambda: converted(nn.ReLU()), "no converted layer has a weight that requires a gradient"),
        (
            lambda: converted(tied()),
            "0.weight and 1.weight are one parameter, and a crossbar needs its own: leave the layer digital",
        ),
        (lambda: anonymous().digital_state_dict(), r"0.product is part of a layer without digital_state\(\)"),
        (
            lambda: matmul([[1.0]], [[1.0]], device=DEVICE, trainable=True),
            "trainable=True: matmul keeps no weight that could be trained; keep a CrossbarMatmul",
        ),
    ],
)
def test_wrong_values_are_refused(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()


def test_tied_layers_that_stay_digital_and_layers_used_twice_are_welcome():
    model = nn.Sequential(tied(), nn.Linear(4, 4))
    assert converted(model, exclude="0.1").report.trainable
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model.append(model[0])
    mnn = converted(model)
    assert len(mnn.products) == 1
    assert set(mnn.digital_state_dict()) == set(model.state_dict())


# --- what it is for ---------------------------------------------------------------------------------


def test_training_recovers_what_line_resistance_costs():
    """Digits, 1 kohm cells with 5 % spread, 20 ohm per segment, 64x64 tiles, 8-bit converters."""
    digital, (inputs, labels), (test_inputs, test_labels) = digits()

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return 100 * float((model.eval()(test_inputs).argmax(1) == test_labels).double().mean())

    options: dict[str, Any] = {
        "device": cosim.Device("vteam", r_on=Normal(1e3, 50.0), r_off=1e5),
        "wires": cosim.Wires(row=20.0, column=20.0),
        "tile_shape": (64, 64),
        "layers": (nn.Linear,),
        "dac": cosim.DAC(bits=8),
        "adc": cosim.ADC(bits=8),
    }
    before = accuracy(converted(digital, trainable=False, **options).calibrate(inputs))
    mnn = converted(digital, **options).calibrate(inputs)
    assert accuracy(mnn) == before  # the same chip
    mnn.tune(inputs, per="column")
    tuned = accuracy(mnn)
    optimise(mnn, inputs, labels, steps=30, lr=5e-3)
    trained, ideal = accuracy(mnn), accuracy(digital)
    assert tuned < ideal - LEFT_BY_TUNING  # what a line per column cannot mend
    assert trained >= tuned + WON_BACK * (ideal - tuned)


def optimise(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, *, steps: int, lr: float) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(len(inputs), generator=generator)[:128]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
        optimiser.step()


def digits() -> tuple[nn.Module, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """A trained 64-32-10 network, the digits it was trained on, and others."""
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    inputs, labels = torch.as_tensor(pixels / 16).float()[order], torch.as_tensor(target)[order]
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            bound = parameter.shape[-1] ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)
    optimise(model, inputs[:1257], labels[:1257], steps=400, lr=0.01)
    return model, (inputs[:1257], labels[:1257]), (inputs[1257:], labels[1257:])
