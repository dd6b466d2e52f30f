"""cosim.validate: against errors computed tile by tile, its intervals, and what may go wrong on the way."""

from __future__ import annotations

import functools
import json
import math
import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cosim
from cosim.crossbar import Solution, Tile
from cosim.engines import solve
from cosim.errors import SolveError, SpecError, ToolNotFound
from cosim.nn import validation
from cosim.nn.effects import DeviceFaults, ReadNoise, StuckLines
from cosim.nn.estimates import rms_ratio, share, share_beyond
from cosim.nn.mapping import BitSlicing, SingleColumn
from cosim.nn.model import ConversionReport, ConvertedModel
from cosim.nn.validation_report import Validation
from cosim.solvers import newton
from tolerances import (
    ACTS,
    ADC_20_BIT,
    COVERS_60,
    COVERS_400,
    LINEAR_ERROR_SEEN,
    LINEAR_EXACT,
    NEWTON_EXACT,
    NGSPICE_NEWTON,
    ROUNDING,
    SIX_DECIMALS,
    VALIDATED,
    WILSON_COVERS,
)

NONLINEAR = cosim.Device("data_driven")
LINEAR = cosim.Device("vteam", r_on=10e3, r_off=1e6)
WIRES = cosim.Wires(row=20.0, column=20.0)
SIZES = (10, 7, 3)


def drawn(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(model: nn.Module, seed: int = 3) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.requires_grad_(False).parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.double().eval()


def mlp() -> nn.Module:
    return filled(nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.ReLU(), nn.Linear(SIZES[1], SIZES[2])))


def converted(network: nn.Module | None = None, **options: Any) -> ConvertedModel:
    given = {"device": NONLINEAR, "tile_shape": (6, 5), "wires": WIRES, "dac": cosim.DAC(v_max=0.3)}
    return cosim.convert(network or mlp(), **{**given, **options})


@pytest.fixture(scope="module")
def against_ngspice() -> Validation:
    device = cosim.Device("data_driven", r_min=torch.distributions.Normal(1280.0, 128.0))
    effects = (DeviceFaults(lrs=0.05, hrs=0.1), StuckLines(rows=0.1))
    dac = cosim.DAC(bits=6, v_max=0.3)
    model = converted(device=device, tile_shape=(6, 8), dac=dac, effects=effects, engine="newton")
    x = drawn(12, 10)
    x[0] = 0.0  # nothing drives the first layer
    model.calibrate(x)
    return cosim.validate(model, x, samples=6, end_to_end=4)


def test_newton_agrees_with_ngspice(against_ngspice: Validation):
    assert [layer.name for layer in against_ngspice.layers] == ["0.matmul", "2.matmul"]
    assert [(layer.tiles, layer.samples) for layer in against_ngspice.layers] == [(4, 8), (2, 6)]
    for layer in against_ngspice.layers:
        assert not layer.failures
        assert 0 < layer.current_error.value <= layer.largest_current_error < NGSPICE_NEWTON
        assert 0 < layer.output_error.value <= layer.largest_output_error < NGSPICE_NEWTON
        assert layer.current_error.low < layer.current_error.value < layer.current_error.high
    whole = against_ngspice.end_to_end
    assert whole is not None
    assert len(whole.chosen) == 4
    assert whole.output_error.value < NGSPICE_NEWTON
    assert whole.agreement is not None
    assert (whole.agreement.value, whole.agreement.high) == (1.0, 1.0)


def by_hand(model: ConvertedModel, name: str, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All currents that are read, of all tiles and inputs, and newton's, with nothing but ``solve``."""
    product, seen = model.products[name], []
    with product.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        model(inputs)
    rows, columns = product.tiling.rows, product.tiling.columns
    found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for down, top in enumerate(range(0, rows, 6)):
        for across, left in enumerate(range(0, columns, 4)):  # the fifth column of a tile is idle
            whole = product.tile()
            cells = whole.conductance[0, down, across]
            volts = torch.zeros(len(inputs), 6, dtype=torch.float64)
            part = seen[0][:, top : top + 6]
            volts[:, : part.shape[1]] = 0.3 * part / product.full_scale
            tile = Tile(whole.device, conductance=cells, wires=WIRES)
            for engine, currents in zip((product.engine, "newton"), found, strict=True):
                solution = solve(tile, volts, engine=engine)
                currents.append(solution.currents[:, : min(4, columns - left)].flatten())
    return torch.cat(found[0]), torch.cat(found[1])


def test_all_pairs_give_the_error_itself():
    model, x = converted(), drawn(6, 10)
    model.calibrate(x)
    report = cosim.validate(model, x, reference="newton", samples=1000)
    for layer in report.layers:
        assert layer.samples == layer.tiles * layer.vectors
        found, truth = by_hand(model, layer.name, x)
        expected = float((found - truth).norm() / truth.norm())
        assert expected > LINEAR_ERROR_SEEN
        assert layer.current_error.value == pytest.approx(expected, rel=VALIDATED)
        rms = float(truth.square().mean().sqrt())
        assert layer.current == pytest.approx(rms, rel=VALIDATED)
        largest = float((found - truth).abs().max()) / rms
        assert layer.largest_current_error == pytest.approx(largest, rel=VALIDATED)
        assert layer.current_error.low == layer.current_error.value == layer.current_error.high


def test_the_interval_covers_the_error_of_all_pairs():
    model, x = converted(), drawn(60, 10)
    model.calibrate(x)
    every = cosim.validate(model, x, reference="newton", samples=1000)
    hits = {"current_error": 0, "output_error": 0}
    seeds = range(60)
    for seed in seeds:
        report = cosim.validate(model, x, reference="newton", samples=32, seed=seed)
        for layer, truth in zip(report.layers, every.layers, strict=True):
            assert layer.samples == 32
            for name in hits:
                found = getattr(layer, name)
                hits[name] += found.low <= getattr(truth, name).value <= found.high
    assert all(hit >= COVERS_60 * 2 * len(seeds) for hit in hits.values()), hits


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adc": cosim.ADC(bits=5)},
        {"adc": cosim.ADC(bits=5, per="column", at="column"), "scheme": SingleColumn()},
        {"adc": cosim.ADC(bits=6, per="tile", at="column"), "scheme": BitSlicing(bits=5, slice_bits=2)},
    ],
)
def test_outputs_are_those_of_the_layer_after_the_adc(options: dict[str, Any]):
    """With one tile under each output the parts of all tiles are the outputs of the product."""
    network = filled(nn.Conv2d(2, 8, (1, 3), groups=2))
    model = converted(network, layers=(nn.Conv2d,), **options)
    x = drawn(3, 2, 2, 5)
    model.calibrate(x)
    report = cosim.validate(model, x, reference="newton", samples=10_000)
    found = []
    for engine in ("linear", "newton"):
        found.append(model.use_engine(engine)(x) - network.bias.reshape(-1, 1, 1))
    rms = found[1].square().mean().sqrt()
    error = float((found[0] - found[1]).square().mean().sqrt() / rms)
    assert error > LINEAR_ERROR_SEEN
    assert report.layers[0].vectors == 3 * 2 * 3
    assert report.layers[0].output_error.value == pytest.approx(error, rel=VALIDATED)
    largest = float((found[0] - found[1]).abs().max() / rms)
    assert report.layers[0].largest_output_error == pytest.approx(largest, rel=VALIDATED)


def test_every_tile_gets_vectors_as_far_as_samples_reach():
    model, x = converted(), drawn(40, 10)
    for samples, expected in ((3, 3), (8, 8), (9, 16), (24, 24)):  # the first layer has 8 tiles
        report = cosim.validate(model, x, reference="newton", samples=samples)
        assert report["0.matmul"].samples == expected


def test_the_seed_decides():
    model, x = converted(), drawn(40, 10)
    one, two, same = (
        cosim.validate(model, x, reference="newton", samples=8, end_to_end=5, seed=seed) for seed in (0, 1, 0)
    )
    assert one.layers == same.layers
    assert one.layers != two.layers
    assert one.end_to_end is not None
    assert two.end_to_end is not None
    assert one.end_to_end.chosen != two.end_to_end.chosen


def test_recurrent_layers_and_several_arguments():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)
            self.spare = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.head(self.lstm(x)[0][:, -1]) * scale, None

    model = converted(filled(Two()), device=LINEAR, layers=(nn.LSTM, nn.Linear))
    batches = [(drawn(n, 5, 4, seed=n), drawn(n, 1, seed=n + 1)) for n in (3, 9)]
    report = cosim.validate(model, batches, reference="newton", samples=4, end_to_end=7)
    assert report.untouched == ("spare.matmul",)
    assert {layer.vectors for layer in report.layers} == {12, 12 * 5}
    assert all(layer.current_error.value < NEWTON_EXACT * 10 for layer in report.layers)
    whole = report.end_to_end
    assert whole is not None
    assert whole.outputs.shape == (7, 2)
    everything = torch.cat([model(*batch)[0] for batch in batches])
    torch.testing.assert_close(whole.outputs, everything[list(whole.chosen)], rtol=LINEAR_EXACT, atol=0)
    assert "spare.matmul: not reached by the inputs" in str(report)


def test_inputs_of_zero_volt():
    report = cosim.validate(converted(), torch.zeros(9, 10).double(), reference="newton", samples=8)
    layer = report["0.matmul"]
    assert (layer.samples, layer.failures, layer.current) == (8, {}, 0.0)
    assert (layer.current_error.value, layer.largest_current_error) == (0.0, 0.0)
    assert "0 (0 to inf)" in str(report)
    report.plot()


def test_the_model_is_left_as_it_was_and_noise_is_the_same_on_both_sides():
    model = converted(device=LINEAR, effects=(ReadNoise(sigma=0.1),), adc=cosim.ADC(bits=20))
    x = drawn(20, 10)
    model.train()
    states = {name: value.clone() for name, value in model.state_dict().items()}
    report = cosim.validate(model, x, reference="newton", samples=8, end_to_end=20)
    for name, value in model.state_dict().items():  # ranges that are not known are NaN
        torch.testing.assert_close(value, states[name], rtol=0, atol=0, equal_nan=True)
    assert model.training
    assert all(product.engine == "linear" for product in model.products.values())
    assert report.end_to_end is not None
    quiet = converted(device=LINEAR, adc=cosim.ADC(bits=20))
    noise = (report.end_to_end.outputs - quiet(x)).abs().max() / quiet(x).abs().max()
    assert float(noise) > ACTS
    assert report.end_to_end.output_error.value < ADC_20_BIT


# --- failures are counted, never dropped ------------------------------------------------------------


def test_samples_that_fail_are_counted_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    genuine = newton.solve_newton

    @functools.wraps(genuine)
    def gives_up(tile: Tile, voltages: torch.Tensor, **options: Any) -> Solution:
        solution, hard = genuine(tile, voltages, **options), voltages[..., 0] > 0
        currents = solution.currents.masked_fill(hard[..., None], math.nan)
        return replace(solution, currents=currents, status=solution.status + hard.long())

    monkeypatch.setattr(newton, "solve_newton", gives_up)
    model = converted(filled(nn.Linear(6, 2)))
    x = drawn(20, 6)
    x[::2, 0] = 0.0
    report = cosim.validate(model, x, reference="newton", samples=20, end_to_end=20)
    layer = report.layers[0]
    assert layer.samples == 10
    assert layer.failures == {
        "newton: NOT_CONVERGED, raise max_iterations or memory, or lower the voltages": 10
    }
    assert layer.current_error.value > 0
    assert "matmul: 10 samples missing: newton: NOT_CONVERGED" in str(report)
    whole = report.end_to_end
    assert whole is not None
    assert whole.chosen == tuple(range(0, 20, 2))
    assert sum(whole.failures.values()) == 10
    assert "end to end: 10 inputs missing: engine 'newton' failed for 1 of 1 vectors" in str(report)


def program(folder: Path, pattern: str, instead: str = "exit 1") -> str:
    """ngspice; jobs whose number a shell pattern matches do something before, or instead if it ends them."""
    path = folder / "ngspice"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) exec {shutil.which("ngspice")} "$@";; esac\n'
        f'echo . >> {folder}/count; case "$(wc -l < {folder}/count)" in {pattern}) {instead};; esac\n'
        f'exec {shutil.which("ngspice")} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def test_a_job_of_ngspice_that_fails_costs_its_own_samples(tmp_path: Path):
    model, x = converted(), drawn(20, 10)
    report = cosim.validate(model, x, samples=8, workers=1, program=program(tmp_path, "2|9|10|11|12"))
    first, second = report.layers  # jobs 1 to 8, one for each tile, and 9 to 12
    assert first.samples == 7
    assert sum(first.failures.values()) == 1
    assert second.samples == 0
    assert sum(second.failures.values()) == 8
    assert all("ngspice" in reason for reason in (*first.failures, *second.failures))
    assert math.isnan(second.current_error.value)
    assert "2.matmul: 8 samples missing: ngspice: " in str(report)
    json.dumps(report.to_dict(), allow_nan=False)
    report.plot()


def test_a_disk_that_fills_up_costs_only_what_was_left(tmp_path: Path):
    """From the second layer on, this process can write no file as large as the compiled model."""
    model, x = converted(), drawn(20, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = (
        f"{sys.executable} -c 'import os, resource; "
        f"resource.prlimit({os.getpid()}, resource.RLIMIT_FSIZE, (4096, {before[1]}))'"
    )
    try:
        report = cosim.validate(
            model, x, samples=8, workers=1, end_to_end=2, program=program(tmp_path, "8", fill)
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    first, second = report.layers
    assert (first.samples, second.samples) == (8, 0)
    (why,) = second.failures
    assert "OSError: [Errno 27] File too large" in why
    assert "make room in" in why
    assert report.end_to_end is not None
    assert sum(report.end_to_end.failures.values()) == 2


def test_no_sample_at_all_is_an_error(tmp_path: Path):
    with pytest.raises(SolveError, match="not one sample was solved by both engines: ngspice: .*exit"):
        cosim.validate(converted(), drawn(5, 10), samples=2, program=program(tmp_path, "*"))


def test_ctrl_c_keeps_what_is_finished(monkeypatch: pytest.MonkeyPatch):
    model, x = converted(), drawn(40, 10)
    whole = cosim.validate(model, x, reference="newton", samples=8, end_to_end=40)
    genuine = validation.validate_tiles

    def second_is_stopped(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "2.matmul":
            raise KeyboardInterrupt
        return genuine(name, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(validation, "validate_tiles", second_is_stopped)
        report = cosim.validate(model, x, reference="newton", samples=8, end_to_end=40)
    assert report.interrupted
    assert report.layers == whole.layers[:1]
    assert (report.unfinished, report.end_to_end) == (("2.matmul",), None)
    assert "2.matmul: interrupted" in str(report)

    def stopped(*arguments: Any, **options: Any) -> Any:
        yield from (found for k, found in enumerate(validation_passes(*arguments, **options)) if k < 1)
        raise KeyboardInterrupt

    validation_passes = validation.passes
    with monkeypatch.context() as patched:
        patched.setattr(validation, "passes", stopped)
        report = cosim.validate(model, x, reference="newton", samples=8, end_to_end=40)
    assert report.interrupted
    assert report.layers == whole.layers
    assert report.end_to_end is not None
    assert len(report.end_to_end.chosen) == 32
    assert "interrupted: the other inputs are missing" in str(report)

    def at_once(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(validation, "validate_tiles", at_once)
    with pytest.raises(KeyboardInterrupt):
        cosim.validate(model, x, reference="newton", samples=8)


NOTHING = ConversionReport(layers=(), tile_shape=(8, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: cosim.validate(mlp(), x), SpecError, "model is Sequential: validate takes what"),
        (
            lambda x: cosim.validate(
                ConvertedModel(mlp(), ConversionReport(layers=(), tile_shape=(8, 8))), x
            ),
            SpecError,
            "the model has no crossbar layer: its .report says why",
        ),
        (lambda x: cosim.validate(converted(), x, samples=0), SpecError, "samples is 0: it must be a whole"),
        (
            lambda x: cosim.validate(converted(), x, reference="hspice"),
            SpecError,
            "reference is 'hspice': choose from newton, ngspice",
        ),
        (
            lambda x: cosim.validate(converted(engine="newton"), x, reference="newton"),
            SpecError,
            "0.matmul computes with 'newton', the reference itself: choose another",
        ),
        (
            lambda x: cosim.validate(converted().digital(), x),
            SpecError,
            r"0.matmul computes digitally: switch back with model.digital\(False\)",
        ),
        (
            lambda x: cosim.validate(converted(), x.masked_fill(x == x[1, 2], math.nan)),
            SpecError,
            r"inputs\[1, 2\] is nan: every entry must be finite",
        ),
        (
            lambda x: cosim.validate(converted(), x[:0]),
            SpecError,
            r"inputs of shape \(0, 10\) are empty: give at least one",
        ),
        (
            lambda x: cosim.validate(converted(), []),
            SpecError,
            r"inputs is \[\], without a batch: give a tensor",
        ),
        (
            lambda x: cosim.validate(converted(), [["a"]]),
            SpecError,
            "inputs of type str: give a tensor, an array",
        ),
        (
            lambda x: cosim.validate(converted(), x[:, 1:]),
            SpecError,
            r"inputs of shape \(4, 9\) do not fit the weight",
        ),
        (
            lambda x: cosim.validate(
                converted(nn.Sequential(nn.Unflatten(1, (5, 2)), nn.Linear(2, 2))), x[:, 1:]
            ),
            SpecError,
            r"the model does not take inputs of shape \(4, 9\): ",
        ),
        (
            lambda x: cosim.validate(converted(), x, end_to_end=5),
            SpecError,
            "end_to_end is 5: it must be a whole number, at least 0 and at most 4",
        ),
        (
            lambda x: cosim.validate(converted(), x, confidence=95),
            SpecError,
            "confidence is 95: it must",
        ),
        (
            lambda x: cosim.validate(converted(), x, workers=0),
            SpecError,
            "workers is 0: it must be a whole number, at least 1",
        ),
        (lambda x: cosim.validate(converted(), x, workers="2"), SpecError, "workers is '2': it must be a wh"),
        (
            lambda x: cosim.validate(converted(), x, workers=2, reference="newton"),
            SpecError,
            "workers is 2: 'newton' runs no processes; leave it out",
        ),
        (lambda x: cosim.validate(converted(), x, seed=-1), SpecError, "seed is -1: it must be a whole num"),
        (lambda x: cosim.validate(converted(), x, seed=0.5), SpecError, "seed is 0.5: it must be a whole n"),
        (
            lambda x: cosim.validate(converted(), x, timeout="9"),
            SpecError,
            "timeout is '9': it must be",
        ),
        (
            lambda x: cosim.validate(converted(), x, confidence="9"),
            SpecError,
            "confidence is .9.: it",
        ),
        (
            lambda x: cosim.validate(converted(), x, executor=None),
            SpecError,
            "no option 'executor' with 'ngspice'",
        ),
        (
            lambda x: cosim.validate(converted(), x, tolerance=1e-6),
            SpecError,
            "no option 'tolerance' with 'ngspice': choose from timeout",
        ),
        (
            lambda x: cosim.validate(converted(), x, program="/nowhere/ngspice"),
            ToolNotFound,
            "/nowhere/ngspice is not installed: install it with",
        ),
        (
            lambda x: converted().use_engine("linear", tolerance=1e-6),
            SpecError,
            "engine 'linear' has no option 'tolerance' here",
        ),
        (
            lambda x: cosim.validate(converted(), x, reference="newton", samples=2)["0"],
            SpecError,
            "no layer '0' was validated: choose from 0.matmul, 2.matmul",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        call(drawn(4, 10))


class Around(nn.Module):
    """A layer, and what becomes of its output."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(10, 2), after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.layer, x)


def test_networks_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "validate_tiles", None)  # refused before the long part
    total = converted(filled(Around(lambda layer, x: layer(x).sum())))
    with pytest.raises(SpecError, match=r"the model returned Tensor of shape \(\) for 3 inputs"):
        cosim.validate(total, drawn(4, 10), reference="newton", samples=2, end_to_end=3)
    fixed = converted(filled(Around(lambda layer, x: layer(x).view(4, 2))))
    with pytest.raises(SpecError, match="the model does not take 3 inputs, as end_to_end gives: shape"):
        cosim.validate(fixed, drawn(4, 10), reference="newton", samples=2, end_to_end=3)
    aside = converted(filled(Around(lambda layer, x: x)))
    with pytest.raises(SpecError, match="no input reached a crossbar layer"):
        cosim.validate(aside, drawn(4, 10), reference="newton", samples=2)


# --- how it is shown --------------------------------------------------------------------------------


def test_the_table_the_figure_and_the_dictionary(against_ngspice: Validation):
    text = str(against_ngspice)
    assert "newton against ngspice" in text
    assert "8 of 48" in text
    assert "end to end, 4 inputs: output error" in text
    assert "same decision as ngspice: 100.0% (51.0% to 100.0%)" in text
    assert max(map(len, text.splitlines())) <= 110
    left, right = against_ngspice.plot().axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["0.matmul", "2.matmul"]
    assert (left.get_yscale(), right.get_ylabel()) == ("log", "output")
    found = json.loads(json.dumps(against_ngspice.to_dict(), allow_nan=False))
    assert found["layers"][0]["current_error"]["value"] == against_ngspice.layers[0].current_error.value
    assert found["end_to_end"]["agreement"]["low"] == pytest.approx(0.510109, abs=SIX_DECIMALS)


# --- the intervals, on numbers whose distribution is known ------------------------------------------


@pytest.mark.parametrize("population", [math.inf, 60])
@pytest.mark.parametrize("kind", ["uniform", "exponential", "normal squared"])
def test_rms_ratio_covers(kind: str, population: float):
    generator = torch.Generator().manual_seed(11)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        u = torch.rand(count, generator=generator).double()
        error = {"uniform": u, "exponential": -u.log(), "normal squared": torch.erfinv(2 * u - 1).square()}
        return error[kind], 1 + torch.rand(count, generator=generator).double()

    means = {"uniform": 0.5, "exponential": 1.0, "normal squared": 0.5}
    hits = 0
    for _ in range(400):
        if population == math.inf:
            truth = math.sqrt(means[kind] / 1.5)
            error, reference = draw(32)
        else:
            error, reference = draw(60)
            truth = math.sqrt(float(error.sum() / reference.sum()))
            error, reference = error[:32], reference[:32]
        found = rms_ratio(error, reference, confidence=0.95, population=population)
        hits += found.low <= truth <= found.high
    low, high = COVERS_400
    assert low <= hits / 400 <= high


def test_the_intervals_at_their_ends():
    one, zeros = torch.ones(1), torch.zeros(4)
    assert (rms_ratio(one, 4 * one, confidence=0.9).low, rms_ratio(one, 4 * one, confidence=0.9).high) == (
        0.0,
        math.inf,
    )
    assert rms_ratio(one, 4 * one, confidence=0.9, population=1).high == 0.5
    assert math.isnan(rms_ratio(zeros[:0], zeros[:0], confidence=0.9).value)
    assert rms_ratio(zeros, zeros, confidence=0.9).value == 0.0
    assert math.isnan(share(0, 0, confidence=0.9).value)
    assert (share(0, 5, confidence=0.9).low, share(5, 5, confidence=0.9).high) == (0.0, 1.0)
    assert share_beyond(0, confidence=0.9) == 1.0
    assert share_beyond(9, confidence=0.9, population=9) == 0.0
    assert (1 - share_beyond(7, confidence=0.9)) ** 7 == pytest.approx(0.1, rel=ROUNDING)


def test_wilson_solves_its_equation_and_covers():
    """Its ends are the p with (p - found)^2 = z^2 p (1 - p) / n; coverage is a sum over the binomial."""
    z = 1.959963984540054
    found = share(9, 40, confidence=0.95)
    for p in (found.low, found.high):
        assert (p - 9 / 40) ** 2 == pytest.approx(z**2 * p * (1 - p) / 40, rel=LINEAR_EXACT * 100)
    for p in (0.5, 0.8, 0.9, 0.97):
        inside = [k for k in range(41) if (s := share(k, 40, confidence=0.95)).low <= p <= s.high]
        assert sum(math.comb(40, k) * p**k * (1 - p) ** (40 - k) for k in inside) > WILSON_COVERS
