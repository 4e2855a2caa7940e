"""Gradients of installed packages: scikit-learn's, written by hand, and those of Optax's losses and of jax.nn.

scikit-learn's are those that fitting with L-BFGS asks for, taken from the call itself; beside them stands its own loss
in JAX. The others are `jax.grad`'s, through the packages' own derivative rules where they have any, in float32.
"""

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import xlogy
from sklearn.neural_network import MLPClassifier, MLPRegressor

ACTIVATIONS = {"identity": lambda z: z, "logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
PIECES = {
    **dict.fromkeys("relu leaky_relu elu selu celu soft_sign".split(), (0.0,)),
    **dict.fromkeys("hard_tanh sparse_plus sparse_sigmoid".split(), (-1.0, 1.0)),
    **{"relu6": (0.0, 6.0), "hard_sigmoid": (-3.0, 3.0), "hard_silu": (-3.0, 3.0), "log1mexp": (np.log(2.0),)},
}
"""Where the pieces of an activation meet."""
SMOOTH = "squareplus softplus silu gelu log_sigmoid sigmoid tanh mish".split()
FAR = (-1e4, -50.0, -20.0, 20.0, 50.0, 1e4)
RULES = ("losses._classification.weighted_logsoftmax", "projections._projections._projection_unit_simplex")
"""Derivative rules of Optax's own that its losses are made of."""


class Case(NamedTuple):
    """A gradient: whose, of what, at which input. Without `grad_fun` the function's own derivative rule is checked."""

    package: str
    function: str
    where: str
    fun: Callable[..., Any]
    grad_fun: Callable[..., Any] | None
    args: tuple[Any, ...]


def random(*shape: int) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def loss_of(model: Any) -> Callable[..., jax.Array]:
    """The loss of a fitted MLPRegressor or MLPClassifier, of packed parameters, features, targets and weights."""
    shapes = [w.shape for w in model.coefs_]
    ends = np.cumsum([*(rows * columns for rows, columns in shapes), *(columns for _, columns in shapes)])

    def terms(z: jax.Array, y: jax.Array) -> jax.Array:
        if model.out_activation_ == "identity":
            return 0.5 * (y - z) ** 2 / y.shape[1]
        if model.out_activation_ == "exp":
            return xlogy(y, y / jnp.exp(z)) - y + jnp.exp(z)
        p = jax.nn.softmax(z) if model.out_activation_ == "softmax" else jax.nn.sigmoid(z)
        p = jnp.clip(p, jnp.finfo(p.dtype).eps, 1 - jnp.finfo(p.dtype).eps)
        return -xlogy(y, p) - (xlogy(1 - y, 1 - p) if model.out_activation_ == "logistic" else 0)

    def loss(packed: jax.Array, x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        parts = jnp.split(packed, ends[:-1])
        w, b = [p.reshape(shape) for p, shape in zip(parts, shapes, strict=False)], parts[len(shapes) :]
        for i, layer in enumerate(w):
            x = x @ layer + b[i]
            x = x if i + 1 == len(w) else ACTIVATIONS[model.activation](x)
        penalty = 0.5 * model.alpha * sum(jnp.sum(layer**2) for layer in w)
        return (jnp.sum(weights[:, None] * terms(x, y)) + penalty) / jnp.sum(weights)

    return loss


def captured(model: Any, *data: Any) -> tuple[Callable[..., Any], np.ndarray, tuple[Any, ...]]:
    """The function that fitting gives to L-BFGS, its first point and its further arguments."""
    calls, own = [], model._loss_grad_lbfgs

    def recording(packed: np.ndarray, *args: Any) -> Any:
        calls.append((packed.copy(), args))
        return own(packed, *args)

    model._loss_grad_lbfgs = recording
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one iteration does not converge
        model.fit(*data)
    return own, *calls[0]


def sklearn_case(
    kind: Any, where: str, y: np.ndarray, weights: np.ndarray | None = None, scale: float = 1, **options: Any
) -> Case:
    """The gradient of a network with one hidden layer at its initial parameters times `scale`."""
    model = kind(hidden_layer_sizes=(6,), solver="lbfgs", max_iter=1, random_state=0, **options)
    x = random(12, 4).astype(np.float64)
    own, packed, fixed = captured(model, x, y, *([] if weights is None else [weights]))

    def value_and_grad(packed: Any, *_: Any) -> tuple[np.float64, np.ndarray]:
        value, gradient = own(np.asarray(packed, np.float64), *fixed)
        return np.float64(value), gradient

    targets = np.asarray(fixed[1], np.float64)
    args = (scale * packed, x, targets, np.ones(len(x)) if weights is None else weights)
    return Case("scikit-learn", kind.__name__, where, loss_of(model), value_and_grad, args)


def regressor_case(outputs: int, alpha: float = 0.0, activation: str = "tanh", **more: Any) -> Case:
    """MLPRegressor's gradient for so many outputs."""
    y = np.random.default_rng(1).uniform(0.5, 2, (12, outputs))
    y = y[:, 0] if outputs == 1 else y
    extra = ", sample weights" if "weights" in more else f", loss {more['loss']}" if "loss" in more else ""
    where = f"{outputs} output{'s' if outputs > 1 else ''}, {activation}, alpha {alpha:g}{extra}"
    return sklearn_case(MLPRegressor, where, y, alpha=alpha, activation=activation, **more)


def sklearn_cases() -> Iterator[Case]:
    """Regressors with several outputs, activations, weights and losses; classifiers of all kinds."""
    for outputs in (1, 2, 3, 5):
        yield regressor_case(outputs)
    yield from (regressor_case(1, 1.0, activation) for activation in ACTIVATIONS)
    yield regressor_case(3, 1e-4)
    weights = np.linspace(0.5, 2, 12)
    weighted = "sample_weight" in inspect.signature(MLPRegressor.fit).parameters
    if weighted:
        yield from (regressor_case(outputs, weights=weights) for outputs in (1, 3))
    if "loss" in inspect.signature(MLPRegressor).parameters:
        yield regressor_case(3, 1.0, loss="poisson")
    draw = np.random.default_rng(2)
    kinds = {"2 classes": draw.integers(0, 2, 12), "3 classes": np.arange(12) % 3}
    kinds["3 labels at once"] = draw.integers(0, 2, (12, 3))
    for name, y in kinds.items():
        for activation in ACTIVATIONS if name == "3 classes" else ("tanh",):
            yield sklearn_case(MLPClassifier, f"{name}, {activation}, alpha 1", y, alpha=1.0, activation=activation)
        if weighted:
            yield sklearn_case(MLPClassifier, f"{name}, tanh, sample weights", y, weights, activation="tanh")
        where = f"{name}, parameters × 30: probabilities where the loss clips them"
        yield sklearn_case(MLPClassifier, where, y, scale=30)


def differentiated(package: str, name: str, where: str, fun: Callable[..., Any], *args: Any) -> Case:
    """`jax.grad` of the sum of a function in its first argument."""

    def scalar(*args: Any) -> jax.Array:
        return jnp.sum(fun(*args))

    return Case(package, name, where, scalar, jax.grad(scalar), args)


def optax_cases() -> Iterator[Case]:
    """Every loss at ordinary and far-out predictions, then at its edges, then the rules by themselves."""
    z, labels = random(4, 5), np.asarray([0, 2, 4, 1], np.int32)
    hot = np.eye(5, dtype=np.float32)[labels]
    soft, bits = np.exp(z) / np.exp(z).sum(1, keepdims=True), (z > 0).astype(np.float32)
    groups = {
        "softmax_cross_entropy safe_softmax_cross_entropy poly_loss_cross_entropy": soft[::-1],
        "softmax_cross_entropy_with_integer_labels multiclass_hinge_loss multiclass_perceptron_loss": labels,
        "multiclass_sparsemax_loss": labels,
        "sigmoid_binary_cross_entropy sigmoid_focal_loss ranking_softmax_loss": bits[::-1],
        "sparsemax_loss": bits[::-1].astype(np.int32),
        "hinge_loss perceptron_loss": 2 * bits[::-1] - 1,
        "squared_error l2_loss huber_loss log_cosh cosine_similarity cosine_distance": hot,
        "kl_divergence generalized_kl_divergence": soft,
        "kl_divergence_with_log_targets": np.log(soft),
    }
    for name, target in ((name, target) for names, target in groups.items() for name in names.split()):
        points = {"ordinary": z, "× 40": np.float32(40) * z, "× 10⁴": np.float32(1e4) * z}
        if name.startswith("multiclass"):
            points["all 0"] = 0 * z
        for where, x in points.items():
            if where == "ordinary" or "kl_" not in name:
                yield differentiated("optax", name, where, getattr(optax.losses, name), x, target)
    for name, where, function, *args in optax_edges(z):
        yield differentiated("optax", name, where, function, *args)
    for path, (where, *args) in zip(RULES, (("weights 0 and 1", z, bits), ("ordinary", z[0])), strict=True):
        module, name = path.rsplit(".", 1)
        rule = getattr(importlib.import_module(f"optax.{module}"), name, None)
        if rule is not None:
            yield Case("optax", name, where, rule, None, tuple(args))


def optax_edges(z: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Losses where they are not smooth or norms are 0, and with other arguments: name, input, function, arguments."""
    one, targets, vector, losses = np.float32(1), np.asarray([0.5, 0.5, 0], np.float32), z[0, :3], optax.losses
    yield "hinge_loss", "on the margin", losses.hinge_loss, one, one
    yield "perceptron_loss", "0", losses.perceptron_loss, 0 * one, one
    yield "huber_loss", "error 0", losses.huber_loss, one, one
    yield "huber_loss", "error delta", losses.huber_loss, 2 * one, one
    yield "log_cosh", "error 0", losses.log_cosh, one, one
    yield "kl_divergence", "a target of 0", losses.kl_divergence, vector, targets
    logs = jnp.log(targets)
    yield "kl_divergence_with_log_targets", "a target of −∞", losses.kl_divergence_with_log_targets, vector, logs
    for name, loss in (("softmax", losses.softmax_cross_entropy), ("safe_softmax", losses.safe_softmax_cross_entropy)):
        where = "a class of weight 0 masked by −∞"
        yield f"{name}_cross_entropy", where, lambda x, f=loss: f(jnp.append(x, -jnp.inf), targets), vector[:2]
    for epsilon in (0, 1e-6):
        loss = partial(losses.cosine_similarity, epsilon=epsilon)
        yield "cosine_similarity", f"prediction 0, epsilon {epsilon:g}", loss, 0 * vector, vector
    labels, padding = np.asarray([[1, 1, 2], [3, 1, 0]], np.int32), np.asarray([[0, 0, 0], [0, 0, 1]], np.float32)
    yield (
        "ctc_loss",
        "repeated, padded",
        losses.ctc_loss,
        random(2, 6, 4),
        np.zeros((2, 6), np.float32),
        labels,
        padding,
    )
    for where, other in {"ordinary": z[::-1], "anchors and positives equal": z}.items():
        yield "triplet_margin_loss", where, losses.triplet_margin_loss, z, other, 2 * z


def nn_cases() -> Iterator[Case]:
    """Activations at the points where their pieces meet, then far out; functions of vectors."""
    functions = {name: getattr(jax.nn, name) for name in (*PIECES, *SMOOTH) if hasattr(jax.nn, name)}
    functions["gelu(approximate=False)"] = partial(jax.nn.gelu, approximate=False)
    for name, function in functions.items():
        for x in (*PIECES.get(name, ()), *FAR):
            if name != "log1mexp" or x > 0:
                yield differentiated("jax", f"nn.{name}", f"{x:.6g}", function, np.float32(x))
    yield differentiated("jax", "nn.elu(alpha=2)", "0", lambda x: jax.nn.elu(x, 2.0), np.float32(0))
    yield differentiated("jax", "nn.squareplus(b=0)", "0", lambda x: jax.nn.squareplus(x, 0), np.float32(0))
    z, weights = random(6), np.arange(1, 7, dtype=np.float32)
    for name in "glu softmax log_softmax logsumexp standardize".split():
        for where, scale in {"ordinary": 1, "× 50": 50, "× 10⁴": 1e4, "all 0": 0}.items():
            function, w = getattr(jax.nn, name), weights[:3] if name == "glu" else weights
            x = np.float32(scale) * z
            yield differentiated("jax", f"nn.{name}", where, lambda x, f=function, w=w: f(x) * w, x)
