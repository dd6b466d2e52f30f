"""What the memristive layers share: MemTorch's arguments as ``Hardware``, crossbars, tuning, the switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.cells import arguments_of, nominal_device, spreads
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, Scheme
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.bh.StochasticParameter import Dict2Obj, Sampler
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from cosim.nn import mapping
from cosim.nn.cells import Cells
from cosim.nn.converters import ADC, DAC
from cosim.nn.effects import Effect
from cosim.nn.hardware import Hardware
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.tuning import Fit
from cosim.wires import Wires

__all__ = ["MemristiveLayer", "Options", "Write"]

TUNING_VECTORS = 4098  # as MemTorch has for Linear


class Write(Effect):
    """Other conductances ``(groups, rows, columns)`` (S) in the same cells."""

    def __init__(self, conductance: torch.Tensor) -> None:
        self.conductance = conductance

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return cells.write(self.conductance.to(cells.conductance))


@dataclass(frozen=True, kw_only=True)
class Options:
    """MemTorch's arguments of a layer, checked once. See ``patch_model``."""

    memristor_model: type[Memristor]
    memristor_model_params: Mapping[str, Any] | None
    mapping_routine: Callable[..., Any] = naive_map
    transistor: bool = True
    programming_routine: Callable[..., Any] | None = None
    programming_routine_params: Mapping[str, Any] = field(default_factory=dict)
    p_l: float | None = None
    scheme: Scheme = Scheme.DoubleColumn
    tile_shape: tuple[int, int] | None = None
    max_input_voltage: float | None = None
    scaling_routine: Callable[..., Any] = naive_scale
    scaling_routine_params: Mapping[str, Any] = field(default_factory=dict)
    source_resistance: float | None = None
    line_resistance: float | None = None
    ADC_resolution: int | None = None
    ADC_overflow_rate: float = 0.0
    quant_method: str | None = None
    use_bindings: bool = True
    random_crossbar_init: bool = False
    verbose: bool = True

    def __post_init__(self) -> None:
        arguments_of(self.memristor_model, self.memristor_model_params)
        if not self.transistor and self.programming_routine is None:
            raise SpecError("transistor=False needs a programming_routine, such as naive_program")
        if not isinstance(self.scheme, Scheme):
            raise SpecError(f"scheme is {self.scheme!r}: give a memtorch.bh.Scheme")
        if self.scaling_routine is not naive_scale:
            raise SpecError("scaling_routine: layers scale inputs themselves, leave naive_scale")
        if (self.ADC_resolution is None) != (self.quant_method is None):
            given = f"ADC_resolution={self.ADC_resolution!r}, quant_method={self.quant_method!r}"
            raise SpecError(f"{given}: give both for an ADC, neither for none")

    @property
    def dt(self) -> float:
        value = arguments_of(self.memristor_model, self.memristor_model_params)["time_series_resolution"]
        return value.mean if isinstance(value, Sampler) else float(value)

    def hardware(self, rows: int, outputs: int) -> Hardware:
        """The hardware of a layer whose weight is ``(outputs, rows)``; without tiles, one that fits."""
        arguments = arguments_of(self.memristor_model, self.memristor_model_params)
        height, width = self.tile_shape or (rows, outputs)
        scheme = self._scheme()
        source, line = self.source_resistance or 0.0, self.line_resistance or 0.0
        adc = None
        if self.ADC_resolution is not None and self.quant_method is not None:
            rate = self.ADC_overflow_rate
            adc = ADC(bits=self.ADC_resolution, method=self.quant_method, overflow_rate=rate)
        effects = spreads(self.memristor_model, self.memristor_model_params)
        return Hardware(
            device=nominal_device(self.memristor_model, self.memristor_model_params),
            tile_shape=(height, width * scheme.columns),
            wires=Wires(row=line, column=line, source=source, sense=source),
            engine="linear",
            scheme=scheme,
            dac=DAC(v_max=self.max_input_voltage),
            adc=adc,
            effects=effects,
            v_read=self.memristor_model.read_voltage_of(Dict2Obj(arguments)),
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

    def __init__(self, matmul: CrossbarMatmul, first: int, dt: float) -> None:
        self._matmul, self.dt, self.v_read = matmul, dt, matmul.hardware.v_read
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


class MemristiveLayer(nn.Module):
    """A layer on crossbars with MemTorch's attributes; combined with a layer of ``cosim.nn``."""

    options: Options

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
                LayerCells(product, k, self.options.dt),
                self.options.tile_shape if product.tiling.groups == 1 else None,
            )
            for product in self.products
            for k in range(product.hardware.scheme.columns)
        ]

    @property
    def max_input_voltage(self) -> float | None:
        return self.options.max_input_voltage

    @property
    def tile_shape(self) -> tuple[int, int] | None:
        return self.options.tile_shape

    @property
    def scheme(self) -> Scheme:
        return self.options.scheme

    def forward_legacy(self, enabled: bool = True) -> None:
        """Compute with the digital weights, or with crossbars again."""
        for product in self.products:
            product.digital = bool(enabled)

    def fit(self, samples: int = TUNING_VECTORS) -> list[Fit]:
        """Fit every product to the digital one by one line, on random vectors; again changes nothing."""
        return [
            product.tune(per="layer", test_fraction=0.25, seed=0, samples=samples)
            for product in self.products
        ]
