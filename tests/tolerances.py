"""Every tolerance of the tests, with its unit and its reason. Nothing else sets one."""

# relative, of the largest current: two exact solvers of one linear network in float64
LINEAR_EXACT = 1e-12
# relative, of the largest current: ngspice at reltol 1e-9 with KLU against a dense nodal solve
NGSPICE_LINEAR = 1e-9
# relative, of the largest current: newton against ngspice, nonlinear cells (issue target)
NGSPICE_NEWTON = 1e-8
# relative: interpreter, C and torch evaluate the same SSA in float64; libm differs in the last bits
PRINTERS = 1e-12
# relative: static current of a .va file against the equation in numpy, both float64
MODEL_CURRENT = 1e-12
# relative: state derivative of a .va file against the equation; differences of exponentials lose digits
MODEL_RATE = 1e-9
# relative: closed form or quadrature against scipy's LSODA at rtol 1e-10
MODEL_ODE = 1e-7
# relative, of the largest entry in the row: exact Jacobian against central differences of step 1e-6 V
MODEL_DIFFERENCE = 1e-5
# relative: half a unit in the last place of a target number printed with six digits
SIX_DIGITS = 5e-6
# relative: end of a path integrated by scipy's Radau at rtol 1e-6 against a closed form
MODEL_PATH = 1e-6
# relative: the same where the path leaves a bound (the drift out of it ends over 1e-4 of the range)
BOUND_WIDTH = 1e-4
# absolute: half a unit in the last place of a target number printed with two or six decimals
TWO_DECIMALS = 5e-3
SIX_DECIMALS = 5e-7
# relative: exact Jacobian against differences of step 1e-8 inside a step of 1e-3 of the field
FIELD_STEP_DIFFERENCE = 1e-4
# relative, of the largest entry: a central difference of step 1e-6 V against the exact Jacobian
FINITE_DIFFERENCE = 2e-6
# relative, of the largest current: newton at its default tolerance 1e-10 against a dense Newton at rounding
NEWTON_EXACT = 2e-10
# relative, of the largest current: the recursion over 64 rows in float32, rounding 6e-8
LINEAR_FLOAT32 = 1e-5
# relative: the torch current against the closed form of the same equation
CLOSED_FORM = 1e-12
# relative: conductance(state_for(G)) against G; the reachable range has this slack
INVERSE = 1e-9
# relative: transients in ngspice against closed forms (targets of the models)
VTEAM_TARGET = 1e-3
PULSE_TARGET = 1e-3
SLIDING_TARGET = 1e-2
# relative, of the largest current: ngspice at its default tolerances here against Newton at rounding
NGSPICE_EXACT = 1e-11
# relative, of the peak current, or of the state range: transients of ngspice and torch (issue target)
TRANSIENT = 5e-3
# the same with steps refined eightfold (issue target)
TRANSIENT_REFINED = 1e-3
# relative (absolute for quantities of order 1): the torch transient at its default rtol 1e-6 over some
# hundred steps, against scipy at 1e-9 or a closed form
TORCH_TRANSIENT = 1e-4
# relative: a few float64 operations in another order
ROUNDING = 1e-12
# relative: a difference of charges over a step, 1e-16 of the charge divided by the step
DISPLACEMENT = 1e-9
