"""Every layer on ideal cells, without wires and converters, is the digital layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.nn.attention import MultiheadAttention
from cosim.nn.converters import ADC
from cosim.nn.effects import ReadNoise
from cosim.nn.hardware import Hardware
from cosim.nn.layers import Conv, Linear
from cosim.nn.mapping import BitSlicing, SingleColumn
from cosim.nn.recurrent import Cell, Recurrent
from tolerances import FINE_ADC, LAYER_FLOAT32

DEVICE = Device("vteam", r_on=10e3, r_off=1e6)
TILES = (16, 10)


def hardware(**options: Any) -> Hardware:
    return Hardware(device=DEVICE, **{"tile_shape": TILES, "engine": "ideal", **options})


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def seeded(make: Any) -> Any:
    """A module with weights that do not depend on what ran before."""
    module = make().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    for parameter in module.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return module


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, tuple):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_same(a, b)
        return
    if wanted is None:
        assert found is None
        return
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    limit = LAYER_FLOAT32 * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=limit)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 24)])
@pytest.mark.parametrize("scheme", [None, SingleColumn()])
def test_linear(bias: bool, shape: tuple[int, ...], scheme: Any):
    digital = seeded(lambda: nn.Linear(24, 13, bias=bias))
    options = {} if scheme is None else {"scheme": scheme}
    x = drawn(*shape)
    assert_same(Linear(digital, hardware(**options))(x), digital(x))


CONVOLUTIONS: list[tuple[Any, dict[str, Any], tuple[int, ...]]] = [
    (nn.Conv1d, {"kernel_size": 3}, (9,)),
    (nn.Conv1d, {"kernel_size": 4, "padding": "same", "dilation": 2}, (11,)),
    (nn.Conv1d, {"kernel_size": 4, "padding": "same"}, (7,)),
    (nn.Conv1d, {"kernel_size": 5, "padding": 3, "padding_mode": "circular", "stride": 2}, (9,)),
    (nn.Conv2d, {"kernel_size": 3, "bias": False}, (6, 7)),
    (nn.Conv2d, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}, (7, 6)),
    (nn.Conv2d, {"kernel_size": (1, 4), "dilation": (1, 2), "padding": "valid"}, (3, 9)),
    (nn.Conv2d, {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"}, (5, 6)),
    (nn.Conv2d, {"kernel_size": 3, "padding": 2, "padding_mode": "replicate"}, (5, 6)),
    (nn.Conv2d, {"kernel_size": 3, "padding": 1, "groups": 2}, (5, 6)),
    (nn.Conv2d, {"kernel_size": 3, "padding": 1, "groups": 4, "stride": 2}, (5, 6)),
    (nn.Conv3d, {"kernel_size": (2, 3, 1), "padding": (1, 1, 0), "stride": (1, 2, 1)}, (4, 5, 3)),
    (nn.Conv3d, {"kernel_size": 2, "groups": 2, "dilation": (1, 2, 1), "bias": False}, (3, 5, 3)),
]


# torch says so of its own convolutions
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("by_windows", [False, True])
@pytest.mark.parametrize(("kind", "options", "space"), CONVOLUTIONS)
def test_convolutions(kind: Any, options: dict[str, Any], space: tuple[int, ...], by_windows: bool):
    digital = seeded(lambda: kind(4, 8, **options))
    # read noise forces what an ADC or a circuit engine uses too; memory: one window at a time
    slow = {"effects": (ReadNoise(sigma=1e-9),), "memory": 1} if by_windows else {}
    layer = Conv(digital, hardware(**slow))
    assert layer.matmul.folded is not by_windows
    for x in (drawn(3, 4, *space), drawn(4, *space)):
        assert_same(layer(x), digital(x))


def test_depthwise_groups_have_tiles_of_their_own():
    layer = Conv(seeded(lambda: nn.Conv2d(6, 6, 3, groups=6)), hardware())
    assert layer.matmul.tiling.tiles == 6


RECURRENT: list[tuple[Any, dict[str, Any]]] = [
    *[
        (kind, options)
        for kind in (nn.RNN, nn.LSTM, nn.GRU)
        for options in ({}, {"bias": False, "batch_first": True}, {"num_layers": 2, "bidirectional": True})
    ],
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.LSTM, {"num_layers": 2, "proj_size": 3, "bidirectional": True}),
]


# torch says that its own digital layer falls back to a slower implementation
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_recurrent_layers(kind: Any, options: dict[str, Any]):
    digital = seeded(lambda: kind(4, 5, **options))
    layer = Recurrent(digital, hardware())
    x = drawn(3, 7, 4)
    assert_same(layer(x), digital(x))
    assert_same(layer(x[0]), digital(x[0]))
    _, state = digital(x)
    start = tuple(0.5 * part for part in state) if isinstance(state, tuple) else 0.5 * state
    assert_same(layer(x, start), digital(x, start))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("in_order", [True, False])
def test_packed_sequences(kind: Any, in_order: bool):
    digital = seeded(lambda: kind(4, 5, bidirectional=True, num_layers=2))
    lengths = torch.tensor([6, 4, 1] if in_order else [4, 1, 6])
    packed = pack_padded_sequence(drawn(6, 3, 4), lengths, enforce_sorted=in_order)
    (found, state), (wanted, last) = Recurrent(digital, hardware())(packed), digital(packed)
    assert isinstance(found, PackedSequence)
    assert_same(found.data, wanted.data)
    assert torch.equal(found.batch_sizes, wanted.batch_sizes)
    assert_same(state, last)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.RNNCell(4, 5),
        lambda: nn.RNNCell(4, 5, nonlinearity="relu", bias=False),
        lambda: nn.LSTMCell(4, 5),
        lambda: nn.GRUCell(4, 5),
    ],
)
def test_cells(make: Any):
    digital = seeded(make)
    layer, x = Cell(digital, hardware()), drawn(3, 4)
    assert_same(layer(x), digital(x))
    assert_same(layer(x, digital(x)), digital(x, digital(x)))
    assert_same(layer(x[0]), digital(x[0]))


ATTENTIONS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "bias": False},
    {"kdim": 6, "vdim": 4},
    {"add_bias_kv": True, "add_zero_attn": True},
]


@pytest.mark.parametrize("options", ATTENTIONS)
def test_attention(options: dict[str, Any]):
    digital = seeded(lambda: nn.MultiheadAttention(8, 2, **options))
    layer = MultiheadAttention(digital, hardware())
    q, k, v = drawn(5, 3, 8), drawn(4, 3, options.get("kdim", 8)), drawn(4, 3, options.get("vdim", 8))
    if options.get("batch_first"):
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    causal = torch.ones(5, 4, dtype=torch.bool).triu(1)
    padding = torch.tensor([[False] * 4, [False, False, True, True], [False, True, False, False]])
    for call in (
        {},
        {"need_weights": False},
        {"attn_mask": causal, "average_attn_weights": False},
        {"key_padding_mask": padding, "attn_mask": drawn(6, 5, 4)},
    ):
        if "key_padding_mask" in call:  # torch warns of masks of two kinds
            call["key_padding_mask"] = torch.zeros(3, 4).masked_fill(padding, -torch.inf)
        assert_same(layer(q, k, v, **call), digital(q, k, v, **call))
    first = 0 if options.get("batch_first") else slice(None)
    one = [x[first] if options.get("batch_first") else x[:, 0] for x in (q, k, v)]
    assert_same(layer(*one, attn_mask=causal), digital(*one, attn_mask=causal))


@pytest.mark.parametrize("adc_at", ["column", "difference"])
@pytest.mark.parametrize("scheme", [SingleColumn(), BitSlicing(bits=14, slice_bits=4)])
def test_a_fine_adc_in_tiles_changes_little(adc_at: str, scheme: Any):
    digital = seeded(lambda: nn.Conv2d(4, 6, 3))
    layer = Conv(digital, hardware(adc=ADC(bits=18, at=adc_at), scheme=scheme))
    x = drawn(2, 4, 5, 5).clamp(-0.5, 0.5)
    error = (layer(x) - digital(x)).square().mean().sqrt() / digital(x).square().mean().sqrt()
    assert 0 < float(error) < FINE_ADC


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Linear(nn.Linear(4, 2), hardware())(torch.zeros(3, 5)),
            r"inputs of shape \(3, 5\) do not fit the weight: give \(..., 4\)",
        ),
        (
            lambda: Conv(nn.Conv2d(4, 2, 3), hardware())(torch.zeros(3, 5, 6, 6)),
            r"give \(batch, 4, ...\) with 2 spatial axes",
        ),
        (
            lambda: Recurrent(nn.GRU(4, 2), hardware())(torch.zeros(3, 5, 6)),
            r"inputs of shape \(3, 5, 6\) do not fit: give \(time, batch, 4\)",
        ),
        (
            lambda: Recurrent(nn.GRU(4, 2), hardware())(torch.zeros(3, 5, 4), torch.zeros(1, 2, 2)),
            r"a state of shape \(1, 2, 2\) does not fit: it must be \(1, 5, 2\)",
        ),
        (
            lambda: MultiheadAttention(nn.MultiheadAttention(4, 2), hardware())(
                *[torch.zeros(2, 4)] * 3, is_causal=True
            ),
            "is_causal=True needs attn_mask=",
        ),
    ],
)
def test_wrong_inputs_are_refused(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()
