"""Conversion: a trained network with its layers on crossbars."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from cosim.checks import as_instance, as_items, as_seed, shown
from cosim.errors import CosimWarning, SpecError
from cosim.nn.converters import ADC, DAC
from cosim.nn.digital_products import held_tensors
from cosim.nn.effects import Effect
from cosim.nn.hardware import Hardware
from cosim.nn.mapping import DoubleColumn, Scheme
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.model import ConversionReport, ConvertedModel, LayerReport
from cosim.nn.registry import Converter, converters, converters_of_all, find_converter
from cosim.wires import Wires

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["convert", "convert_named"]

DEFAULT_LAYERS = (nn.Linear, nn.Conv2d)
# their weights have two axes, but nothing is multiplied by them as by a matrix
_NO_PRODUCT = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
_NAMED = 8  # layers that one message names


def convert(
    model: nn.Module,
    *,
    device: Device,
    layers: Iterable[type[nn.Module]] = DEFAULT_LAYERS,
    tile_shape: tuple[int, int] = (128, 128),
    wires: Wires | None = None,
    engine: str = "linear",
    scheme: Scheme | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    effects: Sequence[Effect] = (),
    v_read: float = 0.1,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    seed: int = 0,
    memory: int = 64 << 20,
    trainable: bool = False,
) -> ConvertedModel:
    """A copy of ``model`` in which layers compute on crossbars; ``model`` is not changed.

    device: a ``cosim.Device``; parameters that are distributions are drawn for every cell.
    layers: types to convert, with subclasses that keep their methods (``cosim.nn.registry.register``
    for your own). A weight matrix that stays digital unasked is named in a CosimWarning; at the first call,
    so is what the network multiplies by itself (``F.linear``, ``@``). tile_shape: rows and columns; edge
    tiles are filled up with cells at the lowest conductance on undriven rows. wires: None for ideal ones.
    engine: "ideal", "linear", "newton" or "ngspice". scheme: ``cosim.nn.mapping``, DoubleColumn
    unless given. dac, adc: converters; None for ideal ones. effects: ``cosim.nn.effects``, applied in
    order, all random numbers from ``seed``. v_read: V at which a cell has its conductance.
    include, exclude: patterns of names of layers (or, to exclude, parameters), such as "features.*".
    memory: bytes that patches and partial currents of one forward may take. trainable: weights and
    biases stay parameters, which gradients reach through mapping, wires and quantisers; training draws
    what is random about the cells anew at every call, eval mode has one chip (``seed``).

    Ranges of converters that are not fixed follow from ``calibrate(inputs)`` of the result, or else from
    its first call. Raises SpecError where there is nothing to convert, for a type without a crossbar
    layer, a pattern that fits no layer, or a value out of range.

    >>> import cosim
    >>> network = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> converted = convert(network, device=cosim.Device("vteam"), tile_shape=(16, 16))
    >>> report = converted.tune()
    >>> converted(torch.zeros(3, 8)).shape, converted.report.tiles
    (torch.Size([3, 2]), 2)
    """
    as_instance(model, "model", nn.Module, "a torch.nn.Module")
    hardware = Hardware(
        device=device,
        tile_shape=tile_shape,
        wires=wires,
        engine=engine,
        scheme=DoubleColumn() if scheme is None else scheme,
        dac=dac,
        adc=adc,
        effects=effects,
        v_read=v_read,
        memory=memory,
        trainable=trainable,
    )
    return _put_on(hardware, model, _Choice(model, layers, include, exclude), seed)


def _put_on(hardware: Hardware, model: nn.Module, choice: _Choice, seed: int) -> ConvertedModel:
    _check_whole(model)
    if hardware.trainable:
        _check_trainable(model, choice)
    reports: list[LayerReport] = []
    with torch.no_grad():
        generator = torch.Generator().manual_seed(as_seed(seed))
        converted = _converted(copy.deepcopy(model), "", choice, hardware, generator, reports, {})
    told = _tell_passed_over(model, choice, reports)
    _leave_fast_paths(converted)
    report = ConversionReport(
        layers=tuple(reports), tile_shape=hardware.tile_shape, trainable=hardware.trainable
    )
    unseen = [name for name, _ in held_tensors(converted) if name not in told]
    return ConvertedModel(converted, report, unseen=unseen)


def convert_named(hardware: Hardware, model: nn.Module, names: Sequence[str]) -> ConvertedModel:
    """As ``convert``, of exactly the layers called ``names``; SpecError where the network has others."""
    choice = _Choice(model, tuple(converters_of_all()), None, ())
    found = dict(model.named_modules())
    wrong = [name for name in names if name not in found or choice.reason(name, found[name])]
    if wrong:
        raise SpecError(f"model has no layer {wrong[0]!r} to convert, as the one that was saved had")
    choice.names = frozenset(names)
    return _put_on(hardware, model, choice, 0)


class _Choice:
    """Which layers to convert, and why not the others."""

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[type[nn.Module]],
        include: str | Sequence[str] | None,
        exclude: str | Sequence[str],
    ) -> None:
        as_instance(model, "model", nn.Module, "a torch.nn.Module")
        self.known = converters(layers)
        self.types_given = layers is not DEFAULT_LAYERS
        self.names: frozenset[str] | None = None  # exactly these, as an earlier conversion had them
        self.include = None if include is None else _patterns("include", include, model)
        self.exclude = _patterns("exclude", exclude, model)

    def reason(self, name: str, module: nn.Module) -> str:
        """Why ``module`` stays digital; "" if it is to be converted."""
        if self.converter(module) is None:
            return self._no_converter(module)
        if self.include is not None and not any(fnmatchcase(name, p) for p in self.include):
            return "not in include="
        if self.names is not None and name not in self.names:
            return "not among the layers that were saved"
        if any(fnmatchcase(name, p) for p in self.exclude):
            return "in exclude="
        if is_parametrized(module):
            return (
                "weights are parametrized: end that with torch.nn.utils.parametrize.remove_parametrizations"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            return "has forward hooks, which a crossbar layer would lose"
        if "forward" in vars(module):
            return "has a forward of its own, which a crossbar layer would lose"
        if any(p.is_meta or not p.is_floating_point() for p in module.parameters()):
            return "weights are not floating point numbers in memory"
        return ""

    def converter(self, module: nn.Module) -> Converter | None:
        kind = type(module)
        if is_parametrized(module):  # torch puts a subclass of its own in front
            kind = kind.__mro__[1]
        return find_converter(kind, self.known)

    def _no_converter(self, module: nn.Module) -> str:
        name = type(module).__name__
        for kind in self.known:
            if isinstance(module, kind):
                return f"{name} is a {kind.__name__} with methods of its own: register a converter for it"
        return f"{name} is not among layers="

    def asked_for(self, name: str, module: nn.Module) -> bool:
        """True where the caller's own options leave ``module`` digital."""
        if self.names is not None or any(fnmatchcase(name, p) for p in self.exclude):
            return True
        if self.include is not None and not any(fnmatchcase(name, p) for p in self.include):
            return True
        return self.types_given and find_converter(type(module), converters_of_all()) is not None


def _patterns(option: str, given: str | Sequence[str], model: nn.Module) -> tuple[str, ...]:
    remedy = "names of layers, such as 'features.*'"
    patterns = (given,) if isinstance(given, str) else as_items(given, option, remedy)
    names = [name for name, _ in model.named_modules()]
    names += [name for name, _ in held_tensors(model)] if option == "exclude" else []
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise SpecError(f"{option} is {shown(given)}: give {remedy}")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SpecError(
                f"{option}: no layer is called {pattern!r}; the first are {', '.join(names[1:6])}"
            )
    return patterns


def _converted(
    module: nn.Module,
    name: str,
    choice: _Choice,
    hardware: Hardware,
    generator: torch.Generator,
    reports: list[LayerReport],
    done: dict[int, nn.Module],
) -> nn.Module:
    """``module``, or the crossbar layer in its place; a layer used twice is one layer."""
    if id(module) in done:
        return done[id(module)]
    reason = choice.reason(name, module)
    own = sum(p.numel() for p in module.parameters(recurse=False))
    if not reason:
        converter = choice.converter(module)
        assert converter is not None
        layer = converter(module, hardware, generator=generator)
        layer.train(module.training)
        if hardware.trainable:  # a frozen layer stays frozen
            layer.requires_grad_(_learns(module))
        done[id(module)] = layer
        reports.append(_layer_report(name, module, layer))
        return layer
    done[id(module)] = module
    if own:
        reports.append(LayerReport(name=name, kind=type(module).__name__, reason=reason, weights=own))
    if isinstance(module, nn.MultiheadAttention):  # reads the weights of its child, never calls it
        return module
    # by name, so that digital layers go as they are replaced; named_children() leaves repeated ones out
    for child_name in list(module._modules):
        child = module._modules[child_name]
        if child is None:
            continue
        path = f"{name}.{child_name}" if name else child_name
        replacement = _converted(child, path, choice, hardware, generator, reports, done)
        if replacement is not child:
            setattr(module, child_name, replacement)
    return module


def _tell_passed_over(model: nn.Module, choice: _Choice, reports: Sequence[LayerReport]) -> frozenset[str]:
    """SpecError where nothing is on crossbars; a warning of matrices that nobody meant to leave out.

    The names of all matrices that need no further word: told of, or left digital by the caller's options.
    """
    skipped = [f"{report.name or 'the model'}: {report.reason}" for report in reports if report.reason]
    if not any(report.converted for report in reports):
        why = _listed(skipped) if skipped else "no module of it has a parameter"
        raise SpecError(
            f"nothing of the model is on crossbars ({why}): products have to be layers of the types in "
            "layers=, not calls of torch.nn.functional"
        )
    left, told = [], set()
    for name, _ in held_tensors(model):
        owner = name.rpartition(".")[0]
        asked = choice.asked_for(owner, model.get_submodule(owner))
        told |= {name} if asked or any(fnmatchcase(name, p) for p in choice.exclude) else set()
    for name, module in model.named_modules():
        if (
            isinstance(module, _NO_PRODUCT)
            or not choice.reason(name, module)
            or choice.asked_for(name, module)
        ):
            continue
        for own, parameter in module.named_parameters(prefix=name, recurse=False):
            if parameter.ndim >= 2 and not any(fnmatchcase(own, p) for p in choice.exclude):
                left.append(f"{own} ({choice.reason(name, module)})")
                told.add(own)
    if left:
        warnings.warn(
            f"these weights stay digital: {_listed(left)}; convert them, or name them in exclude=",
            CosimWarning,
            stacklevel=4,
        )
    return frozenset(told)


def _listed(items: Sequence[str]) -> str:
    more = f", and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _check_whole(model: nn.Module) -> None:
    """SpecError for weights that do not exist yet, or that no copy can be made of."""
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise SpecError(f"{name} has no shape yet: call the network once with a batch, then convert it")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise SpecError(
                f"{name or 'the model'} is TorchScript, whose layers cannot be exchanged: give the network "
                "that it was made from"
            )
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                path = f"{name}.{attribute}" if name else attribute
                raise SpecError(
                    f"{path} is computed from other tensors and cannot be copied: end pruning with "
                    "torch.nn.utils.prune.remove, the old weight_norm with remove_weight_norm, and detach() "
                    "what the network keeps for itself"
                )


def _check_trainable(model: nn.Module, choice: _Choice) -> None:
    """SpecError where training could do nothing, or would part what the network holds together."""
    chosen = {name: module for name, module in model.named_modules() if not choice.reason(name, module)}
    if not any(_learns(module) for module in chosen.values()):
        raise SpecError(
            "trainable=True, but no converted layer has a weight that requires a gradient: "
            "call requires_grad_(True) on the layers to train"
        )
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(prefix=name, recurse=False):
            owners.setdefault(id(parameter), []).append(own)
    for names in owners.values():
        if len(names) > 1 and any(own.rpartition(".")[0] in chosen for own in names):
            raise SpecError(
                f"trainable=True, but {' and '.join(names)} are one parameter, and a crossbar needs its own: "
                "leave the layer digital with exclude=, or give it a copy"
            )


def _layer_report(name: str, digital: nn.Module, layer: nn.Module) -> LayerReport:
    tilings = [m.tiling for m in layer.modules() if isinstance(m, CrossbarMatmul)]
    cells, tiles = sum(t.cells for t in tilings), sum(t.tiles for t in tilings)
    all_cells = sum(t.tiles * t.height * t.width for t in tilings)
    return LayerReport(
        name=name,
        kind=type(digital).__name__,
        weights=sum(p.numel() for p in digital.parameters()),
        tiles=tiles,
        cells=cells,
        utilisation=cells / all_cells if all_cells else 0.0,
    )


def _leave_fast_paths(model: nn.Module) -> None:
    """torch's fused encoder layer reads the weights of its children; make it call them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            encoder: Any = module
            children = (encoder.linear1, encoder.linear2, encoder.self_attn)
            if any(isinstance(m, CrossbarMatmul) for child in children for m in child.modules()):
                encoder.activation_relu_or_gelu = 0
