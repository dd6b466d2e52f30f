"""The command line. Each command calls the public API; errors become one line and an exit code."""

from __future__ import annotations

import enum
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import cosim
from cosim.cache_command import cache
from cosim.checks import as_seed, shown
from cosim.errors import CosimError, SpecError
from cosim.files import check_writable
from cosim.text import plain

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.crossbar import Tile
    from cosim.devices.device import Device
    from cosim.doctor import Check
else:
    Tensor = Tile = Device = Any  # typer evaluates the annotations, and torch takes seconds to import

__all__ = ["app", "main"]

_SHAPE = re.compile(r"([1-9]\d{0,8})[xX]([1-9]\d{0,8})", re.ASCII)
_MOST = 10_000_000  # lines that a command prints

app = typer.Typer(
    name="cosim",
    help="SPICE-coupled co-simulation of memristor crossbars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.command()(cache)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` unless given) and exit with the code of the error, if any."""
    try:
        app(args=None if arguments is None else list(arguments))
    except CosimError as error:
        print(f"cosim: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a file or folder that cannot be read or written
        print(f"cosim: {error}", file=sys.stderr)
        sys.exit(1)


# --- what every command prints with ----------------------------------------------------------------

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _print_json(document: Any) -> None:
    print(json.dumps(plain(document), allow_nan=False, default=str))


def _print_columns(header: Sequence[str], rows: Any) -> None:
    """Numbers as comma-separated text, which a spreadsheet and numpy read."""
    print(",".join(header))
    for row in rows:
        print(",".join(f"{value:.9g}" for value in row))


# --- a device from the command line ----------------------------------------------------------------

Model = Annotated[str, typer.Argument(help="A bundled device (such as vteam), or a path to a .va file.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="Model parameter; repeat for more."),
]
StateParameter = Annotated[
    str | None, typer.Option(help="For your own .va: the instance parameter that sets the state.")
]
StateRange = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="For your own .va: the range of the state."),
]


Temperature = Annotated[
    float | None, typer.Option(help="K, for models that read $temperature or $vt; 300.15 unless given.")
]


def _device(
    model: str,
    param: list[str] | None,
    state_parameter: str | None,
    state_range: tuple[float, float] | None,
    temperature: float | None,
    *,
    state_given_by: str | None = None,
) -> Device:
    """The device that the options describe. state_given_by: the option that sets its state already."""
    values: dict[str, Any] = {}
    for item in param or ():
        name, _, text = item.partition("=")
        if name in values:
            raise SpecError(f"--param {item!r}: {name} is given twice, leave one out")
        try:
            values[name] = float(text)
        except ValueError as error:
            raise SpecError(f"--param {item!r}: write NAME=VALUE with a number, such as r_on=1e4") from error
    if state_parameter is not None:
        values["state"] = state_parameter
    if state_range is not None:
        values["state_range"] = state_range
    device = cosim.Device(model, temperature=temperature, **values)
    if state_given_by is not None and device.state_parameter in device.given:
        raise SpecError(
            f"--param {device.state_parameter}= and {state_given_by} both set the state: leave one out"
        )
    found = device.memory is not None and device.memory.found
    told = str(device).splitlines()[1:3] if found or device.ports.open or device.ports.ground else []
    for note in (*device.notes, *told):
        print(f"cosim: note: {note}", file=sys.stderr)
    return device


# --- a tile and its inputs from the command line ---------------------------------------------------


def _load(path: Path, option: str) -> Any:
    """A matrix from a .npy or .csv file, as a numpy array."""
    import numpy as np

    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise SpecError(f"{option} cannot be read from {path}: {error}") from error


def _parse_shape(text: str) -> tuple[int, int]:
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise SpecError(f"--shape {shown(text)}: write ROWSxCOLUMNS, such as 16x16")
    return int(found[1]), int(found[2])


def _random(shape: tuple[int, int], seed: int) -> Tensor:
    import torch

    from cosim.arrays import out_of_memory

    seed = as_seed(seed, "--seed")
    with out_of_memory(f"drawing {shape[0]} x {shape[1]} random numbers"):
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _tile_and_voltages(
    *,
    model: Model,
    param: Parameters = None,
    state_parameter: StateParameter = None,
    state_range: StateRange = None,
    temperature: Temperature = None,
    conductance: Annotated[
        Path | None, typer.Option(help="Cells (rows x columns), S: a .npy, or a .csv without header.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="RxC", help="Random states instead, such as 16x16; alike cells if it has none."),
    ] = None,
    voltages: Annotated[
        Path | None, typer.Option(help="Inputs (batch x rows), V: a .npy, or a .csv without header.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST, help="Random inputs instead: how many vectors; 4 unless given."),
    ] = None,
    v_max: Annotated[
        float | None, typer.Option(help="Random inputs are uniform from 0 to this, V; 0.2 unless given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of random states and inputs; 0 unless given.")
    ] = None,
    row: Annotated[float, typer.Option(help="Word line resistance per segment, ohm.")] = 0.0,
    column: Annotated[float, typer.Option(help="Bit line resistance per segment, ohm.")] = 0.0,
    source: Annotated[
        float | None, typer.Option(help="Driver to first cell, ohm; one segment unless given.")
    ] = None,
    sense: Annotated[
        float | None, typer.Option(help="Last cell to sense node, ohm; one segment unless given.")
    ] = None,
    v_read: Annotated[float, typer.Option(help="Voltage at which conductances are meant, V.")] = 0.1,
) -> tuple[Tile, Tensor]:
    """The tile and the input vectors that these options describe."""
    if (conductance is None) == (shape is None):
        raise SpecError("say exactly one of --conductance FILE and --shape ROWSxCOLUMNS")
    _check_random(conductance, voltages, batch=batch, v_max=v_max, seed=seed)
    by = "--conductance" if shape is None else "--shape"
    device = _device(model, param, state_parameter, state_range, temperature, state_given_by=by)
    cells: dict[str, Any] = {}
    if conductance is not None:
        cells["conductance"] = _load(conductance, "--conductance")
    elif device.state_parameter is None:
        cells["shape"] = _parse_shape(shape or "")
    else:
        low, high = device.state_range
        cells["state"] = low + (high - low) * _random(_parse_shape(shape or ""), seed or 0)
    wires = cosim.Wires(row=row, column=column, source=source, sense=sense)
    tile = cosim.Tile(device, **cells, wires=wires, v_read=v_read)
    if voltages is None:
        top = 0.2 if v_max is None else v_max
        return tile, top * _random((batch or 4, tile.rows), (seed or 0) + 1)
    return tile, tile.check_voltages(_load(voltages, "--voltages"))


def _check_random(
    conductance: Path | None,
    voltages: Path | None,
    *,
    batch: int | None,
    v_max: float | None,
    seed: int | None,
) -> None:
    """Raise SpecError for an option of random numbers where all that it is for comes from a file."""
    if voltages is None:
        return
    options = {"--batch": batch, "--v-max": v_max} | ({} if conductance is None else {"--seed": seed})
    for option, value in options.items():
        if value is not None:
            raise SpecError(f"{option} {value} is for random numbers, which the files replace: leave it out")


def _tile_command(command: Callable[..., None]) -> Callable[..., None]:
    """Register ``command(tile, voltages, ...)`` with the options of ``_tile_and_voltages`` before its own."""
    shared = inspect.signature(_tile_and_voltages, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters
    parameters = [*shared.values(), *(own[name] for name in own if name not in ("tile", "voltages"))]

    def run(**values: Any) -> None:
        tile, voltages = _tile_and_voltages(**{name: values.pop(name) for name in shared})
        command(tile, voltages, **values)

    # typer reads the signature; the annotations hold the option texts
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]  any object has it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name=command.__name__.strip("_"), help=inspect.getdoc(command))(run)
    return command


# --- the commands ----------------------------------------------------------------------------------


@app.command()
def doctor(json: AsJson = False) -> None:
    """Try every tool that cosim needs, and print the command that mends what fails.

    Ends with 1 if something essential is missing.
    """
    from cosim.doctor import examine

    checks = list(examine())
    if json:
        _print_json([vars(check) for check in checks])
    else:
        _print_checks(checks)
    if any(check.essential and not check.ok for check in checks):
        raise typer.Exit(1)


def _print_checks(checks: Sequence[Check]) -> None:
    table = Table("", "what", "found", box=None, padding=(0, 2, 0, 0))
    for check in checks:
        sign = "[green]ok[/]" if check.ok else "[red]fails[/]" if check.essential else "[yellow]without[/]"
        table.add_row(sign, check.name, escape(check.found))
    console = Console()
    console.print(table)
    for check in checks:
        if not check.ok:
            console.print(
                f"\n{check.name}: to mend it\n  {escape(check.remedy)}", soft_wrap=True, highlight=False
            )


class TransientEngine(enum.StrEnum):
    torch = "torch"
    ngspice = "ngspice"


@app.command()
def iv(
    model: Model,
    param: Parameters = None,
    state_parameter: StateParameter = None,
    state_range: StateRange = None,
    temperature: Temperature = None,
    v_max: Annotated[
        float, typer.Option(help="Sweep from minus this to this, V; amplitude of --period.")
    ] = 1.0,
    points: Annotated[int, typer.Option(min=2, max=_MOST, help="Points of the curve.")] = 101,
    state: Annotated[
        float | None, typer.Option(help="State, initial state of a loop; middle of its range unless given.")
    ] = None,
    period: Annotated[float | None, typer.Option(help="A hysteresis loop: period of one sine, s.")] = None,
    engine: Annotated[
        TransientEngine | None, typer.Option(help="What integrates the loop of --period; torch unless given.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Current-voltage curve of a device: at a fixed state, or a hysteresis loop with --period."""
    import torch

    if engine is not None and period is None:
        raise SpecError(
            f"--engine {engine.value} integrates a loop: give its --period too; without one, the static "
            "curve is the model's own equation"
        )
    by = None if state is None else "--state"
    device = _device(model, param, state_parameter, state_range, temperature, state_given_by=by)
    if state is None and device.bounded and device.state_parameter not in device.given:
        state = sum(device.state_range) / 2
    if period is None:
        voltage = torch.linspace(-v_max, v_max, points, dtype=torch.float64)
        columns = {"voltage": voltage, "current": device.current(voltage, state)}
    else:
        phase = torch.linspace(0.0, 1.0, points, dtype=torch.float64)
        name = "torch" if engine is None else engine.value
        wave = v_max * torch.sin(2 * math.pi * phase)
        trace = device.simulate(wave, period / (points - 1), state=state, engine=name)
        columns = {name: getattr(trace, name) for name in ("time", "voltage", "current", "state")}
    if json:
        _print_json({"model": device.name, "parameters": dict(device.parameters), **columns})
    else:
        _print_columns(
            list(columns), zip(*(values.flatten().tolist() for values in columns.values()), strict=True)
        )


Engine = Annotated[str, typer.Option(help="ideal, linear, newton or ngspice.")]


@_tile_command
def solve(tile: Tile, voltages: Tensor, *, engine: Engine = "newton", json: AsJson = False) -> None:
    """Column currents (A) of a crossbar tile, one line for each input vector."""
    solution = cosim.solve(tile, voltages, engine=engine, throw=False)
    if json:
        _print_json(
            {
                "engine": engine,
                "currents": solution.currents,
                "status": solution.status,
                "stats": dict(solution.stats),
            }
        )
    else:
        _print_columns([f"c{j}" for j in range(tile.columns)], solution.currents.tolist())
    solution.check()


@_tile_command
def compare(
    tile: Tile,
    voltages: Tensor,
    *,
    engines: Annotated[
        str, typer.Option(help="Engines to judge, separated by commas.")
    ] = "ideal,linear,newton",
    reference: Annotated[str, typer.Option(help="The engine that they are judged by.")] = "ngspice",
    json: AsJson = False,
) -> None:
    """One tile through several engines: error and time of each against a reference."""
    report = cosim.compare(tile, voltages, engines=tuple(engines.split(",")), reference=reference)
    if json:
        _print_json(report.to_dict())
    else:
        print(report)


@_tile_command
def netlist(
    tile: Tile,
    voltages: Tensor,
    *,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("out/netlist"),
    dialect: Annotated[str, typer.Option(help="Netlist dialect.")] = "ngspice",
    name: Annotated[
        str | None, typer.Option(help="Of the subcircuit; made of a digest of the circuit unless given.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the tile and its inputs as a netlist, and print the files written."""
    written = cosim.write_netlist(tile, out, dialect=dialect, voltages=voltages, name=name)
    files = [str(path) for path in written]
    if json:
        _print_json({"dialect": dialect, "files": files})
    else:
        print("\n".join(files))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report, figures and netlists.")] = Path("out/demo"),
    images: Annotated[int, typer.Option(help="Number of test images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and split.")] = 0,
) -> None:
    """The main demo: handwritten digits on crossbar tiles, through all four engines."""
    from cosim.demo import run

    run(out, images=images, seed=seed)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="About a minute, sizes up to 128.")] = False,
    sizes: Annotated[str | None, typer.Option(help="Rows of the tiles, separated by commas.")] = None,
    vectors: Annotated[
        str | None, typer.Option(help="Input vectors in one call, separated by commas.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds for everything; 600, or 60 with --quick.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Interleaved repetitions.")] = None,
    device: Annotated[str, typer.Option(help="Where cosim's engines run: cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for numbers, tables and figure.")] = Path("out/bench"),
    json: AsJson = False,
) -> None:
    """Time the engines on this machine against scipy's sparse LU and ngspice, with their errors."""
    from cosim.bench.report import file_names, summary, write
    from cosim.bench.suite import Settings, run

    settings = Settings.create(
        quick=quick,
        sizes=_numbers(sizes, "--sizes"),
        vectors=_numbers(vectors, "--vectors"),
        budget=budget,
        rounds=rounds,
        place=device,
    )
    check_writable(out, *file_names("bench"))
    document = run(settings, progress=lambda text: print(text, file=sys.stderr, flush=True))
    if json:
        _print_json(document)
    else:
        print(summary(document))  # before what may still go wrong
    files = write(document, out, "bench")
    if not json:
        print(*files, sep="\n")


def _numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SpecError(
            f"{option} {text!r}: write whole numbers separated by commas, such as 32,64"
        ) from error
