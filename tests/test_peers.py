"""Norms, clipped sums, second moments and Gram matrices beside those of Opacus and BackPACK, to float32's rounding."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import per_example_peers as peers
import pytest
from per_example_forms import CLIPPED, GRAM, MOMENT, NOISE, NORMS, PLAIN, Case, problem
from per_example_memory import BATCHES, Sizes, largest_batch, torch_sizes

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

FORMS = [
    (peers.TORCH, PLAIN),
    (peers.HOOKS, NORMS),
    (peers.HOOKS, CLIPPED),
    (peers.GHOST, NORMS),
    (peers.GHOST, CLIPPED),
    (peers.BACKPACK, NORMS),
    (peers.BACKPACK, MOMENT),
    (peers.BACKPACK, GRAM),
    (peers.BACKPACK, NOISE),
]
"""Every form there is of every quantity."""
N = 12

# The features need no gradient, which PyTorch remarks on where a hook waits for one; Opacus' hooks are made for that.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def load(label):
    """The builder of a peer's forms; the test is skipped where the peer is not installed."""
    for package in peers.PACKAGES[label]:
        pytest.importorskip(package)
    return peers.BUILDERS[label]


@pytest.fixture(scope="module")
def small():
    """A network with a hidden unit or two switched off for some examples, biases that are not 0, and a batch."""
    net, params, x, y = problem(Case((7, 9, 8, 5), N, {}))
    random = np.random.default_rng(1)
    params = tuple(fn.Layer(w, jnp.asarray(random.normal(0, 0.3, b.shape), "float32")) for w, b in params)
    norms = np.asarray(fn.per_example_grad_norms(net, params, x, y))
    return net, params, x, y, float(np.median(norms))


def ours(name, net, params, x, y, max_norm):
    return {
        PLAIN: lambda: fn.value_and_grad(net, params, x, y)[1],
        NORMS: lambda: fn.per_example_grad_norms(net, params, x, y),
        CLIPPED: lambda: fn.clipped_grad_sum(net, params, x, y, max_norm),
        MOMENT: lambda: fn.grad_second_moment(net, params, x, y),
        GRAM: lambda: fn.grad_gram(net, params, x, y),
        NOISE: lambda: fn.gradient_noise_scale(net, params, x, y),
    }[name]()


def assert_agree(got, expected):
    result = compare(got, expected)
    assert not result.problems, result
    assert result.error <= 2 * TOLERANCE["float32"], result


@pytest.mark.parametrize(("label", "name"), FORMS, ids=lambda text: text.replace(", ", "-").replace(" ", "-"))
def test_a_peer_finds_the_same_each_time(label, name, small):
    _, params, x, y, max_norm = small
    run = load(label)(peers.setting_of(params, x, y, max_norm))[name]
    expected = ours(name, *small)
    for _ in range(2):  # what the first call leaves behind must not count in the second
        assert_agree(peers.tree_of(run()), expected)


def test_the_forms_are_all_there_are(small):
    _, params, x, y, max_norm = small
    built = {label: load(label)(peers.setting_of(params, x, y, max_norm)) for label in peers.BUILDERS}
    assert [(label, name) for label, forms in built.items() for name in forms] == FORMS


def test_some_are_clipped_and_some_are_not(small):
    net, params, x, y, max_norm = small
    norms = fn.per_example_grad_norms(net, params, x, y)
    assert 0 < int(jnp.sum(norms > max_norm)) < N


def test_a_weighted_clipped_sum(small):
    """Opacus has no weights: each example is clipped by itself, and the weights are put to that."""
    net, params, x, y, max_norm = small
    build = load(peers.HOOKS)
    weights = jnp.asarray([0.0, 2.0, 0.5, 1.0] * (N // 4), "float32")
    rows = [
        peers.tree_of(build(peers.setting_of(params, x[i : i + 1], y[i : i + 1], max_norm))[CLIPPED]())
        for i in range(N)
    ]
    total = jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *rows)
    assert_agree(fn.clipped_grad_sum(net, params, x, y, max_norm, weights=weights), total)


def test_what_is_absent_is_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda package: None if package == "opacus" else package)
    builders, reasons = peers.available()
    assert list(builders) == [peers.TORCH, peers.BACKPACK]
    assert reasons == [f"{label} is left out: not installed: opacus" for label in (peers.HOOKS, peers.GHOST)]


@pytest.mark.parametrize(
    "total",
    [
        lambda n: 100 * n,
        lambda n: 50_000 + 7 * n,
        lambda n: max(400_000, 30 * n - 1000),
        lambda n: n * n,
        lambda n: 999_999,
        lambda n: 2_000_000 + n,
        lambda n: 40_000 * n,
    ],
)
def test_the_largest_batch_that_fits(total):
    limit, tried = 1_000_000, []

    def sizes(n):
        tried.append(total(n))
        return Sizes(0, 0, total(n))

    expected = max((n for n in BATCHES if total(n) <= limit), default=None)
    assert largest_batch(sizes, limit) == expected
    if total(64) <= 2 * total(32):
        assert all(size <= 1.5 * limit for size in tried[1:])  # what is run must not fill the machine


def test_memory_of_a_peer_is_that_of_its_arrays():
    """Opacus' hooks hold every example's gradient at once; ghost clipping does not."""
    widths, n = (40, 50, 30), 16
    entries = sum(i * o + o for i, o in pairwise(widths))
    for label in (peers.HOOKS, peers.GHOST):
        build = load(label)
        sizes = torch_sizes(build, CLIPPED, widths, n)
        assert sizes.arguments == 4 * entries + 4 * n * widths[0] + 8 * n
        assert sizes.result == 4 * entries
        assert (sizes.temporary >= 4 * n * entries) == (label == peers.HOOKS)
