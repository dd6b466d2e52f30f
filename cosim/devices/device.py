"""Device: a compiled model with parameter values, evaluated in torch and built for ngspice."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from cosim.arrays import (
    Array,
    Conductance,
    State,
    as_read_voltage,
    as_tensor,
    check_broadcast,
    check_finite,
    check_positive,
    into_bounds,
)
from cosim.checks import as_instance, as_shape
from cosim.devices.build import build, compile_model
from cosim.devices.catalogue import CATALOGUE, bundled_entry, user_entry
from cosim.devices.dynamics import Trace, simulate
from cosim.devices.hold import START, hold
from cosim.devices.interp import Conditions, run_setup
from cosim.devices.inverse import find_state
from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.print_c import print_c
from cosim.devices.print_cells import CellLoop, print_cells
from cosim.devices.print_torch import TorchModel, out_of_range
from cosim.devices.simulator import TEMPERATURE, model_temperature
from cosim.devices.start import tracked_node
from cosim.devices.static import check_floating, current_and_slope, found_current
from cosim.devices.values import ParameterValue, as_parameter, draw, representative
from cosim.devices.writing import check_moves
from cosim.errors import ModelError, SpecError

__all__ = ["Device"]

_TRACES = 16  # traced models that devices made from one another share


class Device:
    """A memristive device: one Verilog-A model, with values for its parameters.

    model: the name of a bundled model, or the path of a ``.va`` file. A path is compiled to native
    code and loaded into ngspice: use only files that you would run as a program.
    state, state_range: for a file of your own, the instance parameter that sets the state, and its
    range. state_node, state_scale, write: the internal node that carries the state in a transient
    (state = state parameter + state_scale * V(node)), and the parameter that switches writing on.
    set_polarity: sign of the voltage that lowers the resistance. temperature: K, what ``$temperature``
    and ``$vt`` of the model follow.
    parameters: numbers, tensors (one value per cell; they broadcast with the tile), or
    ``torch.distributions`` (draw them with ``sample``). What is named like an argument of this call
    and is no text (``state=0.5``) is a parameter too; ``replace`` takes every name.

    Raises SpecError for an unknown model or parameter, a value outside its range, or a temperature that
    the model does not read, ModelError for a text that cannot be compiled, ToolNotFound without a compiler.

    >>> device = Device("vteam", r_on=10e3, r_off=1e6)
    >>> float(device.current(0.1, 0.0))
    1e-05
    """

    def __init__(
        self,
        model: str | Path,
        /,
        *,
        state: str | ParameterValue | None = None,
        state_range: tuple[float, float] | None = None,
        state_node: str | ParameterValue | None = None,
        state_scale: float = 1.0,
        write: str | ParameterValue | None = None,
        set_polarity: int | None = None,
        temperature: float | None = None,
        **parameters: ParameterValue,
    ) -> None:
        named = {"state": state, "state_node": state_node, "write": write}
        # a number is the value of a parameter that is called so
        parameters |= {n: v for n, v in named.items() if not (v is None or isinstance(v, str))}
        state, state_node, write = (v if isinstance(v, str) else None for v in named.values())
        own = (state, state_range, state_node, state_scale, write, set_polarity)
        bundled = isinstance(model, str | Path) and str(model) in CATALOGUE
        self._entry = bundled_entry(model, own) if bundled else user_entry(model, *own)
        self.ir: DeviceIR = compile_model(self._entry.path, bundled=bundled)
        if len(self.ir.terminals) != 2:
            raise ModelError(
                f"{self.ir.name} has terminals {', '.join(self.ir.terminals)}: a crossbar cell has two"
            )
        self.temperature = model_temperature(self.ir, temperature)
        self._given = {name: as_parameter(self.ir, name, value) for name, value in parameters.items()}
        for name in (self.state_parameter, self.write_parameter):
            if name is not None:
                self.ir.parameter(name)
        tracked_node(self)  # refuses a state_node that is none
        self._check_parameters()
        if not bundled:
            check_floating(self.ir, self._numbers, self.temperature)

    def _check_parameters(self) -> None:
        if self._distributions:
            return
        for name in self._setup.out_of_range:
            if name in self._given or name != self.state_parameter:  # each cell sets its own state
                raise out_of_range(self.ir, name, self._given.get(name, self._setup.parameters[name]))
        state = None
        if self.state_parameter is not None:
            low, high = self.state_bounds
            if not bool((low < high).all()):
                worst = f"{float(low.max())} to {float(high.min())}"
                raise SpecError(f"the state range of {self.ir.name} is {worst}: low must be below high")
            state = 0.5 * (low + high)
        if any(isinstance(value, torch.Tensor) for value in self._given.values()):
            self._static.check(self._varying(state))

    # --- what it is ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the Verilog-A module."""
        return self.ir.name

    @property
    def source(self) -> Path:
        """Path of the Verilog-A file."""
        return self._entry.path

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the source ($strobe, $limit) or forgiven, one sentence each with its line."""
        return self.ir.notes

    @property
    def given(self) -> Mapping[str, ParameterValue]:
        """Parameters that were given a value."""
        return MappingProxyType(self._given)

    @property
    def parameters(self) -> Mapping[str, ParameterValue | Scalar]:
        """Every parameter with its value, given or default."""
        return MappingProxyType({**self._setup.parameters, **self._given})

    @property
    def state_parameter(self) -> str | None:
        """Name of the instance parameter that sets the state; None for a device without one."""
        return self._entry.state_parameter or None

    @property
    def state_node(self) -> str | None:
        return self._entry.state_node or None

    @property
    def write_parameter(self) -> str | None:
        return self._entry.write_parameter or None

    @property
    def state_scale(self) -> float:
        return self._number(self._entry.state_scale)

    @property
    def state_range(self) -> tuple[float, float]:
        """Lowest and highest state of all cells, in the unit of the state parameter."""
        low, high = self.state_bounds
        return float(low.min()), float(high.max())

    @property
    def state_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest state: numbers, or per cell where a parameter that bounds it is.

        >>> r_min = torch.tensor([1e3, 2e3], dtype=torch.float64)
        >>> [bound.tolist() for bound in Device("data_driven", r_min=r_min).state_bounds]
        [[1000.0, 2000.0], 17000.0]
        """
        if self.state_parameter is None:
            raise SpecError(f"{self.name} has no state: give state= and state_range= if it should have one")
        low, high = self._entry.state_range
        return self._bound(low), self._bound(high)

    @property
    def set_polarity(self) -> int:
        """Sign of the voltage that lowers the resistance (SET)."""
        polarity = self._entry.polarity(self._numbers)
        if polarity == 0:
            raise SpecError(f"the SET polarity of {self.name} is not known: give set_polarity=+1 or -1")
        return polarity

    @property
    def is_linear(self) -> bool:
        """True when the current is proportional to the voltage at every state, known from the model."""
        return self._static.is_linear

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of the model, of every given parameter and of the temperature."""
        values = {
            name: value.detach().cpu().tolist() if isinstance(value, torch.Tensor) else value
            for name, value in sorted(self._sampled.items())
        }
        if self.temperature != TEMPERATURE:
            values["$temperature"] = self.temperature
        return hashlib.sha256((self.ir.digest + json.dumps(values)).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        # compiled functions cannot be pickled; they are made again at first use
        return {name: getattr(self, name) for name in ("_entry", "ir", "_given", "temperature")}

    def __repr__(self) -> str:
        shown = {
            name: f"tensor{tuple(v.shape)}" if isinstance(v, torch.Tensor) else v
            for name, v in self._given.items()
        }
        if self.temperature != TEMPERATURE:
            shown["temperature"] = self.temperature
        return f"Device({self.name!r}{''.join(f', {k}={v}' for k, v in shown.items())})"

    # --- other values -------------------------------------------------------------------------------

    def replace(
        self, /, *, temperature: ParameterValue | None = None, **parameters: ParameterValue
    ) -> Device:
        """The same model with other values for some parameters, or at another temperature (K).

        >>> Device("vteam").replace(r_on=100.0).parameters["r_on"]
        100.0
        """
        other = object.__new__(Device)
        other._entry, other.ir = self._entry, self.ir
        other.__dict__["_traced"] = self._traced
        kelvin = self.temperature if temperature is None else temperature
        other.temperature = model_temperature(self.ir, kelvin)
        other._given = {**self._given, **{k: as_parameter(self.ir, k, v) for k, v in parameters.items()}}
        other._check_parameters()
        return other

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Device:
        """Draw every parameter that is a distribution, one value per cell of ``shape``.

        Raises SpecError for a draw outside the parameter's range, which is never clipped without a word,
        and for a distribution without an inverse CDF.

        >>> spread = Device("vteam", r_on=torch.distributions.Uniform(40.0, 60.0))
        >>> drawn = spread.sample((2, 3), generator=torch.Generator().manual_seed(0))
        >>> drawn.parameters["r_on"].shape
        torch.Size([2, 3])
        """
        shape = as_shape(shape, "shape", ("*cells",))
        as_instance(generator, "generator", torch.Generator, "torch.Generator().manual_seed(0)")
        drawn = {}
        for name in self._distributions:
            distribution = self._given[name]
            assert isinstance(distribution, torch.distributions.Distribution)
            drawn[name] = draw(name, distribution, shape, generator)
        return self.replace(**drawn)

    # --- static I-V ---------------------------------------------------------------------------------

    def current(self, voltage: Array, state: Array | None = None) -> torch.Tensor:
        """Static current (A) from p to n at ``voltage`` (V) and ``state``; they broadcast; differentiable.

        >>> float(Device("stanford_pku").current(1.0, 0.2e-9))  # doctest: +ELLIPSIS
        0.01226...
        """
        volts = check_finite(as_tensor(voltage, "voltage"), "voltage")
        cells = None if self.state_parameter is None and state is None else self.check_state(state)
        self._check_shapes(voltage=volts, **({} if cells is None else {"state": cells}))
        return found_current(self._static, self.current_and_slope(volts, cells)[0], volts, cells)

    def current_and_slope(
        self,
        voltage: torch.Tensor,
        state: torch.Tensor | None,
        parameters: Mapping[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Current (A) and dI/dV (S), without checks: for solvers, which check once per tile.

        parameters: those that are tensors, in a shape that suits ``voltage`` (or some of the cells).
        """
        return current_and_slope(self._static, voltage, self._varying(state, parameters))

    def conductance(self, state: Array | None = None, v_read: float = 0.1) -> Conductance:
        """Chord I(v_read)/v_read (S) at ``state``.

        >>> float(Device("vteam").conductance(1.0))
        0.001
        """
        v_read = as_read_voltage(v_read)
        return self.current(v_read, state) / v_read

    def state_for(self, conductance: Array, v_read: float = 0.1) -> State:
        """State at which the chord conductance is ``conductance`` (S), by bisection of the state range.

        Differentiable, in parameters too. Raises SpecError where the device cannot reach the conductance.

        >>> device = Device("vteam", r_on=1e3, r_off=1e5)
        >>> round(float(device.conductance(device.state_for(5e-4))), 12)
        0.0005
        """
        v_read = as_read_voltage(v_read)
        wanted = check_positive(as_tensor(conductance, "conductance"), "conductance")
        self._check_shapes(conductance=wanted)
        volts = as_tensor(v_read, "v_read")

        def chord(state: torch.Tensor) -> torch.Tensor:
            current = self.current_and_slope(volts, state)[0]
            return found_current(self._static, current, volts, state) / v_read

        with torch.no_grad():
            found = find_state(chord, wanted, self.state_bounds, self.name)
        values = (wanted, *self._given.values())
        follows = any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)
        return self._with_gradient(found, wanted, v_read) if follows else found

    def _with_gradient(self, found: State, wanted: torch.Tensor, v_read: float) -> State:
        """``found`` with the gradient of the implicit function, to ``wanted`` and to parameters."""
        low, high = (bound.to(found) for bound in self.state_bounds)
        # on a bound, where models limit their state, the slope would be 0: stay a rounding inside
        hair = 4 * torch.finfo(found.dtype).eps * torch.maximum(low.abs(), high.abs())
        found = torch.minimum(torch.maximum(found, low + hair), high - hair)
        with torch.enable_grad():
            state = found.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.conductance(state, v_read).sum(), state)
        step = (wanted - self.conductance(found, v_read)) / slope
        return found + (step - step.detach())

    def check_state(self, state: Array | None) -> State:
        """``state``, or the state parameter if given, as a tensor; SpecError if none, or out of range."""
        if self.state_parameter is None:
            raise SpecError(f"{self.name} has no state: declare one with state= and state_range=")
        if state is None and self.state_parameter not in self._given:
            raise SpecError(f"{self.name} needs a state: give state= ({self.state_parameter})")
        state = self._given[self.state_parameter] if state is None else state
        cells = check_finite(as_tensor(state, "state"), "state")
        self._check_shapes(state=cells)
        low, high = (bound.to(cells) for bound in self.state_bounds)
        cells, bad = into_bounds(cells, low, high)
        if bool(bad.any()):
            where = tuple(int(i) for i in bad.nonzero()[0])
            found, low, high = (float(x.expand(bad.shape)[where]) for x in (cells, low, high))
            raise SpecError(
                f"state{list(where)} is {found}: {self.state_parameter} of {self.name} "
                f"goes from {low} to {high}"
            )
        self._static.check(self._varying(cells))
        return cells

    # --- dynamics -----------------------------------------------------------------------------------

    def simulate(
        self,
        voltage: Array,
        dt: float | None = None,
        state: Array | None = None,
        engine: str = "torch",
        **options: Any,
    ) -> Trace:
        """Current and state while ``voltage`` is applied, one sample every ``dt`` seconds.

        voltage: (time,) or (time, *cells) V, linear between samples. state: at the first sample.
        engine: "torch" or "ngspice". Options: time=, series=, compliance= and those of the engine, as in
        ``cosim.devices.dynamics.simulate``, which says more. Raises SpecError, SolveError.
        """
        check_moves(self)
        return simulate(self, voltage, dt, state, engine, **options)

    # --- for other engines --------------------------------------------------------------------------

    def osdi(self, per_cell: Collection[str] = (), *, module: str | None = None, held: bool = False) -> Path:
        """The model as an OSDI library for ngspice, compiled at the first call.

        per_cell: further parameters set on each instance. module: its name in the library, if another.
        held: as in ``torch_model``.
        """
        ir = hold(self.ir, str(self.state_node)) if held else self.ir
        instance = {p.name for p in ir.parameters if p.instance} | set(per_cell)
        if self.state_parameter is not None:
            instance.add(self.state_parameter)
        return build(print_c(ir.named(module or self.name), instance), module or self.name)

    def torch_model(
        self, *, static: bool, extra: Mapping[str, Scalar] = MappingProxyType({}), held: bool = False
    ) -> TorchModel:
        """The model as a torch function; the n terminal is at 0 V. ``extra``: fixed parameters.

        held: before time runs, the state node is where the parameter ``hold.START`` says.
        """
        fixed = {name: v for name, v in self._sampled.items() if not isinstance(v, torch.Tensor)}
        varying = {name for name, v in self._sampled.items() if isinstance(v, torch.Tensor)}
        if self.state_parameter is not None:
            fixed.pop(self.state_parameter, None)
            varying.add(self.state_parameter)
        varying |= {START} if held else set()
        values = tuple(sorted({**fixed, **extra}.items()))
        return self._traced(values, frozenset(varying), static, self.temperature, held)

    @functools.cached_property
    def cell_loop(self) -> CellLoop | None:
        """The static I-V as C text for many cells; None where the model has internal nodes to solve for."""
        return print_cells(self._static)

    def loop_fields(
        self, state: torch.Tensor | None, parameters: Mapping[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        """What ``cell_loop`` reads per cell; arguments as in ``current_and_slope``."""
        assert self.cell_loop is not None
        return self.cell_loop.fields(self._varying(state, parameters))

    # --- inside -------------------------------------------------------------------------------------

    @functools.cached_property
    def _traced(self) -> Callable[..., TorchModel]:
        """Traces the model, once for the same values: ``replace`` shares it, as a spread is drawn often."""

        @functools.lru_cache(maxsize=_TRACES)
        def trace(fixed: Any, varying: frozenset[str], static: bool, kelvin: float, held: bool) -> TorchModel:
            ir = hold(self.ir, str(self.state_node)) if held else self.ir
            return TorchModel(
                ir, dict(fixed), varying, static=static, grounded=ir.terminals[1:], temperature=kelvin
            )

        return trace

    @functools.cached_property
    def _static(self) -> TorchModel:
        return self.torch_model(static=True)

    @property
    def _distributions(self) -> list[str]:
        return [n for n, v in self._given.items() if isinstance(v, torch.distributions.Distribution)]

    @property
    def _sampled(self) -> dict[str, Scalar | torch.Tensor]:
        if self._distributions:
            raise SpecError(
                f"parameter {self._distributions[0]} of {self.name} is a distribution: draw it first, "
                "with device.sample(shape, generator=...)"
            )
        return dict(self._given)  # type: ignore[arg-type]  # no distribution is left

    @property
    def _numbers(self) -> dict[str, Scalar]:
        """Given values; for a tensor or a distribution a representative one."""
        return {name: representative(name, value) for name, value in self._given.items()}

    @functools.cached_property
    def _setup(self) -> Any:
        return run_setup(self.ir, self._numbers, Conditions(temperature=self.temperature))

    def _number(self, value: float | str) -> float:
        """A number of the catalogue, which may be the name of a parameter."""
        if not isinstance(value, str):
            return float(value)
        if isinstance(self._given.get(value), torch.Tensor):
            raise SpecError(
                f"parameter {value} of {self.name} scales the state: give it one value for all cells"
            )
        return float(self._setup.parameters[value])

    def _bound(self, value: float | str) -> torch.Tensor:
        """A bound of the state: a number, or per cell."""
        given = self._given.get(str(value))
        tensor = isinstance(given, torch.Tensor)
        return given.detach().double() if tensor else torch.tensor(self._number(value), dtype=torch.float64)

    def _check_shapes(self, **arrays: torch.Tensor) -> None:
        """Raise SpecError unless these and the parameters that are tensors broadcast."""
        given = {n: v for n, v in self._given.items() if isinstance(v, torch.Tensor)}
        check_broadcast(f"shapes of {self.name}", {**arrays, **given})

    def _varying(
        self, state: torch.Tensor | None, parameters: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        found = {n: v for n, v in self._sampled.items() if isinstance(v, torch.Tensor)}
        found.update(parameters or {})
        if self.state_parameter is not None and state is not None:
            found[self.state_parameter] = state
        return found
