"""Correct gradients, over dtypes, scales, depths and kinds of functions: a checker must accept every one."""

import correct_gradients_arrays as arrays
import correct_gradients_elementwise as elementwise
import correct_gradients_funcnet as funcnet
import correct_gradients_kinks as kinks
import correct_gradients_linalg as linalg
import correct_gradients_networks as networks
import correct_gradients_rules as rules
from gradient_cases import Case, expand


def correct(slow: bool = True) -> list[Case]:
    """The cases; without `slow` those with small arrays and short programs, at one scale for each dtype.

    float64 is among them where x64 is on.
    """
    parts = (elementwise, kinks, networks, funcnet, arrays, linalg, rules)
    return [case for part in parts for case in expand(part.families(), slow)]
