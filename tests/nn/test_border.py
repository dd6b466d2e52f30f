"""The border of conversion: whatever is given where, the answer is a value or an error of cosim's tree."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cosim
from cosim.errors import CosimError, CosimWarning, SpecError
from cosim.nn import effects
from cosim.nn.cells import Cells, conductance_range
from cosim.nn.hardware import Hardware

pytestmark = pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
NORMAL = torch.distributions.Normal(10e3, 10.0)
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e400, -math.inf, math.nan, 2**70, 1e-320, 3 + 4j, b"8", "eight", "", object()),
    *([], (), {}, set(), [1, [2, 3]], ["a"], range(0), lambda: 3, int, nn.Linear, iter([])),
    *(torch.tensor(math.nan), torch.zeros(0, 4), torch.zeros(2, 3, dtype=torch.complex64), torch.tensor(3)),
    torch.zeros(3, 4, device="meta"),
    torch.zeros(3, 4).to_sparse(),
    torch.nested.as_nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
    *(np.array([1, "a"], dtype=object), np.array(["2020"], dtype="datetime64"), np.zeros((0, 4))),
    np.ma.masked_array([[1.0, 2.0, 3.0, 4.0]], mask=[[True, False, False, False]]),
    *(np.float32(2), np.int64(4), np.array(math.inf)),
)


def small() -> Any:
    return cosim.convert(nn.Linear(4, 3), device=DEVICE, tile_shape=(8, 8), adc=cosim.ADC(bits=8))


X = torch.rand(16, 4, generator=torch.Generator().manual_seed(0))
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "convert": (cosim.convert, {"model": nn.Linear(4, 3), "device": DEVICE}),
    "hardware": (Hardware, {"device": DEVICE}),
    "matmul": (cosim.matmul, {"inputs": X, "weight": torch.ones(3, 4), "device": DEVICE}),
    "calibrate": (lambda **given: small().calibrate(**given), {"inputs": X, "samples": 16, "seed": 0}),
    "tune": (
        lambda **given: small().tune(**given),
        {"inputs": X, "per": "layer", "samples": 16, "test_fraction": 0.25, "seed": 0, "reference": None},
    ),
    "add_effects": (lambda **given: small().add_effects(**given), {"effects": [], "seed": 0}),
    "use_engine": (lambda **given: small().use_engine(**given), {"engine": "linear"}),
    "validate": (cosim.validate, {"model": small(), "inputs": X, "reference": "newton", "samples": 2}),
    "tile calibration": (
        cosim.calibrate,
        {"tile": small().products["matmul"].tile(), "fast": "ideal", "reference": "linear", "samples": 8},
    ),
    "DAC": (cosim.DAC, {"bits": 8}),
    "ADC": (cosim.ADC, {"bits": 8}),
}


def arguments(function: Callable[..., Any], given: dict[str, Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return list(dict.fromkeys([*named, *given]))


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_end_in_an_error_of_our_tree(name: str):
    function, given = CALLS[name]
    raw = []
    for argument in arguments(function, given):
        for value in JUNK:
            try:
                function(**{**given, argument: value})
            except CosimError:
                continue
            except Exception as error:  # noqa: BLE001  what is tested is that there is none
                raw.append(f"{argument}={value!r}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


# --- effects ----------------------------------------------------------------------------------------------

EFFECTS: tuple[tuple[type[effects.Effect], dict[str, Any]], ...] = (
    (effects.DeviceFaults, {"lrs": 0.1}),
    (effects.StuckLines, {"rows": 0.1}),
    (effects.FiniteStates, {"states": 8}),
    (effects.DeviceVariability, {"parameters": {"r_on": NORMAL}}),
    (effects.CycleVariability, {"r_on": NORMAL, "r_off": torch.distributions.Normal(1e6, 10.0)}),
    (effects.ProgrammingNoise, {"sigma": 0.1}),
    (effects.ReadNoise, {"sigma": 0.1}),
    (effects.Drift, {"seconds": 10.0, "nu": 0.1}),
    (effects.Endurance, {"cycles": 1e6, "p_lrs": (1.0, 0.1, 0.1, 0.1)}),
    (
        effects.Retention,
        {
            **{"seconds": 1e6, "p_hrs": (1.0, 0.1, 0.1, 0.1), "p_lrs": (1.0, 0.1, 0.1, 0.1)},
            **{"temperature": 300.0, "temperature_threshold": 298.0, "mode": "sudden"},
            **{"stable_lrs": 1e4, "stable_hrs": 1e5},
        },
    ),
)
AWKWARD = (
    *(math.nan, math.inf, -math.inf, -1.0, -300.0, 0.0, 1e-320, 1e-300, 1e300, 1e38, 5.0, 2**70, True, "1"),
    *((math.nan, 1.0, 1.0, 1.0), (1.0, -1e300, 1.0, 1.0), (1e-300, 1e3, -1e3, 1e3), (1.0,), [1, 2, 3, 4]),
    *(torch.tensor(2.0), np.float64(2.0), None, {}),
)


@pytest.mark.parametrize(("kind", "given"), EFFECTS, ids=[kind.__name__ for kind, _ in EFFECTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_argument_of_an_effect_gives_cells_that_are_numbers_or_is_refused(
    kind: Any, given: dict[str, Any], dtype: torch.dtype
):
    low, high = conductance_range(DEVICE, 0.1)
    cells = Cells(
        device=DEVICE,
        conductance=torch.linspace(float(low), float(high), 24, dtype=dtype).reshape(1, 4, 6),
        low=low.to(dtype),
        high=high.to(dtype),
        v_read=0.1,
        tile_shape=(4, 6),
    )
    kind(**given).apply(cells, torch.Generator().manual_seed(0))
    for name in [field.name for field in fields(kind)]:
        for value in AWKWARD:
            try:
                changed = kind(**{**given, name: value}).apply(cells, torch.Generator().manual_seed(0))
            except SpecError:
                continue
            assert bool(changed.actual.isfinite().all()), f"{name}={value!r}"
            assert math.isfinite(changed.read_noise), f"{name}={value!r}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": math.nan}, "Retention.temperature is nan: it must be a finite number, above 0"),
        ({"temperature": -300.0}, "Retention.temperature is -300.0: it must be a finite number, above 0"),
        ({"temperature_threshold": 0.0}, "Retention.temperature_threshold is 0.0: it must be a finite"),
        ({"cell_size": math.nan}, "Retention.cell_size is nan: it must be a finite number, above 0"),
        ({"p_lrs": (1.0, 1e3, 1.0, 1.0)}, r"Retention.p_lrs is \(1.0, 1000.0, 1.0, 1.0\): p1\*cell_size"),
    ],
)
def test_temperatures_and_fits_that_give_no_number_are_named(options: dict[str, Any], message: str):
    given = {"temperature": 300.0, "temperature_threshold": 298.0, "p_lrs": (1.0, 0.1, 0.1, 0.1)}
    with pytest.raises(SpecError, match=message):
        effects.Retention(seconds=1e6, **{**given, **options})


def test_a_warning_has_a_class_of_its_own():
    assert issubclass(CosimWarning, UserWarning)
