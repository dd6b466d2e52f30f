"""MemTorch's own tests that only ran something, with what they should have asserted.

Those that are not here are in tests/compat: plots, signals, data sets, windows, samplers, endurance, drift.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from compat.reference import FUNCTIONS
from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality import NonIdeality, apply_nonidealities, endurance_retention_models
from cosim.memtorch.bh.nonideality.DeviceFaults import apply_cycle_variability
from cosim.memtorch.mn.Module import patch_model
from tolerances import CONVERTERS_8_BIT, DRAWN, ROUNDING, TUNED_MEMTORCH_WIRES

VTEAM = memtorch.bh.memristor.VTEAM
# its networks: one layer each, kernels of 1, one channel in; here with more than one
NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(30, 10), (30,)),
    "Conv1d": (lambda: nn.Conv1d(2, 10, 1), (2, 8)),
    "Conv2d": (lambda: nn.Conv2d(2, 10, 1), (2, 4, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 10, 1), (2, 3, 3, 2)),
}


def network(kind: str = "Linear") -> tuple[nn.Module, torch.Tensor]:
    """A digital network and inputs for it."""
    make, shape = NETWORKS[kind]
    generator = torch.Generator().manual_seed(30)
    model = make().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model, 2 * torch.rand(16, *shape, generator=generator) - 1


def patch(model: nn.Module, **options: Any) -> Any:
    given = {"memristor_model": VTEAM, "memristor_model_params": {"r_on": 1e3, "r_off": 1e5}, **options}
    kinds = [nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d]
    return patch_model(copy.deepcopy(model), module_parameters_to_patch=kinds, verbose=False, **given)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("tile_shape", [None, (128, 128), (10, 20)])
@pytest.mark.parametrize("method", [None, "linear", "log"])
@pytest.mark.parametrize("resistances", [(0.0, 0.0), (5.0, 0.0), (0.0, 0.5), (5.0, 0.5)])
def test_networks(kind: str, tile_shape: Any, method: str | None, resistances: tuple[float, float]):
    """3 tile shapes x 3 quantisers x 2 x 2 resistances x 2 bindings, each with a bound."""
    model, x = network(kind)
    adc = {} if method is None else {"ADC_resolution": 8, "quant_method": method}
    wires = dict(zip(("source_resistance", "line_resistance"), resistances, strict=True))
    outputs = []
    for use_bindings in (True, False):
        options = {"tile_shape": tile_shape, "max_input_voltage": 0.3, "use_bindings": use_bindings}
        patched = patch(model, **options, **adc, **wires)
        patched.tune_()
        patched.disable_legacy()
        outputs.append(patched(x))
    assert torch.equal(*outputs)
    wanted = model(x)
    error = (outputs[0] - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    allowed = TUNED_MEMTORCH_WIRES[resistances] + (CONVERTERS_8_BIT[method] if method else 0.0)
    assert float(error) < allowed


def test_scale_p_0():
    for arguments, wanted in FUNCTIONS["scale_p_0"]:
        assert endurance_retention_models.scale_p_0(*arguments) == pytest.approx(wanted, rel=ROUNDING)


def test_cycle_variability():
    """The bounds of every cell follow the distributions that were asked for."""
    torch.manual_seed(0)
    patched = patch(nn.Linear(100, 50))
    product = patched.matmul
    everything = torch.linspace(0, 1, product.conductance.numel()) > 0.5
    product.conductance.copy_(torch.where(everything.reshape(product.conductance.shape), 1e-3, 1e-5))
    bounds = {"r_on_kwargs": {"loc": 3e3, "scale": 200.0}, "r_off_kwargs": {"loc": 5e4, "scale": 2e3}}
    apply_cycle_variability(patched.model, **bounds)
    resistance = 1 / patched.matmul.conductance.double().flatten()
    for reached, kwargs in (
        (resistance[everything], "r_on_kwargs"),
        (resistance[~everything], "r_off_kwargs"),
    ):
        assert float(reached.mean()) == pytest.approx(bounds[kwargs]["loc"], rel=DRAWN)
        assert float(reached.std()) == pytest.approx(bounds[kwargs]["scale"], rel=DRAWN)
    with pytest.raises(SpecError, match="Normal has no argument 'sigma'; it takes: loc, scale"):
        apply_cycle_variability(patched.model, r_on_kwargs={"loc": 1.0, "sigma": 1.0}, r_off_kwargs={})


@pytest.mark.filterwarnings("ignore:sweep_")
@pytest.mark.parametrize("options", [{"simulate": True}, {"sweep_duration": 2, "num_conductance_states": 9}])
def test_non_linear_layers_can_be_tuned(options: dict):
    model, x = network()
    pku = {"memristor_model": memtorch.bh.memristor.Stanford_PKU, "memristor_model_params": {}}
    patched = patch(model, **pku, max_input_voltage=0.5)
    apply_nonidealities(patched, [NonIdeality.NonLinear], **options)
    before = (patched(x) - model(x)).square().mean()
    states = patched.matmul.conductance.clone()
    patched.tune_()
    assert float((patched(x) - model(x)).square().mean()) < 0.5 * float(before)
    assert torch.equal(patched.matmul.conductance, states)  # a read moves nothing
