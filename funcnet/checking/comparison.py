"""Two trees of arrays compared leaf by leaf.

Errors are in units of eps times the leaf's largest entry: eps is that of the dtype under test, and the largest entry is
the scale on which a sum rounds. A correct float16 gradient is hundreds of units in the last place of its own smallest
entries away from the truth, yet within a few of these.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {"float16": 2.0, "bfloat16": 2.0, "float32": 16.0, "float64": 16.0}
"""The largest error, in units of eps times the leaf's largest entry, that rounding explains in a gradient.

By dtype. Half precision is computed in float32 and rounded once, hence its smaller number.
"""


class LeafComparison(NamedTuple):
    """One leaf against its reference.

    Attributes:
        path: Where the leaf is in its tree, as `jax.tree_util.keystr` writes it.
        shape: Its shape.
        dtype: Its dtype, which sets eps.
        error: The largest |got − expected|, in units of eps times the largest |expected|.
        ratio: The r for which r · expected is nearest to got: 1 for a correct gradient, k for one k times too large.
        worst: The index of the largest error.
        expected: The reference there.
        got: The value there.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    error: float
    ratio: float
    worst: tuple[int, ...]
    expected: float
    got: float

    def __str__(self) -> str:
        """One line: path, error, ratio, worst entry."""
        place = ", ".join(map(str, self.worst))
        return (
            f"{self.path or 'value'} {self.dtype}{list(self.shape)}: error {self.error:.3g} eps·max, "
            f"ratio {self.ratio:.6g}, worst at [{place}]: expected {self.expected:.9g}, got {self.got:.9g}"
        )


class Comparison(NamedTuple):
    """Two trees compared.

    Attributes:
        leaves: Their leaves, in order; empty where the structures differ.
        problems: Differences in structure, shape or dtype, in words.
    """

    leaves: tuple[LeafComparison, ...]
    problems: tuple[str, ...]

    @property
    def error(self) -> float:
        """The largest error of any leaf; infinite where structure, shape or dtype differ."""
        return float("inf") if self.problems else max((leaf.error for leaf in self.leaves), default=0.0)

    def __str__(self) -> str:
        """The problems, then one line for each leaf."""
        return "\n".join([*self.problems, *map(str, self.leaves)])


def compare(got: Any, expected: Any, *, like: Any = None) -> Comparison:
    """Compare two trees of real arrays: structure, then shapes and dtypes, then values leaf by leaf.

    Args:
        got: The tree under test.
        expected: The reference. Its values are read in float64.
        like: A tree whose structure, shapes and dtypes `got` must have; by default those of `expected`. Give the
            differentiated argument where the reference was computed in a higher precision.

    >>> import jax.numpy as jnp
    >>> from funcnet.checking import compare
    >>> result = compare({"w": jnp.array([2.0, 4.0])}, {"w": jnp.array([1.0, 2.0])})
    >>> result.leaves[0].ratio
    2.0
    """
    like = expected if like is None else like
    paths, structure = jax.tree_util.tree_flatten_with_path(got)
    if structure != jax.tree.structure(like):
        return Comparison((), (f"structure must be {jax.tree.structure(like)}; got {structure}",))
    problems, leaves = [], []
    for (path, leaf), reference, model in zip(paths, jax.tree.leaves(expected), jax.tree.leaves(like), strict=True):
        name = jax.tree_util.keystr(path)
        if jnp.shape(leaf) != jnp.shape(model):
            problems.append(f"{name or 'value'} must have shape {jnp.shape(model)}; got {jnp.shape(leaf)}")
            continue
        if _dtype(leaf) != _dtype(model):
            problems.append(f"{name or 'value'} must have dtype {_dtype(model)}; got {_dtype(leaf)}")
        leaves.append(compare_leaf(name, leaf, reference))
    return Comparison(tuple(leaves), tuple(problems))


def _dtype(leaf: Any) -> np.dtype:
    """The dtype of a leaf as it is: to JAX without x64 a NumPy float64 would be float32."""
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def unit_of(dtype: Any, reference: np.ndarray) -> float:
    """What errors in a leaf are measured in: eps times its largest entry, but at least what underflow costs.

    CPUs keep float16's subnormal numbers and flush those of the other dtypes to 0.
    """
    limits = jnp.finfo(dtype)
    largest = float(np.max(np.abs(reference), where=np.isfinite(reference), initial=0.0))
    return max(
        float(limits.eps) * largest, float(limits.smallest_subnormal if limits.dtype == np.float16 else limits.tiny)
    )


def compare_leaf(path: str, got: Any, expected: Any) -> LeafComparison:
    """One array against its reference, in units of eps times the largest entry (or what underflow costs, if larger)."""
    dtype = _dtype(got)
    limits = jnp.finfo(dtype)
    values, reference = (np.atleast_1d(np.asarray(a).astype(np.float64)) for a in (got, expected))
    if values.size == 0:
        return LeafComparison(path, jnp.shape(got), str(dtype), 0.0, 1.0, (), 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        beyond = np.isinf(values) & (np.abs(reference) > float(limits.max)) & (np.sign(values) == np.sign(reference))
        difference = np.where((values == reference) | beyond, 0.0, np.abs(values - reference))
        difference = np.where(np.isnan(difference), np.inf, difference)
        error = np.max(difference) / unit_of(dtype, reference)
        norm = np.sum(reference * reference)
        ratio = np.sum(values * reference) / norm if norm > 0 else float(not np.any(values))
    worst = np.unravel_index(np.argmax(difference), difference.shape)
    index = tuple(int(i) for i in worst) if jnp.ndim(got) else ()
    return LeafComparison(
        path,
        jnp.shape(got),
        str(dtype),
        float(error),
        float(ratio),
        index,
        float(reference[worst]),
        float(values[worst]),
    )
