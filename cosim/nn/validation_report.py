"""What a validation found: error of every layer and of whole inputs, as a table and a figure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from cosim.errors import SpecError
from cosim.nn.estimates import Estimate
from cosim.text import format_table, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EndToEnd", "LayerValidation", "Validation"]


@dataclass(frozen=True, kw_only=True)
class LayerValidation:
    """One product: its engine against the reference on sampled (tile, input vector) pairs.

    tiles, vectors: what was drawn from; all pairs are the population. samples: pairs that both
    solved; failures: why the others are missing, and how many. current: rms of the reference, A.
    current_error, output_error: rms error over the rms of the reference, of the currents of the
    columns that are read, and of what the tile adds to the outputs (after ADC and subtraction).
    largest_current_error, largest_output_error: the largest error in the sample over the same rms.
    beyond: upper bound, at the confidence of the report, of the share of pairs that err more.
    """

    name: str
    engine: str
    tiles: int
    vectors: int
    samples: int
    failures: dict[str, int]
    current: float
    current_error: Estimate
    largest_current_error: float
    output_error: Estimate
    largest_output_error: float
    beyond: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EndToEnd:
    """Whole inputs with every product through the reference, against the model as it is.

    chosen: numbers of the inputs that both computed, in the order of ``outputs`` and
    ``reference_outputs``; failures: why others are missing, and how many. output_error: rms error
    over the rms of the reference; largest_output_error: over the same. agreement: share of inputs
    with the same decision, the largest of outputs ``(inputs, classes)``; None for other outputs.
    """

    chosen: tuple[int, ...]
    failures: dict[str, int]
    outputs: torch.Tensor
    reference_outputs: torch.Tensor
    output_error: Estimate
    largest_output_error: float
    agreement: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """All but the outputs, for JSON."""
        left_out = ("outputs", "reference_outputs")
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        for name in ("output_error", "agreement"):
            numbers[name] = numbers[name] and asdict(numbers[name])
        return plain(numbers)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What ``cosim.validate`` found; ``str`` gives tables.

    untouched: products that the inputs never reached. interrupted: Ctrl-C ended the run, and
    ``unfinished`` layers, and inputs not in ``end_to_end``, are missing.
    """

    reference: str
    layers: tuple[LayerValidation, ...]
    end_to_end: EndToEnd | None
    samples: int
    seed: int
    confidence: float
    untouched: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    interrupted: bool = False

    def __getitem__(self, name: str) -> LayerValidation:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise SpecError(f"no layer {name!r} was validated: choose from {', '.join(self._names)}")

    @property
    def _names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON; what is not finite becomes None."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self)}
        numbers["layers"] = [asdict(layer) for layer in self.layers]
        numbers["end_to_end"] = None if self.end_to_end is None else self.end_to_end.to_dict()
        return plain(numbers)

    def __rich__(self) -> Table:
        engines = ", ".join(dict.fromkeys(layer.engine for layer in self.layers))
        beyond = max((layer.beyond for layer in self.layers), default=1.0)
        table = Table(
            title=f"{engines} against {self.reference}: rms error over the rms of the reference",
            caption=f"in brackets: {self.confidence:.0%} confidence; at most {beyond:.1%} of all pairs "
            "exceed a largest error",
        )
        table.add_column("product")
        for heading in ("samples", "current error", "largest", "output error", "largest"):
            table.add_column(heading, justify="right")
        for layer in self.layers:
            currents = (str(layer.current_error), f"{layer.largest_current_error:.2g}")
            outputs = (str(layer.output_error), f"{layer.largest_output_error:.2g}")
            count = f"{layer.samples} of {layer.tiles * layer.vectors}"
            table.add_row(layer.name, count, *currents, *outputs)
        return table

    def __str__(self) -> str:
        lines = [format_table(self.__rich__())]
        for layer in self.layers:
            lines += _counted(layer.name, layer.failures, "sample")
        lines += [f"{name}: not reached by the inputs" for name in self.untouched]
        lines += [f"{name}: interrupted" for name in self.unfinished]
        if self.end_to_end is not None:
            lines += self._whole_inputs(self.end_to_end)
        elif self.interrupted:
            lines.append("interrupted: what is above is finished")
        return "\n".join(lines)

    def _whole_inputs(self, found: EndToEnd) -> list[str]:
        count = len(found.chosen)
        lines = [f"end to end, {count} input{'s' * (count != 1)}: output error {found.output_error}"]
        if (same := found.agreement) is not None:
            shares = f"{same.value:.1%} ({same.low:.1%} to {same.high:.1%})"
            lines.append(f"same decision as {self.reference}: {shares} of the inputs")
        ends = ["interrupted: the other inputs are missing"] if self.interrupted else []
        return [*lines, *_counted("end to end", found.failures, "input"), *ends]

    def plot(self) -> Figure:
        """Error of every layer with its interval; whole inputs: outputs against the reference."""
        from matplotlib.figure import Figure

        whole = self.end_to_end
        figure = Figure(figsize=(5 if whole is None else 10, 4), layout="constrained")
        axes = figure.subplots(1, 1 if whole is None else 2, squeeze=False)[0]
        for shift, name, marker in ((-0.1, "current_error", "o"), (0.1, "output_error", "s")):
            self._draw_errors(axes[0], name, shift, marker)
        axes[0].set_yscale("log")
        axes[0].set_xticks(range(len(self.layers)), self._names, rotation=30, ha="right")
        axes[0].set(ylabel="rms error over rms of the reference", title=f"tiles against {self.reference}")
        axes[0].legend()
        if whole is not None:
            axes[1].plot(whole.reference_outputs.flatten(), whole.outputs.flatten(), ".", markersize=3)
            axes[1].axline((0, 0), slope=1, color="0.6", linewidth=1)
            title = f"{len(whole.chosen)} inputs end to end"
            axes[1].set(xlabel=f"output by {self.reference}", ylabel="output", title=title)
        return figure

    def _draw_errors(self, axes: Axes, name: str, shift: float, marker: str) -> None:
        # a logarithmic axis has no 0: an exact agreement is drawn at the rounding error
        floor = torch.finfo(torch.float64).eps
        places, values, bars = [], [], []
        for place, layer in enumerate(self.layers):
            error: Estimate = getattr(layer, name)
            if math.isnan(error.value):
                continue
            value = max(error.value, floor)
            high = error.high if math.isfinite(error.high) else value
            places.append(place + shift)
            values.append(value)
            bars.append((value - max(min(error.low, value), floor), max(high - value, 0.0)))
        axes.errorbar(
            places,
            values,
            yerr=list(zip(*bars, strict=True)) or None,
            fmt=marker,
            capsize=3,
            label=name.replace("_", " "),
        )


def _counted(where: str, failures: dict[str, int], what: str) -> list[str]:
    return [f"{where}: {n} {what}{'s' * (n != 1)} missing: {why}" for why, n in failures.items()]
