"""The hardware travels with the state, and a whole converted network with its file."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cosim
from cosim.errors import ParseError, SpecError
from cosim.nn.effects import DeviceFaults, DeviceVariability, Effect, ProgrammingNoise
from cosim.nn.mapping import SingleColumn

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
SPREAD = cosim.Device("vteam", r_on=torch.distributions.Normal(10e3, 100.0), r_off=1e6)
X = torch.rand(9, 12, generator=torch.Generator().manual_seed(1))
HARDWARE: dict[str, Any] = {
    "device": DEVICE,
    "tile_shape": (8, 8),
    "wires": cosim.Wires(row=2.0, column=3.0),
    "dac": cosim.DAC(bits=8, v_max=0.2),
    "adc": cosim.ADC(bits=8, per="column"),
}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()


def converted(digital: nn.Module | None = None, **options: Any) -> Any:
    return cosim.convert(network() if digital is None else digital, **{**HARDWARE, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wires": cosim.Wires(row=20.0, column=3.0)}, "wires.row is 2.0 in the state and 20.0 here"),
        (
            {"device": cosim.Device("vteam", r_on=20e3, r_off=1e6)},
            "device.given.r_on is 10000.0 in the state and 20000.0 here",
        ),
        ({"device": cosim.Device("data_driven")}, "device.model is 'vteam' in the state and 'data_driven'"),
        ({"tile_shape": (16, 8)}, r"tile_shape is \[8, 8\] in the state and \[16, 8\] here"),
        ({"scheme": SingleColumn()}, "scheme.kind is 'DoubleColumn' in the state and 'SingleColumn' here"),
        ({"dac": cosim.DAC(bits=8, v_max=0.3)}, "dac.v_max is 0.2 in the state and 0.3 here"),
        ({"adc": None}, "adc is {'kind': 'ADC'"),
        ({"v_read": 0.05}, "v_read is 0.1 in the state and 0.05 here"),
    ],
)
def test_a_state_of_other_hardware_is_refused_before_anything_is_loaded(options: Any, message: str):
    digital = network()
    state = converted(digital).calibrate(X).state_dict()
    other = converted(digital, **options)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(SpecError, match=f"the state of 0.matmul is of other hardware: .*{message}"):
        other.load_state_dict(state)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    part = {n.removeprefix("model.0."): v for n, v in state.items() if n.startswith("model.0.")}
    with pytest.raises(SpecError, match="the state of matmul is of other hardware"):
        other.model[0].load_state_dict(part)


def test_other_hardware_can_be_asked_for():
    digital = network()
    model = converted(digital).calibrate(X)
    other = converted(digital, wires=cosim.Wires(row=20.0, column=20.0))
    other.load_state_dict(model.state_dict(), other_hardware=True)
    assert torch.equal(other[0].matmul.conductance, model[0].matmul.conductance)
    assert not torch.equal(other(X), model(X))
    with pytest.raises(SpecError, match="of other hardware"):
        other.load_state_dict(model.state_dict())


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")
def test_what_effects_did_travels_with_the_cells():
    """Into a conversion without effects, and back."""
    digital = network()
    plain, faulty = converted(digital).calibrate(X), converted(digital).calibrate(X)
    spread = DeviceVariability(parameters={"r_on": torch.distributions.Uniform(9e3, 11e3)})
    faulty.add_effects([spread, DeviceFaults(lrs=0.2)])
    wanted, ideal = faulty(X), plain(X)
    healthy = copy.deepcopy(plain.state_dict())
    plain.load_state_dict(faulty.state_dict())
    assert torch.equal(plain(X), wanted)
    assert torch.equal(plain.use_engine("newton")(X), faulty.use_engine("newton")(X))
    plain.use_engine("linear").load_state_dict(healthy)
    assert torch.equal(plain(X), ideal)


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")
@pytest.mark.parametrize("trainable", [False, True])
def test_a_whole_network_comes_back_from_its_file(tmp_path: Path, trainable: bool):
    digital = network()
    model = converted(
        digital,
        device=SPREAD,
        effects=[ProgrammingNoise(sigma=0.05), DeviceFaults(hrs=0.1)],
        trainable=trainable,
        seed=3,
    ).calibrate(X)
    model.tune(X, per="column", samples=9)
    model.use_engine("newton")
    cosim.save(model, tmp_path / "model.pt")
    again = cosim.load(tmp_path / "model.pt", network())  # other weights: those of the file count
    assert torch.equal(again(X), model(X))
    assert {product.engine for product in again.products.values()} == {"newton"}
    assert (again.training, again.report.layers) == (model.training, model.report.layers)
    assert torch.equal(again.use_engine("linear")(X), model.use_engine("linear")(X))
    assert torch.equal(again.digital()(X), model.digital()(X))


def test_lines_to_the_circuit_come_back(tmp_path: Path):
    digital = network()
    model = converted(digital, engine="ideal", adc=None).calibrate(X)
    product = model.products["3.matmul"]
    model.tune(X, reference="newton", samples=9)
    lines = cosim.calibrate(product.tile(), fast="ideal", reference="newton", samples=8)
    model.attach("3.matmul", lines)
    cosim.save(model, tmp_path / "model.pt")
    again = cosim.load(tmp_path / "model.pt", digital)
    assert torch.equal(again(X), model(X))
    assert torch.equal(again.use_engine("newton")(X), model.use_engine("newton")(X))


OWN = """
module own(p, n);
  inout p, n; electrical p, n;
  parameter real x0 = 0.5 from [0:1];
  parameter real g = 1e-4 from (0:inf);
  analog I(p, n) <+ g*(0.01 + x0)*V(p, n);
endmodule
"""


def test_a_device_of_ones_own_travels_by_text_and_digest(tmp_path: Path):
    file = tmp_path / "own.va"
    file.write_text(OWN)
    device = cosim.Device(file, state="x0", state_range=(0.0, 1.0), g=2e-4)
    digital = network()
    model = converted(digital, device=device).calibrate(X)
    cosim.save(model, tmp_path / "model.pt")
    assert torch.load(tmp_path / "model.pt", weights_only=True)["device_text"] == OWN
    with pytest.raises(SpecError, match="a file of its author's, own.va: give device="):
        cosim.load(tmp_path / "model.pt", digital)
    assert torch.equal(cosim.load(tmp_path / "model.pt", digital, device=device)(X), model(X))
    file.write_text(OWN.replace("0.01", "0.02"))
    other = cosim.Device(file, state="x0", state_range=(0.0, 1.0), g=2e-4)
    with pytest.raises(SpecError, match="device= is another one than that of the file: digest is"):
        cosim.load(tmp_path / "model.pt", digital, device=other)
    cosim.load(tmp_path / "model.pt", digital, device=other, other_hardware=True)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize("value", [None, 7, {"a": 1}])
@pytest.mark.parametrize("part", ["hardware", "layers", "engines", "training", "state"])
def test_a_damaged_part_of_a_file_is_named(tmp_path: Path, part: str, value: Any):
    path = tmp_path / "model.pt"
    cosim.save(converted(), path)
    document = torch.load(path, weights_only=True)
    torch.save({**document, part: value}, path)
    with pytest.raises((ParseError, SpecError), match=part.removesuffix("s")):
        cosim.load(path, network())


class OwnEffect(Effect):
    def apply(self, cells: Any, generator: Any) -> Any:
        return cells


def test_files_and_networks_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, path = converted(), tmp_path / "model.pt"
    cosim.save(model, path)
    whole = path.read_bytes()
    evil = pickle.dumps(Evil(), protocol=2)
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"x"), ("evil", evil)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ParseError, match="not a converted network"):
            cosim.load(tmp_path / name, network())
    assert capsys.readouterr().out == ""
    torch.save({"weights": torch.ones(3)}, tmp_path / "other")
    with pytest.raises(ParseError, match="not a converted network: cosim.save writes them"):
        cosim.load(tmp_path / "other", network())
    for call, message in (
        (lambda: cosim.load(tmp_path / "none", network()), "none cannot be read"),
        (lambda: cosim.load(path, nn.Linear(12, 8)), "model has no layer '0' to convert"),
        (
            lambda: cosim.load(path, nn.Sequential(nn.Linear(12, 9), *list(network())[1:])),
            "model is another network than the one that was saved",
        ),
        (lambda: cosim.load(path, "network"), "model is 'network': give the network that was converted"),
        (lambda: cosim.save(network(), path), "give what cosim.convert returns"),
        (lambda: cosim.save(model, tmp_path / "no" / "folder"), "cannot be written"),
        (lambda: cosim.save(model, 3), "path is 3: it must be the path"),
        (
            lambda: cosim.save(converted(trainable=True, effects=[OwnEffect()]), path),
            "OwnEffect is not cosim's own",
        ),
        (
            lambda: cosim.save(converted(trainable=True).add_effects([DeviceFaults(lrs=0.1)]), path),
            "effects added after convert cannot be saved with a trainable network: give effects=",
        ),
    ):
        with pytest.raises(SpecError, match=message):
            call()
    assert math.isfinite(float(cosim.load(path, network())(X).detach().sum()))
