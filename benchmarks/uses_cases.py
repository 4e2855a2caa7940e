"""What `uses.py` measures on digits: the examples of `docs/uses.md`, with the seed as an argument."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import funcnet as fn
from funcnet.data import load

ADAM = optax.adam(1e-3)
WANTED = 0.5
"""Steps are counted until the loss over all examples is below it."""
RATES = (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)

Images = Float[np.ndarray, "n d"]
Labels = Int[np.ndarray, " n"]


def digits() -> tuple[Images, Labels]:
    """Images of 8 × 8 pixels and their labels."""
    data = load("digits")["train"]
    return data.x, data.y


def trained(net: fn.MLP, x: Any, y: Any, seed: int, epochs: int) -> tuple[fn.Params, fn.Params]:
    """Parameters before and after some epochs of Adam."""
    params = fn.init(jax.random.key(seed), net, dtype="float32")
    key = jax.random.key(1000 + seed)
    return params, fn.fit(key, net, ADAM, (x, y), epochs=epochs, batch_size=32, params=params)[0].params


class Ranking(NamedTuple):
    """Examples with some wrong labels, and how suspicious each is.

    Attributes:
        labels: As planted.
        planted: The rows whose label is wrong.
        scores: By name, one number for each example; the largest is the most suspicious.
    """

    labels: Labels
    planted: Int[np.ndarray, " m"]
    scores: dict[str, Float[np.ndarray, " n"]]

    def found(self, name: str) -> Float[np.ndarray, " n"]:
        """The share of the planted labels among the 1, 2, … most suspicious examples."""
        return np.cumsum(np.isin(np.argsort(-self.scores[name]), self.planted)) / len(self.planted)

    def precision(self, name: str) -> float:
        """The share of planted labels among as many examples as are planted."""
        return float(self.found(name)[len(self.planted) - 1])

    def errors(self, name: str) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
        """The rows that are wrongly suspected, and the planted ones that are missed, of as many as are planted."""
        suspected = np.argsort(-self.scores[name])[: len(self.planted)]
        return np.setdiff1d(suspected, self.planted), np.setdiff1d(self.planted, suspected)


def ranking(x: Images, y: Labels, seed: int, epochs: int, folds: int) -> Ranking:
    """Plant 2 % wrong labels and score every example, with one fold by the network that has learned from it.

    With more folds each is scored by a network trained on the others.
    """
    random = np.random.default_rng(seed)
    n = len(y)
    planted = random.choice(n, round(0.02 * n), replace=False)
    labels = y.copy()
    labels[planted] = (labels[planted] + random.integers(1, 10, len(planted))) % 10
    net = fn.MLP((x.shape[1], 128, 10), activation=fn.relu, loss=fn.softmax_cross_entropy)
    scores = {"gradient norm": np.empty(n), "loss": np.empty(n)}
    for unseen in np.array_split(random.permutation(n), folds):
        seen = np.setdiff1d(np.arange(n), unseen) if folds > 1 else unseen
        params = trained(net, x[seen], labels[seen], seed, epochs)[1]
        batch = net, params, x[unseen], labels[unseen]
        scores["gradient norm"][unseen] = jax.jit(fn.per_example_grad_norms)(*batch)
        scores["loss"][unseen] = jax.jit(fn.per_example_losses)(*batch)
    return Ranking(labels, planted, scores)


class Noise(NamedTuple):
    """The noise scale and the number of steps to a loss.

    Attributes:
        steps: With all examples at the best rate, in the mean over seeds.
        at_start: The noise scale of fresh parameters, of each seed.
        mean: Its mean over those steps.
        seen: For each batch size the steps at the best rate, in the mean over seeds.
        rates: That rate, for each batch size.
    """

    steps: float
    at_start: list[float]
    mean: float
    seen: dict[int, float]
    rates: dict[int, float]

    def predicted(self, batch: int) -> float:
        """Steps that the noise scale promises."""
        return self.steps * (1 + self.mean / batch)


def sgd_net(x: Images) -> fn.MLP:
    """The network that steps are counted with."""
    return fn.MLP((x.shape[1], 32, 10), activation=fn.tanh, loss=fn.softmax_cross_entropy)


def moved(net: fn.MLP, params: fn.Params, x: Any, y: Any, rate: Any) -> fn.Params:
    """A step of gradient descent."""
    grads = fn.value_and_grad(net, params, x, y)[1]
    return jax.tree.map(lambda p, g: p - rate * g, params, grads)


def batch_of(key: Any, count: Any, batch: int, n: int) -> Int[Array, " batch"]:
    """Random rows for one step."""
    return jax.random.randint(jax.random.fold_in(key, count), (batch,), 0, n, "int32")


@partial(jax.jit, static_argnames="batch")
def steps(net: fn.MLP, x: Any, y: Any, key: Any, rate: Any, batch: int) -> Array:
    """Steps with random batches until the loss is reached."""

    def above(state: Any) -> Any:
        return (state[0] < 1000) & (fn.loss(net, state[1], x, y) > WANTED)

    def step(state: Any) -> Any:
        rows = batch_of(key, state[0], batch, len(x))
        return state[0] + 1, moved(net, state[1], x[rows], y[rows], rate)

    return jax.lax.while_loop(above, step, (0, fn.init(key, net, dtype="float32")))[0]


@jax.jit
def steps_on_all(net: fn.MLP, x: Any, y: Any, key: Any, rate: Any) -> tuple[Any, ...]:
    """Steps on all examples until then, the noise scale before the first, and its mean over all of them."""

    def above(state: Any) -> Any:
        return (state[0] < 1000) & (fn.loss(net, state[1], x, y) > WANTED)

    def step(state: Any) -> Any:
        count, params, total = state
        return count + 1, moved(net, params, x, y, rate), total + fn.gradient_noise_scale(net, params, x, y)

    params = fn.init(key, net, dtype="float32")
    count, _, total = jax.lax.while_loop(above, step, (0, params, jnp.zeros((), "float32")))
    return count, fn.gradient_noise_scale(net, params, x, y), total / count


def noise(x: Images, y: Labels, seeds: int, batches: tuple[int, ...]) -> Noise:
    """Steps for each batch size, and the noise scale on the way."""
    net, keys = sgd_net(x), jax.random.split(jax.random.key(0), seeds)
    inputs, labels = jnp.asarray(x), jnp.asarray(y)
    runs = np.array([[steps_on_all(net, inputs, labels, key, rate) for key in keys] for rate in RATES])
    best = runs[:, :, 0].mean(axis=1).argmin()
    seen, rates = {}, {}
    for batch in batches:
        counts = [np.mean([steps(net, inputs, labels, key, rate, batch) for key in keys]) for rate in RATES]
        seen[batch], rates[batch] = float(min(counts)), RATES[int(np.argmin(counts))]
    of_best = runs[best]
    return Noise(float(of_best[:, 0].mean()), of_best[:, 1].tolist(), float(of_best[:, 2].mean()), seen, rates)


@partial(jax.jit, static_argnames=("every", "points"))
def along(net: fn.MLP, x: Any, y: Any, key: Any, rate: Any, every: int, points: int) -> tuple[Array, Array]:
    """Loss and noise scale over all examples, every so many steps of gradient descent with batches of 64."""

    def step(params: fn.Params, count: Any) -> tuple[fn.Params, None]:
        rows = batch_of(key, count, 64, len(x))
        return moved(net, params, x[rows], y[rows], rate), None

    def stretch(params: fn.Params, counts: Any) -> tuple[fn.Params, tuple[Array, Array]]:
        about = fn.loss(net, params, x, y), fn.gradient_noise_scale(net, params, x, y)
        return jax.lax.scan(step, params, counts)[0], about

    counts = jnp.arange(every * points).reshape(points, every)
    return jax.lax.scan(stretch, fn.init(key, net, dtype="float32"), counts)[1]


class Influence(NamedTuple):
    """What the Gram matrix says of one test example: the one with the largest loss.

    Attributes:
        label: Its label.
        taken_for: What the network takes it for.
        lowering: Of the 8 training examples that lower its loss most, how many have its label.
        raising: Of the 8 that raise its loss most, how many have the label it is taken for.
        errors: For each rate ‖seen − predicted‖ / ‖predicted‖ over all training examples.
    """

    label: int
    taken_for: int
    lowering: int
    raising: int
    errors: dict[float, float]


def influence(x: Images, y: Labels, seed: int, epochs: int) -> Influence:
    """Predict by the Gram matrix what a step on each training example does, and take each step."""
    train, test = np.split(np.random.default_rng(seed).permutation(len(y)), [1200])
    net = fn.MLP((x.shape[1], 64, 10), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    params = trained(net, x[train], y[train], seed, epochs)[1]
    each = jax.jit(fn.per_example_losses)
    worst = test[np.argmax(each(net, params, x[test], y[test]))]
    rows = np.append(train, worst)
    pull = np.asarray(jax.jit(fn.grad_gram)(net, params, x[rows], y[rows]))[-1, :-1]
    inputs, labels = jnp.asarray(x), jnp.asarray(y)
    one = inputs[worst][None], labels[worst][None]

    @jax.jit
    def change(example: Any, rate: Any) -> Array:
        after = moved(net, params, inputs[example][None], labels[example][None], rate)
        return fn.per_example_losses(net, after, *one)[0] - fn.per_example_losses(net, params, *one)[0]

    errors = {}
    for rate in (0.1, 0.01, 0.001):
        gap = np.asarray(jax.vmap(change, in_axes=(0, None))(train, rate)) + rate * pull
        errors[rate] = float(np.linalg.norm(gap) / np.linalg.norm(rate * pull))
    order, taken_for = train[np.argsort(-pull)], int(fn.apply(net, params, one[0]).argmax())
    lowering, raising = (y[order[:8]] == y[worst]).sum(), (y[order[-8:]] == taken_for).sum()
    return Influence(int(y[worst]), taken_for, int(lowering), int(raising), errors)


def solved(gram: Array, targets: Array, ridge: float) -> Array:
    """The ridge system; `ridge` is in units of the mean of the diagonal."""
    matrix = gram + ridge * jnp.mean(jnp.diag(gram)) * jnp.eye(len(gram), dtype=gram.dtype)
    return jax.scipy.linalg.solve(matrix, targets, assume_a="pos")


def regression(x: Images, y: Labels, seed: int, learned: int, epochs: int) -> dict[str, float]:
    """Shares of wrong test labels for the kernel, a linear model and the trained network, and how linear it is.

    Ridges are chosen on as many further examples as are learned from.
    """
    train, held, test = np.split(np.random.default_rng(seed).permutation(len(y)), [learned, 2 * learned])
    net = fn.MLP((x.shape[1], 256, 10), activation=fn.relu, loss=fn.half_squared_error)
    unit, inputs = jax.nn.one_hot(y, 10, dtype="float32"), jnp.asarray(x)
    params, after = trained(net, x[train], np.asarray(unit[train]), seed, epochs)
    before = fn.apply(net, params, inputs)

    def kernel(rows: Labels) -> Array:
        blocks = jax.jit(fn.empirical_ntk)(net, params, inputs[rows], inputs[train])
        return blocks.transpose(0, 2, 1, 3).reshape(10 * len(rows), 10 * len(train))

    def wrong(outputs: Array, rows: Labels) -> float:
        return float(np.mean(np.asarray(outputs.argmax(axis=1)) != y[rows]))

    to_train, to_held, to_test = kernel(train), kernel(held), kernel(test)
    duals = [solved(to_train, (unit - before)[train].reshape(-1), ridge) for ridge in RIDGES]
    dual = min(duals, key=lambda dual: wrong(before[held] + (to_held @ dual).reshape(-1, 10), held))
    by_kernel = before[test] + (to_test @ dual).reshape(-1, 10)
    ones = jnp.concatenate([inputs, jnp.ones_like(inputs[:, :1])], axis=1)
    inner = ones @ ones[train].T
    fits = [inner @ solved(inner[train], unit[train], ridge) for ridge in RIDGES]
    linear = min(fits, key=lambda outputs: wrong(outputs[held], held))
    (step,) = jax.vjp(lambda p: fn.apply(net, p, inputs[train]), params)[1](dual.reshape(-1, 10))
    tangent = jax.jvp(lambda p: fn.apply(net, p, inputs[test]), (params,), (step,))[1]
    itself = fn.apply(net, jax.tree.map(jnp.add, params, step), inputs[test])
    return {
        "kernel": wrong(by_kernel, test), "linear": wrong(linear[test], test),
        "trained": wrong(fn.apply(net, after, inputs[test]), test), "after the linear step": wrong(itself, test),
        "linearised differs": float(jnp.abs(before[test] + tangent - by_kernel).max()),
    }  # fmt: skip
