"""A converted network: the model, its report, calibration, tuning, and the switch back to digital."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from cosim.calibration import Calibration
from cosim.checks import as_flag, as_integer, as_seed, shown
from cosim.engines import find_engine
from cosim.errors import CosimWarning, SpecError
from cosim.nn.clipping import Clipping
from cosim.nn.digital_products import DigitalProducts, held_tensors
from cosim.nn.effects import Effect
from cosim.nn.inputs import batches, call
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.observing import observed, take_first_ranges
from cosim.nn.recording import Recorder
from cosim.nn.tuning import check_reference, check_tuning

_MOST_SAMPLES = 10**7  # more is a slip
_SAMPLES, _CIRCUIT_SAMPLES = 1024, 64  # vectors of each product; a circuit takes long for one

__all__ = ["ConversionReport", "ConvertedModel", "LayerReport", "TuneReport", "TunedLayer"]


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One layer with weights. reason: why it stayed digital; "" where it was converted."""

    name: str
    kind: str
    reason: str = ""
    weights: int = 0
    tiles: int = 0
    cells: int = 0
    utilisation: float = 0.0

    @property
    def converted(self) -> bool:
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What became of every layer that has weights; ``str`` gives a table.

    cells: cells that hold a weight. utilisation: their share of all cells of the tiles. trainable:
    the weights of converted layers are parameters. clipping: of the products that were given inputs
    or currents beyond their ranges, since these were set.
    """

    layers: tuple[LayerReport, ...]
    tile_shape: tuple[int, int]
    trainable: bool = False
    clipping: tuple[Clipping, ...] = ()

    @property
    def converted(self) -> tuple[LayerReport, ...]:
        return tuple(layer for layer in self.layers if layer.converted)

    @property
    def skipped(self) -> tuple[LayerReport, ...]:
        return tuple(layer for layer in self.layers if not layer.converted)

    @property
    def tiles(self) -> int:
        return sum(layer.tiles for layer in self.layers)

    @property
    def cells(self) -> int:
        return sum(layer.cells for layer in self.layers)

    @property
    def utilisation(self) -> float:
        return self.cells / sum(n.cells / n.utilisation for n in self.converted) if self.tiles else 0.0

    def to_dict(self) -> dict[str, Any]:
        total = {"tiles": self.tiles, "cells": self.cells, "utilisation": self.utilisation}
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "tile_shape": list(self.tile_shape),
            "trainable": self.trainable,
            "clipping": [asdict(one) for one in self.clipping],
            **total,
        }

    def __str__(self) -> str:
        lines = [f"{'layer':<32} {'type':<20} {'tiles':>6} {'cells':>10} {'used':>6}"]
        for layer in self.layers:
            end = layer.reason
            if layer.converted:
                end = f"{layer.tiles:>6} {layer.cells:>10} {layer.utilisation:>6.1%}"
            lines.append(f"{layer.name or '(the model)':<32} {layer.kind:<20} {end}")
        end = "   trainable" if self.trainable else ""
        lines.append(f"{'all':<53} {self.tiles:>6} {self.cells:>10} {self.utilisation:>6.1%}{end}")
        return "\n".join([*lines, *map(str, self.clipping)])


@dataclass(frozen=True, kw_only=True)
class TunedLayer:
    """Error of one product against the reference, on inputs that the fit has not seen."""

    name: str
    rmse_before: float
    rmse_after: float
    r2: float
    samples: int
    held_out: int


@dataclass(frozen=True, kw_only=True)
class TuneReport:
    """What tuning did to every product. untouched: products that the given inputs never reached.

    reference: "digital", or the engine that the lines lead to.
    """

    layers: tuple[TunedLayer, ...]
    per: str
    untouched: tuple[str, ...] = ()
    reference: str = "digital"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{'product':<40} {'rmse before':>12} {'after':>12} {'r2':>10}   (held out, {self.reference})"
        ]
        for layer in self.layers:
            lines.append(
                f"{layer.name:<40} {layer.rmse_before:>12.4g} {layer.rmse_after:>12.4g} {layer.r2:>10.6f}"
            )
        return "\n".join([*lines, *(f"{name:<40} not reached" for name in self.untouched)])


class ConvertedModel(nn.Module):
    """What ``cosim.convert`` returns: ``model`` with crossbar layers, and what can be done with them.

    Attributes and parts of the network (``converted.fc1``, ``converted[0]``) are found as before.
    ``state_dict`` holds tensors only, and what hardware they belong to; the whole object can be
    pickled, copied and moved between devices. ``cosim.save`` keeps all of it as data.
    """

    def __init__(self, model: nn.Module, report: ConversionReport, *, unseen: Sequence[str] = ()) -> None:
        super().__init__()
        self.model = model
        self._report = report
        self._unseen = tuple(unseen)  # matrices that the first call watches for products
        self.training = model.training  # train() would change modules that are in a mode of their own
        for name, product in self.products.items():
            product.label = name

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not there yet: while unpickling
                raise
            return getattr(super().__getattr__("model"), name)

    def __getitem__(self, key: Any) -> Any:
        """A part of a Sequential, ModuleList or ModuleDict; ``len`` and ``iter`` are theirs as well."""
        network: Any = self.model
        return network[key]

    def __len__(self) -> int:
        network: Any = self.model
        return len(network)

    def __iter__(self) -> Iterator[Any]:
        network: Any = self.model
        return iter(network)

    def __bool__(self) -> bool:
        return True  # most networks have no length

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the digital network. In training each call draws what is random about the cells anew.

        Ranges of converters that nothing has set are taken from the first call, by a digital pass before.
        """
        take_first_ranges(self.model, lambda: self.model(*args, **kwargs))
        if self._report.trainable:
            for product in self.products.values():
                product.redraw()
        return self._watched(*args, **kwargs) if self._unseen else self.model(*args, **kwargs)

    def _watched(self, *args: Any, **kwargs: Any) -> Any:
        """The first call, with a warning of matrices that it multiplies by functions instead of layers."""
        held, unseen, self._unseen = dict(held_tensors(self.model)), self._unseen, ()
        with DigitalProducts({name: held[name] for name in unseen if name in held}) as digital:
            outputs = self.model(*args, **kwargs)
        if digital.found:
            warnings.warn(
                f"products with {', '.join(digital.found)} are computed digitally, by functions that the "
                "network calls: make them layers of the types in layers=, or name them in exclude=",
                CosimWarning,
                stacklevel=5,
            )
        return outputs

    @property
    def report(self) -> ConversionReport:
        """What was converted and what was not, and what has clipped since ranges were set."""
        clipping = (product.clipping for product in self.products.values())
        return replace(self._report, clipping=tuple(one for one in clipping if one))

    @property
    def products(self) -> Mapping[str, CrossbarMatmul]:
        """Every crossbar product by its name in the model."""
        return {n: m for n, m in self.model.named_modules() if isinstance(m, CrossbarMatmul)}

    def digital(self, mode: bool = True) -> ConvertedModel:
        """Compute with the digital weights (or with crossbars again); returns self."""
        mode = as_flag(mode, "mode")
        for product in self.products.values():
            product.digital = mode
        return self

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
        *,
        other_hardware: bool = False,
    ) -> Any:
        """As torch's. SpecError, before anything is loaded, for a state of other hardware.

        The state knows device, wires, tiles, scheme and converters that its cells and ranges belong to.
        other_hardware: load it all the same.
        """
        other_hardware = as_flag(other_hardware, "other_hardware")
        for name, product in self.products.items():
            extra = state_dict.get(f"model.{name}._extra_state")
            if isinstance(extra, torch.Tensor) and not other_hardware:
                product.check_hardware(extra, name)
            product.accepts_other_hardware = other_hardware
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        finally:
            for product in self.products.values():
                product.accepts_other_hardware = False

    def digital_state_dict(self) -> dict[str, torch.Tensor]:
        """The weights as they are now, copied, by the names of the digital network.

        ``network.load_state_dict(converted.digital_state_dict())`` takes them there. Raises SpecError
        for a registered layer without ``digital_state()``, which gives names and tensors.
        """
        state: dict[str, Any] = self.model.state_dict()
        layers: list[str] = []  # prefixes of the names of all that belongs to a layer
        for name, module in self.model.named_modules(remove_duplicate=False):
            if any(name.startswith(prefix) for prefix in layers):
                continue
            prefix = f"{name}." if name else ""
            if hasattr(module, "digital_state"):
                layer: Any = module
                layers.append(prefix)
                kept = {key: value for key, value in state.items() if not key.startswith(prefix)}
                state = kept | {prefix + key: v for key, v in layer.digital_state().items() if v is not None}
            elif isinstance(module, CrossbarMatmul):
                raise SpecError(
                    f"{name} is part of a layer without digital_state(): give its class that method, which "
                    "returns the tensors of the digital layer by name"
                )
        return {name: value.detach().clone() for name, value in state.items()}

    def use_engine(self, engine: str, **options: Any) -> ConvertedModel:
        """Compute with "ideal", "linear", "newton" or "ngspice" from now on; returns self.

        The cells, the ranges of the converters and the tuning stay. options: of "newton" or
        "ngspice", such as ``executor=`` for ngspice; they are not saved.
        """
        find_engine(engine)
        for product in self.products.values():
            product.set_engine(engine, **options)
        return self

    def add_effects(self, effects: Sequence[Effect], *, seed: int = 0) -> ConvertedModel:
        """Further non-idealities, in this order, on top of what the cells have; returns self."""
        if not isinstance(effects, Sequence) or not all(isinstance(effect, Effect) for effect in effects):
            raise SpecError(f"effects is {shown(effects)}: it must be a sequence of cosim.nn.effects")
        generator = torch.Generator().manual_seed(as_seed(seed))
        for product in self.products.values():
            product.add_effects(effects, generator=generator)
        return self

    def calibrate(self, inputs: Any, *, samples: int = 1024, seed: int = 0) -> ConvertedModel:
        """Set the ranges of DACs and ADCs to what the digital network sees for ``inputs``; returns self.

        inputs: a tensor, an array, a DataLoader of (images, labels), a data set, or a list or other
        iterable of batches (``cosim.nn.inputs.batches``). Full scale of an input is its largest
        magnitude; ranges of an ADC come from ``samples`` input vectors of each product, drawn with
        ``seed``. Fixed ranges stay. Undoes tuning.
        """
        for name, recorder in self.record(inputs, samples=samples, seed=seed).items():
            if recorder.rows is not None and recorder.largest is not None:
                self.products[name].calibrate(recorder.rows, recorder.largest)
        return self

    def tune(
        self,
        inputs: Any = None,
        *,
        per: str = "layer",
        samples: int | None = None,
        test_fraction: float = 0.25,
        seed: int = 0,
        reference: str | None = None,
        **options: Any,
    ) -> TuneReport:
        """Bring every product to a better one by a line, fitted by least squares.

        reference: None: to the digital product. "newton" or "ngspice": to what the circuit gives, so that
        a fast engine predicts it; such lines hold for the engine that they were fitted to, and are left
        out with another. options: of that engine, such as ``timeout=`` (s).
        inputs: as for ``calibrate``; None: random vectors within full scale. per: one line for each
        "layer", "tile" or "column" (output). samples: vectors of each product, 1024 unless given, 64
        with a reference. The fit starts from untuned outputs, so tuning again with the same inputs
        changes nothing. ``test_fraction`` of the vectors are held out; the errors of the report are
        about them. Raises SpecError for too few vectors or a wrong option, SolveError if the reference
        fails for any.

        >>> import cosim
        >>> wires, vteam = cosim.Wires(row=20.0, column=20.0), cosim.Device("vteam")
        >>> layer = nn.Linear(4, 3)
        >>> network = cosim.convert(layer, device=vteam, wires=wires, engine="ideal", tile_shape=(8, 8))
        >>> report = network.tune(torch.rand(64, 4), per="column", reference="newton")
        >>> report.layers[0].rmse_after < 0.5 * report.layers[0].rmse_before, report.reference
        (True, 'newton')
        """
        if samples is None:
            samples = _SAMPLES if reference is None else _CIRCUIT_SAMPLES
        samples, seed = as_integer(samples, "samples", at_least=1, at_most=_MOST_SAMPLES), as_seed(seed)
        check_tuning(per, test_fraction)
        if reference is not None:
            check_reference(reference, options)
        elif options:
            raise SpecError(f"tune has no option {sorted(options)[0]!r}; options are of a reference engine")
        recorders = {} if inputs is None else self.record(inputs, samples=samples, seed=seed)
        layers, untouched = [], []
        for name, product in self.products.items():
            rows = None if inputs is None else recorders[name].rows
            if inputs is not None and rows is None:
                untouched.append(name)
                continue
            fit = product.tune(
                rows,
                per=per,
                test_fraction=test_fraction,
                seed=seed,
                samples=samples,
                reference=reference,
                **options,
            )
            numbers = {k: getattr(fit, k) for k in ("rmse_before", "rmse_after", "r2", "samples", "held_out")}
            layers.append(TunedLayer(name=name, **numbers))
        return TuneReport(
            layers=tuple(layers), per=per, untouched=tuple(untouched), reference=reference or "digital"
        )

    def attach(self, name: str, calibration: Calibration | None) -> ConvertedModel:
        """Correct the currents of a product by a ``cosim.calibrate`` of its ``tile()``; returns self.

        name: of the product, as in ``products``. The lines hold while the product computes with
        ``calibration.fast``. None takes them away. Raises SpecError where they do not fit the tile.
        """
        products = self.products
        if not isinstance(name, str) or name not in products:
            raise SpecError(f"no product {shown(name)}: choose from {', '.join(products)}")
        products[name].attach(calibration)
        return self

    def record(
        self, inputs: Any, *, samples: int, seed: int = 0, digital: bool = True
    ) -> dict[str, Recorder]:
        """At most ``samples`` inputs of every product, drawn with ``seed`` while ``inputs`` pass.

        inputs: as for ``calibrate``. digital: layers give what the digital network would.
        """
        samples = as_integer(samples, "samples", at_least=1, at_most=_MOST_SAMPLES)
        recorders = {name: Recorder(samples, seed=seed) for name in self.products}
        by_product = {self.products[name]: recorder for name, recorder in recorders.items()}
        with torch.no_grad(), observed(self.model, by_product, digital=digital):
            for batch in batches(inputs, self.model):
                call(self.model, batch)
        return recorders
