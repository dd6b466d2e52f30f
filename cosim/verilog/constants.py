"""Constants of the standard headers (Verilog-AMS LRM 2.4, annex D), and scale factors of numbers."""

from __future__ import annotations

import math

__all__ = ["CONSTANTS", "SCALE_FACTORS"]

# as text behind the digits, so that 1.7n is exactly the double 1.7e-9
SCALE_FACTORS = {
    **{"T": "e12", "G": "e9", "M": "e6", "K": "e3", "k": "e3"},
    **{"m": "e-3", "u": "e-6", "n": "e-9", "p": "e-12", "f": "e-15", "a": "e-18"},
}

_SETS = {  # c and mu0 are exact in all of them
    "SPICE": {"P_Q": 1.60219e-19, "P_K": 1.38062e-23, "P_H": 6.6262e-34, "P_EPS0": 8.854214871e-12},
    "OLD": {"P_Q": 1.6021918e-19, "P_K": 1.3806226e-23, "P_H": 6.6260755e-34, "P_EPS0": 8.8541879239442e-12},
    "NIST1998": {
        **{"P_Q": 1.602176462e-19, "P_K": 1.3806503e-23},
        **{"P_H": 6.62606876e-34, "P_EPS0": 8.854187817e-12},
    },
    "NIST2010": {
        **{"P_Q": 1.602176565e-19, "P_K": 1.3806488e-23},
        **{"P_H": 6.62606957e-34, "P_EPS0": 8.854187817e-12},
    },
    "NIST2014": {
        **{"P_Q": 1.6021766208e-19, "P_K": 1.38064852e-23},
        **{"P_H": 6.626070040e-34, "P_EPS0": 8.854187817e-12},
    },
    "NIST2018": {
        **{"P_Q": 1.602176634e-19, "P_K": 1.380649e-23},
        **{"P_H": 6.62607015e-34, "P_EPS0": 8.8541878128e-12},
    },
}

CONSTANTS: dict[str, float] = {
    "CONSTANTS_VAMS": 1.0,
    "M_E": math.e,
    "M_LOG2E": 1 / math.log(2),
    "M_LOG10E": 0.43429448190325182765,
    "M_LN2": math.log(2),
    "M_LN10": math.log(10),
    "M_PI": math.pi,
    "M_TWO_PI": 2 * math.pi,
    "M_PI_2": math.pi / 2,
    "M_PI_4": math.pi / 4,
    "M_1_PI": 1 / math.pi,
    "M_2_PI": 2 / math.pi,
    "M_2_SQRTPI": 2 / math.sqrt(math.pi),
    "M_SQRT2": math.sqrt(2),
    "M_SQRT1_2": math.sqrt(0.5),
    "P_C": 299792458.0,
    "P_U0": 4e-7 * math.pi,
    "P_CELSIUS0": 273.15,
    **_SETS["NIST1998"],  # the default of the header
    **{f"{name}_{year}": value for year, values in _SETS.items() for name, value in values.items()},
}
