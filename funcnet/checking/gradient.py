"""`check_gradient`: any gradient of any JAX function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.checking.answer import dtype_of
from funcnet.checking.call import take_apart
from funcnet.checking.examination import Subject, run_gradient
from funcnet.checking.programs import arithmetic
from funcnet.checking.report import GradientMismatch, GradientReport
from funcnet.checking.verdict import examine


def _check_scalar(scalar: Callable[..., Any], values: list[Any]) -> None:
    """Refuse a function that gives no real scalar.

    Raises:
        ValueError: If it gives something else.
    """
    with arithmetic(wide=False):
        try:
            result = jax.eval_shape(scalar, values)
        except Exception:  # what cannot be traced is run
            result = scalar(values)
    leaves = jax.tree.leaves(result)
    if len(leaves) != 1 or np.shape(leaves[0]) != () or not jnp.issubdtype(dtype_of(leaves[0]), np.floating):
        got = jax.tree.map(lambda leaf: f"{dtype_of(leaf)}{list(np.shape(leaf))}", result)
        raise ValueError(
            f"fun must return a real scalar; got {got} (check_vjp checks backward rules of functions of arrays)"
        )


def check_gradient(
    fun: Callable[..., Any],
    grad_fun: Callable[..., Any],
    *args: Any,
    argnums: int | tuple[int, ...] = 0,
    raises: bool = True,
    **kwargs: Any,
) -> GradientReport:
    """Check that `grad_fun` is the gradient of `fun`, a function of any arrays that gives a scalar.

    Three opinions are asked in float64: the gradient's, that of `jax.grad`, and that of central differences along
    random directions and in the entries that matter most; where the first two differ, the third decides. Then the
    gradient is run in the dtypes of its arguments, eager and compiled. What rounding may explain follows from the
    dtype, from the number of roundings between input and output, which is read from the program, and from the
    conditioning, which is measured; errors are in units of eps times the leaf's largest entry. Works without
    `jax_enable_x64`, and leaves the configuration as it was.

    Args:
        fun: The function, in JAX. Arrays may stand anywhere in its arguments; integers, keys and whatever is
            not an array are passed on as they are.
        grad_fun: Its gradient, of the same arguments: what `jax.grad(fun, argnums)` or `jax.value_and_grad` would
            return. It may be any function of arrays, NumPy's too.
        *args: The arguments at which to check.
        argnums: Which of them the gradient is in.
        raises: Whether to raise on a wrong gradient, or only return the report.
        **kwargs: Further arguments of both functions, such as a key.

    Raises:
        GradientMismatch: If the gradient is wrong; the message is the report. (An AssertionError: a plain call is a
            test.)
        TypeError: If an argument cannot be differentiated in.
        ValueError: If argnums names no argument, or fun gives no scalar.

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> w = jnp.linspace(-1, 1, 5)
    >>> fn.check_gradient(lambda w: jnp.sum(jnp.tanh(w)), lambda w: 1 - jnp.tanh(w) ** 2, w).passed
    True
    >>> report = fn.check_gradient(lambda w: jnp.mean(w**2), lambda w: 2 * w, w, raises=False)
    >>> print(report.diagnoses[0].text)
    5 × the function's gradient: a mean over 5 outputs is missing
    """
    __tracebackhide__ = True
    call = take_apart(args, kwargs, argnums)
    _check_scalar(call.bind(fun), call.values())
    subject = Subject(call, call.bind(fun), call.bind(grad_fun), call.values(), seed=0)
    report = examine(subject, run_gradient(subject))
    if raises and not report.passed:
        raise GradientMismatch(report)
    return report
