"""The two pytrees everything else passes around, and the array types their annotations use."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Real, Shaped, UInt32

AnyArray = jax.Array | np.ndarray
"""What a caller may pass where an array is wanted."""

Values = Float[Array, "*s"]
"""What an elementwise function takes and gives: any shape, and the same shape."""

Features = Float[AnyArray, "n *features"]
"""A batch of n examples, each of any rank; flattened on entry."""

Targets = Real[AnyArray, "n ..."] | Bool[AnyArray, "n ..."]
"""Integer labels `(n,)`, or targets in the shape `(n, k)` of the outputs."""

Weights = Real[AnyArray, " n"] | Bool[AnyArray, " n"]
"""One weight for each example."""

KeyArray = Key[Array, ""] | UInt32[Array, "2"]
"""A random key, new style (`jax.random.key`) or old (`jax.random.PRNGKey`)."""


@runtime_checkable
class Rows(Protocol):
    """What slices along the first axis are read of: an array of NumPy, HDF5 or Zarr, or `funcnet.data.open_npy`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        ...

    @property
    def dtype(self) -> Any:
        """NumPy's dtype of its entries."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """The rows of a slice, as NumPy's array."""
        ...


class Layer(NamedTuple):
    """One affine map z = x w + 1 bᵀ: a weight matrix `(n_in, n_out)` and a bias `(n_out,)`."""

    w: Shaped[Array, "i o"]
    b: Shaped[Array, " o"]


Params = tuple[Layer, ...]
"""The parameters of an MLP, first layer first; gradients have the same tree."""
