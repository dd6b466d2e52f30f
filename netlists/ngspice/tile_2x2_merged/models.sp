* title: crossbar tile 2x2
* written by: cosim 0.1.0, dialect ngspice
* shape: 2 rows x 2 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: stanford_pku, digest cde6f1492e086fce9ae1a5c77f2eb46bd2905b70eab6e6619916267318e0ab9e
.model bank_cell stanford_pku_ad30b71b308d
