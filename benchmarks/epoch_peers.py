"""The contenders of `epoch.py`: four ways to train the same network, and the matrix products that none can do without.

Each trains one further epoch a call, in batches of a new random order, and is otherwise written as its users write it.
"""

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.neural_network import MLPClassifier

import funcnet as fn

FUNCNET, SKLEARN, TORCH, STEP_LOOP = "funcnet", "scikit-learn", "PyTorch", "JAX step loop"
STIR = 1e-5
"""How much of a product goes into the next step's input, so that no step is like the one before."""
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
"""XLA's other library for products on CPUs, faster for some shapes."""


class Problem(NamedTuple):
    """What is to be learned.

    Attributes:
        net: The relu classifier.
        params: Where to start; None for each contender's own initial parameters.
        x, y: Features and labels to learn from.
        x_test, y_test: Those that accuracy is measured on.
        seed: What order, and parameters where there are none, are drawn from.
    """

    net: fn.MLP
    params: fn.Params | None
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    seed: int = 0

    def matrices(self) -> list[np.ndarray]:
        """W and b of each layer to start from, as copies; He's where there are no parameters."""
        if self.params is not None:
            return copies(self.params)
        random = np.random.default_rng(self.seed)
        layers = [(random.normal(0, math.sqrt(2 / i), (i, o)), np.zeros(o)) for i, o in pairwise(self.net.widths)]
        return [array.astype(np.float32) for layer in layers for array in layer]


class Settings(NamedTuple):
    """How a contender learns.

    Attributes:
        batch_size: Examples for each step.
        rate: The learning rate.
        optimizer: "adam"; or "sgd", whose first step shows the gradient.
    """

    batch_size: int = 128
    rate: float = 1e-3
    optimizer: str = "adam"


class Peer(NamedTuple):
    """A network in training.

    Attributes:
        epoch: Train one further epoch, and wait for its end.
        accuracy: The share of test examples that are labelled right now.
        matrices: W (in × out) and b of each layer now.
        steps: The number of updates so far.
    """

    epoch: Callable[[], None]
    accuracy: Callable[[], float]
    matrices: Callable[[], list[np.ndarray]]
    steps: Callable[[], int]


def copies(params: Any) -> list[np.ndarray]:
    """The arrays of a tree, in order."""
    return [np.array(leaf) for leaf in jax.tree.leaves(params)]


def optax_of(settings: Settings) -> optax.GradientTransformation:
    """The optimizer for the contenders that take Optax's."""
    return optax.adam(settings.rate) if settings.optimizer == "adam" else optax.sgd(settings.rate)


def funcnet_peer(problem: Problem, settings: Settings) -> Peer:
    """The two halves of `fn.fit`, one epoch at a time."""
    net, params, x, y, x_test, y_test, seed = problem
    key = jax.random.key(seed)
    prepared = fn.training.prepare(
        key, net, optax_of(settings), (x, y), batch_size=settings.batch_size, validation=(x_test, y_test), params=params
    )
    test: Any = prepared.validation
    prepared = prepared._replace(validation=None)  # evaluated by `accuracy`, not in every epoch

    def epoch() -> None:
        nonlocal prepared
        prepared = prepared._replace(state=jax.block_until_ready(fn.training.run(prepared, 1).state))

    def accuracy() -> float:
        sums = fn.training.evaluate(prepared.net, prepared.state.params, test, prepared.task)
        return float(sums.scores[0]) / float(sums.weight)

    return Peer(epoch, accuracy, lambda: copies(prepared.state.params), lambda: int(prepared.state.step))


def sklearn_peer(problem: Problem, settings: Settings) -> Peer:
    """`MLPClassifier.partial_fit`, which goes over the data once in batches and keeps the optimizer's state.

    `fit` with `warm_start=True` and `max_iter=1` would be an epoch too, but starts Adam anew each time.
    """
    n, widths = problem.x.shape[0], problem.net.widths
    model = MLPClassifier(
        widths[1:-1],
        solver=settings.optimizer,
        alpha=0.0,
        batch_size=min(settings.batch_size, n),
        learning_rate_init=settings.rate,
        momentum=0.0,  # of sgd alone
        nesterovs_momentum=False,
        random_state=np.random.RandomState(problem.seed),  # a number would give every epoch the same order
    )

    def epoch(rows: slice = slice(None)) -> None:
        model.partial_fit(problem.x[rows], problem.y[rows], classes=np.arange(widths[-1]))

    def matrices() -> list[np.ndarray]:
        return copies(list(zip(model.coefs_, model.intercepts_, strict=True)))

    if problem.params is not None:
        epoch(slice(0, min(settings.batch_size, n)))  # makes its arrays
        vars(model).pop("_optimizer", None)  # and Adam's moments, which start anew
        model.t_ = 0
        given = problem.matrices()
        model.coefs_, model.intercepts_ = given[0::2], given[1::2]

    def accuracy() -> float:
        return float(model.score(problem.x_test, problem.y_test))

    return Peer(epoch, accuracy, matrices, lambda: model.t_ // n * -(-n // settings.batch_size))  # t_ counts examples


def torch_peer(problem: Problem, settings: Settings) -> Peer:
    """PyTorch, eager, with its fused Adam."""
    torch: Any = import_module("torch")
    torch.manual_seed(problem.seed)
    x, y, x_test, y_test = map(torch.from_numpy, (problem.x, problem.y, problem.x_test, problem.y_test))
    y, y_test, widths = y.long(), y_test.long(), problem.net.widths
    layers = [torch.nn.Linear(i, o) for i, o in pairwise(widths)]
    model = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU())))[:-1]
    if problem.params is not None:
        with torch.no_grad():
            for own, given in zip(model.parameters(), problem.matrices(), strict=True):
                own.copy_(torch.from_numpy(given.T))
    learner = partial(torch.optim.Adam, fused=True) if settings.optimizer == "adam" else torch.optim.SGD
    optimizer, taken = learner(model.parameters(), lr=settings.rate), 0

    def epoch() -> None:
        nonlocal taken
        for rows in torch.randperm(len(x)).split(settings.batch_size):
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            taken += 1

    def accuracy() -> float:
        with torch.no_grad():
            return float((model(x_test).argmax(1) == y_test).float().mean())

    def matrices() -> list[np.ndarray]:
        return [np.array(own.detach().numpy().T) for own in model.parameters()]

    return Peer(epoch, accuracy, matrices, lambda: taken)


def step_loop_peer(problem: Problem, settings: Settings) -> Peer:
    """One compiled step of a loss in plain JAX under `jax.value_and_grad`, called for each batch from Python."""
    x, y = problem.x, problem.y.astype(np.int32)
    optimizer, random = optax_of(settings), np.random.default_rng(problem.seed)
    given = [jnp.array(array) for array in problem.matrices()]
    params = list(zip(given[0::2], given[1::2], strict=True))
    opt_state, taken = optimizer.init(params), 0

    def logits(params: Any, x: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    def loss(params: Any, x: Any, y: Any) -> Any:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, opt_state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    def epoch() -> None:
        nonlocal params, opt_state, taken
        order = random.permutation(len(x))
        for start in range(0, len(x), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            params, opt_state, _ = step(params, opt_state, x[rows], y[rows])
            taken += 1
        jax.block_until_ready(params)

    labels = jax.jit(lambda params, x: jnp.argmax(logits(params, x), axis=1))

    def accuracy() -> float:
        return float(np.mean(np.asarray(labels(params, problem.x_test)) == problem.y_test))

    return Peer(epoch, accuracy, lambda: copies(params), lambda: taken)


Builder = Callable[[Problem, Settings], Peer]


def available() -> tuple[dict[str, Builder], list[str]]:
    """The contenders that can run here, and why others cannot."""
    peers: dict[str, Builder] = {FUNCNET: funcnet_peer, SKLEARN: sklearn_peer}
    if find_spec("torch"):
        return peers | {TORCH: torch_peer, STEP_LOOP: step_loop_peer}, []
    return peers | {STEP_LOOP: step_loop_peer}, [f"{TORCH} is left out: the package torch is not installed"]


Products = Callable[[], tuple[Any, Any]]
"""Runs the products of so many steps; returns the last step's input and its products Aᵀ Δ."""


def numpy_products(ws: list[np.ndarray], x: np.ndarray, steps: int) -> Products:
    """By NumPy, into arrays that are there."""
    outputs, cotangents = ([np.empty((len(x), w.shape[1]), np.float32) for w in ws] for _ in range(2))
    grads = [np.empty_like(w) for w in ws]

    def run() -> tuple[Any, Any]:
        inputs = [x.copy(), *outputs]
        for _ in range(steps):
            for a, w, z in zip(inputs, ws, outputs, strict=False):
                np.matmul(a, w, out=z)
            d = outputs[-1]
            for i in reversed(range(len(ws))):
                np.matmul(inputs[i].T, d, out=grads[i])
                if i > 0:
                    d = np.matmul(d, ws[i].T, out=cotangents[i - 1])
            inputs[0][0, 0] += np.float32(STIR) * grads[0][0, 0]
        return inputs[0], grads

    return run


def xla_products(ws: list[np.ndarray], x: np.ndarray, steps: int, options: dict[str, Any]) -> Products | None:
    """By XLA, all steps in one program; None where this compiler does not know the options.

    All products of a step depend on its input, and that on the products of the step before. So none can be moved out
    of the loop or left out; and since the input's entry is written after its last use, nothing is copied for it.
    """

    def one_step(_: Any, carried: Any) -> Any:
        ws, x, _ = carried
        inputs = [x]
        for w in ws:
            inputs.append(jnp.matmul(inputs[-1], w, precision="highest"))
        d, grads = inputs[-1], []
        for i in reversed(range(len(ws))):
            grads.insert(0, jnp.matmul(inputs[i].T, d, precision="highest"))
            d = jnp.matmul(d, ws[i].T, precision="highest") if i > 0 else d
        return ws, x.at[0, 0].add(STIR * grads[0][0, 0]), grads

    def program(ws: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, steps, one_step, (ws, x, [jnp.zeros_like(w) for w in ws]))[1:]

    arguments = [jnp.asarray(w) for w in ws], jnp.asarray(x)
    try:
        compiled = jax.jit(program, compiler_options=options).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError:  # options come and go with the compiler's versions
        return None
    return lambda: compiled(*arguments)


def products(widths: tuple[int, ...], batch_size: int, steps: int) -> dict[str, Products]:
    """A W, Aᵀ Δ and, but for the first layer, Δ Wᵀ, of so many steps, nothing else; matrices are random."""
    random = np.random.default_rng(0)
    ws = [random.normal(0, i**-0.5, (i, o)).astype(np.float32) for i, o in pairwise(widths)]
    x = random.normal(0, 1, (batch_size, widths[0])).astype(np.float32)
    runs = {"NumPy": numpy_products(ws, x, steps), "XLA": xla_products(ws, x, steps, {})}
    runs["XLA by Eigen"] = xla_products(ws, x, steps, EIGEN)
    return {name: run for name, run in runs.items() if run}
