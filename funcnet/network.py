"""The description of an MLP, and its initial parameters."""

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike

from funcnet.activations import Activation, identity, relu
from funcnet.losses import LOSSES, Loss
from funcnet.precision import work_dtype
from funcnet.types import AnyArray, KeyArray, Layer, Params

OPERAND_DTYPES = (None, "bfloat16")
VARIANCES: dict[str, Callable[[int, int], float]] = {
    "he": lambda n_in, n_out: 2 / n_in,
    "glorot": lambda n_in, n_out: 2 / (n_in + n_out),
    "lecun": lambda n_in, n_out: 1 / n_in,
}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["l2", "dropout"],
    meta_fields=["widths", "activation", "output_activation", "loss", "operand_dtype"],
)
@dataclass(frozen=True)
class MLP:
    """What an MLP is: its widths, activations and loss. Its parameters are apart, in a tree of arrays.

        A_0 = X,    Z_l = A_{l−1} W_l + 1 b_lᵀ,    A_l = φ_l(Z_l)    for l = 1 … L

    It is a pytree: `l2` and `dropout` are leaves, so that changing them compiles nothing anew and one `jax.vmap` of
    `value_and_grad` (or of `funcnet.training.step`) runs many networks; all else is static. Equal descriptions compile
    once.

    Attributes:
        widths: Numbers of features, of units in each hidden layer, and of outputs.
        activation: φ of the hidden layers: one for all, or a tuple with one for each.
        output_activation: φ of the last layer.
        loss: The per-example loss; L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ · l2 · Σ ‖W‖².
        l2: The penalty's factor, ≥ 0; biases are not penalised.
        dropout: The share of hidden outputs set to 0 (the others are scaled by 1 / (1 − dropout)), in [0, 1); it acts
            only where a `key` is given.
        operand_dtype: "bfloat16" rounds the operands of matrix products to it and accumulates in the parameters' dtype;
            None runs products at the highest precision of the device.

    Raises:
        TypeError: If a field is not of its kind.
        ValueError: If a width is below 1, the activations are not one for each hidden layer, a cross-entropy sits on an
            output activation other than the identity or on fewer classes than 2, or a number is out of its range.

    >>> import funcnet as fn
    >>> net = fn.MLP(widths=(64, 128, 10), activation=fn.relu, loss=fn.softmax_cross_entropy, l2=1e-4)
    >>> net.n_layers
    2
    """

    widths: tuple[int, ...]
    _: KW_ONLY
    activation: Activation | tuple[Activation, ...] = relu
    output_activation: Activation = identity
    loss: Loss
    l2: float | AnyArray | Any | None = None  # Any: as a pytree it also holds what JAX puts in place of leaves
    dropout: float | AnyArray | Any | None = None
    operand_dtype: str | None = None

    def __post_init__(self) -> None:
        """Check the fields; those with only values to tell are checked where they are plain numbers."""
        object.__setattr__(self, "widths", _checked_widths(self.widths))
        if isinstance(self.activation, list):
            object.__setattr__(self, "activation", tuple(self.activation))
        _check_rules(self)
        if self.operand_dtype not in OPERAND_DTYPES:
            raise ValueError(f"operand_dtype must be None or 'bfloat16'; got {self.operand_dtype!r}")
        for name, value in (("l2", self.l2), ("dropout", self.dropout)):
            if isinstance(value, str | bool):
                raise TypeError(f"{name} must be a number; got {value!r}")
        if _is_number(self.l2) and not 0 <= self.l2 < math.inf:
            raise ValueError(f"l2 must be a finite number of at least 0; got {self.l2}")
        if _is_number(self.dropout) and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")

    @property
    def n_layers(self) -> int:
        """L, the number of affine maps."""
        return len(self.widths) - 1

    @property
    def activations(self) -> tuple[Activation, ...]:
        """φ_1 … φ_L, the output activation last."""
        hidden = self.activation
        if not isinstance(hidden, tuple):
            hidden = (hidden,) * (self.n_layers - 1)
        return (*hidden, self.output_activation)


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a plain number, of which the value is known."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_widths(widths: object) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(width) for width in widths)  # pyright: ignore[reportGeneralTypeIssues] (it may be no sequence)
    except TypeError:
        raise TypeError(f"widths must be a sequence of whole numbers; got {widths!r}") from None
    if len(checked) < 2 or min(checked) < 1:
        raise ValueError(f"widths must be at least 2 numbers of at least 1 (inputs, …, outputs); got {checked}")
    return checked


def _check_rules(net: MLP) -> None:
    hidden = net.activation if isinstance(net.activation, tuple) else (net.activation,)
    for name, activation in [*(("activation", a) for a in hidden), ("output_activation", net.output_activation)]:
        if not isinstance(activation, Activation):
            raise TypeError(f"{name} must be a funcnet.Activation such as funcnet.relu; got {activation!r}")
    if isinstance(net.activation, tuple) and len(hidden) != net.n_layers - 1:
        raise ValueError(
            f"activation must be one for all or one for each of the {net.n_layers - 1} hidden layers; got {len(hidden)}"
        )
    if not isinstance(net.loss, Loss):
        hint = f"; call it: {net.loss.__name__}()" if getattr(net.loss, "__name__", "") in LOSSES else ""
        raise TypeError(f"loss must be a funcnet.Loss such as funcnet.softmax_cross_entropy; got {net.loss!r}{hint}")
    if net.loss.logits and net.output_activation != identity:
        raise ValueError(
            f"output_activation must be identity for {net.loss.name}, which takes logits; "
            f"got {net.output_activation.name}"
        )
    if net.loss.targets == "classes" and net.widths[-1] < 2:
        raise ValueError(f"widths must end in at least 2 classes for {net.loss.name}; got {net.widths}")


def check_net(net: Any) -> None:
    """Refuse what is no network, or one whose l2 or dropout is no number.

    Raises:
        TypeError: If it is no MLP, or l2 or dropout not of their kind.
        ValueError: If l2 or dropout is more than one number.
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a funcnet.MLP; got {type(net).__name__}")
    _check_scalar("l2", net.l2)
    _check_scalar("dropout", net.dropout)


def _check_scalar(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not (isinstance(value, int | float) or hasattr(value, "dtype")):
        raise TypeError(f"{name} must be a number; got {value!r}")
    shape = getattr(value, "shape", ())
    if shape != ():
        raise ValueError(f"{name} must be one number (one for each network under jax.vmap); got shape {shape}")


def check_key(key: Any, name: str = "key") -> None:
    """Refuse what is no random key, an integer seed above all.

    Raises:
        TypeError: If it is neither None nor a key, of the new or the old kind.
        ValueError: If it is an array of keys.
    """
    if key is None:
        return
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    of_words = dtype == np.uint32 and shape != ()
    if dtype is None or not (of_words or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise TypeError(f"{name} must be a random key such as jax.random.key(0); got {key!r}")
    if len(shape) != of_words:
        raise ValueError(f"{name} must be one random key; got shape {shape}")


def init(key: KeyArray, net: MLP, *, scheme: str | None = None, dtype: DTypeLike | None = None) -> Params:
    """Initial parameters: weights from a uniform distribution of mean 0, biases 0.

    The variance of a weight is 2/n_in for "he", 2/(n_in + n_out) for "glorot" and 1/n_in for "lecun". All weights
    come from one draw, which compiles several times faster than a key and a draw for each layer.

    Args:
        key: The random key.
        net: The network.
        scheme: "he", "glorot" or "lecun"; by default each layer has that of the activation behind it (he for relu and
            its kin, lecun for selu, glorot for the others).
        dtype: float16, bfloat16, float32 or float64; by default JAX's own default (float32 unless x64 is enabled).

    Raises:
        TypeError: If key is no random key, net no MLP, or dtype is not floating point.
        ValueError: If there is no such scheme.

    References:
        Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks.
        He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers.
        Klambauer, Unterthiner, Mayr, Hochreiter 2017, Self-Normalizing Neural Networks.

    >>> import jax
    >>> import funcnet as fn
    >>> net = fn.MLP((64, 128, 10), activation=fn.relu, loss=fn.softmax_cross_entropy)
    >>> [layer.w.shape for layer in fn.init(jax.random.key(0), net)]
    [(64, 128), (128, 10)]
    """
    check_key(key)
    check_net(net)
    try:
        checked = jnp.zeros((), dtype).dtype
    except TypeError:
        raise TypeError(f"dtype must be a floating-point one such as 'bfloat16'; got {dtype!r}") from None
    if not jnp.issubdtype(checked, jnp.floating):
        raise TypeError(f"dtype must be a floating-point one; got {checked}")
    if scheme is not None and scheme not in VARIANCES:
        raise ValueError(f"scheme must be one of {', '.join(VARIANCES)}; got {scheme!r}")
    return _draw(key, net, scheme, checked)


@partial(jax.jit, static_argnames=("scheme", "dtype"))
def _draw(key: KeyArray, net: MLP, scheme: str | None, dtype: np.dtype) -> Params:
    shapes = list(zip(net.widths[:-1], net.widths[1:], strict=True))
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    draw = jax.random.uniform(key, (ends[-1],), work_dtype(dtype), -1, 1)  # of variance 1/3
    layers = []
    for start, end, shape, activation in zip([0, *ends], ends, shapes, net.activations, strict=False):
        scale = math.sqrt(3 * VARIANCES[scheme or activation.initializer](*shape))
        w = scale * draw[start:end].reshape(shape)
        layers.append(Layer(w.astype(dtype), jnp.zeros(shape[1], dtype)))
    return tuple(layers)
