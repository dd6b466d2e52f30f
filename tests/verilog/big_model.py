"""A model of the size of the largest compact models, with their shape but no physics: for measurements."""

from __future__ import annotations

import random

__all__ = ["big_model"]

_NODES = ("di", "si", "gi", "gm", "bi", "t")
_FUNCTIONS = """
  analog function real smooth;
    input x, e; real x, e;
    smooth = 0.5*(x + sqrt(x*x + 4.0*e*e));
  endfunction
  analog function real soft;
    input x; real x;
    begin
      if (x > 30.0) soft = x;
      else if (x < -30.0) soft = exp(x);
      else soft = ln(1.0 + exp(x));
    end
  endfunction
"""


def big_model(*, parameters: int = 800, setup: int = 2500, bias: int = 2500, seed: int = 1) -> str:
    """The text: 4 terminals, 6 inner nodes, and statements that depend on parameters, and on voltages.

    Values stay between -3 and 3, whatever is drawn.
    """
    draw = random.Random(seed)
    names = [f"p{k}" for k in range(parameters)]
    lines = ['`include "constants.vams"', '`include "disciplines.vams"', "`define SQ(x) ((x)*(x))"]
    lines += ["module big(d, g, s, b);", "inout d, g, s, b;", f"electrical d, g, s, b, {', '.join(_NODES)};"]
    lines += [
        f'(* desc="number {k}" *) parameter real {name} = {draw.uniform(0.1, 1.0):.4f} from [0:10];'
        for k, name in enumerate(names)
    ]
    lines += ["parameter integer mode = 1 from [0:3];", "parameter real rgate = 5.0 from [0:inf);"]
    variables = [f"s{k}" for k in range(setup // 4)], [f"v{k}" for k in range(bias // 4)]
    lines += [f"real {', '.join(some)};" for some in variables]
    lines += ["real vds, vgs, vbs, id, ig, qg, qd, qs, qb;", _FUNCTIONS, "analog begin"]
    lines += _initial(variables[0], names, draw)
    lines += _chain(variables[0], [], names, setup - len(variables[0]), draw)
    lines += ["vds = V(di, si);", "vgs = V(gi, si);", "vbs = V(bi, si);"]
    lines += [
        f"{name} = tanh({draw.choice(['vds', 'vgs', 'vbs'])}*{draw.choice(names)});" for name in variables[1]
    ]
    lines += _chain(variables[1], variables[0], names, bias - len(variables[1]), draw)
    lines += _sums(variables[1], draw)
    return "\n".join([*lines, *_CONTRIBUTIONS, "end", "endmodule", ""])


def _initial(variables: list[str], names: list[str], draw: random.Random) -> list[str]:
    """Parameters that depend on the size of a device."""
    return [
        f"{name} = tanh({' + '.join(f'{draw.choice(names)}*{draw.uniform(0, 1):.3f}' for _ in range(4))});"
        for name in variables
    ]


def _chain(
    variables: list[str], known: list[str], names: list[str], count: int, draw: random.Random
) -> list[str]:
    lines: list[str] = []
    while len(lines) < count:
        target, x, y, z = (draw.choice(variables) for _ in range(4))
        p, q = draw.choice(names), draw.choice(known or names)
        match draw.randrange(8):
            case 0:
                lines.append(f"{target} = tanh({p}*{x} + {q}*{y} - 0.3*{z});")
            case 1:
                lines.append(f"{target} = ({x} + {p}*{y})/(1.0 + `SQ({p}) + `SQ({z}));")
            case 2:
                lines.append(f"{target} = smooth({x} - {q}, 0.01 + {p})/(1.0 + {p} + abs({z}));")
            case 3:
                lines.append(f"{target} = soft({x} + {y})/(2.0 + soft({z}*{q}));")
            case 4:
                lines += [
                    f"if ({x} > {y}*{p}) begin",
                    f"  {target} = {x} - 0.5*tanh({y});",
                    f"  {z} = sqrt(1.0 + `SQ({x}))/(1.0 + abs({y}));",
                    "end else",
                    f"  {target} = exp(-`SQ({x}))*{y}/(1.0 + {p});",
                ]
            case 5:
                lines += [
                    f"if (mode == {draw.randrange(4)})",
                    f"  {target} = pow(1.0 + `SQ({x}), -0.5*{p});",
                    "else",
                    f"  {target} = {y}*{p}/(1.0 + `SQ({y}));",
                ]
            case 6:
                lines.append(f"{target} = max(min({x}, {y}), -2.0)*{p}/(1.0 + {p});")
            case _:
                lines.append(f"{target} = atan({x}*{q}) + 0.1*sin({y});")
    return lines


def _sums(variables: list[str], draw: random.Random) -> list[str]:
    """Currents and charges of many variables."""
    return [
        f"{name} = {scale}*({' + '.join(draw.sample(variables, min(60, len(variables))))});"
        for name, scale in [
            ("id", "1e-4"),
            ("ig", "1e-9"),
            ("qg", "1e-15"),
            ("qd", "-4e-16"),
            ("qs", "-4e-16"),
        ]
    ]


_CONTRIBUTIONS = """
qb = -(qg + qd + qs);
I(di, si) <+ id*vds;
I(gi, si) <+ ig*vgs;
I(gi, bi) <+ ddt(qg);
I(di, bi) <+ ddt(qd);
I(si, bi) <+ ddt(qs);
I(bi) <+ ddt(1e-3*qb);
I(bi, si) <+ 1e-15*(limexp(vbs/$vt) - 1.0);
I(bi, di) <+ 1e-15*(limexp((vbs - vds)/$vt) - 1.0);
I(d, di) <+ V(d, di)*1e-2;
I(s, si) <+ V(s, si)*1e-2;
I(b, bi) <+ V(b, bi)*1e-3;
if (rgate > 0.0) begin
  I(g, gm) <+ V(g, gm)/rgate;
  I(gm, gi) <+ V(gm, gi)/rgate;
end else begin
  V(g, gm) <+ 0.0;
  V(gm, gi) <+ 0.0;
end
I(t) <+ V(t)*1e-3 - id*`SQ(vds);
I(t) <+ ddt(1e-9*V(t));
""".strip().splitlines()
