"""The options of a training run, in groups, with the words that `--help` shows."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "kfac", "lbfgs", "line_search", "exact_line_search",
    "gauss-newton",
]  # fmt: skip
ScheduleName = Literal["constant", "cosine", "one_cycle"]

# Options that may be left open; their words say what happens then.
OpenBool = Annotated[bool | None, arg(metavar="{True,False}", help_behavior_hint="")]
OpenFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OpenInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OpenInts = Annotated[tuple[int, ...] | None, arg(metavar="[INT ...]", help_behavior_hint="")]
OpenPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
OpenSchedule = Annotated[ScheduleName | None, arg(metavar="{constant,cosine,one_cycle}", help_behavior_hint="")]
OpenTexts = Annotated[tuple[str, ...] | None, arg(metavar="[NAME=VALUE,VALUE,... ...]", help_behavior_hint="")]
OpenText = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")]


@dataclass(frozen=True)
class DataOptions:
    """Which data, and how it is cut into parts."""

    data: str = "digits"
    """digits, iris, wine, breast_cancer, diabetes, linnerud, mnist, openml:NAME, a .csv, .tsv, .txt or .npz file, or a
    folder of x_train.npy, y_train.npy, x_validation.npy, …: its training part is read while it is trained on."""
    data_dir: OpenPath = None
    """The folder of MNIST's own files (train-images-idx3-ubyte, …, plain or .gz), for mnist."""
    target: OpenText = None
    """The column to predict, by name or by number from 1. By default the last."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first row names the columns."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """By auto, text and whole numbers are classes, numbers with a point are to be predicted as numbers."""
    validation_data: OpenPath = None
    """A file with your own validation part."""
    test_data: OpenPath = None
    """A file with your own test part."""
    validation_share: OpenFloat = None
    """The share to cut off for validation where there is no such part; 0 for none. By default 0.15."""
    test_share: OpenFloat = None
    """The share to cut off for the test where there is no such part; 0 for none. By default 0.2."""
    standardise: OpenBool = None
    """Bring features to mean 0 and deviation 1, fitted on the training part. By default all but pixels."""


@dataclass(frozen=True)
class NetworkOptions:
    """The network and its loss."""

    hidden: OpenInts = None
    """Units in each hidden layer; none without a number. By default 512; for numbers 64."""
    activation: str = "relu"
    """Of the hidden layers: relu, leaky_relu, elu, selu, softplus, sigmoid, tanh, silu, gelu, gelu_tanh."""
    output_activation: str = "identity"
    """Of the outputs; cross-entropies and poisson need identity."""
    loss: OpenText = None
    """Such as huber(0.5). By default label_smoothed(0.1); private softmax_cross_entropy, numbers half_squared_error."""
    dropout: OpenFloat = None
    """The share of hidden outputs dropped. By default 0.5, for numbers 0.1; private or with all in each step 0."""
    l2: OpenFloat = None
    """Factor of the penalty ½ · l2 · Σ ‖W‖². By default 0; with all examples in each step 0.001, for numbers 0.01."""


@dataclass(frozen=True)
class OptimizerOptions:
    """How the loss is brought down."""

    optimizer: OptimizerName = "adam"
    """lbfgs, line_search, exact_line_search (gradient descent) and gauss-newton take all examples in each step."""
    learning_rate: OpenFloat = None
    """The largest. By default sgd 0.1, kfac 0.2, momentum and nesterov 0.02, rmsprop 0.001, adam and adamw 0.002."""
    schedule: OpenSchedule = None
    """What becomes of it. By default cosine, down to 0."""
    warmup_epochs: float = 0.0
    """Epochs in which it first rises from 0."""
    momentum: OpenFloat = None
    """For momentum, nesterov and kfac. By default 0.9."""
    weight_decay: OpenFloat = None
    """For adamw. By default 0.01."""
    damping: OpenFloat = None
    """For kfac, by default 0.03, and for gauss-newton's first step, by default 0.01."""
    clip_norm: OpenFloat = None
    """Shorten gradients that are longer than this."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long, and in what portions."""

    batch_size: OpenInt = None
    """Examples in each step. By default 32; private a tenth, at most 256; lbfgs, searches, gauss-newton all."""
    part_size: OpenInt = None
    """Of a folder, about how many examples are read and shuffled at once. By default as many as have 2^25 features."""
    epochs: OpenInt = None
    """How often every example is seen. By default 60, for small sets 2,000 steps; 300 where that is one step each."""
    patience: OpenInt = None
    """Stop after so many epochs without a lower validation loss (else training loss), and go back to the best."""
    tolerance: OpenFloat = None
    """Stop when the norm of the gradient is no larger; for lbfgs, the line searches and gauss-newton."""
    sweep: OpenTexts = None
    """Train all combinations at once and keep the best: learning_rate=0.001,0.01 l2=0,0.0001 dropout=0,0.5 seed=0,1.
    Without values, 64 of them: 4 learning rates, 4 l2, 4 dropouts."""
    mesh: OpenText = None
    """Devices that share the work: data=4,model=2 splits batches in 4 and wide layers in 2. By default one device."""
    seed: int = 0
    """What parts of the data, initial parameters, order and dropout depend on; not samples and noise of dp-noise."""


@dataclass(frozen=True)
class PrivacyOptions:
    """Differential privacy of each training example: clipped gradients of random samples, with noise."""

    dp_noise: OpenFloat = None
    """Noise on each sum of gradients, its deviation in units of dp-max-norm; more is more private. By default none."""
    dp_max_norm: OpenFloat = None
    """The largest norm that the gradient of an example keeps. By default 1."""
    dp_delta: OpenFloat = None
    """δ of the (ε, δ) that is told after each epoch; below 1 / (training examples). By default 1e-5."""


@dataclass(frozen=True)
class OutputOptions:
    """What is kept."""

    run_dir: OpenPath = None
    """A folder to keep the run in: report.html, config.json, metrics.csv, summary.json, model.safetensors, pictures."""
    overwrite: bool = False
    """Put the run in the place of the one that is there."""
    resume: bool = False
    """Go on from the newest whole checkpoint of this run folder, if there is one, as if never interrupted."""
    checkpoint_seconds: float = 60.0
    """With a run folder, write a checkpoint after the first epoch that ends so long after the last one."""
    plot: OpenPath = None
    """Where the curves go without a run folder: .png, .pdf or .svg; the report stands beside them. By default
    training.png."""


@dataclass(frozen=True)
class ProcessOptions:
    """A run of several processes, each of which is started by this command."""

    distributed: bool = False
    """Share the run with other processes, on this machine or others; they need a file system in common for run-dir."""
    coordinator: OpenText = None
    """HOST:PORT of process 0. By default JAX_COORDINATOR_ADDRESS, or as SLURM and Open MPI tell."""
    processes: OpenInt = None
    """How many there are. By default JAX_NUM_PROCESSES, or as SLURM and Open MPI tell."""
    process: OpenInt = None
    """Which this is, from 0. By default JAX_PROCESS_ID or JOB_COMPLETION_INDEX, or as SLURM and Open MPI tell."""


@dataclass(frozen=True)
class Config:
    """All options of a run."""

    source: DataOptions = field(default_factory=DataOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimization: OptimizerOptions = field(default_factory=OptimizerOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    privacy: PrivacyOptions = field(default_factory=PrivacyOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    process: ProcessOptions = field(default_factory=ProcessOptions)

    def flat(self) -> dict[str, Any]:
        """Every option by name, as values that JSON can hold."""
        groups: dict[str, dict[str, Any]] = asdict(self)
        options = {name: value for group in groups.values() for name, value in group.items()}
        return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
