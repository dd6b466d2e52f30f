"""Digits on crossbars by three engines, before and after tuning, and what ngspice says of every layer.

    python benchmarks/digits.py [--images 128] [--samples 32] [--device data_driven]

A 256-128-10 network on scikit-learn's digits, enlarged to 16x16, so that its first layer fills four
tiles of 128x128. 2 ohm per wire segment, an 8-bit ADC, and R_on and R_off of every cell drawn with
a standard deviation of 10 %. The same test images go through linear, newton and ngspice. Prints the
tables as Markdown; writes benchmarks/results/<machine>_digits.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.distributions import Normal

import cosim
from cosim.bench.machine import describe_machine, slug
from cosim.errors import CosimError
from cosim.files import check_writable
from cosim.nn.estimates import Estimate, share
from cosim.nn.model import ConvertedModel
from cosim.nn.validation_report import Validation

HERE = Path(__file__).resolve().parent
SIZE, HIDDEN = 16, 128  # rows and columns of an image; hidden neurons
TILE_SHAPE = (128, 128)
CONFIDENCE = 0.95
SPREAD = 0.1
# the parameters that are R_on and R_off, ohm; data_driven has a nonlinear I-V, vteam a linear one
DEVICES = {
    "data_driven": {"r_min": 5e3, "r_max": 100e3},
    "vteam": {"r_on": 10e3, "r_off": 1e6},
}


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Images ``(n, 256)`` from 0 to 1 and their digits, and the trained network."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor
    network: nn.Module


@dataclass(frozen=True, kw_only=True)
class Row:
    """One engine on the chosen images, before or after tuning."""

    engine: str
    tuned: bool
    accuracy: Estimate
    agreement: Estimate  # with the decisions of ngspice


def load(*, seed: int, epochs: int = 60) -> Digits:
    """1257 images to train on and 540 to test on; the network trained in full batches."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels / 16.0).reshape(-1, 1, 8, 8)
    images = nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear").flatten(1)
    train, test = train_test_split(range(len(labels)), test_size=540, random_state=seed)
    labels = torch.as_tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(SIZE**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10)).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(epochs):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images[train]), labels[train]).backward()
        optimiser.step()
    network.requires_grad_(False)
    return Digits(
        train=images[train],
        train_labels=labels[train],
        test=images[test],
        test_labels=labels[test],
        network=network,
    )


def convert(digits: Digits, device: str, *, seed: int) -> ConvertedModel:
    """The network on tiles of 128x128, calibrated to the training images, not yet tuned."""
    spread: dict[str, Any] = {name: Normal(ohm, SPREAD * ohm) for name, ohm in DEVICES[device].items()}
    converted = cosim.convert(
        digits.network,
        device=cosim.Device(device, **spread),
        tile_shape=TILE_SHAPE,
        wires=cosim.Wires(row=2.0, column=2.0),
        dac=cosim.DAC(v_max=0.3),
        adc=cosim.ADC(bits=8),
        seed=seed,
    )
    return converted.calibrate(digits.train)


def measure(
    converted: ConvertedModel, digits: Digits, *, tuned: bool, images: int, samples: int, seed: int
) -> tuple[list[Row], Validation]:
    """The three engines on the same images; tiles and whole images against ngspice."""
    report = cosim.validate(
        converted,
        digits.test,
        reference="ngspice",
        samples=samples,
        seed=seed,
        end_to_end=images,
        confidence=CONFIDENCE,
    )
    whole = report.end_to_end
    assert whole is not None
    chosen = list(whole.chosen)
    with torch.no_grad():
        newton = converted.use_engine("newton")(digits.test[chosen])
    converted.use_engine("linear")
    truth = whole.reference_outputs
    outputs = {"linear": whole.outputs, "newton": newton, "ngspice": truth}
    labels = digits.test_labels[chosen]
    rows = [
        Row(
            engine=engine,
            tuned=tuned,
            accuracy=matching(scores.argmax(1), labels),
            agreement=matching(scores.argmax(1), truth.argmax(1)),
        )
        for engine, scores in outputs.items()
    ]
    return rows, report


def matching(a: torch.Tensor, b: torch.Tensor) -> Estimate:
    """The share of equal entries, with its interval."""
    return share(int((a == b).sum()), len(a), confidence=CONFIDENCE)


def run(*, device: str, images: int, samples: int, seed: int) -> tuple[dict[str, Any], list[Validation]]:
    """Everything that is measured, as plain values; and the validations before and after tuning."""
    start = time.perf_counter()
    digits = load(seed=seed)
    converted = convert(digits, device, seed=seed)
    settings: dict[str, Any] = {"images": images, "samples": samples, "seed": seed}
    before, report = measure(converted, digits, tuned=False, **settings)
    converted.tune(digits.train, per="column", seed=seed)
    after, tuned_report = measure(converted, digits, tuned=True, **settings)
    assert report.end_to_end is not None
    chosen = list(report.end_to_end.chosen)
    scores = digits.network(digits.test[chosen])
    document = {
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "seconds": time.perf_counter() - start,
        "settings": {
            "device": device,
            "ohm": DEVICES[device],
            "spread": SPREAD,
            **settings,
            "confidence": CONFIDENCE,
        },
        "tiles": converted.report.tiles,
        "digital": asdict(matching(scores.argmax(1), digits.test_labels[chosen])),
        "rows": [asdict(row) for row in (*before, *after)],
        "validation": {"before": report.to_dict(), "after": tuned_report.to_dict()},
    }
    return document, [report, tuned_report]


def markdown(document: dict[str, Any]) -> str:
    """Both tables, with what they were measured on."""
    settings, machine = document["settings"], document["machine"]
    count = len(document["validation"]["before"]["end_to_end"]["chosen"])
    ohm = [value / 1e3 for value in settings["ohm"].values()]
    lines = [
        f"A {SIZE**2}-{HIDDEN}-10 network on {document['tiles']} tiles of {'x'.join(map(str, TILE_SHAPE))} "
        f"{settings['device']} cells (R_on {ohm[0]:.0f}, R_off {ohm[1]:.0f} kohm), 2 ohm per "
        f"segment, 8-bit ADC, R_on and R_off with a spread of {settings['spread']:.0%}; {count} test images, "
        f"the same for all. In brackets: {settings['confidence']:.0%} confidence interval (Wilson).",
        "",
        "| engine | accuracy | as ngspice | accuracy, tuned | as ngspice, tuned |",
        "| --- | --- | --- | --- | --- |",
        f"| digital network | {_percent(document['digital'])} | | | |",
    ]
    rows = document["rows"]
    for before, after in zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True):
        parts = [_percent(row[name]) for row in (before, after) for name in ("accuracy", "agreement")]
        if before["engine"] == "ngspice":
            parts[1] = parts[3] = "reference"
        lines.append(f"| `{before['engine']}` | {' | '.join(parts)} |")
    lines += [
        "",
        "What `cosim.validate` says of each layer: rms error of the linear engine against ngspice, over the "
        "rms of ngspice; (tile, image) pairs drawn at random.",
        "",
        "| layer | pairs | currents | outputs, after the ADC |",
        "| --- | --- | --- | --- |",
    ]
    for layer in document["validation"]["before"]["layers"]:
        errors = [_percent(layer[name]) for name in ("current_error", "output_error")]
        pairs = f"{layer['samples']} of {layer['tiles'] * layer['vectors']}"
        lines.append(f"| {layer['name']} | {pairs} | {' | '.join(errors)} |")
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines += ["", f"One run on {document['date']}: {machine['cpu']}, {machine['cores']} cores; {versions}."]
    return "\n".join(lines) + "\n"


def _percent(estimate: dict[str, float]) -> str:
    low, high = estimate["low"], estimate["high"]
    upper = "" if high is None else f"{high:.1%}".replace("%", " %")
    return f"{estimate['value']:.1%}".replace("%", " %") + f" ({100 * low:.1f} to {upper or 'unknown'})"


def figure(document: dict[str, Any]) -> Any:
    """Accuracy of the engines before and after tuning, with intervals."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6, 4), layout="constrained")
    axes = drawn.subplots()
    for tuned, shift in ((False, -0.1), (True, 0.1)):
        rows = [row for row in document["rows"] if row["tuned"] is tuned]
        values = [100 * row["accuracy"]["value"] for row in rows]
        below = [v - 100 * row["accuracy"]["low"] for v, row in zip(values, rows, strict=True)]
        above = [100 * row["accuracy"]["high"] - v for v, row in zip(values, rows, strict=True)]
        places = [k + shift for k in range(len(rows))]
        label = "after tuning" if tuned else "before tuning"
        axes.errorbar(places, values, yerr=[below, above], fmt="o", capsize=4, label=label)
        axes.set_xticks(range(len(rows)), [row["engine"] for row in rows])
    axes.axhline(100 * document["digital"]["value"], color="0.4", linestyle="--", label="digital")
    count = len(document["validation"]["before"]["end_to_end"]["chosen"])
    axes.set(ylabel="accuracy, %", title=f"{count} digits, {document['settings']['device']} cells")
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128, help="test images through every engine, up to 540")
    parser.add_argument("--samples", type=int, default=32, help="(tile, image) pairs of every layer")
    parser.add_argument("--device", choices=DEVICES, default="data_driven")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    options = vars(parser.parse_args(arguments))
    out: Path = options.pop("out")
    check_writable(out)
    document, reports = run(**options)
    text = markdown(document)
    path = out / f"{slug(document['machine'])}_digits"
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    figure(document).savefig(path.with_suffix(".png"), dpi=110)
    print(text)
    for report in reports:
        print(report)
    print(path.with_suffix(".json"))


if __name__ == "__main__":
    try:
        main()
    except CosimError as error:
        print(f"benchmarks/digits.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
