"""Every public name and its module: what type checkers read, and what the package loads lazily."""

from . import errors as errors
from .calibration import calibrate as calibrate
from .crossbar import Solution as Solution
from .crossbar import Status as Status
from .crossbar import Tile as Tile
from .devices.device import Device as Device
from .engines import solve as solve
from .ladder import compare as compare
from .nn.convert import convert as convert
from .nn.converters import ADC as ADC
from .nn.converters import DAC as DAC
from .nn.functional import matmul as matmul
from .nn.saving import load as load
from .nn.saving import save as save
from .nn.validation import validate as validate
from .spice.netlist import write_netlist as write_netlist
from .wires import Wires as Wires

__version__: str
__all__: list[str]
