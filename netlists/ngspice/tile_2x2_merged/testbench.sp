* title: crossbar tile 2x2
* written by: cosim 0.1.0, dialect ngspice
* shape: 2 rows x 2 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: stanford_pku, digest cde6f1492e086fce9ae1a5c77f2eb46bd2905b70eab6e6619916267318e0ab9e
.include models.sp
.include dut.sp
Vindex index 0 0.0
B0 r0 0 V=pwl(v(index), 0,0.5, 1,0.5)
B1 r1 0 V=pwl(v(index), 0,-0.25, 1,-0.25)
Vsense0 c0 0 0.0
Vsense1 c1 0 0.0
Xtile r0 r1 c0 c1 bank
.options klu pivrel=0.1 reltol=1e-11 abstol=1e-16 vntol=1e-12 itl1=100 itl2=100 itl4=100 gmin=1e-12 tnom=27.0 temp=27.0
.save i(vsense0) i(vsense1)
.control
pre_osdi device.osdi
optran 1 0 0 0 0 0
set filetype=binary
set failed=0
dc Vindex 0.0 0.0 1.0
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
