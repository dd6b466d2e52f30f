"""The demo: handwritten digits, classified by a network whose weights sit on memristor crossbars.

A small network is trained on the digits that scikit-learn ships, its two weight matrices are put on
differential tiles of a bundled Verilog-A device with line resistance, and the same test images go
through all four engines. What ngspice says is the reference.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cosim.calibration import Calibration, calibrate
from cosim.checks import as_integer, as_path, as_seed
from cosim.crossbar import Tile, Wires
from cosim.devices.build import compile_seconds
from cosim.devices.device import Device
from cosim.engines import ENGINES, check_tools, find_engine
from cosim.files import check_writable, write_asked
from cosim.ladder import LadderReport, compare
from cosim.spice.netlist import write_netlist

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DemoReport", "DigitsNetwork", "run"]

_HIDDEN = 32
_EPOCHS = 300
_G_MIN, _G_MAX = 5e-6, 1e-4  # S; inside the range of the device, LRS 10 kohm to HRS 200 kohm
_MOST_IMAGES = 500  # of the 540 that are held out
_V_MAX = 0.2  # V at a white pixel: far below the switching threshold of about 1 V
_V_READ = 0.15  # V at which a cell has the conductance that its weight asks for
_WIRES = Wires(row=5.0, column=5.0)
_CALIBRATED = ("ideal", "linear")


@dataclass(frozen=True, kw_only=True)
class CrossbarLayer:
    """One weight matrix on one tile: column 2k holds the positive part of output k, 2k+1 the negative."""

    tile: Tile
    scale: float  # S per unit of weight
    bias: torch.Tensor

    @classmethod
    def map(cls, device: Device, weight: torch.Tensor, bias: torch.Tensor, wires: Wires) -> CrossbarLayer:
        """weight ``(outputs, inputs)`` -> conductances ``(inputs, 2 * outputs)`` between G_min and G_max."""
        scale = (_G_MAX - _G_MIN) / float(weight.abs().max())
        pair = torch.stack([weight.T.clamp(min=0), (-weight.T).clamp(min=0)], -1)  # (inputs, outputs, 2)
        conductance = _G_MIN + scale * pair.flatten(-2)
        tile = Tile(device, conductance=conductance, wires=wires, v_read=_V_READ)
        return cls(tile=tile, scale=scale, bias=bias)

    def volts(self, inputs: torch.Tensor, full_scale: float) -> torch.Tensor:
        """What the drivers put on the word lines for ``inputs`` between 0 and full_scale."""
        return inputs.clamp(0.0, full_scale) * (_V_MAX / full_scale)

    def forward(
        self, inputs: torch.Tensor, full_scale: float, solve: Callable[[Tile, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Outputs (batch, outputs) in the units of the digital layer, for inputs up to full_scale."""
        currents = solve(self.tile, self.volts(inputs, full_scale))
        difference = currents[..., 0::2] - currents[..., 1::2]
        return difference * (full_scale / (_V_MAX * self.scale)) + self.bias


@dataclass(frozen=True, kw_only=True)
class DigitsNetwork:
    """The trained network: its digital layers and their crossbars, and the held-out images."""

    digital: torch.nn.Sequential
    layers: tuple[CrossbarLayer, CrossbarLayer]
    full_scale: float  # largest hidden activation that the second tile's drivers take
    images: torch.Tensor  # (batch, 64), 0 to 1
    labels: torch.Tensor
    training_images: torch.Tensor  # (1257, 64); what the calibration is fitted to

    def scores(self, engine: str, fits: Sequence[Calibration] | None = None) -> tuple[torch.Tensor, float]:
        """Class scores (batch, 10) with every tile solved by ``engine``, and the seconds without compilation.

        fits: a calibration of each layer's tile, applied to its currents.
        """
        chosen = find_engine(engine)
        fit_of = {} if fits is None else {id(a.tile): fit for a, fit in zip(self.layers, fits, strict=True)}

        def currents(tile: Tile, volts: torch.Tensor) -> torch.Tensor:
            found = chosen.solve(tile, volts).check().currents
            return fit_of[id(tile)](found) if fit_of else found

        start = time.perf_counter()
        with torch.no_grad(), compile_seconds() as compiled:
            hidden = self.layers[0].forward(self.images, 1.0, currents).relu()
            scores = self.layers[1].forward(hidden, self.full_scale, currents)
        return scores, time.perf_counter() - start - sum(compiled)

    def training_volts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the word lines of each tile see for the training images, by the digital network."""
        with torch.no_grad():
            hidden = self.digital[:2](self.training_images)
        first, second = self.layers
        return first.volts(self.training_images, 1.0), second.volts(hidden, self.full_scale)

    def accuracy(self, scores: torch.Tensor) -> float:
        return float((scores.argmax(-1) == self.labels).double().mean())


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One engine on the whole network."""

    engine: str
    accuracy: float
    agreement: float  # share of images with the same decision as the reference
    error: float  # rms of the score error, relative to the rms of the reference scores
    milliseconds: float  # per image
    calibrated_accuracy: float | None = None
    calibrated_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo measured. ``str(report)`` is the ladder as a table."""

    digital_accuracy: float
    images: int
    reference: str
    rungs: tuple[Rung, ...]
    ladders: tuple[LadderReport, ...]  # one per tile
    calibrations: dict[str, tuple[Calibration, ...]] = field(default_factory=dict)
    seconds: float = math.nan
    out: Path = Path()

    def to_dict(self) -> dict[str, Any]:
        return {
            "digital_accuracy": self.digital_accuracy,
            "images": self.images,
            "reference": self.reference,
            "rungs": [asdict(rung) for rung in self.rungs],
            "tiles": [ladder.to_dict() for ladder in self.ladders],
            "calibration": {
                engine: [
                    {k: getattr(fit, k) for k in ("rmse_before", "rmse_after", "r2", "held_out")}
                    for fit in fits
                ]
                for engine, fits in self.calibrations.items()
            },
            "seconds": self.seconds,
            "out": str(self.out),
        }

    def __rich__(self) -> Table:
        table = Table(
            title=f"{self.images} handwritten digits; the digital network: {self.digital_accuracy:.1%} right",
            caption=f"error: rms of the scores against {self.reference}, relative to the rms of its scores",
        )
        for heading in ("engine", "accuracy", f"as {self.reference}", "error", "calibrated", "ms per image"):
            table.add_column(heading, justify="left" if heading == "engine" else "right")
        for rung in self.rungs:
            reference = rung.engine == self.reference
            after = "" if rung.calibrated_error is None else f"{rung.calibrated_error:.2%}"
            table.add_row(
                rung.engine,
                f"{rung.accuracy:.1%}",
                "reference" if reference else f"{rung.agreement:.1%}",
                "" if reference else _percent(rung.error),
                after,
                f"{rung.milliseconds:.3g}",
            )
        return table

    def plot(self) -> Figure:
        """Accuracy and score error of every engine, before and after calibration."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = [rung.engine for rung in self.rungs]
        left.bar(names, [100 * rung.accuracy for rung in self.rungs], color="C0", label="as mapped")
        marks = [
            (r.engine, 100 * r.calibrated_accuracy) for r in self.rungs if r.calibrated_accuracy is not None
        ]
        left.plot(
            *zip(*marks, strict=True), "_", color="C1", markersize=30, markeredgewidth=3, label="calibrated"
        )
        left.axhline(100 * self.digital_accuracy, color="0.4", linestyle="--", label="digital")
        left.set(ylabel="accuracy, %", ylim=(0, 105), title=f"{self.images} test images")
        left.legend(loc="lower right")
        others = [rung for rung in self.rungs if rung.engine != self.reference]
        for rung in others:
            floor = torch.finfo(torch.float64).eps
            right.loglog([rung.milliseconds], [max(rung.error, floor)], "o", color="C0")
            right.annotate(rung.engine, (rung.milliseconds, max(rung.error, floor)))
            if rung.calibrated_error is not None:
                right.loglog([rung.milliseconds], [rung.calibrated_error], "_", color="C1", markersize=20)
        right.set(
            xlabel="time per image, ms", ylabel=f"score error against {self.reference}", title="the ladder"
        )
        return figure


def _percent(value: float) -> str:
    return f"{value:.2%}" if value >= 1e-5 else f"{value:.1e}"


def run(
    out: str | Path = "out/demo",
    *,
    images: int = 200,
    seed: int = 0,
    reference: str = "ngspice",
    calibration_samples: int = 48,
    console: Console | None = None,
) -> DemoReport:
    """Train, map, solve with every engine, calibrate; figures, report and netlists go to ``out``.

    images: how many held-out images to classify. console: where progress and the table go.
    Raises SpecError for a number that makes no sense, ToolNotFound without ngspice.
    """
    images = as_integer(images, "images", at_least=1, at_most=_MOST_IMAGES)
    seed, reference = as_seed(seed), find_engine(reference).name
    calibration_samples = as_integer(calibration_samples, "calibration_samples", at_least=3)
    folder = as_path(out, "out")
    check_tools((*ENGINES, reference))
    start = time.perf_counter()
    console = console or Console()
    check_writable(folder)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        task = progress.add_task("training the digital network", total=4 + len(ENGINES))

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)
            if not console.is_terminal:  # a log file shows no moving bar
                console.print(description)

        network = train(images=images, seed=seed)
        report = _measure(network, reference, calibration_samples, seed, step)
        step("writing figures, report and netlists")
        report = replace(report, seconds=time.perf_counter() - start, out=folder)
        _write(report, network, folder)
        step("done")
    console.print(report)
    console.print(_tile_summary(report))
    console.print(f"figures, report and netlists: {folder}/   ({report.seconds:.0f} s)")
    return report


def train(*, images: int, seed: int) -> DigitsNetwork:
    """A 64-24-10 network trained on 1257 digits; ``images`` of the other 540 are kept for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, target = load_digits(return_X_y=True)
    split = train_test_split(pixels / 16.0, target, test_size=540, random_state=seed)
    train_x, test_x = (torch.as_tensor(part, dtype=torch.float64) for part in split[:2])
    train_y, test_y = (torch.as_tensor(part) for part in split[2:])
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, _HIDDEN, dtype=torch.float64),
        torch.nn.ReLU(),
        torch.nn.Linear(_HIDDEN, 10, dtype=torch.float64),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            bound = 1.0 / math.sqrt(parameter.shape[-1])
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(_EPOCHS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(train_x), train_y).backward()
        optimiser.step()
    model.requires_grad_(False)
    device = Device("stanford_pku")
    first, last = (layer for layer in model if isinstance(layer, torch.nn.Linear))
    layers = [CrossbarLayer.map(device, layer.weight, layer.bias, _WIRES) for layer in (first, last)]
    full_scale = float(first(train_x).max())
    return DigitsNetwork(
        digital=model,
        layers=(layers[0], layers[1]),
        full_scale=full_scale,
        images=test_x[:images],
        labels=test_y[:images],
        training_images=train_x,
    )


def _measure(
    network: DigitsNetwork, reference: str, samples: int, seed: int, step: Callable[[str], None]
) -> DemoReport:
    digital = network.accuracy(network.digital(network.images))
    count = len(network.images)
    results = {}
    for engine in dict.fromkeys([*ENGINES, reference]):
        step(f"{count} images through {engine}")
        results[engine] = network.scores(engine)
    truth = results[reference][0]
    step(f"calibrating {' and '.join(_CALIBRATED)} to {reference}")
    fits = {
        engine: tuple(
            calibrate(layer.tile, fast=engine, reference=reference, samples=samples, seed=seed, inputs=volts)
            for layer, volts in zip(network.layers, network.training_volts(), strict=True)
        )
        for engine in _CALIBRATED
        if engine != reference
    }
    step("error of each tile")
    volts = network.images[: min(count, 16)] * _V_MAX
    ladders = (compare(network.layers[0].tile, volts, reference=reference),)
    rungs = []
    for engine, (scores, seconds) in results.items():
        after = network.scores(engine, fits[engine])[0] if engine in fits else None
        rungs.append(
            Rung(
                engine=engine,
                accuracy=network.accuracy(scores),
                agreement=float((scores.argmax(-1) == truth.argmax(-1)).double().mean()),
                error=_relative(scores, truth),
                milliseconds=1e3 * seconds / count,
                calibrated_accuracy=None if after is None else network.accuracy(after),
                calibrated_error=None if after is None else _relative(after, truth),
            )
        )
    return DemoReport(
        digital_accuracy=digital,
        images=count,
        reference=reference,
        rungs=tuple(rungs),
        ladders=ladders,
        calibrations=fits,
    )


def _relative(scores: torch.Tensor, truth: torch.Tensor) -> float:
    return float((scores - truth).square().mean().sqrt() / truth.square().mean().sqrt())


def _tile_summary(report: DemoReport) -> Table:
    table = Table(title=f"calibration to {report.reference}: current error on held-out inputs, rms")
    for heading in ("engine", "tile", "before", "after"):
        table.add_column(heading, justify="right" if heading in ("before", "after") else "left")
    for engine, fits in report.calibrations.items():
        for number, fit in enumerate(fits, start=1):
            table.add_row(engine, f"layer {number}", f"{fit.rmse_before:.3g} A", f"{fit.rmse_after:.3g} A")
    return table


def _write(report: DemoReport, network: DigitsNetwork, folder: Path) -> None:
    write_asked(folder / "report.json", json.dumps(report.to_dict(), indent=1) + "\n")
    console = Console(file=(folder / "report.txt").open("w", encoding="utf-8"), width=110)
    for table in (report, *report.ladders, _tile_summary(report)):
        console.print(table)
    console.file.close()
    report.plot().savefig(folder / "ladder.png", dpi=120)
    for number, ladder in enumerate(report.ladders, start=1):
        ladder.plot().savefig(folder / f"tile_{number}.png", dpi=120)
    for engine, fits in report.calibrations.items():
        for number, fit in enumerate(fits, start=1):
            fit.plot().savefig(folder / f"calibration_{engine}_{number}.png", dpi=120)
            fit.save(folder / f"calibration_{engine}_{number}.json")
    for number, layer in enumerate(network.layers, start=1):
        volts = network.images[:4] * _V_MAX if number == 1 else None
        name = f"layer_{number}"
        write_netlist(layer.tile, folder / name, voltages=volts, name=name)
