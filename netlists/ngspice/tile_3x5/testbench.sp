* title: crossbar tile 3x5
* written by: cosim 0.1.0, dialect ngspice
* shape: 3 rows x 5 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: vteam, digest aacc64b5c66c3ad3ef2ae6a955c51da20292c5d0c4b0623522bd6e935db860f6
.include models.sp
.include dut.sp
Vindex index 0 0.0
B0 r0 0 V=pwl(v(index), 0,0.1, 1,0.05)
B1 r1 0 V=pwl(v(index), 0,-0.2, 1,0.15)
B2 r2 0 V=pwl(v(index), 0,0.3, 1,1e-07)
Vsense0 c0 0 0.0
Vsense1 c1 0 0.0
Vsense2 c2 0 0.0
Vsense3 c3 0 0.0
Vsense4 c4 0 0.0
Xtile r0 r1 r2 c0 c1 c2 c3 c4 bank
.options klu pivrel=0.1 reltol=1e-11 abstol=1e-16 vntol=1e-12 itl1=100 itl2=100 itl4=100 gmin=1e-12 tnom=27.0 temp=27.0
.save i(vsense0) i(vsense1) i(vsense2) i(vsense3) i(vsense4)
.control
pre_osdi device.osdi
optran 1 0 0 0 0 0
set filetype=binary
set failed=0
dc Vindex 0.0 1.0 1.0
write result.raw
if $sim_status
set failed=1
end
if $failed
quit 3
end
quit 0
.endc
.end
