"""``patch_model``: a network with memristive layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from cosim.checks import as_flag
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.Crossbar import Scheme
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.mn.Conv1d import Conv1d
from cosim.memtorch.mn.Conv2d import Conv2d
from cosim.memtorch.mn.Conv3d import Conv3d
from cosim.memtorch.mn.GRU import GRU
from cosim.memtorch.mn.layer import MemristiveLayer, Options
from cosim.memtorch.mn.Linear import Linear
from cosim.memtorch.mn.LSTM import LSTM
from cosim.memtorch.mn.RNN import RNN
from cosim.nn.model import ConversionReport, ConvertedModel, LayerReport

__all__ = ["PatchedModel", "patch_model", "supported_module_parameters"]

supported_module_parameters: Mapping[type[nn.Module], Callable[..., MemristiveLayer]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.RNN: RNN,
    nn.LSTM: LSTM,
    nn.GRU: GRU,
}

_DEVICE = ("memristor_model", "memristor_model_params")
_OPTIONS = [f.name for f in fields(Options) if f.name not in _DEVICE]


class PatchedModel(ConvertedModel):
    """The network in ``model``; its attributes are found here too."""

    def __init__(self, model: nn.Module, report: ConversionReport) -> None:
        super().__init__(model, report)
        self._legacy = True

    def tune_(self, tune_kwargs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Tune every memristive layer. tune_kwargs: arguments of ``tune`` by class name ("Conv2d")."""
        if not isinstance(tune_kwargs, Mapping | None):
            raise SpecError(f"tune_kwargs is {tune_kwargs!r}: give a dictionary, class name to arguments")
        layers: list[Any] = [m for m in self.model.modules() if isinstance(m, MemristiveLayer)]
        kinds = {type(layer).__name__ for layer in layers}
        wanted = {key.rstrip("'>").rpartition(".")[2]: value for key, value in (tune_kwargs or {}).items()}
        for name in wanted:
            if name not in kinds:
                raise SpecError(f"tune_kwargs: no layer is a {name!r}; there are {', '.join(sorted(kinds))}")
        for layer in layers:
            layer.tune(**wanted.get(type(layer).__name__, {}))

    def forward_legacy(self, enable_forward_legacy: bool) -> None:
        """Compute with the digital weights, or with crossbars again."""
        if as_flag(enable_forward_legacy, "enable_forward_legacy") and not self._legacy:
            raise SpecError("the digital weights were given up by disable_legacy()")
        self.digital(enable_forward_legacy)

    def disable_legacy(self) -> None:
        """Compute with crossbars only from now on."""
        self.digital(False)
        self._legacy = False

    def set_cuda_malloc_heap_size(self, cuda_malloc_heap_size: int) -> None:
        """Refused: no kernel of cosim allocates memory on the GPU by itself."""
        raise SpecError("there is no CUDA heap to set: memory is torch's, leave this call out")


def patch_model(
    model: nn.Module,
    memristor_model: type[Memristor],
    memristor_model_params: Mapping[str, Any] | None,
    module_parameters_to_patch: Iterable[type[nn.Module]] = (),
    mapping_routine: Callable[..., Any] = naive_map,
    transistor: bool = True,
    programming_routine: Callable[..., Any] | None = None,
    programming_routine_params: Mapping[str, Any] | None = None,
    p_l: float | None = None,
    scheme: Scheme = Scheme.DoubleColumn,
    tile_shape: tuple[int, int] | None = None,
    max_input_voltage: float | None = None,
    ADC_resolution: int | None = None,
    ADC_overflow_rate: float = 0.0,
    quant_method: str | None = None,
    verbose: bool = True,
    *,
    scaling_routine: Callable[..., Any] = naive_scale,
    scaling_routine_params: Mapping[str, Any] | None = None,
    source_resistance: float | None = None,
    line_resistance: float | None = None,
    use_bindings: bool = True,
    random_crossbar_init: bool = False,
    **kwargs: Any,
) -> PatchedModel:
    """``model`` with memristive layers in place of the named types; ``model`` itself is changed.

    module_parameters_to_patch: of Linear, Conv1d, Conv2d, Conv3d, RNN, LSTM, GRU. tile_shape: rows and
    outputs of a tile; None: one crossbar of the layer's size. max_input_voltage: V of a full-scale input;
    None: inputs are volts. source_resistance, line_resistance (ohm): of drivers and sense, and between
    neighbours. ADC_resolution, quant_method, ADC_overflow_rate: one conversion per tile and output, in
    ranges of the first inputs, or of ``calibrate``. programming_routine: device by device, where there is no
    transistor; with transistors conductances are written directly. programming_routine_params: all that the
    routine is given; None: rel_tol 0.1, if it has that argument. use_bindings: there is one implementation.

    Raises SpecError for an unknown type, option, or parameter.

    >>> from cosim.memtorch.bh.memristor import VTEAM
    >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> patched = patch_model(network, VTEAM, {}, [nn.Linear], verbose=False)
    >>> patched.tune_()
    """
    arguments = locals()
    if kwargs:
        raise SpecError(f"patch_model has no option {sorted(kwargs)[0]!r}")
    options = {name: arguments[name] for name in _OPTIONS}
    if programming_routine_params is None and _has_tolerance(programming_routine):
        options["programming_routine_params"] = {"rel_tol": 0.1}
    if not isinstance(model, nn.Module):
        raise SpecError(f"model is {model!r}: give a torch.nn.Module")
    device = (memristor_model, memristor_model_params)
    patcher = _Patcher(_known(module_parameters_to_patch), device, options)
    patched = patcher.patched(model, "")
    report = ConversionReport(layers=tuple(patcher.reports), tile_shape=tile_shape or (0, 0))
    return PatchedModel(patched, report)


def _has_tolerance(routine: Any) -> bool:
    return callable(routine) and "rel_tol" in inspect.signature(routine).parameters


def _known(kinds: Iterable[type[nn.Module]]) -> tuple[type[nn.Module], ...]:
    if not isinstance(kinds, Iterable):
        raise SpecError(f"module_parameters_to_patch is {kinds!r}: give a list, such as [torch.nn.Linear]")
    found = tuple(kinds)
    for kind in found:
        if not isinstance(kind, type) or kind not in supported_module_parameters:
            known = ", ".join(k.__name__ for k in supported_module_parameters)
            raise SpecError(
                f"module_parameters_to_patch: {kind!r} has no memristive layer; choose from {known}"
            )
    return found


class _Patcher:
    """Walks a network; a layer used twice is one layer."""

    def __init__(self, kinds: tuple[type[nn.Module], ...], device: tuple, options: dict[str, Any]) -> None:
        self.kinds, self.device, self.options = kinds, device, options
        self.reports: list[LayerReport] = []
        self._done: dict[int, nn.Module] = {}

    def patched(self, module: nn.Module, name: str) -> nn.Module:
        if id(module) in self._done:
            return self._done[id(module)]
        if type(module) in self.kinds:
            layer = supported_module_parameters[type(module)](module, *self.device, **self.options)
            layer.train(module.training)
            self._done[id(module)] = layer
            self.reports.append(_report(name, module, layer))
            return layer
        self._done[id(module)] = module
        for child_name, child in module.named_children():
            replacement = self.patched(child, f"{name}.{child_name}" if name else child_name)
            if replacement is not child:
                setattr(module, child_name, replacement)
        return module


def _report(name: str, digital: nn.Module, layer: MemristiveLayer) -> LayerReport:
    tilings = [product.tiling for product in layer.products]
    cells = sum(tiling.cells for tiling in tilings)
    return LayerReport(
        name=name,
        kind=type(digital).__name__,
        weights=sum(p.numel() for p in digital.parameters()),
        tiles=sum(tiling.tiles for tiling in tilings),
        cells=cells,
        utilisation=cells / sum(tiling.tiles * tiling.height * tiling.width for tiling in tilings),
    )
