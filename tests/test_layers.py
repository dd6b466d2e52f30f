"""The shape of the package: who may import whom, what is public, and how large a piece may grow."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cosim

PACKAGE = Path(cosim.__file__).parent

# A module imports only modules on lines above its own, wherever the import stands (in a function and
# under TYPE_CHECKING too). A new module goes in as high as its imports allow.
ORDER = """
errors checks arrays text shipped progress
reaper processes jobs files cache
devices.ir devices.simulator
devices.interp devices.passes
devices.terminals devices.osdi_names devices.print_kept devices.print_descriptor
devices.print_blocks
devices.print_c devices.torch_functions
devices.trace devices.print_torch devices.print_cells devices.ports devices.hold
devices.ranges devices.carried devices.memory
verilog verilog.constants verilog.tokens verilog.preprocess verilog.tree verilog.expressions
verilog.statements verilog.parser verilog.ssa
verilog.scope verilog.refusals verilog.arithmetic verilog.circuit verilog.lower_names
verilog.lower_expressions
verilog.lower_calls verilog.lower_filters verilog.tables verilog.lower_tables verilog.lower_random
verilog.lower_tasks verilog.lower_events verilog.lower_operators verilog.lower_statements
verilog.lower_functions verilog.rules verilog.derivatives
verilog.parameters verilog.regions verilog.memory verilog.elaborate verilog.compile
devices.build devices.catalogue devices.inverse devices.simulated devices.states
devices.static devices.branches
devices.tableau devices.small_circuits devices.integrator devices.print_steps devices.compiled
devices.adjoint
devices.driven devices.drive devices.start devices.dynamics
devices.values devices.describe devices.device devices.held
wires nodes crossbar
spice.deck spice.dialects.ngspice spice.rules spice.rawfile spice.ngspice spice.retry
spice.tile spice.transient spice.netlist
solvers.blocks solvers.leaf solvers.rounds solvers.elimination solvers.probes solvers.star_mesh
solvers.stiffness solvers.sweep
solvers.linear
solvers.lines solvers.preconditioner solvers.library solvers.network solvers.krylov solvers.kernel
solvers.mesh solvers.acceptance solvers.exact solvers.iteration solvers.implicit
solvers.newton
engines
ladder
calibration
nn.rounding nn.mapping nn.converters nn.cells nn.effects nn.tiling nn.hardware nn.description nn.ranges
nn.recording nn.clipping nn.tuning nn.writing nn.cell_matrix nn.periphery nn.matmul
nn.observing nn.digital_products nn.inputs nn.functional nn.layers nn.recurrent nn.attention nn.registry
nn.model nn.convert
nn.estimates nn.validation_report nn.sampled_tiles nn.whole_inputs nn.validation nn.saving
memtorch.names memtorch.bh.StochasticParameter memtorch.bh.Quantize memtorch.bh.memristor.as_memtorch
memtorch.bh.memristor.Memristor memtorch.bh.memristor.compiled memtorch.bh.memristor.LinearIonDrift
memtorch.bh.memristor.VTEAM
memtorch.bh.memristor.Data_Driven memtorch.bh.memristor.Data_Driven2021 memtorch.bh.memristor.Stanford_PKU
memtorch.bh.memristor.window.Biolek memtorch.bh.memristor.window.Jogelkar
memtorch.bh.memristor.window.Prodromakis memtorch.bh.memristor.window memtorch.bh.memristor
memtorch.bh.crossbar.cell_model memtorch.bh.crossbar.cells memtorch.bh.crossbar.lent memtorch.bh.crossbar.Tile
memtorch.bh.crossbar.Passive memtorch.bh.crossbar.Crossbar memtorch.bh.crossbar.Program memtorch.bh.crossbar
memtorch.map.Input memtorch.map.Parameter memtorch.map.Module memtorch.map
memtorch.mn.layer memtorch.mn.Linear memtorch.mn.convolution memtorch.mn.Conv1d memtorch.mn.Conv2d
memtorch.mn.Conv3d memtorch.mn.recurrent memtorch.mn.RNN memtorch.mn.LSTM memtorch.mn.GRU
memtorch.mn.Module memtorch.mn
memtorch.bh.nonideality.FiniteConductanceStates memtorch.bh.nonideality.DeviceFaults
memtorch.bh.nonideality.NonLinear memtorch.bh.nonideality.Endurance memtorch.bh.nonideality.Retention
memtorch.bh.nonideality.endurance_retention_models.empirical_metal_oxide_RRAM
memtorch.bh.nonideality.endurance_retention_models.conductance_drift
memtorch.bh.nonideality.endurance_retention_models memtorch.bh.nonideality.NonIdeality
memtorch.bh.nonideality memtorch.bh memtorch.utils memtorch
plots
doctor cache_command
demo
bench.problems bench.contenders bench.measure bench.many bench.findings bench.machine bench.report bench.suite
cli
__main__
""".split()  # noqa: SIM905  one line for each step is easier to read and to add to

MODULE_LINES = 500
FUNCTION_LINES = 60


def modules() -> Iterator[tuple[str, Path]]:
    """Every module below ``cosim`` that has code: (dotted name without ``cosim.``, file)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if path.name == "__init__.py" and (name == "__init__" or not path.read_text().strip()):
            continue
        yield name.removesuffix(".__init__"), path


@functools.cache
def public_homes() -> dict[str, str]:
    """Public name -> the module that it is in, as cosim/__init__.pyi says."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    return {
        alias.name: node.module or alias.name
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imported_modules(tree: ast.AST, home: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Every module of cosim that ``tree`` imports, anywhere, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the absolute import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "cosim" and name not in ("cosim", "cosim.__version__"):
                yield find_module(name.removeprefix("cosim."), home), node.lineno


def find_module(name: str, home: dict[str, str]) -> str:
    """The module that ``name`` (a module, or a name in one) belongs to; a lazy public name has its home."""
    name = home.get(name, name)
    return name if name in ORDER else name.rpartition(".")[0] or name


def order_errors(name: str, source: str) -> list[str]:
    """What is wrong with the imports of module ``name``."""
    if name not in ORDER:
        return [f"cosim.{name} is not in ORDER of tests/test_layers.py: put it below all that it imports"]
    errors = []
    for target, line in dict.fromkeys(imported_modules(ast.parse(source), public_homes())):
        if target not in ORDER:
            errors.append(f"cosim.{name}:{line} imports cosim.{target}, which is not in ORDER")
        elif ORDER.index(target) >= ORDER.index(name):
            errors.append(f"cosim.{name}:{line} imports cosim.{target}, which stands below it in ORDER")
    return errors


def test_every_module_imports_only_upwards():
    errors = [error for name, path in modules() for error in order_errors(name, path.read_text())]
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        (
            "crossbar",
            "from cosim.engines import solve",
            "cosim.crossbar:1 imports cosim.engines, which stands below",
        ),
        ("text", "def f():\n    import cosim.cli", "cosim.text:2 imports cosim.cli, which stands below"),
        ("arrays", "if TYPE_CHECKING:\n    from cosim import Tile", "cosim.arrays:2 imports cosim.crossbar"),
        ("text", "importlib.import_module('cosim.cli')", "cosim.text:1 imports cosim.cli"),
        ("nowhere", "", "cosim.nowhere is not in ORDER of tests/test_layers.py"),
    ],
)
def test_a_wrong_import_is_found(name: str, source: str, message: str):
    assert message in order_errors(name, source)[0]


def test_no_star_imports():
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), f"cosim.{name}:{node.lineno}"


def test_every_folder_with_code_is_a_package():
    for path in PACKAGE.rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


@pytest.mark.parametrize("statement", ["import cosim", "import cosim.errors", "import cosim.cli"])
def test_import_stays_light(statement: str):
    code = (
        f"import sys; {statement}; print(*({{'torch', 'scipy', 'sklearn', 'matplotlib'}} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


def test_exported_names_exist():
    for name, _ in modules():
        module = importlib.import_module(f"cosim.{name}")
        for exported in getattr(module, "__all__", ()):
            assert hasattr(module, exported), f"cosim.{name}.__all__ lists {exported!r}, which does not exist"
    for name in cosim.__all__:
        assert getattr(cosim, name) is not None


@pytest.mark.parametrize("name", sorted(set(cosim.__all__) - {"__version__", "errors"}))
def test_public_names_are_documented_with_an_example(name: str):
    documentation = inspect.getdoc(getattr(cosim, name)) or ""
    assert ">>>" in documentation, f"cosim.{name} needs a docstring with a runnable example"


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No cosim attribute nothing"):
        _ = cosim.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_modules_and_functions_stay_small():
    long = []
    for name, path in modules():
        source = path.read_text()
        if (lines := source.count("\n")) > MODULE_LINES:
            long.append(f"cosim.{name} has {lines} lines: split it (at most {MODULE_LINES})")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.append(
                        f"cosim.{name}:{node.lineno} {node.name} has {lines} lines (at most {FUNCTION_LINES})"
                    )
    assert not long, "\n".join(long)
