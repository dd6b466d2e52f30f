"""What is shipped: the version, the data in the wheel, and the pinned set."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import cosim
from cosim.shipped import NETLISTS, VERILOG_A

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cosim"


def test_the_version_has_one_source():
    assert version("cosim") == cosim.__version__


def test_every_dependency_is_a_range_and_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = set(
        re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text().lower(), flags=re.MULTILINE)
    )
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        assert name[0].lower() in pinned, f"{name[0]} is not in constraints.txt"
        assert ">=" in requirement, f"{requirement} is not a range"


def data_files() -> set[str]:
    """Every file that the wheel has to hold, as a path in it."""
    folders = {"cosim": PACKAGE, "cosim/verilog_a": VERILOG_A, "cosim/netlists": NETLISTS}
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".osdi")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build folder in the checkout would keep files that are gone."""
    source = tmp_path_factory.mktemp("source")
    for folder in (PACKAGE, VERILOG_A, NETLISTS):
        shutil.copytree(folder, source / folder.name, ignore=shutil.ignore_patterns("__pycache__", "*.osdi"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_every_file(wheel: Path):
    assert data_files() <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import cosim; print(cosim.__file__); from cosim.cli import main; main(['doctor'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path / "cosim"))
    assert done.returncode == 0, done.stdout


def test_a_type_checker_sees_the_public_names(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    lines = ["import cosim", "cosim.no_such_name", *(f"reveal_type(cosim.{name})" for name in cosim.__all__)]
    (tmp_path / "user.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {
        note["range"]["start"]["line"]: note["message"]
        for note in json.loads(done.stdout)["generalDiagnostics"]
    }
    assert '"no_such_name" is not a known attribute of module "cosim"' in found.pop(1)
    assert "(tile: Tile, voltages: " in found[2 + cosim.__all__.index("solve")]
    assert len(found) == len(cosim.__all__)
    for message in found.values():
        assert not re.search(r' is "(Any|Unknown)"', message), message


def test_models_and_decks_stand_beside_the_package_in_a_checkout():
    assert (VERILOG_A, NETLISTS) == (ROOT / "verilog_a", ROOT / "netlists")


def test_python_m_cosim_is_the_command():
    command = [sys.executable, "-m", "cosim", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python -m cosim" in done.stdout
