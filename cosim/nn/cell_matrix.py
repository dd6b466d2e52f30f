"""A weight matrix held by cells: the module under every product on crossbars."""

from __future__ import annotations

import abc
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from cosim.arrays import Array, as_tensor, check_finite
from cosim.errors import SpecError
from cosim.nn.cells import Cells
from cosim.nn.description import describe, differences
from cosim.nn.effects import Effect
from cosim.nn.hardware import Hardware
from cosim.nn.tiling import Tiling
from cosim.nn.writing import Writes, write

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["READS", "CellMatrix"]

READS, WRITES = 1, 2  # what is counted in ``random_state``
_REACH = ("low", "high")  # one number, or per cell where device parameters are
_OPTIONAL = ("stuck", "current_gain", "current_offset")
_CELL = "cell_"  # prefix of the buffers with device parameters that vary from cell to cell


class CellMatrix(nn.Module, abc.ABC):
    """Weights ``(groups, outputs, inputs)`` as cells ``(groups, inputs, columns)`` after the non-idealities.

    weight: a buffer; with ``Hardware.trainable`` a parameter, and the cells follow it (``writing``).
    Buffers ``conductance``, ``low``, ``high`` S, ``stuck``, ``read_noise``: what the cells are;
    ``scale``, ``zero``: of the mapping; ``random_state``: seed, reads, writes in training, all that a
    random number of this matrix depends on.
    """

    weight: torch.Tensor
    conductance: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    stuck: torch.Tensor | None
    read_noise: torch.Tensor
    random_state: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(
        self, weight: Array, hardware: Hardware, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        matrix = check_finite(as_tensor(weight, "weight"), "weight").detach().clone()
        if matrix.ndim not in (2, 3) or 0 in matrix.shape:
            raise SpecError(f"weight of shape {tuple(matrix.shape)} is not (groups, outputs, inputs)")
        self.hardware = hardware
        self.grouped = matrix.ndim == 3
        if matrix.dtype not in (torch.float32, torch.float64):
            matrix = matrix.float()  # half precision does not hold conductances
        matrix = matrix if self.grouped else matrix[None]
        if hardware.trainable:
            self.weight = nn.Parameter(matrix)
        else:
            self.register_buffer("weight", matrix)
        groups, outputs, rows = matrix.shape
        per_output = hardware.scheme.columns
        shape = (groups, rows, outputs * per_output)
        self.tiling = Tiling.of(shape, tile_shape=hardware.tile_shape, per_output=per_output)
        seed = _seed(generator or torch.Generator().manual_seed(0))
        self.register_buffer("random_state", torch.tensor([seed, 0, 0], device=matrix.device))
        self.accepts_other_hardware = False  # in load_state_dict
        self._writes = Writes()
        with torch.no_grad():
            self._write(None)
        self._writes.mark(self.weight, self.conductance, training=False, graph=False)
        self.register_state_dict_pre_hook(_before_save)
        self.register_load_state_dict_post_hook(_after_load)

    @abc.abstractmethod
    def prepare(self) -> None:
        """Compute what a forward needs from the cells."""

    def _write(self, step: torch.Generator | None) -> None:
        """Weights to cells, with the random numbers of a ``step``, or else of the chip."""
        hardware = self.hardware
        draws = self._writes.draws(tuple(hardware.all_effects), int(self.random_state[0]), step)
        mapped, cells = write(self.weight, hardware, self.tiling, draws)
        self.register_buffer("scale", mapped.scale)
        self.register_buffer("zero", mapped.scale.new_tensor(mapped.offset))
        self._keep(cells)

    def update(self) -> None:
        """Let the cells follow trainable weights: those of a training step, or of the chip in eval mode."""
        self._follow(training=self.training)

    @torch.no_grad()
    def settle(self) -> None:
        """Let the cells be those of the chip, for the weights as they are now."""
        self._follow(training=False)

    def redraw(self) -> None:
        """End the step: the next forward in training draws everything random anew."""
        if self.training:
            self._writes.expire()

    def train(self, mode: bool = True) -> Self:
        """As torch's. The cells are written again, as a change through ``weight.data`` is not seen."""
        self._writes.expire()
        return super().train(mode)

    def _follow(self, *, training: bool) -> None:
        if not self.hardware.trainable:
            return
        graph = torch.is_grad_enabled() and self.weight.requires_grad
        if self._writes.current(self.weight, training=training, graph=graph):
            return
        self._writes.expire()  # in case that this fails half way
        with torch.set_grad_enabled(graph):
            self._write(self._draw(WRITES) if training else None)
            self.prepare()
        self._writes.mark(self.weight, self.conductance, training=training, graph=graph)

    def _draw(self, kind: int) -> torch.Generator:
        """New random numbers for a read or a write, the same after the same history."""
        seed, count = int(self.random_state[0]), int(self.random_state[kind])
        self.random_state[kind] += 1
        return torch.Generator(self.conductance.device).manual_seed(seed + 2 * count + kind)

    def _keep(self, cells: Cells) -> None:
        self.register_buffer("conductance", cells.actual.contiguous())
        self.register_buffer("low", cells.low.to(self.conductance))
        self.register_buffer("high", cells.high.to(self.conductance))
        self.register_buffer("stuck", cells.stuck)
        self.register_buffer("read_noise", self.conductance.new_tensor(cells.read_noise))
        for name, value in cells.device.given.items():
            if isinstance(value, torch.Tensor):
                # float64 where float32 would leave the range of a parameter by rounding
                self.register_buffer(_CELL + name, value.to(self.conductance.device))

    def cells(self) -> Cells:
        """The cells of the chip as they are now: where further non-idealities start from."""
        self.settle()
        return Cells(
            device=self._device(lambda value, fill: value),
            conductance=self.conductance,
            low=self.low,
            high=self.high,
            v_read=self.hardware.v_read,
            tile_shape=(self.tiling.height, self.tiling.used),
            stuck=self.stuck,
            read_noise=float(self.read_noise),
        )

    def add_effects(self, effects: Sequence[Effect], *, generator: torch.Generator) -> None:
        """Further non-idealities on top of what the cells have; ranges and tuning stay."""
        seed = _seed(generator)
        cells, own = self.cells(), torch.Generator().manual_seed(seed)
        for effect in effects:
            cells = effect.apply(cells, own)
        if self.hardware.trainable:
            self._writes.add(effects, seed)
            return
        self._keep(cells)
        self.prepare()

    def _device(self, shape: Callable[[torch.Tensor, float], torch.Tensor]) -> Device:
        """The device with per-cell parameters, each through ``shape(tensor, nominal value)``."""
        nominal = self.hardware.nominal
        numbers: Mapping[str, Any] = nominal.parameters
        own = {name.removeprefix(_CELL): b for name, b in self.named_buffers() if name.startswith(_CELL)}
        values = {n: shape(b.double(), float(numbers[n])) for n, b in own.items()}
        return nominal.replace(**values) if values else nominal

    def _changed(self) -> None:
        """Something else than the weights has changed: prepare now, or before the cells are needed."""
        self._writes.expire()
        if not self.hardware.trainable:
            self.prepare()

    # --- the hardware travels with the state ---------------------------------------------------------

    @property
    def has_added_effects(self) -> bool:
        """True for a trainable matrix with effects on top of those of its hardware."""
        return self._writes.added

    def get_extra_state(self) -> torch.Tensor:
        """What the cells are made of, as the bytes of a JSON text, so that a state holds tensors only."""
        text = json.dumps({"hardware": describe(self.hardware), "lines": self._lines()})
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """The hardware was compared before anything was loaded, in ``_load_from_state_dict``."""
        for name, engine in json.loads(bytes(state.tolist()))["lines"].items():
            setattr(self, name, engine)

    def _lines(self) -> dict[str, str]:
        """Names and values of what tells which engine a line holds for."""
        return {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """SpecError for a state of other hardware; per-cell values come and go with the state."""
        extra = state_dict.get(f"{prefix}_extra_state")
        if isinstance(extra, torch.Tensor) and not self.accepts_other_hardware:
            self.check_hardware(extra, prefix.removesuffix("."))
        if f"{prefix}conductance" in state_dict:
            self._take_optional(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _take_optional(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Buffers that only some cells have, as the state has them."""
        there = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix + _CELL)}
        for name in {*_OPTIONAL, *_REACH, *there, *(n for n in self._buffers if n.startswith(_CELL))}:
            value = state_dict.get(prefix + name)
            if value is not None:
                self.register_buffer(name, value.detach().clone().to(self.conductance.device))
            elif name in _OPTIONAL:
                self._buffers[name] = None
            elif name not in _REACH:
                del self._buffers[name]

    def check_hardware(self, extra: torch.Tensor, name: str) -> None:
        """SpecError where the extra state is of other hardware."""
        saved = json.loads(bytes(extra.tolist()))["hardware"]
        own = json.loads(json.dumps(describe(self.hardware)))
        found = list(differences(saved, own))
        if found:
            more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
            raise SpecError(
                f"the state of {name or 'this product'} is of other hardware: {'; '.join(found[:3])}{more}; "
                "convert with the same, or load_state_dict(state, other_hardware=True) of the converted model"
            )

    def _replicate_for_data_parallel(self) -> CellMatrix:
        replica: CellMatrix = super()._replicate_for_data_parallel()
        replica._writes = copy.copy(self._writes)  # replicas run side by side
        return replica

    def __getstate__(self) -> dict[str, Any]:
        # a graph can be neither copied nor saved
        buffers = {name: None if b is None else b.detach() for name, b in self._buffers.items()}
        return {**self.__dict__, "_buffers": buffers}


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=generator, device=generator.device))


def _before_save(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    """What is saved is the chip, for the weights as they are."""
    assert isinstance(module, CellMatrix)
    module.settle()


def _after_load(module: nn.Module, keys: Any) -> None:
    assert isinstance(module, CellMatrix)
    module._changed()
