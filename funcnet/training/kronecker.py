"""K-FAC as an Optax transformation: gradients preconditioned by the inverses of the layers' Kronecker factors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int

from funcnet.boundary import Call, lift_params
from funcnet.curvature_blocks import KroneckerFactors, kronecker_factors
from funcnet.numbers import check_at_least_zero, check_count, check_positive, check_seed, check_share
from funcnet.precision import cast_like, matmul
from funcnet.sweeps import forward
from funcnet.training.checks import check_objective
from funcnet.training.line_search import inner
from funcnet.types import KeyArray, Layer, Params

Square = Float[Array, "w w"]


class KfacState(NamedTuple):
    """What K-FAC keeps.

    Attributes:
        count: The number of steps taken.
        key: From which the samples for the factors are drawn.
        factors: Running averages of (A, G) of each layer; A has a last row and column for the bias.
        inverses: Of the damped factors, as they were when last computed.
    """

    count: Int[Array, ""]
    key: KeyArray
    factors: tuple[KroneckerFactors, ...]
    inverses: tuple[KroneckerFactors, ...]


def _damped_inverses(factors: tuple[KroneckerFactors, ...], damping: Any) -> tuple[KroneckerFactors, ...]:
    """(A + π√λ I)⁻¹ and (G + √λ/π I)⁻¹, with π² the mean eigenvalue of A over that of G."""
    found = []
    for a, g in factors:
        means = jnp.trace(a) / a.shape[0], jnp.trace(g) / g.shape[0]
        usable = (means[0] > 0) & (means[1] > 0)
        pi = jnp.where(usable, jnp.sqrt(means[0] / jnp.where(usable, means[1], 1)), 1)
        root = jnp.sqrt(jnp.asarray(damping, a.dtype))
        found.append(KroneckerFactors(_inverse(a, pi * root), _inverse(g, root / pi)))
    return tuple(found)


@sequential_vmap
def _refreshed(
    due: Bool[Array, ""], factors: tuple[KroneckerFactors, ...], damping: Any, old: tuple[KroneckerFactors, ...]
) -> tuple[KroneckerFactors, ...]:
    """New inverses where they are due. One network after the other: `jax.vmap` would invert for all of them always."""
    return jax.lax.cond(due, lambda: _damped_inverses(factors, damping), lambda: old)


def _inverse(matrix: Square, damping: Any) -> Square:
    one = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return cho_solve(cho_factor(matrix + damping * one, lower=True), one)


def scale_by_kfac(
    damping: float = 3e-2,
    *,
    decay: float = 0.95,
    update_every: int = 1,
    invert_every: int = 20,
    norm_constraint: float = 1e-2,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Precondition the gradient of each layer by A⁻¹ · G⁻¹: a step of natural gradient, as K-FAC approximates it.

    The layer's block of the Gauss-Newton matrix is taken as V ↦ A V G (`funcnet.kfac_factors`), with the bias as one
    more row of V whose input is 1; its inverse is V ↦ A⁻¹ V G⁻¹. (A + π√λ I) ⊗ (G + √λ/π I) differs from A ⊗ G + λ I by
    π√λ I ⊗ G + √λ/π A ⊗ I, whose bound by traces is least at the π of Martens and Grosse.

    Args:
        damping: λ; l2 of the network is added to it.
        decay: The share of the running averages that is kept at each update.
        update_every: So many steps between two updates of the factors.
        invert_every: So many steps between two inversions.
        norm_constraint: Steps u are shortened until uᵀ (A ⊗ G) u, which ⟨u, ∇L⟩ stands for, is no larger: that bounds
            how far the outputs move. It is in units of the loss, so scale the targets of squared errors.
        seed: Of the random signs from which G is estimated.

    Returns:
        An Optax transformation whose `update` takes as `value_fn` an `Objective`: what `funcnet.fit` and
        `funcnet.training.step` hand it.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range.

    References:
        Martens, Grosse 2015, Optimizing neural networks with Kronecker-factored approximate curvature.
    """
    check_positive("damping", damping)
    check_positive("norm_constraint", norm_constraint)
    check_share("decay", decay)
    if not isinstance(seed, jax.Array):
        check_seed("seed", seed)
    for name, count in (("update_every", update_every), ("invert_every", invert_every)):
        if not isinstance(count, jax.Array):  # which `optax.inject_hyperparams` makes of it
            check_count(name, count)

    def update(
        updates: Any, state: Any, params: Any = None, *, value_fn: Any = None, **_: Any
    ) -> tuple[Params, KfacState]:
        check_objective("scale_by_kfac", params, value_fn)
        count, key, factors, inverses = state
        lifted, l2 = lift_params(params), value_fn.net.l2
        factors = jax.lax.cond(
            count % update_every == 0, lambda f: _averaged(f, state, lifted, value_fn, decay), lambda f: f, factors
        )
        level = damping + (0.0 if l2 is None else l2)
        inverses = _refreshed(count % invert_every == 0, factors, level, inverses)
        steps = _shortened(cast_like(updates, lifted), inverses, norm_constraint)
        return cast_like(steps, params), KfacState(count + 1, key, factors, inverses)

    return optax.GradientTransformationExtraArgs(
        lambda params: _first_state(params, seed),
        update,  # pyright: ignore[reportArgumentType] (more keywords)
    )


def _first_state(params: Any, seed: Any) -> KfacState:
    lifted = lift_params(params)
    empty = tuple(
        KroneckerFactors(jnp.zeros((i + 1, i + 1), lifted[0].w.dtype), jnp.zeros((o, o), lifted[0].w.dtype))
        for i, o in (layer.w.shape for layer in lifted)
    )
    return KfacState(jnp.zeros((), jnp.int32), jax.random.key(seed), empty, empty)


def _averaged(
    factors: tuple[KroneckerFactors, ...], state: KfacState, params: Params, objective: Any, decay: float
) -> tuple[KroneckerFactors, ...]:
    """The running averages with those of this batch; the first few count alike."""
    net, batch, key = objective
    call = Call(params, batch.x, batch.y, batch.weights / jnp.sum(batch.weights))
    outputs, saved = forward(net, call.params, call.x, key)
    sample = jax.random.fold_in(state.key, state.count)
    new = kronecker_factors(net, call, outputs, saved, sample, with_bias=True)
    kept = jnp.where(state.count == 0, 0.0, jnp.minimum(decay, 1 - 1 / (state.count + 1)))
    return jax.tree.map(lambda old, now: now + kept.astype(old.dtype) * (old - now), factors, new)


def _shortened(grads: Params, inverses: tuple[KroneckerFactors, ...], norm_constraint: float) -> Params:
    """The preconditioned gradients, as long as they may be."""
    steps = tuple(_preconditioned(g, inverse) for g, inverse in zip(grads, inverses, strict=True))
    size = inner(steps, grads)
    shorter = jnp.minimum(1, jnp.sqrt(norm_constraint / jnp.maximum(size, norm_constraint)))
    return jax.tree.map(lambda u: shorter * u, steps)


def _preconditioned(grad: Layer, inverse: KroneckerFactors) -> Layer:
    """A⁻¹ V G⁻¹ with the bias as the last row of V."""
    rows = jnp.concatenate([grad.w, grad.b[None]])
    step = matmul(matmul(inverse.a, rows), inverse.g)
    return Layer(step[:-1], step[-1])


def kfac(
    learning_rate: optax.ScalarOrSchedule = 0.2,
    momentum: float = 0.9,
    damping: float = 3e-2,
    *,
    decay: float = 0.95,
    update_every: int = 1,
    invert_every: int = 20,
    norm_constraint: float = 1e-2,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Training by K-FAC: `scale_by_kfac`, then momentum and a learning rate.

    `optax.inject_hyperparams(kfac)` makes its numbers part of the state, for sweeps by `fit_many`.

    Args:
        learning_rate: A number, or a schedule of the steps taken.
        momentum: The share of the last step that is kept.
        damping: As of `scale_by_kfac`, like all that follows.
        decay: The share of the running averages of the factors that is kept.
        update_every: Steps between two updates of the factors.
        invert_every: Steps between two inversions.
        norm_constraint: What bounds the length of steps.
        seed: Of the random signs.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range.

    References:
        Martens, Grosse 2015, Optimizing neural networks with Kronecker-factored approximate curvature.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((2, 8, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> xor = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> state, history = fn.fit(jax.random.key(0), net, fn.training.kfac(), xor, epochs=100)
    >>> float(history["train_accuracy"][-1])
    1.0
    """
    if not callable(learning_rate):
        check_at_least_zero("learning_rate", learning_rate)
    precondition = scale_by_kfac(
        damping,
        decay=decay,
        update_every=update_every,
        invert_every=invert_every,
        norm_constraint=norm_constraint,
        seed=seed,
    )
    momentum = check_share("momentum", momentum)
    return optax.chain(precondition, optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))
