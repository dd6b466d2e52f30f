"""What users have as inputs, and what conversion finds: loaders, arrays, generators; layers passed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset

import cosim
from cosim.errors import CosimWarning, SpecError
from cosim.nn.layers import Conv, Linear
from tolerances import LAYER_FLOAT32, NEWTON_EXACT

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
IMAGES = torch.rand(24, 2, 6, 6, generator=torch.Generator().manual_seed(4))
LABELS = torch.arange(24) % 3


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def converted(**options: Any) -> Any:
    torch.manual_seed(0)
    return cosim.convert(network(), device=DEVICE, tile_shape=(16, 16), adc=cosim.ADC(bits=8), **options)


def generator() -> Iterator[Any]:
    for k in range(0, 24, 8):
        yield IMAGES[k : k + 8], LABELS[k : k + 8]


FORMS: dict[str, Any] = {
    "loader of images and labels": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=8),
    "data set": lambda: TensorDataset(IMAGES, LABELS),
    "array": IMAGES.numpy,
    "double array": lambda: IMAGES.double().numpy(),
    "other order of bytes": lambda: IMAGES.numpy().astype(">f4"),
    "long double array": lambda: IMAGES.numpy().astype(np.longdouble),
    "generator": generator,
    "list of lists": lambda: [[IMAGES[:9].numpy(), LABELS[:9]], [IMAGES[9:], LABELS[9:]]],
}


@pytest.mark.parametrize("form", FORMS)
def test_calibrate_tune_and_validate_take_what_users_have(form: str):
    wanted, found = converted().calibrate(IMAGES), converted().calibrate(FORMS[form]())
    for name, product in wanted.products.items():
        assert torch.equal(found.products[name].full_scale, product.full_scale)
    expected = wanted.tune(IMAGES, samples=10**6)
    report = found.tune(FORMS[form](), samples=10**6)
    assert [layer.samples for layer in report.layers] == [layer.samples for layer in expected.layers]
    assert cosim.validate(found, FORMS[form](), reference="newton", samples=2).layers[0].vectors == 24 * 16


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, scale: Any = 1.0) -> torch.Tensor:
        return self.layer(x * scale)


def test_a_tuple_is_all_arguments_and_a_list_those_that_are_required():
    x = torch.rand(6, 4)
    model = cosim.convert(Two(), device=DEVICE, dac=cosim.DAC(bits=8))
    largest = float(x.max())
    assert float(model.calibrate((x, 3.0)).layer.matmul.full_scale) == pytest.approx(3 * largest)
    assert float(model.calibrate([[x, LABELS[:6]]]).layer.matmul.full_scale) == pytest.approx(largest)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "inputs is 3: give a tensor, an array, a tuple of arguments, or a list, DataLoader or generator"),
        ([], r"inputs is \[\], without a batch: give a tensor"),
        ({"x": IMAGES}, "inputs is {'x'"),
        ([[1.0, 2.0]], "inputs of type float: give a tensor, an array"),
        (IMAGES[:0], r"inputs of shape \(0, 2, 6, 6\) are empty: give at least one"),
        (torch.tensor(1.0), r"inputs of shape \(\): give a tensor whose axis 0 counts the inputs"),
        (IMAGES[:, :1], r"the model does not take inputs of shape \(24, 1, 6, 6\)|do not fit a convolution"),
        (IMAGES.to_sparse(), "inputs are nested, sparse, quantised, complex or without data"),
        (np.array(["a"]), "give an array of real numbers"),
        (IMAGES * torch.nan, r"inputs\[0, 0, 0, 0\] is nan: every entry must be finite"),
    ],
)
def test_inputs_that_cannot_be_used_are_named(inputs: Any, message: str):
    model = converted()
    for call in (model.calibrate, model.tune, lambda x: cosim.validate(model, x, reference="newton")):
        with pytest.raises(SpecError, match=message):
            call(inputs)


# --- a converted layer in cosim.solve -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["linear", "newton"])
def test_tile_and_volts_of_a_linear_layer_fit_cosim_solve(engine: str):
    """More inputs and outputs than a tile has rows and columns."""
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = cosim.convert(
        nn.Linear(20, 9).double(),
        device=DEVICE,
        tile_shape=(8, 6),
        wires=cosim.Wires(row=2.0, column=3.0),
        dac=cosim.DAC(bits=10),
        engine=engine,
    ).calibrate(x)
    product = model.products["matmul"]
    assert product.volts(x).shape == (1, 3, 1, 5, 8)
    solution = cosim.solve(product.tile(), product.volts(x), engine=engine)
    assert solution.currents.shape == (1, 3, 3, 5, 6)
    layer: Any = model.model
    outputs = product.read(solution.currents, x) + layer.bias
    torch.testing.assert_close(outputs, model(x), rtol=100 * NEWTON_EXACT, atol=100 * NEWTON_EXACT)
    one = cosim.solve(product.tile(), product.volts(x[0]), engine=engine)
    torch.testing.assert_close(product.read(one.currents, x[0]), outputs[0] - layer.bias)


def test_tile_and_volts_of_a_convolution_fit_cosim_solve():
    model = cosim.convert(
        nn.Conv2d(2, 4, 3, groups=2, stride=2, padding=1), device=DEVICE, tile_shape=(4, 6)
    ).calibrate(IMAGES)
    layer: Any = model.model
    patches = layer.vectors(IMAGES[:3])
    assert patches.shape == (2, 3 * 9, 9)
    assert torch.equal(patches[0, :9], functional.unfold(IMAGES[:1, :1], 3, padding=1, stride=2)[0].T)
    product = layer.matmul
    product.set_engine("newton")
    solution = cosim.solve(product.tile(), product.volts(patches))
    assert solution.currents.shape == (2, 3, 1, 27, 6)
    outputs = product.read(solution.currents, patches)  # (groups, positions, outputs)
    images = outputs.reshape(2, 3, 3, 3, 2).permute(1, 0, 4, 2, 3).flatten(1, 2) + layer.bias[:, None, None]
    torch.testing.assert_close(images, model(IMAGES[:3]), rtol=LAYER_FLOAT32, atol=LAYER_FLOAT32)


def test_volts_need_a_full_scale():
    product = cosim.convert(nn.Linear(4, 3), device=DEVICE).products["matmul"]
    with pytest.raises(SpecError, match="matmul: full scale is not known, .* call calibrate"):
        product.volts(torch.rand(2, 4))
    product.full_scale.fill_(1.0)
    with pytest.raises(SpecError, match=r"inputs of shape \(2, 5\) do not fit the weight"):
        product.volts(torch.rand(2, 5))


# --- layers that conversion does not find -------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight)


class Named(nn.Linear):
    """Only made differently."""

    def __init__(self, name: str) -> None:
        super().__init__(4, 3)
        self.name = name

    def extra_repr(self) -> str:
        return self.name


class NamedConvolution(nn.Conv2d):
    pass


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # the parameter keeps torch's name
        return 2 * super().forward(x)


class OtherPadding(nn.Conv2d):
    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:  # torch names it so
        return super()._conv_forward(input, 2 * weight, bias)


def test_subclasses_that_keep_the_methods_are_converted():
    model = nn.Sequential(NamedConvolution(2, 4, 3), nn.Flatten(), nn.Linear(64, 4), Named("head"))
    found = cosim.convert(model, device=DEVICE)
    assert [type(found[k]) for k in (0, 2, 3)] == [Conv, Linear, Linear]
    torch.testing.assert_close(found(IMAGES), model(IMAGES), rtol=LAYER_FLOAT32, atol=LAYER_FLOAT32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Functional(), r"nothing of the model is on crossbars \(the model: Functional is not among layers="),
        (nn.ReLU(), "no module of it has a parameter"),
        (Scaled(4, 3), "Scaled is a Linear with methods of its own: register a converter for it"),
        (OtherPadding(2, 4, 3), "OtherPadding is a Conv2d with methods of its own"),
        (nn.Bilinear(3, 3, 2), "Bilinear is not among layers="),
        (parametrizations.weight_norm(nn.Linear(4, 3)), "weights are parametrized: end that with torch"),
    ],
)
def test_a_model_of_which_nothing_is_found_is_refused(model: nn.Module, message: str):
    with pytest.raises(SpecError, match=message):
        cosim.convert(model, device=DEVICE)


def test_matrices_that_stay_digital_are_named_unless_that_was_asked_for():
    model = nn.Sequential(nn.Linear(4, 4), Scaled(4, 4), nn.LSTM(4, 4), nn.Embedding(3, 4), nn.BatchNorm1d(4))
    model.append(Functional())
    with pytest.warns(CosimWarning, match="these weights stay digital") as told:
        cosim.convert(model, device=DEVICE)
    text = str(told[0].message)
    for name in (
        "1.weight (Scaled is a Linear with",
        "2.weight_ih_l0 (LSTM is not among",
        "5.weight (Functional",
    ):
        assert name in text
    assert "3.weight" not in text
    assert "4.weight" not in text
    cosim.convert(model, device=DEVICE, exclude=["1", "2", "5.weight"])
    with pytest.warns(CosimWarning, match="5.weight"):  # layers= leaves the LSTM out on purpose
        cosim.convert(model, device=DEVICE, layers=(nn.Linear,), exclude="1")


# --- lines to the circuit -----------------------------------------------------------------------------------

WIRES = cosim.Wires(row=10.0, column=10.0)


NONLINEAR = cosim.Device("data_driven")


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
@pytest.mark.parametrize("reference", ["newton", "ngspice"])
def test_tuning_to_the_circuit_makes_a_fast_engine_predict_it(per: str, reference: str):
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = cosim.convert(
        nn.Linear(12, 5).double(), device=NONLINEAR, tile_shape=(8, 8), wires=WIRES, engine="ideal"
    ).calibrate(x)
    before = model(x)
    exact = model.use_engine("newton")(x)
    report = model.use_engine("ideal").tune(x, per=per, reference=reference, samples=40)
    assert (report.reference, report.layers[0].held_out) == (reference, 10)
    assert f"held out, {reference}" in str(report)
    assert report.layers[0].rmse_after < 0.7 * report.layers[0].rmse_before
    assert float((model(x) - exact).abs().max()) < 0.7 * float((before - exact).abs().max())
    assert torch.equal(model.use_engine("newton")(x), exact)  # lines of "ideal" are none of newton's
    assert not torch.equal(model.use_engine("ideal")(x), before)


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
@pytest.mark.parametrize("adc", [None, cosim.ADC(bits=16)])
def test_a_saved_calibration_can_be_attached_to_a_layer(per: str, adc: Any, tmp_path: Any):
    x = torch.randn(60, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = cosim.convert(
        nn.Linear(12, 5).double(), device=NONLINEAR, tile_shape=(8, 8), wires=WIRES, engine="ideal", adc=adc
    ).calibrate(x)
    before, exact = model(x), model.use_engine("newton")(x)
    product = model.use_engine("ideal").products["matmul"]
    fitted = cosim.calibrate(
        product.tile(), fast="ideal", reference="newton", per=per, inputs=product.volts(x), samples=60
    )
    if per == "layer":
        assert fitted.gain.shape == (1, 1, 1, 1)
    fitted.save(tmp_path / "lines.json")
    model.attach("matmul", type(fitted).load(tmp_path / "lines.json"))
    assert float((model(x) - exact).square().mean()) < 0.6 * float((before - exact).square().mean())
    assert torch.equal(model.use_engine("newton")(x), exact)
    assert torch.equal(model.use_engine("ideal").attach("matmul", None)(x), before)


def test_what_does_not_fit_a_tuning_is_named():
    model, other = converted(), cosim.convert(nn.Linear(30, 3), device=DEVICE, tile_shape=(8, 8))
    lines = cosim.calibrate(other.products["matmul"].tile(), fast="ideal", reference="linear", samples=4)
    for call, message in (
        (lambda: model.tune(reference="linear"), "reference is 'linear': choose from newton, ngspice"),
        (lambda: model.tune(reference="newton", depth=3), "no option 'depth' with 'newton': choose from"),
        (lambda: model.tune(depth=3), "tune has no option 'depth'"),
        (lambda: model.use_engine("newton").tune(reference="newton"), "computes with the reference itself"),
        (
            lambda: model.attach("3.matmul", lines),
            r"calibration of shape \(1, 4, 1, 8\) does not fit 3.matmul",
        ),
        (lambda: model.attach("4", lines), "no product '4': choose from 0.matmul, 3.matmul"),
        (lambda: model.attach(["4"], lines), r"no product \['4'\]: choose from 0.matmul, 3.matmul"),
        (lambda: model.attach("3.matmul", 3), "calibration is 3: give what cosim.calibrate returns"),
    ):
        with pytest.raises(SpecError, match=message):
            call()


def test_numbers_of_eight_bits_are_computed_with_in_those_of_the_network():
    eight = IMAGES.to(torch.float8_e4m3fn)
    found, wanted = converted().calibrate(eight), converted().calibrate(eight.float())
    for name, product in wanted.products.items():
        assert torch.equal(found.products[name].full_scale, product.full_scale)
