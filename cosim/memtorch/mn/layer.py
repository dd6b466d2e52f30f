"""What the memristive layers share: MemTorch's arguments as ``Hardware``, crossbars, tuning, the switch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import torch
from torch import nn

from cosim.arrays import as_tensor
from cosim.checks import as_flag, as_number
from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cell_model import CellModel, cell_model
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, Scheme, check_scheme, routine_params
from cosim.memtorch.bh.crossbar.Tile import (
    check_converter,
    checked_resistances,
    checked_tile_shape,
)
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.names import converter_method
from cosim.nn import mapping
from cosim.nn.cells import Cells
from cosim.nn.converters import ADC, DAC
from cosim.nn.effects import Effect
from cosim.nn.hardware import Hardware
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.tuning import Fit
from cosim.wires import Wires

__all__ = ["Line", "MemristiveLayer", "Options", "Write", "checked_digital", "checked_layer"]

TUNING_VECTORS = 4098  # as MemTorch has for Linear
MOST_VECTORS = 1 << 20  # of a fit


class Write(Effect):
    """Other conductances ``(groups, rows, columns)`` (S) in the same cells."""

    def __init__(self, conductance: torch.Tensor) -> None:
        self.conductance = conductance

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return cells.write(self.conductance.to(cells.conductance))


@dataclass(frozen=True)
class Options:
    """MemTorch's arguments of a layer, checked once, in the order of 1.1.0. See ``patch_model``."""

    memristor_model: type[Memristor]
    memristor_model_params: Mapping[str, Any] | None
    mapping_routine: Callable[..., Any] = naive_map
    transistor: bool = True
    programming_routine: Callable[..., Any] | None = None
    programming_routine_params: Mapping[str, Any] | None = None
    p_l: float | None = None
    scheme: Scheme = Scheme.DoubleColumn
    tile_shape: tuple[int, int] | None = None
    max_input_voltage: float | None = None
    ADC_resolution: int | None = None
    ADC_overflow_rate: float = 0.0
    quant_method: str | None = None
    verbose: bool = True
    _: KW_ONLY
    scaling_routine: Callable[..., Any] = naive_scale
    scaling_routine_params: Mapping[str, Any] | None = None
    source_resistance: float | None = None
    line_resistance: float | None = None
    use_bindings: bool = True
    random_crossbar_init: bool = False

    @classmethod
    def of(cls, *positional: Any, **named: Any) -> Options:
        """The options of a call; SpecError for one that does not exist."""
        known = [f.name for f in fields(cls)]
        for name in named:
            if name not in known:
                raise SpecError(f"a memristive layer has no option {name!r}; it has: {', '.join(known)}")
        return cls(*positional, **named)

    def __post_init__(self) -> None:
        assert self.cell_model is not None  # made here, where its errors belong
        for name in ("transistor", "use_bindings", "random_crossbar_init", "verbose"):
            as_flag(getattr(self, name), name)
        if not callable(self.mapping_routine):
            raise SpecError(
                f"mapping_routine is {self.mapping_routine!r}: give a function, such as naive_map"
            )
        if not self.transistor and not callable(self.programming_routine):
            raise SpecError("transistor=False needs a programming_routine, such as naive_program")
        if callable(self.programming_routine):
            routine_params(self.programming_routine, self.programming_routine_params)
        check_scheme(self.scheme)
        if self.scaling_routine is not naive_scale or not _empty(self.scaling_routine_params):
            raise SpecError(
                "scaling_routine: layers scale inputs themselves, leave naive_scale, without parameters"
            )
        checked_resistances(self.source_resistance, self.line_resistance)
        check_converter(self.ADC_resolution, self.quant_method)

    @functools.cached_property
    def cell_model(self) -> CellModel:
        return cell_model(self.memristor_model, self.memristor_model_params)

    def hardware(self, rows: int, outputs: int) -> Hardware:
        """The hardware of a layer whose weight is ``(outputs, rows)``; without tiles, one that fits."""
        height, width = (rows, outputs) if self.tile_shape is None else checked_tile_shape(self.tile_shape)
        scheme = self._scheme()
        source, line = checked_resistances(self.source_resistance, self.line_resistance)
        if self.max_input_voltage is not None:
            as_number(self.max_input_voltage, "max_input_voltage (V)", above=0)
        adc = None
        if self.ADC_resolution is not None and self.quant_method is not None:
            rate = as_number(self.ADC_overflow_rate, "ADC_overflow_rate")
            method = converter_method(self.quant_method)
            adc = ADC(bits=self.ADC_resolution, method=method, overflow_rate=rate)
        return Hardware(
            device=self.cell_model.nominal(),
            tile_shape=(height, width * scheme.columns),
            wires=Wires(row=line, column=line, source=source, sense=source),
            engine="linear",
            scheme=scheme,
            dac=DAC(v_max=self.max_input_voltage),
            adc=adc,
            effects=self.cell_model.effects(),
            v_read=self.cell_model.v_read,
        )

    def _scheme(self) -> mapping.Scheme:
        if self.mapping_routine is not naive_map:
            return Routine(routine=self.mapping_routine, own=self.scheme, p_l=self.p_l)
        kind = mapping.DoubleColumn if self.scheme is Scheme.DoubleColumn else mapping.SingleColumn
        return kind(p_l=self.p_l)


@dataclass(frozen=True, kw_only=True)
class Routine(mapping.Scheme):
    """A mapping routine of the user, called as ``naive_map`` is; its scale is fitted to the weights."""

    routine: Callable[..., Any]
    own: Scheme

    @property
    def significance(self) -> tuple[float, ...]:
        return (1.0,)

    @property
    def paired(self) -> bool:
        return self.own is Scheme.DoubleColumn

    def map(self, weight: torch.Tensor, g_min: float, g_max: float) -> mapping.Mapped:
        """Weights ``(*groups, outputs, inputs)`` by the routine."""
        mapped = self.routine(weight, 1 / g_max, 1 / g_min, scheme=self.own, p_l=self.p_l)
        parts = tuple(mapped) if self.paired else (mapped,)
        offset = 0.0 if self.paired else 0.5 * (g_min + g_max)
        meant = (parts[0] - (parts[-1] if self.paired else offset)).to(weight)
        size = weight.square().sum()
        scale = (meant * weight).sum() / torch.where(size > 0, size, torch.ones_like(size))
        cells = torch.stack([part.to(weight) for part in parts], -1).transpose(-3, -2).flatten(-2)
        return mapping.Mapped(conductance=cells, scale=scale, offset=offset)


class LayerCells:
    """The cells of one crossbar of a layer: every second column with pairs. Writes go to the layer."""

    def __init__(self, matmul: CrossbarMatmul, first: int, model: CellModel) -> None:
        self._matmul, self.model = matmul, model
        self._columns = slice(first, None, matmul.hardware.scheme.columns)
        self._groups = matmul.tiling.groups

    def _own(self, matrix: torch.Tensor) -> torch.Tensor:
        part = matrix[..., self._columns]
        return part[0] if self._groups == 1 else part

    @property
    def device(self) -> Device:
        device = self._matmul.cells().device
        own = {
            name: self._own(value)
            for name, value in device.given.items()
            if isinstance(value, torch.Tensor) and value.ndim
        }
        return device.replace(**own) if own else device

    def read(self) -> torch.Tensor:
        return self._own(self._matmul.conductance).clone()

    def write(self, conductance: torch.Tensor) -> None:
        matrix = self._matmul.conductance.clone()
        part = conductance.detach().to(matrix)
        matrix[..., self._columns] = part[None] if self._groups == 1 else part
        self._matmul.add_effects([Write(matrix)], generator=torch.Generator())


class Option:
    """An argument of a memristive layer as its attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layer: MemristiveLayer | None, owner: type) -> Any:
        return self if layer is None else getattr(layer.options, self.name)

    def __set__(self, layer: MemristiveLayer, value: Any) -> None:
        raise SpecError(f"{self.name} of a layer cannot be changed: patch the digital network again with it")


class Line:
    """``y -> gain y + offset``: what brings the raw output of a layer, without bias, to the digital one."""

    def __init__(self, gain: float = 1.0, offset: float = 0.0) -> None:
        self.gain, self.offset = gain, offset

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return self.gain * output + self.offset

    def __repr__(self) -> str:
        return f"Line(gain={self.gain:.9g}, offset={self.offset:.9g})"


class MemristiveLayer(nn.Module):
    """A layer on crossbars with MemTorch's attributes; combined with a layer of ``cosim.nn`` and torch's.

    Every field of ``Options`` is an attribute, which cannot be assigned.
    """

    options: Options

    def __init__(self) -> None:
        # not the next class: torch's layers, of which memristive ones are a kind, would make weights
        nn.Module.__init__(self)

    @property
    def products(self) -> list[CrossbarMatmul]:
        """Every product on crossbars, one for each weight matrix."""
        return [module for module in self.modules() if isinstance(module, CrossbarMatmul)]

    def add_effects(self, effects: Sequence[Effect], generator: torch.Generator | None = None) -> None:
        """Non-idealities on top of what the cells of every product have."""
        generator = generator or torch.Generator()
        for product in self.products:
            product.add_effects(effects, generator=generator)

    def _ready(self) -> None:
        """Program device by device where there are no transistors."""
        options = self.options
        if options.random_crossbar_init or not options.transistor:
            targets = [crossbar.store.read() for crossbar in self.crossbars]
            for crossbar, target in zip(self.crossbars, targets, strict=True):
                self._start(crossbar, options.random_crossbar_init)
                matrix = target if options.transistor else target.double()
                crossbar = Crossbar.over(crossbar.store)
                crossbar.write_conductance_matrix(
                    matrix,
                    options.transistor,
                    options.programming_routine,
                    options.programming_routine_params,
                )
        if options.verbose:
            print(f"Patched {type(self).__name__}: {'; '.join(map(repr, self.products))}")

    @staticmethod
    def _start(crossbar: Crossbar, random: bool) -> None:
        """Where programming begins: anywhere, or at the highest conductance, as a new device."""
        store = crossbar.store
        matrix = store.read()
        ends = Crossbar.over(store).devices.reshape(-1)
        low, high = (torch.tensor([1 / getattr(d, name) for d in ends]) for name in ("r_off", "r_on"))
        share = torch.rand(low.shape) if random else torch.ones_like(low)
        store.write((low + share * (high - low)).reshape(matrix.shape))

    @property
    def crossbars(self) -> list[Crossbar]:
        """[positive, negative] of each weight matrix in turn, or [single]."""
        return [
            Crossbar.over(
                LayerCells(product, k, self.options.cell_model),
                self.options.tile_shape if product.tiling.groups == 1 else None,
            )
            for product in self.products
            for k in range(product.hardware.scheme.columns)
        ]

    @property
    def transform_output(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """What is applied to the raw output, before the bias: the line that tuning found.

        Another line can be assigned. Raises SpecError for a function that is no line, and for a layer
        with several products or lines.
        """
        product = self._only_product()
        gain, offset = product.gain.flatten(), product.offset.flatten()
        if bool((gain != gain[0]).any()) or bool((offset != offset[0]).any()):
            raise SpecError("transform_output: this layer was tuned by tile or column, and has several lines")
        return Line(float(gain[0]), float(offset[0]))

    @transform_output.setter
    def transform_output(self, transform: Callable[[torch.Tensor], torch.Tensor]) -> None:
        product, line = self._only_product(), _as_line(transform)
        product.gain = torch.full_like(product.gain, line.gain)
        product.offset = torch.full_like(product.offset, line.offset)
        product.prepare()

    def _only_product(self) -> CrossbarMatmul:
        products = self.products
        if len(products) != 1:
            name = type(self).__name__
            raise SpecError(f"transform_output: {name} has {len(products)} products, each with its line")
        return products[0]

    def forward_legacy(self, input: torch.Tensor | bool = True) -> torch.Tensor | None:
        """The output of the digital layer for ``input``; True or False: compute so from now on, or not."""
        if isinstance(input, bool):
            for product in self.products:
                product.digital = input
            return None
        if not isinstance(input, torch.Tensor):
            raise SpecError(f"forward_legacy({input!r}): give a tensor of inputs, or True or False")
        before = [product.digital for product in self.products]
        self.forward_legacy(True)
        try:
            return self(input)
        finally:
            for product, digital in zip(self.products, before, strict=True):
                product.digital = digital

    def fit(self, samples: int = TUNING_VECTORS) -> list[Fit]:
        """Fit every product to the digital one by one line, on random vectors; again changes nothing."""
        return [
            product.tune(per="layer", test_fraction=0.25, seed=0, samples=samples)
            for product in self.products
        ]


for option in fields(Options):
    setattr(MemristiveLayer, option.name, Option(option.name))


def _empty(params: Any) -> bool:
    return params is None or (isinstance(params, Mapping) and not params)


def checked_layer(layer: Any) -> MemristiveLayer:
    """``layer``, or SpecError where it is not memristive."""
    if not isinstance(layer, MemristiveLayer):
        raise SpecError(f"{type(layer).__name__} is no memristive layer: patch_model comes first")
    return layer


def checked_digital(layer: Any, kind: type[nn.Module]) -> Any:
    """``layer``, or SpecError where it is not a digital one of this kind."""
    if not isinstance(layer, kind) or isinstance(layer, MemristiveLayer):
        raise SpecError(
            f"{type(layer).__name__} is no digital layer to patch: give a torch.nn.{kind.__name__}"
        )
    return layer


def _as_line(transform: Any) -> Line:
    """A function as a line, checked at a third point."""
    if isinstance(transform, Line):
        return transform
    points = torch.tensor([0.0, 1.0, -2.5, 7.0], dtype=torch.float64)
    if not callable(transform):
        raise SpecError(f"transform_output is {transform!r}: it must be a function of the output")
    values = as_tensor(transform(points), "transform_output of some points").double()
    if values.shape != points.shape:
        raise SpecError("transform_output must act on every element by itself, as y -> a y + b does")
    line = Line(float(values[1] - values[0]), float(values[0]))
    if not torch.allclose(values, line(points), rtol=1e-5, atol=1e-6 * float(values.abs().max())):
        raise SpecError("transform_output is no line y -> a y + b: apply other functions after the layer")
    return line
