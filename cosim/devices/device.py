"""Device: a compiled model with parameter values, evaluated in torch and built for ngspice."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
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
)
from cosim.checks import as_flag, as_instance, as_shape
from cosim.devices.branches import branch_currents
from cosim.devices.build import build, compile_model
from cosim.devices.catalogue import CATALOGUE, bundled_entry, remember, user_entry
from cosim.devices.describe import describe, short
from cosim.devices.driven import check_driven, check_voltages
from cosim.devices.dynamics import Trace, simulate
from cosim.devices.interp import Conditions, run_setup
from cosim.devices.inverse import find_state
from cosim.devices.ir import Scalar
from cosim.devices.memory import Memory, held, starts_itself
from cosim.devices.ports import choose_ports
from cosim.devices.print_c import print_c
from cosim.devices.print_cells import CellLoop, print_cells
from cosim.devices.print_torch import TorchModel
from cosim.devices.simulator import TEMPERATURE, model_temperature
from cosim.devices.start import tracked_node
from cosim.devices.states import bounds, number, state_name, within_range
from cosim.devices.static import check_floating, current_and_slope, found_current, terminal_currents
from cosim.devices.terminals import rewire
from cosim.devices.trace import out_of_range
from cosim.devices.values import (
    ParameterValue,
    as_parameters,
    bind_texts,
    draw,
    is_value,
    representative,
    undistributed,
)
from cosim.errors import SpecError

__all__ = ["Device"]

_TRACES = 16  # traced models that devices made from one another share


class Device:
    """A memristive device: one Verilog-A model, with values for its parameters.

    model: the name of a bundled model, or the path of a ``.va`` file. A path is compiled to native
    code and loaded into ngspice: use only files that you would run as a program.
    state, state_range: for a file of your own, the instance parameter that sets the state, and its
    range. state_node, state_scale, write: the internal node that carries the state in a transient
    (state = state parameter + state_scale * V(node)), and the parameter that switches writing on.
    terminals, open, ground: for a file with more than two ports, those that carry the cell's current, first
    the pair p and n; ports without current; ports at 0 V. Ports that only show a state are found and left
    open. Terminals beyond the pair are ``driven`` by the caller. set_polarity: sign of the voltage that
    lowers the resistance. temperature: K, what ``$temperature`` and ``$vt`` of the model follow.
    parameters: numbers, texts, tensors (one value per cell; they broadcast with the tile), or
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
        state_scale: float | None = None,
        write: str | ParameterValue | None = None,
        terminals: Sequence[str] | ParameterValue | None = None,
        open: Sequence[str] | ParameterValue | None = None,
        ground: Sequence[str] | ParameterValue | None = None,
        set_polarity: int | None = None,
        temperature: float | None = None,
        **parameters: ParameterValue | str,
    ) -> None:
        named = {"state": state, "state_node": state_node, "write": write}
        wired: dict[str, Any] = {"terminals": terminals, "open": open, "ground": ground}
        # a number is the value of a parameter that is called so
        parameters |= {n: v for n, v in named.items() if not (v is None or isinstance(v, str))}
        parameters |= {n: v for n, v in wired.items() if is_value(v)}
        state, state_node, write = (v if isinstance(v, str) else None for v in named.values())
        own = (state, state_range, state_node, state_scale, write, set_polarity)
        bundled = isinstance(model, str | Path) and str(model) in CATALOGUE
        self._entry = bundled_entry(model, own) if bundled else user_entry(model, *own)
        compiled = compile_model(self._entry.path, bundled=bundled)
        self.ir, parameters = bind_texts(compiled, parameters)
        self.temperature = model_temperature(self.ir, temperature)
        self._given = as_parameters(self.ir, parameters)
        wired = {name: names for name, names in wired.items() if not (names is None or is_value(names))}
        self.ports = choose_ports(self.ir, self._numbers, self.temperature, wired)
        self.ir = rewire(self.ir, self.ports.terminals, self.ports.ground)
        for name in filter(None, (state, write)):
            self.ir.parameter(name)
        tracked_node(self)  # refuses a state_node that is none
        self.memory: Memory | None = None
        self._entry, self.memory = remember(
            self._entry, self.ir, self._numbers, self.temperature, state_scale
        )
        self.ir = self.ir if self.memory is None else held(self.ir, self.memory)
        self._check_parameters()
        if not (bundled or self.driven or self.ports.ground):
            check_floating(self.ir, self._numbers, self.temperature)

    def _check_parameters(self) -> None:
        if self._distributions:
            return
        for name in self._setup.out_of_range:
            if name in self._given or name != self.state_parameter:  # each cell sets its own state
                raise out_of_range(self.ir, name, self._given.get(name, self._setup.parameters[name]))
        state = None
        if self.bounded:
            low, high = self.state_bounds
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
    def driven(self) -> tuple[str, ...]:
        """Terminals beyond the pair, a gate or a heater: ``current`` and ``simulate`` take their voltages."""
        return self.ports.driven

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
        name = self._entry.write_parameter
        return name if name and name not in self._given else None  # what is given is meant

    @property
    def state_scale(self) -> float:
        return number(self.name, self._entry.state_scale, self._given, self._setup.parameters)

    @property
    def state_range(self) -> tuple[float, float]:
        """Lowest and highest state of all cells, in the unit of the state parameter."""
        low, high = self.state_bounds
        return float(low.min()), float(high.max())

    @property
    def bounded(self) -> bool:
        """The device has a state, and its range is known."""
        return self.state_parameter is not None and self._entry.state_range is not None

    @property
    def state_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest state: numbers, or per cell where a parameter that bounds it is.

        >>> r_min = torch.tensor([1e3, 2e3], dtype=torch.float64)
        >>> [bound.tolist() for bound in Device("data_driven", r_min=r_min).state_bounds]
        [[1000.0, 2000.0], 17000.0]
        """
        if self.state_parameter is None:
            raise SpecError(f"{self.name} has no state: give state= and state_range= if it should have one")
        return bounds(self, self._entry.state_range, self._setup.parameters)

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
        return {n: getattr(self, n) for n in ("_entry", "ir", "ports", "memory", "_given", "temperature")}

    def __repr__(self) -> str:
        return short(self.name, self._given, self.temperature)

    def __str__(self) -> str:
        return describe(self)

    def check_cell(self) -> None:
        """Raise SpecError or ModelError unless the device is a cell: two terminals, no path to ground."""
        if self.driven:
            raise SpecError(
                f"{self.name} has the terminals {', '.join(self.ir.terminals)}: a cell of a tile has two; "
                f'load the device with ground=("{self.driven[0]}",), or open= for a port without current'
            )
        if self.ports.ground:
            check_floating(self.ir, self._numbers, self.temperature)

    def replace(
        self, /, *, temperature: ParameterValue | None = None, **parameters: ParameterValue
    ) -> Device:
        """The same model with other values for some parameters, or at another temperature (K).

        >>> Device("vteam").replace(r_on=100.0).parameters["r_on"]
        100.0
        """
        other = object.__new__(Device)
        other._entry, other.ir, other.ports, other.memory = self._entry, self.ir, self.ports, self.memory
        other.__dict__["_traced"] = self._traced
        kelvin = self.temperature if temperature is None else temperature
        other.temperature = model_temperature(self.ir, kelvin)
        other._given = {**self._given, **as_parameters(self.ir, parameters)}
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

    def current(
        self, voltage: Array, state: Array | None = None, *, branches: bool = False, **driven: Array
    ) -> torch.Tensor:
        """Static current (A) into p at ``voltage`` (V, p against n) and ``state``; differentiable.

        driven: voltage against n (V) of every terminal in ``driven``, by its name. All broadcast.
        branches: all solutions of a model with internal feedback, as ``branches.branch_currents`` says.

        >>> float(Device("stanford_pku").current(1.0, 0.2e-9))  # doctest: +ELLIPSIS
        0.01226...
        """
        volts = check_finite(as_tensor(voltage, "voltage"), "voltage")
        cells = None if self.state_parameter is None and state is None else self.check_state(state)
        others = check_driven(self, driven)
        self._check_shapes(voltage=volts, **({} if cells is None else {"state": cells}), **others)
        if as_flag(branches, "branches"):
            return branch_currents(self._static, volts, self._varying(cells), tuple(others.values()))
        found = self.current_and_slope(volts, cells, driven=tuple(others.values()))[0]
        return found_current(self._static, found, volts, cells)

    def current_and_slope(
        self,
        voltage: torch.Tensor,
        state: torch.Tensor | None,
        parameters: Mapping[str, torch.Tensor] | None = None,
        driven: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Current (A) and dI/dV (S), without checks: for solvers, which check once per tile.

        parameters: those that are tensors, in a shape that suits ``voltage`` (or some of the cells).
        """
        return current_and_slope(self._static, voltage, self._varying(state, parameters), driven)

    def terminal_currents(
        self, voltages: Mapping[str, Array], state: Array | None = None
    ) -> dict[str, torch.Tensor]:
        """Static current (A) into each terminal at ``voltages`` (V) of all; they broadcast; differentiable.

        >>> found = Device("vteam").terminal_currents({"p": 0.3, "n": 0.2}, state=1.0)
        >>> {name: round(float(current), 9) for name, current in found.items()}
        {'p': 0.0001, 'n': -0.0001}
        """
        volts = check_voltages(self, voltages, self.ir.terminals)
        cells = None if self.state_parameter is None and state is None else self.check_state(state)
        self._check_shapes(**volts, **({} if cells is None else {"state": cells}))
        model = self.torch_model(static=True, grounded=False)
        return terminal_currents(model, volts, self._varying(cells), cells)

    def conductance(self, state: Array | None = None, v_read: float = 0.1, **driven: Array) -> Conductance:
        """Chord I(v_read)/v_read (S) at ``state``; driven: as in ``current``.

        >>> float(Device("vteam").conductance(1.0))
        0.001
        """
        v_read = as_read_voltage(v_read)
        return self.current(v_read, state, **driven) / v_read

    def state_for(self, conductance: Array, v_read: float = 0.1, **driven: Array) -> State:
        """State at which the chord conductance is ``conductance`` (S), by bisection of the state range.

        Differentiable, in parameters too. Raises SpecError where the device cannot reach the conductance.

        >>> device = Device("vteam", r_on=1e3, r_off=1e5)
        >>> round(float(device.conductance(device.state_for(5e-4))), 12)
        0.0005
        """
        v_read = as_read_voltage(v_read)
        wanted = check_positive(as_tensor(conductance, "conductance"), "conductance")
        others = check_driven(self, driven)
        self._check_shapes(conductance=wanted, **others)
        volts = as_tensor(v_read, "v_read")

        def chord(state: torch.Tensor) -> torch.Tensor:
            current = self.current_and_slope(volts, state, driven=tuple(others.values()))[0]
            return found_current(self._static, current, volts, state) / v_read

        values = (wanted, *self._given.values(), *others.values())
        follow = any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)
        return find_state(chord, wanted, self.state_bounds, self.name, follow=follow)

    def check_state(self, state: Array | None) -> State:
        """``state``, or the state parameter if given, as a tensor; SpecError if none, or out of range."""
        if self.state_parameter is None:
            raise SpecError(f"{self.name} has no state: declare one with state= and state_range=")
        if state is None and (self.state_parameter in self._given or starts_itself(self.memory)):
            state = self.parameters[self.state_parameter]  # type: ignore[assignment]  # no distribution
        if state is None:
            raise SpecError(f"{self.name} needs a state: give state= ({state_name(self)})")
        cells = check_finite(as_tensor(state, "state"), "state")
        self._check_shapes(state=cells)
        cells = within_range(self, cells)
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
        engine: "torch" or "ngspice". Options: time=, series=, compliance=, the voltage of every terminal in
        ``driven`` by its name, and those of the engine, as in ``cosim.devices.dynamics.simulate``, which
        says more. Raises SpecError, SolveError.
        """
        return simulate(self, voltage, dt, state, engine, **options)

    # --- for other engines --------------------------------------------------------------------------

    def osdi(self, per_cell: Collection[str] = (), *, module: str | None = None) -> Path:
        """The model as an OSDI library for ngspice, compiled at the first call.

        per_cell: further parameters set on each instance. module: its name in the library, if another.
        """
        ir = self.ir
        instance = {p.name for p in ir.parameters if p.instance} | set(per_cell)
        if self.state_parameter is not None:
            instance.add(self.state_parameter)
        return build(print_c(ir.named(module or self.name), instance), module or self.name)

    def torch_model(
        self,
        *,
        static: bool,
        initial: bool = False,
        extra: Mapping[str, Scalar] = MappingProxyType({}),
        grounded: bool = True,
    ) -> TorchModel:
        """As a torch function. extra: fixed parameters. grounded: n at 0 V. initial: before a transient."""
        fixed = {name: v for name, v in self._sampled.items() if not isinstance(v, torch.Tensor)}
        varying = {name for name, v in self._sampled.items() if isinstance(v, torch.Tensor)}
        if self.state_parameter is not None:
            fixed.pop(self.state_parameter, None)
            varying.add(self.state_parameter)
        values = tuple(sorted({**fixed, **extra}.items()))
        how = {"static": static, "initial": initial, "temperature": self.temperature}
        return self._traced(values, frozenset(varying), grounded, **how)

    @functools.cached_property
    def cell_loop(self) -> CellLoop | None:
        """The static I-V as C text for many cells; None where the model has internal nodes to solve for."""
        return None if self.driven else print_cells(self._static)

    def loop_fields(
        self, state: torch.Tensor | None, parameters: Mapping[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        """What ``cell_loop`` reads per cell; arguments as in ``current_and_slope``."""
        assert self.cell_loop is not None
        return self.cell_loop.fields(self._varying(state, parameters))

    @functools.cached_property
    def _traced(self) -> Callable[..., TorchModel]:
        """Traces the model, once for the same values: ``replace`` shares it, as a spread is drawn often."""

        @functools.lru_cache(maxsize=_TRACES)
        def trace(fixed: Any, varying: frozenset[str], grounded: bool, **how: Any) -> TorchModel:
            zero = self.ir.terminals[1:2] if grounded else ()
            return TorchModel(self.ir, dict(fixed), varying, grounded=zero, **how)

        return trace

    @functools.cached_property
    def _static(self) -> TorchModel:
        return self.torch_model(static=True)

    @property
    def _distributions(self) -> list[str]:
        return [n for n, v in self._given.items() if isinstance(v, torch.distributions.Distribution)]

    @property
    def _sampled(self) -> dict[str, Scalar | torch.Tensor]:
        return undistributed(self.name, self._given)

    @property
    def _numbers(self) -> dict[str, Scalar]:
        """Given values; for a tensor or a distribution a representative one."""
        return {name: representative(name, value) for name, value in self._given.items()}

    @functools.cached_property
    def _setup(self) -> Any:
        return run_setup(self.ir, self._numbers, Conditions(temperature=self.temperature))

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
