"""Differentially private training: Poisson samples, clipped sums from one backward sweep, Gaussian noise, and ε.

What is protected is each example of the training data, against all parameters that a run goes through. Not covered are
what is measured on the training data (loss, accuracy), data that is only evaluated, and what was chosen by looking at
the data: scales of features, options. Noise of floating-point numbers is no defence against who sees its last bits.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from funcnet.boundary import Call, lift_params
from funcnet.gradients import both_sweeps, penalty, with_penalty
from funcnet.network import MLP, check_key
from funcnet.numbers import check_at_least_zero, check_positive
from funcnet.per_example import clipped_sum
from funcnet.precision import cast_like, work_dtype
from funcnet.training.accounting import Privacy
from funcnet.training.epoch import Report, State, report, sums_of
from funcnet.training.metrics import Sums, Task, scores
from funcnet.training.objective import Examples
from funcnet.training.programs import compiled
from funcnet.types import KeyArray, Params


class Noise(NamedTuple):
    """The state of `gaussian_mechanism`: the key of the next noise."""

    key: KeyArray


class Keys(NamedTuple):
    """Keys of one step, or of several along a first axis: who is drawn, the noise, and the units dropped."""

    sampling: KeyArray
    noise: KeyArray
    dropout: KeyArray


def noisy_mean(key: KeyArray, clipped: Params, noise_multiplier: Any, max_norm: Any, batch_size: float | int) -> Params:
    """(Σ_i clip(∇ℓ_i) + σ C ξ) / b, with ξ standard normal and b the expected size of a sample, not its own.

    An empty sample is a step of pure noise.

    Args:
        key: Of the noise.
        clipped: The sum of gradients that are no longer than max_norm, as from `funcnet.clipped_grad_sum`.
        noise_multiplier: σ.
        max_norm: C.
        batch_size: b.
    """
    leaves, structure = jax.tree.flatten(clipped)
    dtype = work_dtype(leaves[0].dtype)
    deviation = jnp.asarray(noise_multiplier, dtype) * jnp.asarray(max_norm, dtype)
    drawn = jax.random.normal(key, (sum(leaf.size for leaf in leaves),), dtype)
    noisy, start = [], 0
    for leaf in leaves:
        noise = deviation * drawn[start : start + leaf.size].reshape(leaf.shape)
        noisy.append(((leaf.astype(dtype) + noise) / batch_size).astype(leaf.dtype))
        start += leaf.size
    return jax.tree.unflatten(structure, noisy)


def gaussian_mechanism(
    key: KeyArray, noise_multiplier: float, max_norm: float, batch_size: float
) -> optax.GradientTransformation:
    """An Optax transformation from sums of clipped gradients to their noisy means: the private part of DP-SGD.

    For your own loops: give it what `funcnet.clipped_grad_sum` gives for a Poisson sample, with the same max_norm.

    Args:
        key: Of the noise, for this alone.
        noise_multiplier: σ; the noise has the deviation σ · max_norm.
        max_norm: C.
        batch_size: The expected size of a sample, what sums are divided by.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If a number is out of its range.

    References:
        Abadi et al. 2016, Deep learning with differential privacy.

    >>> import jax, jax.numpy as jnp, optax
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> params = fn.init(jax.random.key(0), net)
    >>> x, y = jnp.ones((5, 3)), jnp.array([0, 1, 1, 0, 1])
    >>> private = fn.training.gaussian_mechanism(jax.random.key(1), noise_multiplier=1.1, max_norm=0.5, batch_size=5)
    >>> optimizer = optax.chain(private, optax.sgd(0.1))
    >>> clipped = fn.clipped_grad_sum(net, params, x, y, 0.5)
    >>> updates, state = optimizer.update(clipped, optimizer.init(params), params)
    >>> updates[0].w.shape
    (3, 4)
    """
    check_key(key)
    check_at_least_zero("noise_multiplier", noise_multiplier)
    check_positive("max_norm", max_norm)
    check_positive("batch_size", batch_size)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Noise]:
        del params
        following, now = jax.random.split(state.key)
        return noisy_mean(now, updates, noise_multiplier, max_norm, batch_size), Noise(following)

    return optax.GradientTransformation(lambda params: Noise(key), update)


def rows_at_once(batch_size: int, n: int) -> int:
    """Room for all examples of most samples: two deviations above the mean, in eights. The rest takes another round."""
    return min(n, -8 * (-(batch_size + 2 * math.isqrt(batch_size)) // 8))


class _Round(NamedTuple):
    """Where drawing a sample has got to: rounds done, the last example drawn, and sums over those so far."""

    number: Int[Array, ""]
    last: Int[Array, ""]
    clipped: Params
    sums: Sums


def poisson_sum(
    net: MLP,
    params: Params,
    data: Examples,
    privacy: Privacy,
    batch_size: int,
    keys: Keys,
    task: Task = "classification",
) -> tuple[Params, Sums]:
    """Σ clip(∇ℓ_i) over a Poisson sample: every example is in it with probability q = batch_size / n, by itself.

    The gaps between the examples drawn are geometric, so a draw for each of them replaces one for every example.
    `rows_at_once` of them are swept at a time, until the end of the data is passed: samples of every size are exact.

    Args:
        net: The network.
        params: Its parameters.
        data: All examples, with weights of 1.
        privacy: Its max_norm; the noise is `noisy_mean`'s.
        batch_size: The expected size of the sample.
        keys: Of this step.
        task: What the scores measure predictions by.

    Returns:
        The sum, in the work dtype, and the loss and scores of the examples drawn.
    """
    n = data.x.shape[0]
    rows, lifted = rows_at_once(batch_size, n), lift_params(params)
    dtype = lifted[0].w.dtype
    columns = jax.eval_shape(lambda: scores(net, jnp.zeros((1, net.widths[-1]), dtype), data.y[:1], task)).shape[1:]
    nothing = Sums(jnp.zeros((), dtype), jnp.zeros(columns, dtype), jnp.zeros((), dtype))

    def sweep(done: _Round) -> _Round:
        key = jax.random.fold_in(keys.sampling, done.number)
        gaps = jax.random.geometric(key, jnp.float32(batch_size / n), (rows,), jnp.int32)
        drawn = done.last + jnp.cumsum(gaps, dtype=jnp.int32)
        present = drawn < n
        index = jnp.where(present, drawn, 0)
        batch = Examples(data.x[index], data.y[index], present.astype(dtype)).in_numbers()
        call = Call(lifted, batch.x, batch.y, jnp.ones(rows, dtype))
        swept = both_sweeps(net, call, None if net.dropout is None else jax.random.fold_in(keys.dropout, done.number))
        clipped = clipped_sum(net, swept, privacy.max_norm, batch.weights)
        losses = jnp.sum(batch.weights * (swept.losses + penalty(net, lifted)))
        sums = sums_of(net, losses, swept.outputs, batch, task)
        return _Round(done.number + 1, drawn[-1], *jax.tree.map(jnp.add, (done.clipped, done.sums), (clipped, sums)))

    start = jnp.zeros((), jnp.int32)
    first = _Round(start, start - 1, jax.tree.map(jnp.zeros_like, lifted), nothing)
    done = jax.lax.while_loop(lambda done: done.last < n, sweep, first)
    return done.clipped, done.sums


def private_step(
    net: MLP,
    optimizer: optax.GradientTransformation,
    privacy: Privacy,
    batch_size: int,
    state: State,
    data: Examples,
    keys: Keys,
    task: Task = "classification",
) -> tuple[State, Sums]:
    """One update by the noisy mean of clipped gradients of a Poisson sample; l2, which knows no data, comes on top."""
    clipped, sums = poisson_sum(net, state.params, data, privacy, batch_size, keys, task)
    grads = noisy_mean(keys.noise, clipped, privacy.noise_multiplier, privacy.max_norm, batch_size)
    grads = with_penalty(net, lift_params(state.params), grads)
    updates, opt_state = optimizer.update(cast_like(grads, state.params), state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return State(params, opt_state, state.key, state.step + 1), sums


def private_epoch(
    net: MLP,
    optimizer: optax.GradientTransformation,
    privacy: Privacy,
    batch_size: int,
    state: State,
    data: Examples,
    task: Task = "classification",
) -> tuple[State, Report]:
    """n / batch_size steps, rounded up, as a pure function; the loss of a step that drew nobody counts as 0."""
    n_steps = -(-data.x.shape[0] // batch_size)
    key, *kinds = jax.random.split(state.key, 4)
    keys = Keys(*(jax.random.split(kind, n_steps) for kind in kinds))

    def run(state: State, keys: Keys) -> tuple[State, Sums]:
        return private_step(net, optimizer, privacy, batch_size, state, data, keys, task)

    state, sums = jax.lax.scan(run, state._replace(key=key), keys)
    return state, report(state, sums, None)


def private_program(net: MLP) -> Any:
    """`private_epoch` compiled with the options that suit the network; equal networks compile once."""
    return compiled(private_epoch, net)
