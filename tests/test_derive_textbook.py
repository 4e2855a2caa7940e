"""Gradients found in textbooks: the same value, no longer a form; and what is not to be derived."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import WIDE, X64, assert_close, expression_value, some
from textbook_gradients import TEXTBOOK

from funcnet.derive import ShapeError, derive, parse, shapes, symbol
from funcnet.derive.module import draw
from funcnet.derive.parser import parsed
from funcnet.derive.simplify import operations

NUMPY = {
    "tr": np.trace,
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "logdet": lambda x: np.linalg.slogdet(x)[1],
    "sum": np.sum,
    "norm": np.linalg.norm,
    "diag": lambda v: np.diag(v[:, 0]),
    "diagonal": lambda x: np.diagonal(x)[:, None],
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=int(x.shape[1] != 1), keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(axis=int(x.shape[1] != 1), keepdims=True)),
    "logsumexp": lambda x: np.log(np.exp(x).sum(axis=int(x.shape[1] != 1), keepdims=x.shape[1] != 1)),
}
"""Another reading of the same texts, which does not go through expressions."""


def length(source):
    """The operations of a text: signs between operands, functions, transposes."""
    counted = (ast.BinOp, ast.UnaryOp, ast.Call)
    nodes = ast.walk(ast.parse(source))
    return sum(isinstance(n, counted) or (isinstance(n, ast.Attribute) and n.attr == "T") for n in nodes)


def by_numpy(source, arrays, sizes):
    space = {"ones": lambda *shape: np.ones(shape), "identity": np.eye, **NUMPY, **sizes}
    return np.asarray(eval(source, space, dict(arrays)))


@pytest.mark.quick
@pytest.mark.parametrize(("source", "words", "wrt", "book"), TEXTBOOK, ids=[f"{e[0]} in {e[2]}" for e in TEXTBOOK])
def test_value_and_length(source, words, wrt, book):
    symbols = shapes(words)
    derivation = derive(parse(source, symbols), wrt, names={})
    gradient = derivation.gradient[wrt]
    assert operations(gradient) <= length(book), f"{gradient} is longer than {book}"
    arrays = draw(derivation, jax.random.key(1), {"n": 4, "m": 3, "d": 3, "k": 2}, attempt=3)
    sizes = {
        size: arrays[s].shape[axis]
        for s in arrays
        for axis, size in enumerate(symbols[s].shape)
        if isinstance(size, str)
    }
    values = {name: jnp.asarray(array, WIDE) for name, array in arrays.items()}
    given = [symbols[s] for s in arrays]
    value = expression_value(derivation.expression, given, values)
    truth = by_numpy(source, arrays, sizes)
    assert_close(jnp.reshape(value, ()), jnp.asarray(truth.reshape(()), WIDE), like=jnp.asarray(10, WIDE), terms=256)
    got = jnp.broadcast_to(expression_value(gradient, given, values), arrays[wrt].shape)
    assert_close(got, by_numpy(book, arrays, sizes).astype(WIDE), terms=1024)


@pytest.mark.parametrize(("source", "words", "wrt", "book"), some(TEXTBOOK, 5))
def test_proof(source, words, wrt, book):
    assert derive(parse(source, words), wrt).check(jax.random.key(5)).passed


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("W @ x", ["W=hxd", "x=h"], r"W \(h × d\) @ x \(h × 1\): d and h must be equal"),
        ("W + x", ["W=hxd", "x=h"], r"W \(h × d\) \+ x \(h × 1\): both must have the same size"),
        ("W * x", ["W=hxd", "x=h"], r"W \(h × d\) ∘ x \(h × 1\): both must have the same size"),
        ("tr(W)", ["W=hxd"], r"tr\(W \(h × d\)\): the matrix must be square"),
        ("inv(W)", ["W=2x3"], r"inv\(W \(2 × 3\)\): the matrix must be square"),
        ("diag(W)", ["W=hxd"], r"diag\(W \(h × d\)\): the operand must be a vector"),
    ],
)
def test_shapes_that_do_not_match(source, words, message):
    with pytest.raises(ShapeError, match=message):
        parse(source, words)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("__import__('os').system('true')", "only numbers, symbols"),
        ("x.__class__", "only numbers, symbols"),
        ("(lambda: x)()", "only numbers, symbols"),
        ("[x for x in x]", "only numbers, symbols"),
        ("x if x else x", "only numbers, symbols"),
        ("x := 3", "no expression"),
        ("import os", "must be an expression; got 'import os'"),
        ("x[0]", "only numbers, symbols"),
        ("f'{x}'", "only numbers, symbols"),
        ("True + x", "only numbers, symbols"),
        ("sum(x, y=1)", "only numbers, symbols"),
        ("sum(*x)", "takes one argument"),
        ("sum(x, x)", "takes one argument; got 2"),
        ("open(x)", "open is no function; there are abs"),
        ("y", "y is not known; there are x"),
        ("", "must hold an expression; got none"),
        ("x +", "no expression at 'x \\+'"),
        ("9**9**9**9", "exponents must be from −100 to 100"),
        ("sum(x)**1e9", "exponents must be from −100 to 100"),
        ("1e999 * x", "numbers must be at most 1e\\+30"),
        ("((10**100)**100)**100 * x", "powers of numbers must be at most 1e\\+300"),
        ("*".join(["10**90"] * 9) + "*x", "numbers must be at most 1e\\+300; got more"),
        ("(" * 500 + "x" + ")" * 500, "nested at most 100 deep; got 500"),
        ("-" * 5000 + "x", "nested at most 100 deep; got 5000"),
        ("+".join(["x"] * 4900), "no expression|nested"),
        ("sin(" * 2000, "nested at most 100 deep"),
        ("x\0", "no expression"),
        ("x" * 20000, "at most 10,000 characters; got 20,000"),
        ("1 / 0", "0 must not be divided by"),
        ("x / (x - x)", "0 must not be divided by"),
        ("x = 3; x", "x has a meaning already"),
        ("3; x", "lines before the last must be such as"),
        ("a = x; a = x; a", "a has a meaning already"),
        ("a = x", "the last line must be the expression alone"),
        ("ones(q)", "q is no size; there are d"),
        ("ones(0)", "sizes must be whole numbers"),
    ],
)
def test_hostile_and_mistaken_text(source, message):
    with pytest.raises(ValueError, match=message):
        parse(source, ["x=d"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("W", "shape must be such as W=hxd"),
        ("W=", "shape must be such as W=hxd"),
        ("W=axbxc", "shape must be such as W=hxd"),
        ("W=h x d", "shape must be such as W=hxd"),
        ("W=0", "sizes of W must be whole numbers of at least 1"),
        ("2W=h", "name must be letters"),
        ("lambda=1", "lambda is a word of Python"),
        ("jnp=1", "jnp is a name of the code"),
        ("W=hxd,symmetric", "a symmetric W must have as many rows as columns"),
        ("W=hxh,diagonal", "traits of W must be symmetric or sums_to_one; got 'diagonal'"),
    ],
)
def test_shapes_that_are_none(word, message):
    with pytest.raises(ValueError, match=message):
        shapes([word])


@pytest.mark.bad_input
def test_what_cannot_be_derived():
    x, w = symbol("x", "d"), symbol("W", "h", "d")
    with pytest.raises(ShapeError, match="expression must be a scalar; got W x of h × 1"):
        derive(w @ x, x)
    with pytest.raises(ValueError, match="wrt: W does not occur in the expression; there are x"):
        derive(x.T @ x, w)
    with pytest.raises(ValueError, match="wrt: z does not occur"):
        derive(x.T @ x, "z")
    with pytest.raises(ValueError, match="wrt must name at least one symbol"):
        derive(x.T @ x, [])
    with pytest.raises(TypeError, match="wrt must be symbols of the expression; got 3"):
        derive(x.T @ x, [3])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="expression must be an Expression or text; got int"):
        derive(3, "x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="shapes must be given for a text"):
        derive("x.T @ x", "x")
    with pytest.raises(TypeError, match="wrt must be symbols of the expression; got 7"):
        derive(x.T @ x, 7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="expression must depend on a symbol; it is 0"):
        derive(x.T @ x - x.T @ x)
    with pytest.raises(TypeError, match="key must be a random key such as"):
        derive(x.T @ x).check(0)
    for symbols in (None, "x=d", {"x": 3}, [3]):
        with pytest.raises(TypeError, match="symbols must be words such as"):
            parse("sum(x)", symbols)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="operands must be expressions or numbers"):
        np.ones(3) * x  # pyright: ignore[reportUnusedExpression]
    with pytest.raises(TypeError, match="operands must be expressions or numbers; got 'a'"):
        x + "a"  # pyright: ignore[reportUnusedExpression]
    with pytest.raises(TypeError, match="exponents must be numbers; got x"):
        symbol("s") ** x
    with pytest.raises(TypeError, match="no truth value"):
        bool(x)
    with pytest.raises(KeyError, match="no gradient in W"):
        derive(x.T @ x, x).gradient["W"]


@pytest.mark.quick
def test_names_given_to_parts():
    found = parsed("r = A@x - b; norm(r)**2", ["A=nxd", "x=d", "b=n"])
    derivation = derive(found.expression, "x", names=found.names)
    assert dict(derivation.forward) == {"r": found.names["r"]}
    assert str(derivation.gradient["x"]) == "Aᵀ ∂ℓ/∂r"
    assert str(dict(derivation.backward)["r"]) == "2 r"


def test_sums_know_equal_terms():
    symbols = shapes(["A=nxn", "B=nxn", "x=n", "z=n"])
    for one, other in (
        ("A@B + B@A", "B@A + A@B"),
        ("A*B", "B*A"),
        ("x.T@A@z", "z.T@A.T@x"),
        ("tr(A@B@A)", "tr(A@A@B)"),
        ("2*A - A", "A"),
        ("A - A + B", "B"),
        ("(A@B).T", "B.T@A.T"),
        ("inv(A)@A@x", "x"),
        ("A.T.T", "A"),
        ("exp(log(x))", "x"),
        ("softmax(x).T@ones(n)", "1"),
        ("A/2 + A/2", "A"),
        ("x/x", "ones(n)"),
        ("norm(x)**2", "norm(x)*norm(x)"),
    ):
        assert parse(one, symbols) == parse(other, symbols), f"{one} and {other}"
    for one, other in (("A@B", "B@A"), ("A", "A.T"), ("tr(A@B)", "tr(A@B.T)"), ("x.T@A@z", "x.T@A.T@z")):
        assert parse(one, symbols) != parse(other, symbols), f"{one} and {other}"


def test_a_deep_network_is_a_recursion():
    """Ten layers: as many stages, each of a few steps, and no formula that grows."""
    depth = 10
    symbols = shapes([*(f"W{i}=d{i}xd{i - 1}" for i in range(1, depth + 1)), "x=d0", f"y=d{depth},sums_to_one"])
    h = symbols["x"]
    for i in range(1, depth):
        h = parse(f"tanh(W{i}@h)", {**symbols, "h": h})
    loss = parse(f"-y.T@log_softmax(W{depth}@h)", {**symbols, "h": h})
    derivation = derive(loss, [f"W{i}" for i in range(1, depth + 1)])
    assert len(derivation.forward) == 2 * depth - 1
    assert max(operations(e) for _, e in derivation.backward) < 8
    assert max(operations(e) for e in derivation.gradient.values()) == 2
    if X64:
        assert derivation.check(jax.random.key(0)).passed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x1=n", "x_1=n"], "x1 and x_1 would both be written x₁"),
        (["X=n", "X_=n"], "X and X_ would both be written X"),
        (["x=n", "dx=n"], "x and dx would both be written dx"),
        (["n=1", "x=n"], "n is a size already"),
    ],
)
def test_symbols_that_could_not_be_told_apart(names, message):
    symbols = shapes(names)
    one, other = symbols.values()
    with pytest.raises(ValueError, match=message):
        derive(parse("sum(p) + sum(q)", {"p": one, "q": other}))


def test_one_name_for_two_symbols():
    with pytest.raises(ValueError, match=r"a stands for two symbols, a \(n × 1\) and a \(k × 1\)"):
        derive(symbol("a", "n").T @ symbol("a", "n") + symbol("a", "k").T @ symbol("a", "k"))


def test_names_for_parts_that_will_not_do():
    symbols = shapes(["M=nxn", "a=n"])
    part = symbols["M"] @ symbols["a"]
    loss = part.T @ part
    for names, message in (
        ({"a": part}, "a is a symbol of the expression already"),
        ({"a b": part}, "name must be letters"),
        ({"jnp": part}, "jnp is a name of the code"),
        ({"q": symbols["a"]}, r"names\['q'\] must be a part of the expression"),
        ({"q": symbols["M"] @ symbols["M"]}, r"names\['q'\] must be a part of the expression"),
    ):
        with pytest.raises(ValueError, match=message):
            derive(loss, "a", names=names)


@pytest.mark.parametrize(
    "source",
    [
        "logsumexp(X@x)",
        "exp(-norm(x)**2/2)/norm(x)**2",
        "tanh(norm(x)**2)/norm(x)",
        "sqrt(v**2)*exp(v**2)",
        "(v**(-1))*log(v**2)*exp(v**2)",
        "log(det(X)**2) + 1/det(X)**2",
        "norm(x)**3 + v**4*norm(x)",
        "3*v",
        "sum(identity(n)@X) + tr(ones(n, n)@X) + v",
    ],
)
def test_powers_of_one_base_and_constant_gradients(source):
    assert derive(parse(source, ["x=n", "v=1", "X=nxn"])).check(jax.random.key(2)).passed


def test_powers_of_norms_are_those_of_the_norm():
    assert str(derive("norm(r)**3", shapes=["r=n"]).gradient["r"]) == "3 ‖r‖ r"
