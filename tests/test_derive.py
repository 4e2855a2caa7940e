"""`funcnet.derive`: rules as identities, the documents' examples step by step, funcnet's own gradients, output."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import WIDE, assert_close, expression_value

import funcnet as fn
from funcnet.derive import RULES, derive, parse, shapes, symbol
from funcnet.derive.differentials import d, expanded, inner, pull, replaced
from funcnet.derive.expression import Expression, symbols_of, walk
from funcnet.derive.functions import FUNCTIONS
from funcnet.derive.gallery import EXAMPLES, page
from funcnet.derive.module import draw
from funcnet.derive.printing import latex, text

ROOT = Path(__file__).parent.parent
KEY = jax.random.key(0)
SHAPES = ["X=nxn", "Y=nxn", "R=nxm", "x=n", "z=n", "s=1", "r=1xn", "S=nxn,symmetric"]
RULE_EXAMPLES = {
    1: "X + Y - 2*X",
    2: "X @ Y @ x",
    3: "softmax(R).T",
    4: "tr(X @ Y)",
    5: "inv(X)",
    6: "det(X)",
    7: "X * Y * s",
    8: "tanh(X)",
    14: "sum(X * Y)",
    15: "norm(X)**2",
    16: "norm(X)",
    17: "logdet(X)",
    18: "adj(X)",
    19: "diag(x)",
    20: "softmax(x)",
    21: "log_softmax(x)",
    22: "logsumexp(x)",
    23: "softmax(R)",
    24: "log_softmax(R)",
    25: "logsumexp(R)",
    27: "s * tanh(x)",
}


def values(symbols, seed=0):
    """Random arrays for symbols: a well-conditioned X, sizes 4 and 3."""
    random = np.random.default_rng(seed)
    sizes = {"n": 4, "m": 3, "k": 3}
    found = {}
    for s in symbols.values():
        shape = tuple(sizes.get(size, size) for size in s.shape)
        value = random.normal(0, 1, shape) + (3 * np.eye(4) if shape == (4, 4) else 0)
        value = (value + value.T) / 2 if "symmetric" in s.traits else value
        found[s.data] = jnp.asarray(value.reshape(()) if s.is_scalar else value, WIDE)
    return found


def computed(e, arrays, symbols):
    """The value of an expression, whose d nodes are symbols by now."""
    value = expression_value(e, symbols.values(), arrays)
    return jnp.broadcast_to(
        jnp.asarray(value, WIDE), jnp.shape(value) if e.is_scalar else computed_shape(e, arrays, symbols)
    )


def computed_shape(e, arrays, symbols):
    sizes = {
        size: arrays[s.data].shape[axis]
        for s in symbols.values()
        for axis, size in enumerate(s.shape)
        if not s.is_scalar
    }
    return tuple(size if isinstance(size, int) else sizes[size] for size in e.shape)


def with_tangents(e):
    """dX as a symbol of its own."""
    return replaced(e, lambda node: symbol(f"t{node.args[0].data}", *node.shape) if node.op == "d" else None)


@pytest.mark.quick
@pytest.mark.parametrize("number", RULE_EXAMPLES)
def test_rules_of_differentials_against_jvp(number):
    symbols = shapes(SHAPES)
    e = parse(RULE_EXAMPLES[number], symbols)
    if number == 3:
        e = Expression("T", (symbols["R"],), ("m", "n"))
    names = ["X"] if number == 27 else list(symbols_of(e))
    active = frozenset(["x"]) if number == 27 else frozenset(names)
    found, differential = expanded(e, active)
    assert found == number
    while any(node.args[0].args for node in walk_d(differential)):
        differential = replaced(
            differential,
            lambda node: expanded(node.args[0], active)[1] if node.op == "d" and node.args[0].args else None,
        )
    arrays = values(symbols)
    moved = {name: value for name, value in arrays.items() if name in active}
    tangents = values({name: symbols[name] for name in moved}, seed=1)

    def of(moving):
        return computed(e, {**arrays, **moving}, symbols)

    _, truth = jax.jvp(of, (moved,), (tangents,))
    own = computed(with_tangents(differential), {**arrays, **{f"t{k}": v for k, v in tangents.items()}}, symbols)
    assert_close(own, truth, terms=64)


def walk_d(e):
    return [node for node in walk(e) if node.op == "d"]


TRACE_EXAMPLES = [
    (9, "tr(X @ Y)", "X", "s"),
    (10, None, "R", "R.T"),
    (11, "s * X", "X", "Y"),
    (12, "Y @ X @ Y", "X", "Y"),
    (13, "Y * X", "X", "S"),
    (14, "sum(X)", "X", "s"),
    (26, "diag(x)", "x", "Y"),
    (26, "diagonal(X)", "X", "x"),
    (26, "s * Y", "s", "X"),
]


@pytest.mark.quick
@pytest.mark.parametrize(("number", "source", "wrt", "cotangent"), TRACE_EXAMPLES)
def test_rules_of_traces_against_jvp(number, source, wrt, cotangent):
    """⟨C, T⟩ = ⟨C′, T′⟩, with what JAX's tangent of the whole is on the left."""
    symbols = shapes(SHAPES)
    whole = parse(source, symbols) if source else symbols["R"].T
    c = parse(cotangent, symbols)
    active = frozenset([wrt])
    term = d(whole, active)
    while any(node.args[0].args for node in walk_d(term)):
        term = replaced(
            term, lambda node: expanded(node.args[0], active)[1] if node.op == "d" and node.args[0].args else None
        )
    found, turned, inside = pull(c, term)
    assert found == number
    arrays = values(symbols)
    tangent = values({wrt: symbols[wrt]}, seed=1)[wrt]
    _, moved = jax.jvp(lambda v: computed(whole, {**arrays, wrt: v}, symbols), (arrays[wrt],), (tangent,))
    truth = jnp.sum(computed(c, arrays, symbols) * moved)
    own = computed(with_tangents(inner(turned, inside)), {**arrays, f"t{wrt}": tangent}, symbols)
    assert_close(jnp.reshape(own, ()), truth, like=jnp.asarray(10, WIDE), terms=64)


def test_every_rule_has_its_test():
    assert set(RULE_EXAMPLES) | {number for number, *_ in TRACE_EXAMPLES} == set(RULES)
    shown = (ROOT / "docs" / "derivations.md").read_text()
    for rule in RULES.values():
        assert f"| {rule.number} | {rule.name} |" in shown


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_of_functions(name):
    if name.endswith("′′′"):
        return  # its slope is no function here
    x = shapes(["x=1"])
    e = Expression("apply", (x["x"],), data=FUNCTIONS[name])
    slope = derive(e).gradient["x"]
    for at in (0.3, 1.7):
        arrays = {"x": jnp.asarray(at, WIDE)}
        truth = jax.grad(lambda v: computed(e, {"x": v}, x))(arrays["x"])
        assert_close(computed(slope, arrays, x), truth, like=jnp.asarray(1, WIDE), terms=64)


GRADIENTS = {
    "cross_entropy": ["∂ℓ/∂a = softmax(a) − y"],
    "two_layers": [
        "∂ℓ/∂a₂ = softmax(a₂) − y",
        "∂ℓ/∂W₂ = ∂ℓ/∂a₂ h₁ᵀ",
        "∂ℓ/∂h₁ = W₂ᵀ ∂ℓ/∂a₂",
        "∂ℓ/∂a₁ = ∂ℓ/∂h₁ ∘ h₁ ∘ (1 − h₁)",
        "∂ℓ/∂W₁ = ∂ℓ/∂a₁ xᵀ",
    ],
    "subtracted_biases": [
        "∂ℓ/∂c = −∂ℓ/∂ŷ ∘ ŷ ∘ (1 − ŷ)",
        "∂ℓ/∂C = h₂ᵀ (∂ℓ/∂ŷ ∘ ŷ ∘ (1 − ŷ))",
        "∂ℓ/∂h₂ = (∂ℓ/∂ŷ ∘ ŷ ∘ (1 − ŷ)) Cᵀ",
        "∂ℓ/∂b = −∂ℓ/∂h₂ ∘ h₂ ∘ (1 − h₂)",
        "∂ℓ/∂B = h₁ᵀ (∂ℓ/∂h₂ ∘ h₂ ∘ (1 − h₂))",
        "∂ℓ/∂a = −∂ℓ/∂h₁ ∘ h₁ ∘ (1 − h₁)",
        "∂ℓ/∂A = xᵀ (∂ℓ/∂h₁ ∘ h₁ ∘ (1 − h₁))",
    ],
    "composed": ["∂ℓ/∂X = Aᵀ ∂ℓ/∂M Bᵀ"],
    "affine": ["∂ℓ/∂X = dY Wᵀ", "∂ℓ/∂W = Xᵀ dY", "∂ℓ/∂b = 𝟏ᵀ dY"],
    "batch_cross_entropy": ["∂ℓ/∂X = (softmax(X) − Y) / m"],
    "squared_error": ["∂ℓ/∂Z = (Z − Y) / m"],
    "penalty": ["∂ℓ/∂W = λ W"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_end_in_the_documents_formulas(name):
    derivation = EXAMPLES[name].derivation()
    lines = str(derivation).splitlines()
    for formula in GRADIENTS[name]:
        assert formula in lines, f"{formula} not in\n" + "\n".join(lines[-12:])
    assert derivation.check(KEY).passed


def test_the_steps_are_those_of_the_document():
    """Example 2: product, linearity, cyclic swap for each layer; slope and swap of ∘ for each activation."""
    stages = {stage.name: [step.rule for step in stage.steps] for stage in EXAMPLES["two_layers"].derivation().stages}
    assert stages[None] == [27, 2, 21, 9, 12, 11, 26]
    assert stages["a2"] == [2, 11, 12, 12]
    assert stages["h1"] == [8, 13]
    assert stages["a1"] == [2, 12]


def test_without_the_declaration_the_sum_of_targets_stays():
    gradient = derive(parse("-y.T @ log_softmax(a)", ["y=k", "a=k"]), "a").gradient["a"]
    assert "yᵀ 𝟏" in str(gradient)


def test_the_page_is_what_the_engine_gives():
    assert (ROOT / "docs" / "derivations.md").read_text() == page()


def test_funcnet_derives_its_own_gradients(standard_promotion):
    random = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(random.normal(0, 1, shape), WIDE)

    x, w, b, dy = array(6, 4), array(4, 3), array(3), array(6, 3)
    _, own = EXAMPLES["affine"].derivation().function()(dY=dy, X=x, W=w, b=b)
    dx, dw, db = fn.affine_backward(x, w, dy)
    for got, expected in ((own["X"], dx), (own["W"], dw), (own["b"], db)):
        assert_close(got, expected, terms=8)

    z, labels = array(6, 3), jnp.asarray(random.integers(0, 3, 6))
    _, own = EXAMPLES["batch_cross_entropy"].derivation().function()(Y=jnp.eye(3, dtype=WIDE)[labels], X=z, m=6.0)
    assert_close(own["X"], fn.softmax_cross_entropy.gradient(z, labels) / 6, terms=8)

    targets = array(6, 3)
    _, own = EXAMPLES["squared_error"].derivation().function()(Z=z, Y=targets, m=6.0)
    assert_close(own["Z"], fn.half_squared_error.gradient(z, targets) / 6, terms=8)

    net = fn.MLP((4, 3), loss=fn.half_squared_error, l2=0.3)
    params = (fn.Layer(w, b),)
    penalised = fn.value_and_grad(net, params, x, targets)[1][0].w
    plain = fn.value_and_grad(fn.MLP((4, 3), loss=fn.half_squared_error), params, x, targets)[1][0].w
    _, own = EXAMPLES["penalty"].derivation().function()(lam=0.3, W=w)
    assert_close(own["W"], penalised - plain, like=penalised, terms=8)


def test_a_network_with_subtracted_biases_is_the_layout(standard_promotion):
    net = fn.MLP((3, 5, 4, 3), activation=fn.sigmoid, output_activation=fn.sigmoid, loss=fn.half_squared_error)
    params = fn.init(KEY, net, dtype=WIDE)
    params = tuple(fn.Layer(layer.w, layer.b + 0.1) for layer in params)
    random = np.random.default_rng(1)
    x, y = jnp.asarray(random.normal(0, 1, (1, 3)), WIDE), jnp.asarray(random.uniform(0, 1, (1, 3)), WIDE)
    subtractive = fn.layouts.convert(params, to="subtractive")
    grads = fn.layouts.convert(fn.value_and_grad(net, params, x, y)[1], to="subtractive")
    arrays = {
        name: leaf
        for layer, pair in zip(subtractive, ("Aa", "Bb", "Cc"), strict=True)
        for name, leaf in zip(pair, layer, strict=True)
    }
    _, own = jax.jit(EXAMPLES["subtracted_biases"].derivation().function())(x=x, y=y, **arrays)
    for layer, pair in zip(grads, ("Aa", "Bb", "Cc"), strict=True):
        for name, leaf in zip(pair, layer, strict=True):
            assert_close(own[name], leaf, like=jnp.ones_like(leaf), terms=16)


def test_source_stands_alone(tmp_path):
    derivation = EXAMPLES["two_layers"].derivation()
    (tmp_path / "derived.py").write_text(derivation.source())
    program = (
        "import jax, jax.numpy as jnp, derived\n"
        "args = dict(y=jnp.array([[1.0], [0.0]]), W2=jnp.ones((2, 3)), W1=jnp.ones((3, 4)), x=jnp.ones((4, 1)))\n"
        "value, grads = jax.jit(derived.value_and_grad)(**args)\n"
        "assert value == derived.loss(**args) and grads['W1'].shape == (3, 4)\n"
        "import sys; assert 'funcnet' not in sys.modules\n"
        "print(derived.__doc__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(derivation).strip()


def test_functions_take_vectors_of_one_dimension():
    run = derive(parse("norm(A@x - b)**2", ["A=nxd", "x=d", "b=n"]), ["x", "A"]).function()
    a, x, b = (jnp.asarray(np.random.default_rng(0).normal(0, 1, shape), WIDE) for shape in ((5, 3), (3,), (5,)))
    value, grads = run(a, x, b)
    expected, truth = jax.value_and_grad(lambda a, x: jnp.sum((a @ x - b) ** 2), (0, 1))(a, x)
    assert_close(value, expected, terms=8)
    assert_close(grads["A"], truth[0], terms=8)
    assert_close(grads["x"], truth[1], terms=8)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"A": (5, 3), "x": (4,), "b": (5,)}, ValueError, r"x must have shape \(d, 1\), where d is 3 by A; got \(4,\)"),
        ({"A": (5,), "x": (3,), "b": (5,)}, ValueError, r"A must have shape \(n, d\); got \(5,\)"),
        ({"A": (5, 3), "x": (3,)}, TypeError, "b must be given"),
        ({"A": (5, 3), "x": (3,), "b": (5,), "c": ()}, TypeError, "c is not one of A, x, b"),
    ],
)
def test_functions_refuse_what_does_not_fit(args, error, message):
    run = derive(parse("norm(A@x - b)**2", ["A=nxd", "x=d", "b=n"])).function()
    with pytest.raises(error, match=message):
        run(**{name: jnp.ones(shape, WIDE) for name, shape in args.items()})


def test_a_wrong_gradient_is_found():
    derivation = EXAMPLES["two_layers"].derivation()
    wrong = {s: -e if s.data == "W1" else e for s, e in derivation.gradient.items()}
    broken = derivation._replace(gradient=type(derivation.gradient)(wrong))
    with pytest.raises(fn.GradientMismatch):
        broken.check(KEY)


def test_a_wrong_form_is_found_where_only_the_code_has_it():
    """What is shown is right; what is computed, since it costs less, is not."""
    derivation = derive("b.T@X.T@X@c", "X", shapes=["X=nxm", "b=m", "c=m"])
    stages = tuple(stage._replace(found=tuple((n, -e) for n, e in stage.found)) for stage in derivation.stages)
    broken = derivation._replace(stages=stages)
    assert broken.source() != derivation.source()
    assert not broken.check(KEY, raises=False).passed
    with pytest.raises(fn.GradientMismatch):
        broken.check(KEY)


def test_no_symbol_is_written_as_the_loss():
    assert str(symbol("loss_")) == "loss"
    assert str(derive("sum(loss_)", shapes=["loss_=n"])).startswith("ℓ = sum(loss)")


@pytest.mark.quick
@pytest.mark.parametrize("name", EXAMPLES)
def test_pages_and_latex_are_well_formed(name):
    derivation = EXAMPLES[name].derivation()
    shown = derivation.html()
    formulas = re.findall(r"<math.*?</math>", shown, re.DOTALL)
    assert len(formulas) > 5
    for formula in formulas:
        ElementTree.fromstring(formula)
    assert not re.search(r"(?:src|href)=", shown)
    assert shown.count("<details") == shown.count("</details>") > len(derivation.stages)
    written = derivation.latex()
    assert written.count("{") == written.count("}")
    assert written.count(r"\left") == written.count(r"\right")
    assert written.isascii() or not set("⊤∂∘ᵀ") & set(written)


def test_text_and_latex_of_single_expressions():
    symbols = shapes(["X=nxn", "A=nxn", "x=n", "Sigma=nxn,symmetric", "lam=1", "W12=nxm", "a_h=n"])
    for source, plain, tex in (
        ("inv(X).T @ x", "X⁻ᵀ x", r"X^{-\top}\, x"),
        ("-(A + X)/2", "−½ (A + X)", r"-\tfrac{1}{2}\, \left(A + X\right)"),
        ("lam*x/norm(x)", "λ x / ‖x‖", r"\frac{\lambda\, x}{\left\lVert x \right\rVert}"),
        ("W12.T @ a_h", "W₁₂ᵀ a_h", r"W_{12}^{\top}\, a_{h}"),
        ("1 - tanh(x)**2", "1 − tanh(x)²", r"1 - \tanh\left(x\right)^{2}"),
        ("logdet(Sigma)", "log |det Σ|", r"\log\, \left| \det\, \Sigma \right|"),
    ):
        e = parse(source, symbols)
        assert text(e) == plain
        assert latex(e).replace(r"\operatorname{det}", r"\det") == tex


def test_drawing_keeps_declarations():
    derivation = derive(
        parse(
            "tr(S@X) + sum(Y*log_softmax(X)) + y.T@x",
            ["S=nxn,symmetric", "X=nxn", "Y=nxn,sums_to_one", "y=n,sums_to_one", "x=n"],
        )
    )
    drawn = draw(derivation, KEY)
    assert (drawn["S"] == drawn["S"].T).all()
    assert (drawn["Y"].sum(axis=1) == 1).all()
    assert drawn["y"].sum() == 1


def test_the_module_takes_vectors_of_one_dimension():
    derivation = derive("sum(softplus(-y*(X@w + b*ones(n))))/n", shapes=["y=n", "X=nxd", "w=d", "b=1"])
    space = {}
    exec(derivation.source(), space)
    random = np.random.default_rng(0)
    x, y, w = (jnp.asarray(random.normal(0, 1, shape), WIDE) for shape in ((4, 4), (4,), (4,)))
    value, grads = space["value_and_grad"](X=x, y=y, w=w, b=0.5)
    expected, truth = jax.value_and_grad(lambda x, w: jnp.mean(jax.nn.softplus(-y * (x @ w + 0.5))), (0, 1))(x, w)
    assert_close(value, expected, terms=8)
    assert_close(space["loss"](X=x, y=y, w=w, b=0.5), expected, terms=8)
    assert_close(grads["X"], truth[0], terms=8)
    assert_close(grads["w"][:, 0], truth[1], terms=8)


def test_numbers_may_be_arrays_of_one_entry():
    run = derive("s*sum(x)", shapes=["s=1", "x=n"]).function()
    value, grads = run(s=jnp.ones((1, 1), WIDE), x=jnp.ones(3, WIDE))
    assert float(value) == 3
    assert grads["s"].shape == (1, 1)
    assert float(grads["s"][0, 0]) == 3


@pytest.mark.parametrize(
    ("source", "products"),
    [("tr(A@X@B@X.T@C)", 5), ("tr(A@X@B@X)", 4), ("tr(X.T@A@X)", 2), ("tr(A@X@X@X)", 4), ("tr(A@X@B)", 1)],
)
def test_value_and_gradient_share_their_products(source, products):
    derivation = derive(source, "X", shapes=["A=nxn", "B=nxn", "C=nxn", "X=nxn"])
    assert derivation.source().split("def value_and_grad")[1].count(" @ ") == products
    assert derivation.check(KEY).passed


def test_declared_sums_are_named_where_they_are_used():
    loss = "-y.T@log_softmax(W@x)"
    used = str(derive(loss, "W", shapes=["W=kxd", "x=d", "y=k,sums_to_one"]))
    assert used.count("𝟏ᵀ y = 1]") == 1
    assert "𝟏ᵀ y = 1" not in str(derive(loss, "W", shapes=["W=kxd", "x=d", "y=k"]))
    rows = str(derive("-sum(Y*log_softmax(X))", "X", shapes=["X=nxk", "Y=nxk,sums_to_one"]))
    assert rows.count("Y 𝟏 = 𝟏]") == 1


def test_a_row_that_meets_a_column_stands_in_front():
    derivation = derive("-y.T@log_softmax(a)", "a", shapes=["a=k", "y=k"])
    assert str(derivation.gradient["a"]) == "(yᵀ 𝟏) softmax(a) − y"
