"""The examples that training sees, and their loss as a function of the parameters alone."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8

from funcnet.custom_rule import closed_form_loss
from funcnet.gradients import value_and_grad
from funcnet.network import MLP
from funcnet.training.pixels import from_bytes, on_device
from funcnet.types import KeyArray, Params


class Examples(NamedTuple):
    """Checked data: features in rows and in the work dtype, targets, and a positive weight for each example.

    On several devices the rows are kept in blocks, `(blocks, rows, …)`. Before they are put on any, arrays are NumPy's.

    Attributes:
        x: Features, one example a row; or the bytes that stand for them.
        y: Integer labels `(n,)` or targets `(n, k)`.
        weights: One for each example; 0 only in rows that fill up a batch.
    """

    x: Float[Array, "*n d"] | UInt8[Array, "*n d"]
    y: Shaped[Array, "n ..."]
    weights: Float[Array, "*n"]

    def on_device(self) -> "Examples":
        """A copy on the device."""
        return Examples(*(on_device(np.asarray(array)) for array in self))

    def in_numbers(self) -> "Examples":
        """With features as the network takes them."""
        return self._replace(x=from_bytes(self.x)) if self.x.dtype == jnp.uint8 else self


class Objective(NamedTuple):
    """The loss of a batch as a function of the parameters alone, and the batch: what `value_fn` of some optimizers is.

    `funcnet.training.step` hands it to every optimizer; in a loop of your own you do. Searches that differentiate it
    themselves, as Optax's do, run the closed form: it is `closed_form_loss`.

    Attributes:
        net: The network.
        batch: The examples.
        key: The dropout key.

    >>> import jax, jax.numpy as jnp, optax
    >>> import funcnet as fn
    >>> from funcnet.training import Examples, Objective, gauss_newton
    >>> net = fn.MLP((1, 8, 1), activation=fn.tanh, loss=fn.half_squared_error)
    >>> x, optimizer = jnp.linspace(-1, 1, 20)[:, None], gauss_newton()
    >>> objective = Objective(net, Examples(x, jnp.sin(3 * x), weights=jnp.ones(20)), key=None)
    >>> @jax.jit  # which compiles once; without, each call would
    ... def advance(params, state):
    ...     value, grads = objective.value_and_grad(params)
    ...     steps, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=objective)
    ...     return optax.apply_updates(params, steps), state
    >>> params = fn.init(jax.random.key(0), net)
    >>> state = optimizer.init(params)
    >>> for _ in range(20):
    ...     params, state = advance(params, state)
    >>> bool(objective(params) < 1e-4)
    True
    """

    net: MLP
    batch: Examples
    key: KeyArray | None

    def __call__(self, params: Params) -> Float[Array, ""]:
        """L at these parameters."""
        net, (x, y, weights), key = self
        return closed_form_loss(net, params, x, y, weights=weights, key=key)

    def value_and_grad(self, params: Params) -> tuple[Float[Array, ""], Params]:
        """L and its gradient at these parameters."""
        net, (x, y, weights), key = self
        return value_and_grad(net, params, x, y, weights=weights, key=key)
