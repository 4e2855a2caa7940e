"""Second order beside BackPACK and curvlinops, the Laplacian beside folx, to float32's rounding.

All need the extra `bench`, without which they are skipped.
"""

import curvature_forms as forms
import curvature_peers as peers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from input_derivatives import FOLX, folx_form
from per_example_forms import Case, problem

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

FORMS = [
    (peers.BACKPACK, forms.DIAGONAL),
    (peers.BACKPACK, forms.FACTORS),
    (peers.CURVLINOPS, forms.HVP),
    (peers.CURVLINOPS, forms.GGN_VP),
]


# The packages' own affairs: features that need no gradient, and parts of PyTorch that curvlinops' parts still use.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


def assert_agree(got, expected):
    result = compare(got, expected)
    assert not result.problems, result
    assert result.error <= 2 * TOLERANCE["float32"], result


@pytest.fixture(scope="module")
def small():
    """A network with biases that are not 0, a batch, and a direction."""
    net, params, x, y = problem(Case((7, 9, 8, 5), 12, {}))
    random = np.random.default_rng(1)
    params = tuple(fn.Layer(w, jnp.asarray(random.normal(0, 0.3, b.shape), "float32")) for w, b in params)
    direction = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 1, leaf.shape), "float32"), params)
    return net, params, x, y, direction


def built(label, small):
    for package in peers.BUILDERS[label].packages:
        pytest.importorskip(package)
    return peers.BUILDERS[label].build(*small)


@pytest.mark.parametrize(("label", "name"), FORMS, ids=lambda text: text.replace(" ", "-"))
def test_a_peer_finds_the_same_each_time(label, name, small):
    form, expected = built(label, small)[name], forms.CLOSED[name](*small)
    for _ in range(2):  # what the first call leaves behind must not count in the second
        assert_agree(form.read(), expected)


def test_folx_finds_the_same(standard_promotion):
    pytest.importorskip(FOLX)
    net = fn.MLP((3, 8, 8, 2), activation=fn.tanh, loss=fn.half_squared_error)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (6, 3)), "float32")
    params = fn.init(jax.random.key(0), net, dtype="float32")
    with jax.numpy_rank_promotion("allow"):
        assert_agree(folx_form(net, params, x), fn.laplacian(net, params, x))


def test_what_is_absent_is_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None if package == "curvlinops" else package)
    builders, reasons = peers.available()
    assert list(builders) == [peers.BACKPACK]
    assert reasons == ["curvlinops is left out: not installed: curvlinops-for-pytorch"]
