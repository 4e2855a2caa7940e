"""From options to all that training needs, checked before any work is done."""

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from jaxtyping import Float, Shaped

from funcnet import activations, losses
from funcnet.data import (
    Dataset,
    Standardisation,
    StandardisedRows,
    Streamed,
    fit_standardisation,
    schema,
    standardise,
)
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.numbers import check_count, check_positive, check_seed
from funcnet.runs.config import Config, PrivacyOptions
from funcnet.runs.model import Model
from funcnet.runs.sources import parts_of, standardisation_of
from funcnet.training.accounting import Privacy, check_privacy
from funcnet.training.metrics import Task, task_of
from funcnet.training.optimizers import FULL_BATCH, OPTIMIZERS, optimizer_by_name, schedule_by_name
from funcnet.training.streaming import Stream
from funcnet.types import Params

T = TypeVar("T", float, np.ndarray)
SMALL_SET_STEPS = 2000
LARGEST = 3e38  # that float32 can hold


class Setup(NamedTuple):
    """What the options stand for.

    Attributes:
        config: The options, with a value in the place of every default that depends on others.
        net: The network.
        optimizer: The optimizer with its schedule.
        epochs: How often every example is to be seen.
        task: What predictions are measured by.
        parts: The training part and, where there are such, the validation and test parts, as read; of a training part
            that is streamed a sample.
        features: How features are scaled, fitted on the training part.
        targets: How the numbers to predict are scaled, likewise.
        privacy: What makes training private, if anything.
        streamed: The training part, where it is streamed.
    """

    config: Config
    net: MLP
    optimizer: optax.GradientTransformation
    epochs: int
    task: Task
    parts: dict[str, Dataset]
    features: Standardisation | None
    targets: Standardisation | None
    privacy: Privacy | None
    streamed: Streamed | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The examples of each part."""
        counts = {part: len(dataset.x) for part, dataset in self.parts.items()}
        return counts if self.streamed is None else {**counts, "train": len(self.streamed.x)}

    def data(self) -> tuple[Float[np.ndarray, "n d"], Shaped[np.ndarray, "n ..."]] | Stream:
        """What to train on."""
        if self.streamed is None:
            return self.arrays("train")
        (x, y), size = self.streamed, self.config.training.part_size
        as_it_is = x.file if x.scaled else x  # bytes take a quarter of the memory
        rows = as_it_is if self.features is None else StandardisedRows(x, self.features)
        return Stream(rows, self._targets(y), part_size=size)

    def arrays(self, part: str) -> tuple[Float[np.ndarray, "n d"], Shaped[np.ndarray, "n ..."]]:
        """(x, y) of a part as network and loss want them: scaled, and labels as unit vectors for real targets."""
        dataset = self.parts[part]
        x = dataset.x if self.features is None else standardise(self.features, dataset.x)
        return x, self._targets(dataset.y)

    def _targets(self, y: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        if not self.parts["train"].class_names:
            return y if self.targets is None else standardise(self.targets, y)
        return y if self.net.loss.targets == "classes" else np.eye(self.net.widths[-1], dtype=np.float32)[y]

    def model(self, params: Params) -> Model:
        """The network with trained parameters and all that it takes to predict."""
        return Model(self.net, params, schema(self.parts["train"]), self.features, self.targets)

    def in_units(self, metrics: dict[str, T]) -> dict[str, T]:
        """Metrics with absolute errors in the units of the target; of several targets in their standard deviations."""
        if self.targets is None or len(self.targets.scale) > 1:
            return metrics
        unit = float(self.targets.scale[0])
        return {name: value * unit if name.endswith("absolute_error") else value for name, value in metrics.items()}


def set_up(config: Config) -> Setup:
    """Build everything that training needs.

    Raises:
        TypeError: If an option is not of its kind.
        ValueError: If one is out of its range, or does not go with the data or with another.
        OSError: If data cannot be read.
    """
    check_seed("seed", config.training.seed)
    parts, streamed = parts_of(config)
    train = parts["train"]
    n = len(train.x if streamed is None else streamed.x)
    config = _resolved(config, train, n)
    network, epochs = config.network, int(config.training.epochs or 0)
    loss = losses.by_name(str(network.loss))
    _check_loss(loss, train)
    net = MLP(
        (train.x.shape[1], *(network.hidden or ()), len(train.class_names) or train.y.shape[1]),
        activation=activations.by_name(network.activation),
        output_activation=activations.by_name(network.output_activation),
        loss=loss,
        l2=network.l2 or None,
        dropout=network.dropout or None,
    )
    unbounded = loss.targets == "real" and loss.target_range[1] == float("inf") == -loss.target_range[0]
    scale_targets = not train.class_names and unbounded and network.output_activation == "identity"
    return Setup(
        config,
        net,
        _optimizer(config, epochs, n),
        epochs,
        "classification" if train.class_names else task_of(net),
        parts,
        standardisation_of(streamed or train) if config.source.standardise else None,
        fit_standardisation((streamed or train).y) if scale_targets else None,
        _privacy(config),
        streamed,
    )


def _check_loss(loss: Loss, train: Dataset) -> None:
    """Refuse losses on labels for numbers; losses on numbers see labels as unit vectors."""
    if not train.class_names and loss.targets == "classes":
        raise ValueError(f"loss must be one for numbers, such as half_squared_error, for {train.name}; got {loss.name}")


def _check_whole(config: Config, whole: bool) -> None:
    """Refuse options that do not go with an optimizer that takes all examples in each step, or only with such a one."""
    network, optimization, training = config.network, config.optimization, config.training
    if whole and training.batch_size is not None:
        raise ValueError(f"batch_size is not for {optimization.optimizer}, which takes all examples in each step")
    if whole and optimization.warmup_epochs:
        raise ValueError(f"warmup_epochs is not for {optimization.optimizer}: it finds the length of its steps itself")
    if optimization.optimizer == "gauss-newton" and network.dropout:
        raise ValueError(f"dropout is not for gauss-newton, whose steps compare losses; got {network.dropout}")
    if not whole and training.tolerance is not None:
        raise ValueError(f"tolerance is for {', '.join(FULL_BATCH)}: the gradient of a batch does not go to 0")


def _resolved(config: Config, train: Dataset, n: int) -> Config:
    """The options with a value in the place of every default that depends on the data or on other options."""
    network, optimization, training = config.network, config.optimization, config.training
    whole, classes = optimization.optimizer in FULL_BATCH, bool(train.class_names)
    _check_whole(config, whole)
    if not (optimization.learning_rate or 0) < LARGEST:
        raise ValueError(f"learning_rate must be a positive finite number; got {optimization.learning_rate}")
    if training.patience is not None:
        check_count("patience", training.patience)
    if training.tolerance is not None:
        check_positive("tolerance", training.tolerance)
    private = _is_private(config)
    usual = min(256, -(-n // 10)) if private else 32
    batch_size = min(check_count("batch_size", _default(training.batch_size, usual)), n)
    epochs = 300 if whole else max(60, -(-SMALL_SET_STEPS // -(-n // batch_size)))
    return replace(
        config,
        source=replace(config.source, standardise=_default(config.source.standardise, not train.scaled)),
        network=replace(
            network,
            hidden=_default(network.hidden, (512,) if classes else (64,)),
            loss=_default(network.loss, _loss(classes, private)),
            dropout=_default(network.dropout, 0.0 if whole or private else 0.5 if classes else 0.1),
            l2=_default(network.l2, 0.0 if not whole else 0.001 if classes else 0.01),
        ),
        optimization=replace(
            optimization,
            learning_rate=_default(optimization.learning_rate, OPTIMIZERS[optimization.optimizer].learning_rate),
            schedule=_default(optimization.schedule, None if whole else "cosine"),
        ),
        training=replace(
            training,
            epochs=check_count("epochs", _default(training.epochs, epochs)),
            batch_size=None if whole else batch_size,
        ),
        privacy=_resolved_privacy(config.privacy, n) if private else config.privacy,
    )


def _loss(classes: bool, private: bool) -> str:
    return "half_squared_error" if not classes else "softmax_cross_entropy" if private else "label_smoothed(0.1)"


def _is_private(config: Config) -> bool:
    """Whether training is to be private; refuses options that do not go with that."""
    privacy, optimizer = config.privacy, config.optimization.optimizer
    if privacy.dp_noise is None:
        for name, value in (("dp_max_norm", privacy.dp_max_norm), ("dp_delta", privacy.dp_delta)):
            if value is not None:
                raise ValueError(f"{name} is for private training, which dp_noise asks for; got {value}")
        return False
    if OPTIMIZERS[optimizer].examples:
        raise ValueError(f"dp_noise is not for {optimizer}, which looks at the examples without noise")
    if config.training.sweep is not None:
        raise ValueError("dp_noise is not for a sweep: each of its networks would cost privacy")
    return True


def _resolved_privacy(options: PrivacyOptions, n: int) -> PrivacyOptions:
    """The options with defaults filled in, checked; messages name them as they are here."""
    names = {"noise_multiplier": "dp_noise", "max_norm": "dp_max_norm", "delta": "dp_delta"}
    values: Any = (options.dp_noise, _default(options.dp_max_norm, 1.0), _default(options.dp_delta, 1e-5))
    try:
        return PrivacyOptions(*check_privacy(Privacy(*values), n))
    except (TypeError, ValueError) as error:
        name, rest = str(error).split(" ", 1)
        raise type(error)(f"{names[name]} {rest}") from None


def _privacy(config: Config) -> Privacy | None:
    options: Any = config.privacy
    return None if options.dp_noise is None else Privacy(options.dp_noise, options.dp_max_norm, options.dp_delta)


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value


def unit_optimizer(setup: Setup) -> optax.GradientTransformation:
    """The optimizer with a largest learning rate of 1, to be scaled by rates that differ between networks."""
    config = setup.config
    config = replace(config, optimization=replace(config.optimization, learning_rate=1.0))
    return _optimizer(config, setup.epochs, setup.counts["train"])


def learning_rates(setup: Setup, epochs: int) -> Float[np.ndarray, " epochs"] | None:
    """The learning rate at the end of each of the first epochs; None where there is none, or it stays the same."""
    optimization, n = setup.config.optimization, setup.counts["train"]
    if optimization.learning_rate is None:
        return None
    steps, warmup = _steps(setup.config, n)
    name = optimization.schedule or "constant"
    rates = schedule_by_name(name, optimization.learning_rate, steps * setup.epochs, warmup)
    if not callable(rates):
        return None
    taken = steps * np.arange(1, epochs + 1, dtype=np.int32) - np.int32(1)
    return np.asarray(jax.jit(jax.vmap(rates))(taken), float)


def _steps(config: Config, n: int) -> tuple[int, int]:
    """Steps in each epoch, and those of the warm-up."""
    size = config.training.batch_size
    steps = 1 if size is None else -(-n // size)
    return steps, round(config.optimization.warmup_epochs * steps)


def _optimizer(config: Config, epochs: int, n: int) -> optax.GradientTransformation:
    optimization = config.optimization
    steps, warmup = _steps(config, n)
    if not 0 <= optimization.warmup_epochs < epochs:
        raise ValueError(
            f"warmup_epochs must be from 0 to less than the {epochs} epochs; got {optimization.warmup_epochs}"
        )
    return optimizer_by_name(
        optimization.optimizer,
        learning_rate=optimization.learning_rate,
        schedule=optimization.schedule,
        steps=steps * epochs,
        warmup=warmup,
        momentum=optimization.momentum,
        weight_decay=optimization.weight_decay,
        damping=optimization.damping,
        clip_norm=optimization.clip_norm,
    )
