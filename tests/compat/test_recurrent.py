"""Recurrent layers of the compatibility namespace, which MemTorch does not have on crossbars."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality import NonIdeality, apply_nonidealities
from cosim.memtorch.map.Module import naive_tune
from cosim.memtorch.mn.layer import MemristiveLayer
from cosim.memtorch.mn.Module import patch_model
from tolerances import LAYER_FLOAT32, TUNED_WIRES

VTEAM = memtorch.bh.memristor.VTEAM


@pytest.mark.parametrize(
    ("kind", "options"),
    [(nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {"bidirectional": True}), (nn.GRU, {"num_layers": 2})],
)
@pytest.mark.parametrize("tile_shape", [None, (4, 6)])
def test_recurrent_layers(kind: type[nn.Module], options: dict, tile_shape):
    torch.manual_seed(0)
    network = nn.Sequential(kind(3, 5, batch_first=True, **options))
    x = torch.rand(4, 7, 3)
    patched = patch_model(
        copy.deepcopy(network),
        memristor_model=VTEAM,
        memristor_model_params={"r_on": 100, "r_off": 1600},
        module_parameters_to_patch=[kind],
        tile_shape=tile_shape,
        verbose=False,
    )
    layer = patched.get_submodule("model.0")
    assert isinstance(layer, MemristiveLayer)
    assert type(layer) is getattr(memtorch.mn, kind.__name__)
    wanted, state = network(x)
    found, last = patched(x)
    assert torch.allclose(found, wanted, atol=LAYER_FLOAT32)
    states, lasts = ((s if isinstance(s, tuple) else (s,)) for s in (state, last))
    assert all(torch.allclose(a, b, atol=LAYER_FLOAT32) for a, b in zip(lasts, states, strict=True))
    weights = [p for name, p in network.named_parameters() if name.rpartition(".")[2].startswith("weight")]
    assert len(layer.crossbars) == 2 * len(weights)
    assert patched.report.cells == 2 * sum(p.numel() for p in weights)
    assert 0 < patched.report.utilisation <= 1
    patched.tune_({kind.__name__: {"input_shape": 64}})
    assert torch.allclose(patched(x)[0], wanted, atol=1e-4)
    apply_nonidealities(patched, [NonIdeality.FiniteConductanceStates], conductance_states=2)
    assert all(len(c.store.read().unique()) <= 2 for c in layer.crossbars)
    assert not torch.allclose(patched(x)[0], wanted, atol=1e-2)
    with pytest.raises(SpecError, match="products, each with its line: use tune"):
        naive_tune(layer, (64, 3))


def test_wires_and_converters_of_a_recurrent_layer():
    torch.manual_seed(0)
    network = nn.Sequential(nn.LSTM(6, 8, batch_first=True))
    x = torch.rand(4, 5, 6) - 0.5
    patched = patch_model(
        copy.deepcopy(network),
        memristor_model=VTEAM,
        memristor_model_params={"r_on": 10e3, "r_off": 1e6},
        module_parameters_to_patch=[nn.LSTM],
        max_input_voltage=0.3,
        source_resistance=20.0,
        line_resistance=2.0,
        ADC_resolution=8,
        quant_method="linear",
        verbose=False,
    )
    patched.tune_()
    wanted = network(x)[0].detach()
    error = (patched(x)[0] - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert 0 < float(error) < TUNED_WIRES["lines"]
