"""Each system of the project's source documents, by document and equation, in its own convention and sizes.

000: the differential method, cross-entropy, a two-layer network in column vectors. 001: a deep network in row vectors
with subtracted biases. 002: layers with batches and mini-batch descent. 003: the affine layer and its shapes. Each is
checked against hand-worked numbers or independent float64 NumPy, and against `jax.grad`. Slips in the documents are
named where the corrected line is proven.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import WIDE, X64, assert_close

import funcnet as fn
from funcnet.checking import in_float64
from funcnet.layouts import convert

RTOL = 1e-11 if X64 else 2e-4


def draw(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(0, 1, shape) for shape in shapes]


def sigma(z):
    return 1 / (1 + np.exp(-z))


def softmax(a):
    return np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True)


def close(got, expected, rtol=RTOL):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=rtol, atol=rtol)


def as_jax(*arrays):
    return [jnp.asarray(a, WIDE) for a in arrays]


# ---- 000: the differential method ----

DIFFERENTIALS = {
    "1 sum": (lambda x, y: x - y, lambda x, y, dx, dy: dx - dy),
    "2 product": (lambda x, y: x @ y, lambda x, y, dx, dy: dx @ y + x @ dy),
    "3 transpose": (lambda x, y: x.T, lambda x, y, dx, dy: dx.T),
    "4 trace": (lambda x, y: jnp.trace(x), lambda x, y, dx, dy: np.trace(dx)),
    "5 inverse": (
        lambda x, y: jnp.linalg.inv(x),
        lambda x, y, dx, dy: -np.linalg.inv(x) @ dx @ np.linalg.inv(x),
    ),
    "6 determinant, by the adjugate": (
        lambda x, y: jnp.linalg.det(x),
        lambda x, y, dx, dy: np.trace(adjugate(x) @ dx),
    ),
    "6 determinant, by the inverse": (
        lambda x, y: jnp.linalg.det(x),
        lambda x, y, dx, dy: np.linalg.det(x) * np.trace(np.linalg.inv(x) @ dx),
    ),
    "7 elementwise product": (lambda x, y: x * y, lambda x, y, dx, dy: dx * y + x * dy),
    "8 elementwise function": (lambda x, y: jax.nn.sigmoid(x), lambda x, y, dx, dy: sigma(x) * sigma(-x) * dx),
}


def adjugate(x):
    """The transposed cofactors, from determinants of the minors."""
    n = len(x)
    minors = [[np.delete(np.delete(x, i, 0), j, 1) for j in range(n)] for i in range(n)]
    return np.array([[(-1) ** (i + j) * np.linalg.det(minors[i][j]) for j in range(n)] for i in range(n)]).T


@pytest.mark.parametrize("rule", DIFFERENTIALS)
def test_000_rules_of_differentials(rule):
    function, differential = DIFFERENTIALS[rule]
    x, y, dx, dy = draw((3, 3), (3, 3), (3, 3), (3, 3))
    got = in_float64(lambda *a: jax.jvp(function, a[:2], a[2:])[1])(*as_jax(x, y, dx, dy))
    np.testing.assert_allclose(
        got, differential(x, y, dx, dy), rtol=1e-4 if not X64 else 1e-10, atol=1e-4 if not X64 else 0
    )


def test_000_rules_of_traces():
    a, b, c, square = draw((3, 4), (3, 4), (3, 4), (3, 3))
    np.testing.assert_allclose(np.trace(np.array([[2.5]])), 2.5)  # 9: a = tr(a)
    np.testing.assert_allclose(np.trace(square.T), np.trace(square))  # 10: transpose
    np.testing.assert_allclose(np.trace(square - 2 * square.T), np.trace(square) - 2 * np.trace(square.T))  # 11: linear
    np.testing.assert_allclose(np.trace(a @ b.T), np.trace(b.T @ a))  # 12: swap of factors
    np.testing.assert_allclose(np.trace(a.T @ (b * c)), np.trace((a * b).T @ c))  # 13: swap of ⊙ and product


def test_000_definition():
    """df = tr((∂f/∂X)ᵀ dX) = Σ_ij ∂f/∂X_ij dX_ij (the document's sum lacks the factor dX_ij)."""
    x, dx, a = draw((3, 4), (3, 4), (4, 3))
    gradient, change = in_float64(
        lambda x, dx, a: (
            jax.grad(lambda x: jnp.sum(jnp.sin(a @ x)))(x),
            jax.jvp(lambda x: jnp.sum(jnp.sin(a @ x)), (x,), (dx,))[1],
        )
    )(*as_jax(x, dx, a))
    np.testing.assert_allclose(np.trace(gradient.T @ dx), change, rtol=1e-5)
    np.testing.assert_allclose(np.sum(gradient * dx), change, rtol=1e-5)


def test_000_example_1_cross_entropy():
    """∂ℓ/∂a = softmax(a) − y. By hand: a = (0, log 2, log 5), y = e_2: ℓ = log 4, gradient (1/8, −3/4, 5/8)."""
    a = jnp.log(jnp.asarray([[1.0, 2.0, 5.0]]))
    for y in (jnp.array([1]), jnp.array([[0.0, 1.0, 0.0]])):
        close(fn.softmax_cross_entropy.value(a, y), [np.log(4)], rtol=1e-6)
        close(fn.softmax_cross_entropy.gradient(a, y), [[0.125, -0.75, 0.625]], rtol=1e-6)
    by_autodiff = jax.grad(lambda a: -jax.nn.log_softmax(a[0])[1])(a)
    close(fn.softmax_cross_entropy.gradient(a, jnp.array([1])), by_autodiff, rtol=1e-6)


def test_000_example_2_two_layers_in_columns():
    """ℓ = −yᵀ log softmax(W₂ σ(W₁ x)), W₁ 4 x 3, W₂ 2 x 4, without biases."""
    w1, w2, x = draw((4, 3), (2, 4), (3, 1))
    y = np.array([[0.0], [1.0]])
    a1 = w1 @ x
    h1 = sigma(a1)
    a2 = w2 @ h1
    d_a2 = softmax(a2.T).T - y
    d_w2 = d_a2 @ h1.T
    d_h1 = w2.T @ d_a2
    d_a1 = d_h1 * sigma(a1) * (1 - sigma(a1))
    d_w1 = d_a1 @ x.T

    net = fn.MLP((3, 4, 2), activation=fn.sigmoid, loss=fn.softmax_cross_entropy)
    jw1, jw2, jx, jy = as_jax(w1, w2, x, y)
    column = (fn.Layer(jw1, jnp.zeros(4, WIDE)), fn.Layer(jw2, jnp.zeros(2, WIDE)))
    value, grads = fn.value_and_grad(net, convert(column, to="row", source="column"), jx.T, jy.T)
    own = convert(grads, to="column")
    close(value, -(y * np.log(softmax(a2.T).T)).sum())
    close(own[1].w, d_w2)
    close(own[0].w, d_w1)
    expected = in_float64(
        jax.grad(lambda w1, w2, x, y: -jnp.sum(y * jax.nn.log_softmax(w2 @ jax.nn.sigmoid(w1 @ x), axis=0)), (0, 1))
    )(jw1, jw2, jx, jy)
    assert_close((own[0].w, own[1].w), expected, like=(jw1, jw2))


# ---- 001: a deep network, ŷ = f(f(f(xA − a)B − b)C − c) ----


def chain(x, y, layers):
    """E and the gradients in (W_k, b_k) by the document's recursion, for any depth; sigmoid everywhere."""
    inputs = [x]
    for w, b in layers:
        inputs.append(sigma(inputs[-1] @ w - b))
    error = inputs[-1] - y
    d_b = None
    grads = []
    for k in reversed(range(len(layers))):
        slope = inputs[k + 1] * (1 - inputs[k + 1])  # from the stored output: σ' = σ (1 − σ)
        d_b = -error * slope if d_b is None else (d_b @ layers[k + 1][0].T) * slope
        grads.append((-inputs[k].T @ d_b, d_b[0]))  # ∂E/∂W_k = −x_kᵀ ∂E/∂b_k
    return 0.5 * np.sum(error**2), grads[::-1]


@pytest.mark.parametrize(
    "widths", [(3, 5, 4, 3), (3, 3), (2, 6, 5, 4, 3, 2)], ids=["3-5-4-3", "one layer", "five layers"]
)
def test_001_recursion_for_any_depth(widths):
    shapes = list(itertools.pairwise(widths))
    weights, biases = draw(*shapes), draw(*[(o,) for _, o in shapes], seed=1)
    x, y = draw((1, widths[0]), (1, widths[-1]), seed=2)
    value, grads = chain(x, y, list(zip(weights, biases, strict=True)))

    net = fn.MLP(widths, activation=fn.sigmoid, output_activation=fn.sigmoid, loss=fn.half_squared_error)
    own = tuple(fn.Layer(*as_jax(w, b)) for w, b in zip(weights, biases, strict=True))
    jx, jy = as_jax(x, y)
    got_value, row = fn.value_and_grad(net, convert(own, to="row", source="subtractive"), jx, jy)
    got = convert(row, to="subtractive")
    close(got_value, value)
    for layer, (d_w, d_b) in zip(got, grads, strict=True):
        close(layer.w, d_w)
        close(layer.b, d_b)

    def error(own, x, y):
        for layer in own:
            x = jax.nn.sigmoid(x @ layer.w - layer.b[None, :])
        return 0.5 * jnp.sum((x - y) ** 2)

    assert_close(got, in_float64(jax.grad(error))(own, jx, jy), like=own)


def test_001_last_layer_by_hand():
    """1-1 network: ŷ = σ(x C − c) with x = 2, C = 1, c = 2, y = 1: ŷ = ½, ∂E/∂c = ⅛, ∂E/∂C = −¼."""
    net = fn.MLP((1, 1), output_activation=fn.sigmoid, loss=fn.half_squared_error)
    own = (fn.Layer(jnp.array([[1.0]]), jnp.array([2.0])),)
    value, row = fn.value_and_grad(
        net, convert(own, to="row", source="subtractive"), jnp.array([[2.0]]), jnp.array([[1.0]])
    )
    (layer,) = convert(row, to="subtractive")
    assert (float(value), layer.b.tolist(), layer.w.tolist()) == (0.125, [0.125], [[-0.25]])


def test_001_slopes_from_outputs():
    z = jnp.linspace(-3, 3, 13)
    close(fn.sigmoid.slope(z, fn.sigmoid.value(z)), sigma(np.asarray(z)) * (1 - sigma(np.asarray(z))), rtol=1e-5)
    close(fn.tanh.slope(z, fn.tanh.value(z)), 1 - np.tanh(np.asarray(z)) ** 2, rtol=1e-5)


# ---- 002: layers with batches ----


def test_002_equation_1_2_product_on_both_sides():
    """y = f(M), M = A X B: ∂y/∂X = Aᵀ (∂f/∂M) Bᵀ."""
    a, x, b = draw((2, 3), (3, 4), (4, 5))
    d_m = np.cos(a @ x @ b)
    got = in_float64(jax.grad(lambda x, a, b: jnp.sum(jnp.sin(a @ x @ b))))(*as_jax(x, a, b))
    np.testing.assert_allclose(got, a.T @ d_m @ b.T, rtol=1e-4, atol=1e-5)


def test_002_equations_2_1_and_2_2_fully_connected():
    """By hand: X = (1 2; 3 4), W = (1; −1), b = 10, dY = (1; 2)."""
    x, w, b = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0], [-1.0]]), jnp.array([10.0])
    assert fn.affine(x, w, b).tolist() == [[9.0], [9.0]]
    dx, dw, db = fn.affine_backward(x, w, jnp.array([[1.0], [2.0]]))
    assert dx.tolist() == [[1.0, -1.0], [2.0, -2.0]]
    assert dw.tolist() == [[7.0], [10.0]]
    assert db.tolist() == [3.0]


def test_002_equations_2_3_to_2_5_relu():
    """The document takes slope 1 at 0; funcnet takes 0, as `jax.nn.relu`."""
    x, dy = jnp.array([-2.0, 0.0, 3.0]), jnp.array([5.0, 7.0, 11.0])
    assert fn.relu.value(x).tolist() == [0, 0, 3]
    assert (fn.relu.slope(x, fn.relu.value(x)) * dy).tolist() == [0, 0, 11]
    assert jax.vjp(jax.nn.relu, x)[1](dy)[0].tolist() == [0, 0, 11]


def test_002_equations_2_6_to_2_10_softmax_and_cross_entropy():
    """L = (1/m) Σ −ŷᵀ log softmax(x), ∇L = (softmax(X) − Ŷ)/m (the document's (2.9) lacks a transpose and the exp)."""
    (logits,) = draw((6, 4))
    labels = np.array([0, 3, 1, 1, 2, 0])
    one_hot = np.eye(4)[labels]
    net = fn.MLP((4, 4), loss=fn.softmax_cross_entropy)
    params = (fn.Layer(*as_jax(np.eye(4), np.zeros(4))),)
    (x,) = as_jax(logits)
    close(fn.loss(net, params, x, jnp.asarray(labels)), -np.mean(np.sum(one_hot * np.log(softmax(logits)), axis=1)))
    close(fn.input_gradient(net, params, x, jnp.asarray(labels)), (softmax(logits) - one_hot) / 6)


def test_002_mini_batch_descent():
    """w ← w − α ∇L with α = 0.01 over three passes of mini-batches, against NumPy line by line."""
    alpha, m, steps = 0.01, 4, 9
    x_all, w1, w2 = draw((12, 5), (5, 6), (6, 3))
    labels = np.random.default_rng(1).integers(0, 3, 12)
    b1, b2 = np.zeros(6), np.zeros(3)
    net = fn.MLP((5, 6, 3), activation=fn.relu, loss=fn.softmax_cross_entropy)
    params = (fn.Layer(*as_jax(w1, b1)), fn.Layer(*as_jax(w2, b2)))
    optimizer = optax.sgd(alpha)
    opt_state = optimizer.init(params)
    for i in range(steps):
        rows = slice(m * (i % 3), m * (i % 3) + m)
        x, y = x_all[rows], np.eye(3)[labels[rows]]
        z = x @ w1 + b1
        h = np.maximum(z, 0)
        p = softmax(h @ w2 + b2)
        value = -np.mean(np.sum(y * np.log(p), axis=1))
        d_out = (p - y) / m
        d_h = (d_out @ w2.T) * (z > 0)
        w1, b1 = w1 - alpha * x.T @ d_h, b1 - alpha * d_h.sum(axis=0)
        w2, b2 = w2 - alpha * h.T @ d_out, b2 - alpha * d_out.sum(axis=0)

        got, grads = fn.value_and_grad(net, params, *as_jax(x), jnp.asarray(labels[rows]))
        close(got, value)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    for got, expected in zip(jax.tree.leaves(params), (w1, b1, w2, b2), strict=True):
        close(got, expected)


# ---- 003: the affine layer and its shapes ----


def test_003_shapes_and_formulas():
    """dX = dY Wᵀ (the draft's last line lacks the transpose), dW = Xᵀ dY, db = Σ rows; X (5, 3), W (3, 4)."""
    x, w, dy = draw((5, 3), (3, 4), (5, 4))
    dx, dw, db = fn.affine_backward(*as_jax(x, w, dy))
    close(dx, dy @ w.T)
    close(dw, x.T @ dy)
    close(db, dy.sum(axis=0))


def test_003_inputs_of_any_rank_get_their_shape_back():
    x, w, dy = draw((5, 2, 1, 3), (6, 4), (5, 4))
    dx, dw, _ = fn.affine_backward(*as_jax(x, w, dy))
    close(dx, (dy @ w.T).reshape(5, 2, 1, 3))
    close(dw, x.reshape(5, 6).T @ dy)


@pytest.mark.parametrize("layout", ["per_node", "augmented"])
def test_003_bias_as_feature_zero(layout):
    """x₀ = 1: one weight vector for each node (units, 1 + features), or its transpose; one update in that layout."""
    x, w, b, y = draw((5, 3), (3, 4), (4,), (5, 4))
    ones = np.concatenate([np.ones((5, 1)), x], axis=1)
    augmented = np.concatenate([b[None, :], w])
    own = augmented if layout == "augmented" else augmented.T
    d_y = (ones @ augmented - y) / 5
    d_own = ones.T @ d_y if layout == "augmented" else (ones.T @ d_y).T

    net = fn.MLP((3, 4), loss=fn.half_squared_error)
    row = convert((jnp.asarray(own, WIDE),), to="row", source=layout)
    value, grads = fn.value_and_grad(net, row, *as_jax(x, y))
    (got,) = convert(grads, to=layout)
    close(value, 0.5 * np.sum((ones @ augmented - y) ** 2) / 5)
    close(got, d_own)
    updated = jax.tree.map(lambda p, g: p - 0.1 * g, row, grads)
    close(convert(updated, to=layout)[0], own - 0.1 * d_own)


def test_003_layers_chained():
    """The dY of a layer is the dX of the one behind it."""
    x, w1, w2, dy = draw((5, 3), (3, 4), (4, 2), (5, 2))
    h = x @ w1
    d_h, d_w2, _ = fn.affine_backward(*as_jax(h, w2, dy))
    dx, d_w1, _ = fn.affine_backward(*as_jax(x, w1), d_h)
    close(d_w2, h.T @ dy)
    close(d_w1, x.T @ (dy @ w2.T))
    close(dx, dy @ w2.T @ w1.T)
