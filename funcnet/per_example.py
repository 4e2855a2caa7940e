"""What one backward sweep knows of every example: norms, clipped and weighted sums, second moments, noise.

All of it belongs to the un-averaged, unweighted ℓ_i without l2. The sweep runs with the cotangent g_i of each example's
own outputs, so that row i of A_{l−1} and Δ_l holds ∇ℓ_i = (a_{l−1,i} δ_{l,i}ᵀ, δ_{l,i}) of each layer; the contractions
never write it out. A label outside 0 … k − 1 has a gradient of 0, as in `funcnet.value_and_grad`; its loss is NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet import contractions
from funcnet.boundary import check_features, check_network, check_weights, enter
from funcnet.gradients import Swept, both_sweeps
from funcnet.network import MLP
from funcnet.numbers import check_limit
from funcnet.precision import cast_like
from funcnet.types import Features, KeyArray, Params, Targets, Weights


def sweep_examples(
    net: MLP, params: Params, x: Features, y: Targets, weights: Weights | None, key: KeyArray | None
) -> Swept:
    """Both sweeps with the cotangent g_i of each example's own ℓ_i; where the weight is 0 the row is zeroed.

    Derivation:
        d ℓ_i = g_iᵀ d outputs_i: that of `both_sweeps` with every c_i = 1.
    """
    call = enter(net, params, x, y, weights, key)
    return both_sweeps(net, call._replace(c=jnp.ones_like(call.c)), key)


def _weighted(net: MLP, swept: Swept, factors: Float[Array, " n"]) -> Params:
    return contractions.weighted_gradient(swept.saved.inputs, swept.deltas, factors, net.operand_dtype)


def per_example_grad_norms(
    net: MLP, params: Params, x: Features, y: Targets, *, key: KeyArray | None = None
) -> Float[Array, " n"]:
    """‖∇ℓ_i‖ of each example over all parameters, in the parameters' dtype: not averaged, not weighted, without l2.

        ‖∇ℓ_i‖² = Σ_l ‖δ_{l,i}‖² (‖a_{l−1,i}‖² + 1)

    An example whose gradient is zero has norm 0; so has one whose label is outside 0 … k − 1. Tiny gradients do not
    underflow on the way; features beyond 1e18 in float32 overflow.

    Derivation:
        ∂ℓ_i/∂W_l = a_{l−1,i} δ_{l,i}ᵀ and ∂ℓ_i/∂b_l = δ_{l,i}; ‖a δᵀ‖² = tr(δ aᵀ a δᵀ) = ‖a‖² ‖δ‖².

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        key: The dropout key; the same key drops the same units as in `loss`.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Goodfellow 2015, Efficient per-example gradient computations.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> params = fn.init(jax.random.key(0), net)
    >>> x, y = jax.random.normal(jax.random.key(1), (5, 3)), jnp.array([0, 1, 1, 0, 1])
    >>> jax.jit(fn.per_example_grad_norms)(net, params, x, y).shape
    (5,)
    """
    swept = sweep_examples(net, params, x, y, None, key)
    return contractions.norms(swept.saved.inputs, swept.deltas).astype(params[0].w.dtype)


def weighted_grad_sum(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    coefficients: Weights,
    *,
    key: KeyArray | None = None,
) -> Params:
    """Σ_i c_i ∇ℓ_i for any coefficients, tree like params: A_{l−1}ᵀ diag(c) Δ_l and Δ_lᵀ c.

    A coefficient of 0 equals the row absent, even one with NaN in it.

    Derivation:
        Σ_i c_i a_i δ_iᵀ = Aᵀ diag(c) Δ.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        coefficients: One number for each example, of either sign.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    check_network(net, params)
    check_features(net, x)
    check_weights(x.shape[0], coefficients, "coefficients")
    swept = sweep_examples(net, params, x, y, coefficients, key)
    factors = jnp.asarray(coefficients, swept.outputs.dtype)
    return cast_like(_weighted(net, swept, factors), params)


def clipped_grad_sum(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    max_norm: Any,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Params:
    """Σ_i w_i min(1, max_norm / ‖∇ℓ_i‖) ∇ℓ_i from one backward sweep, tree like params: a sum, not a mean.

    The factor is 1 where ‖∇ℓ_i‖ = 0. With max_norm 0 the sum is 0; with an infinite one it is Σ w_i ∇ℓ_i.

    Derivation:
        The norms and the sum of `weighted_grad_sum` are contractions of the same A and Δ; nothing is swept twice.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        max_norm: The largest norm, at least 0, that an example's gradient keeps; a number.
        weights: One weight for each example; 0 equals the row absent, as in a batch that is filled up. For the noise of
            private training no weight may be above 1.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit or max_norm is negative or NaN; the message names the argument.

    References:
        Abadi et al. 2016, Deep learning with differential privacy.
        Lee, Kifer 2021, Scaling up differentially private deep learning with fast per-example gradient clipping.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> params = fn.init(jax.random.key(0), net)
    >>> x, y = jax.random.normal(jax.random.key(1), (1, 3)), jnp.array([0])
    >>> grads = fn.clipped_grad_sum(net, params, x, y, 0.01)
    >>> norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grads)))
    >>> bool(abs(norm - 0.01) < 1e-6)
    True
    """
    check_limit("max_norm", max_norm)
    swept = sweep_examples(net, params, x, y, weights, key)
    return cast_like(clipped_sum(net, swept, max_norm, weights), params)


def clipped_sum(net: MLP, swept: Swept, max_norm: Any, weights: Weights | None) -> Params:
    """`clipped_grad_sum` of what the sweeps left, in the work dtype."""
    each = contractions.norms(swept.saved.inputs, swept.deltas)
    limit = jnp.asarray(max_norm, each.dtype)
    limit = jnp.where(limit >= 0, limit, jnp.nan)  # inside `jax.jit` it cannot be refused
    factors = jnp.where(each > limit, limit / jnp.where(each > limit, each, 1), 1)
    if weights is not None:
        factors = factors * jnp.asarray(weights, each.dtype)
    return _weighted(net, swept, factors)


def grad_second_moment(net: MLP, params: Params, x: Features, y: Targets, *, key: KeyArray | None = None) -> Params:
    """Σ_i (∇ℓ_i)² entry by entry, tree like params: (A_{l−1} ∘ A_{l−1})ᵀ (Δ_l ∘ Δ_l) and (Δ_l ∘ Δ_l)ᵀ 1.

    With the plain gradient it gives each parameter's variance over examples, Σ (∇ℓ_i)² / n − (Σ ∇ℓ_i / n)².

    Derivation:
        Entry (p, q) of a_i δ_iᵀ squared is a_{ip}² δ_{iq}², summed over i a product of matrices.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Dangel, Kunstner, Hennig 2020, BackPACK: packing more into backprop.
    """
    swept = sweep_examples(net, params, x, y, None, key)
    return cast_like(contractions.second_moment(swept.saved.inputs, swept.deltas, net.operand_dtype), params)


def gradient_noise_scale(
    net: MLP, params: Params, x: Features, y: Targets, *, key: KeyArray | None = None
) -> Float[Array, ""]:
    """tr Σ / ‖G‖² of the data term, both by their unbiased estimates: the batch size at which noise equals signal.

        ‖G‖² ≈ (n ‖ḡ‖² − m) / (n − 1),    tr Σ ≈ n (m − ‖ḡ‖²) / (n − 1)

    with ḡ the mean of the n gradients and m that of their squared norms. Infinity where the estimate of ‖G‖² is not
    positive: then n examples are too few to tell a signal from noise. Where noise is far below the signal, m − ‖ḡ‖²
    cancels, and so many digits are lost.

    Derivation:
        E m = ‖G‖² + tr Σ and E ‖ḡ‖² = ‖G‖² + tr Σ / n, since the examples are independent; solved for both.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If there are fewer than 2 examples or the shapes do not fit; the message names the argument.

    References:
        McCandlish, Kaplan, Amodei 2018, An empirical model of large-batch training, appendix A.
    """
    swept = sweep_examples(net, params, x, y, None, key)
    n = x.shape[0]
    if n < 2:
        raise ValueError(f"x must hold at least 2 examples to tell noise from signal; got {n}")
    each = contractions.norms(swept.saved.inputs, swept.deltas)
    largest = jnp.max(each)
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    mean = _weighted(net, swept, jnp.full(n, 1 / n, each.dtype) / scale)
    of_mean = jnp.sum(jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(mean)]))
    m = jnp.mean(jnp.square(each / scale))
    signal, noise = (n * of_mean - m) / (n - 1), n * (m - of_mean) / (n - 1)
    ratio = jnp.where(signal > 0, noise / jnp.where(signal > 0, signal, 1), jnp.inf)
    return jnp.where(jnp.isnan(signal), jnp.nan, ratio).astype(params[0].w.dtype)
