"""The contenders of `epoch.py`: four ways to train the same network.

Each trains one further epoch a call, in batches of a new random order, and is otherwise written as its users write it.
"""

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.neural_network import MLPClassifier

import funcnet as fn
from funcnet.data import load

FUNCNET, SKLEARN, TORCH, STEP_LOOP = "funcnet", "scikit-learn", "PyTorch", "JAX step loop"


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


def examples(quick: bool, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST to learn from and to be tested on; for a quick run ten random blobs."""
    if not quick:
        parts = load("mnist", folder=folder)
        train, test = parts["train"], parts["test"]
        return train.x, train.y, test.x, test.y
    random = np.random.default_rng(0)
    y = random.integers(0, 10, 2500).astype(np.int32)
    x = (random.normal(0, 1, (10, 64))[y] + random.normal(0, 1, (2500, 64))).astype(np.float32)
    return x[:2000], y[:2000], x[2000:], y[2000:]


class Settings(NamedTuple):
    """How a contender learns.

    Attributes:
        batch_size: Examples for each step.
        rate: The learning rate.
        optimizer: "adam"; or "sgd", whose first step shows the gradient.
        cycle: Epochs in which the rate rises to that and falls again; None for a constant rate.
    """

    batch_size: int = 128
    rate: float = 1e-3
    optimizer: str = "adam"
    cycle: int | None = None

    def steps(self, n: int) -> int:
        """Those of the cycle, on n examples."""
        return (self.cycle or 1) * -(-n // self.batch_size)


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


def optax_of(settings: Settings, n: int) -> optax.GradientTransformation:
    """The optimizer for the contenders that take Optax's, on n examples."""
    cycle = optax.cosine_onecycle_schedule(settings.steps(n), settings.rate)
    rate = cycle if settings.cycle else settings.rate
    return optax.adam(rate) if settings.optimizer == "adam" else optax.sgd(rate)


def funcnet_peer(problem: Problem, settings: Settings) -> Peer:
    """The two halves of `fn.fit`, one epoch at a time."""
    net, params, x, y, x_test, y_test, seed = problem
    key = jax.random.key(seed)
    prepared = fn.training.prepare(
        key,
        net,
        optax_of(settings, len(x)),
        (x, y),
        batch_size=settings.batch_size,
        validation=(x_test, y_test),
        params=params,
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
    steps = settings.steps(len(x))
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, optimizer, settings.rate, steps, cycle_momentum=False)
    schedule = cycle() if settings.cycle else None

    def epoch() -> None:
        nonlocal taken
        for rows in torch.randperm(len(x)).split(settings.batch_size):
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            taken += 1
            if schedule is not None and taken < steps:  # it refuses to go on after its end
                schedule.step()

    def accuracy() -> float:
        with torch.no_grad():
            return float((model(x_test).argmax(1) == y_test).float().mean())

    def matrices() -> list[np.ndarray]:
        return [np.array(own.detach().numpy().T) for own in model.parameters()]

    return Peer(epoch, accuracy, matrices, lambda: taken)


def step_loop_peer(problem: Problem, settings: Settings) -> Peer:
    """One compiled step of a loss in plain JAX under `jax.value_and_grad`, called for each batch from Python."""
    x, y = problem.x, problem.y.astype(np.int32)
    optimizer, random = optax_of(settings, len(x)), np.random.default_rng(problem.seed)
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
