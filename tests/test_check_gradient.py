"""The checker passes what is right, refuses what is wrong, says why, and touches nothing."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, X64, case

import funcnet as fn
from funcnet.checking.finite_differences import line_program, slope
from funcnet.checking.rounding import draws, rounding_variances

W = np.array([[0.5, -1.2, 0.3], [0.9, 0.1, -0.7]])
X = np.array([[1.0, -0.5], [0.2, 0.8], [-1.5, 0.4], [0.3, 0.3]])
Y = np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.5], [0.0, 0.4, -0.2], [0.6, 0.6, 0.6]])


def arrays(dtype="float32"):
    return tuple(jnp.asarray(a, dtype) for a in (W, X, Y))


def squared(w, x, y, l2=0.0):
    return 0.5 * jnp.sum((x @ w - y) ** 2) / x.shape[0] + 0.5 * l2 * jnp.sum(w * w)


def squared_grad(w, x, y, l2=0.0):
    return x.T @ (x @ w - y) / x.shape[0] + l2 * w


def kinds(report):
    return [cause.kind for cause in report.diagnoses]


def wrong(fun, grad_fun, *args, **kwargs):
    report = fn.check_gradient(fun, grad_fun, *args, raises=False, **kwargs)
    assert not report.passed
    with pytest.raises(fn.GradientMismatch) as raised:
        raise fn.GradientMismatch(report)
    assert str(raised.value) == str(report)
    return report


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_gradient_passes(dtype):
    report = fn.check_gradient(squared, squared_grad, *arrays(dtype))
    assert report.passed
    assert report.oracle == "agrees"
    assert report.diagnoses == ()
    (leaf,) = report.leaves
    assert (leaf.path, leaf.shape, leaf.dtype) == ("gradient", (2, 3), dtype)
    assert [run.name for run in leaf.runs] == ["formula", "compiled", "eager"]
    assert all(run.found.error <= run.allowed for run in leaf.runs)
    assert leaf.runs[1].allowed < 40
    assert {each.right for each in report.evidence} == {"both"}


def test_styles_trees_and_arguments():
    w, x, y = arrays()
    fn.check_gradient(squared, lambda *a: (squared(*a), squared_grad(*a)), w, x, y)
    fn.check_gradient(squared, jax.grad(squared, (0, 2)), w, x, y, argnums=(0, 2))
    fn.check_gradient(squared, jax.grad(squared, 2), w, x, y, argnums=-1)
    tree = {"w": [w, (jnp.float32(0.5),)], "step": jnp.asarray(3)}

    def of_tree(p, n):
        return squared(p["w"][0], x, y) * p["w"][1][0] ** 2 * n

    def grad_of_tree(p, n):
        s = p["w"][1][0]
        return {"w": [n * s * s * squared_grad(p["w"][0], x, y), (2 * n * s * squared(p["w"][0], x, y),)], "step": None}

    report = fn.check_gradient(of_tree, grad_of_tree, tree, 3)
    assert [leaf.path for leaf in report.leaves] == ["['w'][0]", "['w'][1][0]"]
    fn.check_gradient(lambda s: s * s, lambda s: 2 * s, 1.5)


def test_a_key_and_labels_are_passed_through():
    w, x, _ = arrays()
    labels = jnp.asarray([0, 2, 1, 0])

    def mask(key):
        return (jax.random.uniform(key, (4, 2), "float32") < 0.5).astype("float32")

    def loss(w, labels, *, key):
        z = (x * mask(key).astype(x.dtype)).astype(w.dtype) @ w
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1))

    def grad(w, labels, *, key):
        rows = (x * mask(key).astype(x.dtype)).astype(w.dtype)
        return rows.T @ (jax.nn.softmax(rows @ w) - jax.nn.one_hot(labels, 3, dtype=w.dtype)) / 4

    assert fn.check_gradient(loss, grad, w, labels, key=jax.random.key(1)).notes == ()
    report = wrong(loss, lambda *a, key: grad(*a, key=jax.random.split(key)[0]), w, labels, key=jax.random.key(1))
    assert report.oracle == "contradicts"


def test_other_random_numbers_in_float64_are_no_fault():
    w = arrays()[0]

    def loss(w, key):
        return jnp.sum(jnp.where(jax.random.bernoulli(key, 0.5, w.shape), w * w, 0))

    def grad(w, key):
        return jnp.where(jax.random.bernoulli(key, 0.5, w.shape), 2 * w, 0)

    report = fn.check_gradient(loss, grad, w, jax.random.key(0))
    assert X64 or "draws other random numbers in float64" in report.notes[0]
    wrong(loss, lambda w, key: 2 * w, w, jax.random.key(0))


def test_gradients_in_numpy_and_functions_that_cannot_be_traced():
    w, x, y = arrays()

    def by_numpy(w, x, y):
        return np.asarray(x).T @ (np.asarray(x) @ np.asarray(w) - np.asarray(y)) / len(x)

    report = fn.check_gradient(squared, by_numpy, w, x, y)
    assert "cannot be compiled" in report.notes[0]
    assert [run.name for run in report.leaves[0].runs] == ["formula", "eager"]
    wrong(squared, lambda *a: 1.001 * by_numpy(*a), w, x, y)

    def branching(w):
        return jnp.sum(w * w) if float(w[0, 0]) > 0 else jnp.sum(w)

    fn.check_gradient(branching, lambda w: 2 * w, w)


@pytest.mark.quick
def test_the_configuration_stays_as_it_was():
    before = dict(jax.config.values)
    fn.check_gradient(squared, squared_grad, *arrays())
    wrong(squared, lambda *a: -squared_grad(*a), *arrays())
    assert dict(jax.config.values) == before
    assert jnp.zeros(1).dtype == ("float64" if X64 else "float32")


FAULTS = {
    "sign": lambda w, x, y: -squared_grad(w, x, y),
    "missing mean": lambda w, x, y: 4 * squared_grad(w, x, y),
    "constant ratio": lambda w, x, y: 1.37 * squared_grad(w, x, y),
    "missing term": lambda w, x, y: squared_grad(w, x, y, 0.3),
    "shape": lambda w, x, y: squared_grad(w, x, y).ravel(),
    "dtype": lambda w, x, y: squared_grad(w, x, y).astype("float16"),
    "structure": lambda w, x, y: [squared_grad(w, x, y)],
    "transposed": lambda w, x, y: squared_grad(w, x, y).T,
    "not summed": lambda w, x, y: x[:, :, None] * (x @ w - y)[:, None, :] / 4,
    "not finite": lambda w, x, y: squared_grad(w, x, y).at[0, 1].set(jnp.nan),
    "some entries": lambda w, x, y: squared_grad(w, x, y).at[0, 1].multiply(1.0005),
    "value": lambda w, x, y: (2 * squared(w, x, y), squared_grad(w, x, y)),
    "compiled differs": lambda w, x, y: (
        (1.5 if isinstance(w, jax.core.Tracer) and w.dtype == "float32" else 1.0) * squared_grad(w, x, y)
    ),
    "arithmetic": lambda w, x, y: squared_grad(w, x, y).at[0, 1].add(1e-3 if w.dtype == "float32" else 0),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_known_faults_are_named(kind):
    report = wrong(squared, FAULTS[kind], *arrays())
    assert kinds(report) == [kind]
    assert kind in str(report)


def test_the_words_of_a_diagnosis():
    report = wrong(squared, FAULTS["missing mean"], *arrays())
    assert report.diagnoses[0].text == "4 × the function's gradient: a mean over 4 examples is missing"
    report = wrong(squared, lambda *a: 3 * squared_grad(*a), *arrays())
    assert report.diagnoses[0].text == "3 × the function's gradient: a mean over 3 outputs is missing"
    report = wrong(squared, FAULTS["missing term"], *arrays())
    assert report.diagnoses[0].text.startswith("0.3 × the argument is too many")
    text = str(wrong(squared, FAULTS["some entries"], *arrays()))
    assert "1 of 6 entries wrong, all at index 0 of axis 0 and index 1 of axis 1" in text
    assert "worst at [0, 1]" in text
    assert "jax.grad is right" in text


def test_the_gradient_of_another_layer():
    params = case(dtype="float32")[1]
    square = (fn.Layer(params[0].w[:5, :5], params[0].b[:5]), fn.Layer(params[0].w[:5, 2:7], params[0].b[2:7]))

    def loss(p):
        return jnp.sum(jnp.tanh(p[0].w @ p[0].b) * p[1].b) + jnp.sum(p[1].w ** 3)

    report = wrong(loss, lambda p: jax.grad(loss)(p)[::-1], square)
    assert set(kinds(report)) == {"wrong layer"}
    assert {cause.text for cause in report.diagnoses} >= {"the gradient of [1].w in its place"}


@jax.custom_jvp
def bent(x):
    """A function whose own rule is wrong by a factor of 2."""
    return jnp.sin(x)


bent.defjvp(lambda primals, tangents: (bent(*primals), 2 * jnp.cos(primals[0]) * tangents[0]))


def test_an_oracle_at_fault():
    w = arrays()[0]
    report = fn.check_gradient(lambda w: jnp.sum(bent(w)), jnp.cos, w)
    assert report.oracle == "at fault"
    assert "jax.grad is at fault" in str(report)
    entry = next(each for each in report.evidence if each.index is not None)
    assert entry.right == "gradient"
    assert entry.autodiff == pytest.approx(2 * entry.gradient)
    assert entry.finite_difference == pytest.approx(entry.gradient, rel=1e-8)
    report = wrong(lambda w: jnp.sum(bent(w)), lambda w: 2 * jnp.cos(w), w)
    assert kinds(report) == ["shared with jax.grad"]
    report = wrong(lambda w: jnp.sum(bent(w)), lambda w: 3 * jnp.cos(w), w)
    assert report.oracle == "contradicts"


def test_an_oracle_of_nan():
    def safe_root(x):
        return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0 * x))

    x = jnp.asarray([4.0, -1.0, 9.0])
    assert np.isnan(jax.grad(safe_root)(x)).any()
    report = fn.check_gradient(safe_root, lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.abs(x)), 0), x)
    assert report.oracle == "at fault"
    assert kinds(wrong(safe_root, jax.grad(safe_root), x)) == ["not finite"]


def test_an_oracle_that_is_absent():
    def root(x):
        return jax.lax.while_loop(lambda c: c[0] < 40, lambda c: (c[0] + 1, 0.5 * (c[1] + x / c[1])), (0, x))[1]

    report = fn.check_gradient(root, lambda x: 0.5 / jnp.sqrt(x), jnp.float32(3))
    assert report.oracle == "absent"
    assert "jax.grad cannot be run" in report.notes[0]
    wrong(root, lambda x: 0.6 / jnp.sqrt(x), jnp.float32(3))


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_kinks_are_kinks(at_zero):
    z = jnp.asarray([0.0, 1.0, -1.0, 0.0])
    c = jnp.asarray([1.0, -2.0, 3.0, 4.0])

    def grad(z):
        return jnp.where(z == 0, at_zero, (z > 0).astype(z.dtype)) * c.astype(z.dtype)

    report = fn.check_gradient(lambda z: jnp.sum(jax.nn.relu(z) * c), grad, z)
    assert report.kinks
    assert "at a kink" in report.notes[0]
    wrong(lambda z: jnp.sum(jax.nn.relu(z) * c), lambda z: jnp.where(z == 0, 7, grad(z)).astype(z.dtype), z)
    wrong(lambda z: jnp.sum(jax.nn.relu(z) * c), lambda z: jnp.where(z == 1, 7, grad(z)).astype(z.dtype), z)


def test_where_the_loss_saturates():
    """p − y loses all digits where the loss itself keeps them; the checker says that it is the arithmetic."""
    z, y = jnp.asarray([[20.0, 0.0]], "float32"), jnp.asarray([0])

    def loss(z):
        return fn.softmax_cross_entropy.value(z, y)[0]

    fn.check_gradient(loss, lambda z: fn.softmax_cross_entropy.gradient(z, y), z)
    report = wrong(loss, lambda z: jax.nn.softmax(z) - jax.nn.one_hot(y, 2, dtype=z.dtype), z)
    assert kinds(report) == ["arithmetic"]


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_half_precision_is_neither_accused_nor_excused(dtype):
    """Hundreds of units in the last place of its smallest entries, a few of its largest: right. Four units: wrong."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy, dtype)
    by_hand = jax.grad(fn.loss, argnums=1)
    assert fn.check_gradient(fn.loss, by_hand, net, params, x, y, argnums=1).passed
    z = jnp.linspace(-2, 2, 33, dtype=dtype)

    def slope_of_tanh(z):
        return 1 - jnp.tanh(z) ** 2

    fn.check_gradient(lambda z: jnp.sum(jnp.tanh(z)), slope_of_tanh, z)
    four = 4 * float(jnp.finfo(dtype).eps)
    off = wrong(
        lambda z: jnp.sum(jnp.tanh(z)), lambda z: slope_of_tanh(z).at[5].add(four if z.dtype == dtype else 0), z
    )
    assert kinds(off) == ["arithmetic"]


def test_ill_conditioned_functions_are_not_accused():
    n = 6
    hilbert = jnp.asarray(1 / (np.arange(n)[:, None] + np.arange(n)[None, :] + 1), "float32")

    def logdet(a):
        return jnp.linalg.slogdet(a)[1]

    report = fn.check_gradient(logdet, lambda a: jnp.linalg.inv(a).T, hilbert)
    assert report.leaves[0].conditioning > 100


def test_bad_calls_are_refused():
    w, x, y = arrays()
    with pytest.raises(ValueError, match=r"fun must return a real scalar; got float32\[4, 3\]"):
        fn.check_gradient(lambda w: x @ w, lambda w: w, w)
    with pytest.raises(ValueError, match="argnums must name positional arguments, of which there are 3; got 3"):
        fn.check_gradient(squared, squared_grad, w, x, y, argnums=3)
    with pytest.raises(ValueError, match="argnums must name each argument once"):
        fn.check_gradient(squared, squared_grad, w, x, y, argnums=(0, -3))
    with pytest.raises(TypeError, match="argument 0 holds no floating-point array"):
        fn.check_gradient(lambda n: 1.0 * n, lambda n: n, jnp.arange(3))
    with pytest.raises(TypeError, match=r"args\[0\] must be real; got complex64"):
        fn.check_gradient(jnp.sum, jnp.ones_like, w.astype("complex64"))
    with pytest.raises(ValueError, match=r"args\[0\] must not hold NaN"):
        fn.check_gradient(squared, squared_grad, w.at[0].set(jnp.nan), x, y)
    with pytest.raises(ValueError, match="fun is inf at these arguments"):
        fn.check_gradient(lambda w: jnp.sum(1 / w), lambda w: -1 / w**2, w.at[0].set(0))
    with pytest.raises(TypeError, match="args must hold the arguments of fun; got none"):
        fn.check_gradient(squared, squared_grad)
    with pytest.raises(TypeError, match="is being traced"):
        jax.jit(lambda w: fn.check_gradient(squared, squared_grad, w, x, y))(w)
    with pytest.raises(ZeroDivisionError):
        fn.check_gradient(squared, lambda *a: 1 / 0, w, x, y)


def test_a_report_is_a_value():
    report = wrong(squared, FAULTS["sign"], *arrays())
    copy = pickle.loads(pickle.dumps(report))
    assert copy.diagnoses == report.diagnoses
    assert report.error > 1e6
    assert report.setting.matmul_precision == "highest"
    assert report.leaves[0].worst.found.expected == pytest.approx(-report.leaves[0].worst.found.got)


def test_roundings_are_counted_along_the_longest_path():
    jaxpr = jax.make_jaxpr(lambda x: (x, x + 1, jnp.exp(x + 1) * x, jnp.float32(0.1) * 0.2, x > 0))(jnp.float32(1))
    eps2 = float(jnp.finfo("float32").eps) ** 2
    assert np.asarray(rounding_variances(jaxpr)) / eps2 == pytest.approx([0, 1, 6, 0, 0])
    loop = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 50, lambda i, c: c * x, x))(jnp.float32(1))
    assert np.asarray(rounding_variances(loop)) / eps2 == pytest.approx([50])
    key = jax.make_jaxpr(lambda k: jax.random.normal(k, (3,), "float32"))(jax.random.key(0))
    assert draws(key.jaxpr) == [(32, (3,))]


@pytest.mark.parametrize(
    ("fun", "at", "truth"),
    [
        (jnp.sin, 1.0, np.cos(1.0)),
        (lambda t: jnp.log1p(jnp.exp(-t)), 37.43, -1 / (1 + np.exp(37.43))),
        (lambda t: jnp.sin(1000 * t), 1.0, 1000 * np.cos(1000.0)),
        (lambda t: jnp.maximum(t - 1, 0), 1 + 1e-7, 1.0),
    ],
)
def test_finite_differences_know_their_uncertainty(fun, at, truth):
    point = [np.float64(at)]
    along = line_program(lambda v: fun(v[0]), [0], point)
    found = slope(lambda steps: along(point, [np.float64(1.0)], steps), 1e-16 * abs(float(fun(at))))
    assert not found.kink
    assert abs(found.value - truth) <= found.uncertainty <= 1e-6 * abs(truth)


@pytest.mark.parametrize(("slope", "right"), [(-1.0, True), (0.3, True), (1.0, True), (1.5, False), (-1.5, False)])
def test_slopes_outside_the_two_sides_of_a_kink_are_wrong(slope, right):
    z = jnp.asarray([0.0, 2.0, -1.0])
    report = fn.check_gradient(
        lambda z: jnp.sum(jnp.abs(z)), lambda z: jnp.where(z == 0, slope, jnp.sign(z)).astype(z.dtype), z, raises=False
    )
    assert report.passed == right


def test_a_kink_excuses_its_own_entry_alone():
    z = jnp.asarray([0.0, 1.0, 2.0], "float32")

    def off_in_float32(z):
        return jnp.sign(z) * (1.3 if z.dtype == "float32" else 1)

    assert kinds(wrong(lambda z: jnp.sum(jnp.abs(z)), off_in_float32, z)) == ["arithmetic"]


def test_a_jump_of_autodiff_alone_is_no_kink():
    """At a weight of 0 the branch not taken hides the slope from autodiff; the function is linear there."""
    lp, w = jnp.asarray([-1.0, -2.0, -3.0, -0.5], "float32"), jnp.asarray([0.0, 0.3, 0.2, 0.5], "float32")

    def masked(w):
        return jnp.sum(jnp.where(w != 0, w * lp.astype(w.dtype), 0.0))

    report = fn.check_gradient(masked, lambda w: lp.astype(w.dtype), w)
    assert report.oracle == "at fault"
    assert not report.kinks
    assert kinds(wrong(masked, jax.grad(masked), w)) == ["shared with jax.grad"]
    wrong(masked, lambda w: lp.astype(w.dtype).at[0].set(-0.5), w)


def test_infinite_arguments_stay_where_they_are():
    z = jnp.asarray([1.0, 2.0, -jnp.inf], "float32")
    assert fn.check_gradient(jax.nn.logsumexp, jax.nn.softmax, z).passed
    assert kinds(wrong(jax.nn.logsumexp, lambda z: 2 * jax.nn.softmax(z), z)) == ["constant ratio"]
    assert kinds(wrong(jax.nn.logsumexp, lambda z: 0 * jax.nn.softmax(z), z)) == ["zero"]


def test_a_mean_square_that_depends_on_the_argument():
    x = arrays()[2]

    def normed(x):
        return jnp.sum(x**3 / jnp.sqrt(jnp.mean(x * x, axis=1, keepdims=True)))

    report = wrong(normed, lambda x: 3 * x * x / jnp.sqrt(jnp.mean(x * x, axis=1, keepdims=True)), x)
    assert kinds(report) == ["missing term"]
    assert "in each row" in report.diagnoses[0].text


def test_where_in_a_list_of_layers_the_fault_is():
    net, params, x, y = case(fn.tanh, dtype="float32")
    other = fn.MLP(net.widths, activation=(fn.tanh, fn.sigmoid), loss=net.loss)

    def slope_of_another(params):
        outputs, saved = fn.sweeps.forward(net, params, x.astype(params[0].w.dtype), None)
        d_outputs = (outputs - y.astype(outputs.dtype)) / len(x)
        deltas = fn.sweeps.backward(other, params, saved, d_outputs).deltas
        return tuple(fn.Layer(a.T @ d, jnp.sum(d, 0)) for a, d in zip(saved.inputs, deltas, strict=True))

    (cause,) = wrong(lambda p: fn.loss(net, p, x, y), slope_of_another, params).diagnoses
    assert cause.kind == "layer step"
    assert "right from [2] on, wrong before" in cause.text


def test_what_depends_on_more_than_its_arguments():
    calls = []

    def drifting(w, x, y):
        calls.append(1)
        return (1 + 0.1 * len(calls)) * squared_grad(w, x, y)

    assert kinds(wrong(squared, drifting, *arrays())) == ["impure"]
