"""A network as a compiled program: StableHLO, which JAX runs without funcnet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float

from funcnet.boundary import check_network
from funcnet.gradients import apply
from funcnet.interchange.scales import checked_scales
from funcnet.interchange.weights_file import write_whole
from funcnet.network import MLP
from funcnet.precision import work_dtype
from funcnet.types import Params

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(
    net: MLP,
    params: Params,
    path: str | Path,
    *,
    features: Any = None,
    targets: Any = None,
    probabilities: bool = True,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> None:
    """Write a network as a StableHLO program of features, for any number of rows, with the parameters in it.

    `jax.export.deserialize(path.read_bytes()).call(x)` runs it: it needs JAX, not funcnet. x is float32, or float64 if
    the parameters are; values are in the parameters' dtype. A network of one's own activations and losses is written
    like any other. JAX reads what it wrote for six months at least.

    Args:
        net: The network.
        params: Its parameters.
        path: The file, written whole or not at all.
        features: How raw features are scaled before they enter, a `Standardisation` or a fitted StandardScaler or
            MinMaxScaler of scikit-learn; the program then takes raw features.
        targets: How the numbers to predict were scaled, likewise; the program then gives them in their own units.
        probabilities: Whether to end in the loss's inverse link: probabilities of cross-entropies, rates of poisson.
            Else outputs are those of `apply`, logits and logarithms of rates.
        platforms: Where it is to run: "cpu", "cuda", "rocm", "tpu".

    Raises:
        TypeError: If params are not those of the network, or a scale is not of its kind.
        ValueError: If they do not fit it, or a platform is not known.
        OSError: If the file cannot be written.
    """
    check_network(net, params)
    features, targets = checked_scales(net, features, targets)
    if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
        raise ValueError(f"platforms must be some of {', '.join(PLATFORMS)}; got {platforms!r}")
    dtype = params[0].w.dtype

    def program(x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        if features is not None:  # in float64, as `standardise` has it
            x = (x.astype(jnp.float64) - features.mean[None]) / features.scale[None]
        values = apply(net, params, x.astype(work_dtype(dtype)))
        if probabilities:
            values = net.loss.inverse_link(values)
        if targets is None:
            return values
        return (values.astype(jnp.float64) * targets.scale[None] + targets.mean[None]).astype(dtype)

    (n,) = export.symbolic_shape("n")
    with jax.enable_x64(True):
        rows = jax.ShapeDtypeStruct((n, net.widths[0]), work_dtype(dtype))
        exported = export.export(jax.jit(program), platforms=tuple(platforms))(rows)
    write_whole(Path(path), bytes(exported.serialize()))
