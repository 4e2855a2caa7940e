"""The pitfalls of gradients by hand and of autodiff: where each is tested, and the tests that no other file has.

First the list of the pitfalls, then the table of the README made anew, then the tests.
"""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import where_autodiff_is_wrong as script
from cases import ACTIVATIONS, DTYPES, LOSSES, WIDE, N, assert_close, case, name_of, signed_weights, targets

import funcnet as fn
from funcnet.checking import check_gradient, in_float64

ROOT = Path(__file__).parent.parent

PITFALLS = """
 1 loss and gradient reduce apart test_gradients::test_output_widths
 2 weights of rows ignored        test_gradients::test_activation_by_loss
                                  test_reduction::test_weight_two_equals_the_row_twice
 3 loss clipped, gradient not     test_losses::test_saturated_logits
 4 slope of relu at 0             test_gradients::test_relu_at_its_kink
                                  test_activations::test_kinks_take_the_value_of_jax
 5 differences across a kink      test_pitfalls::test_a_kink_is_told_from_a_fault
 6 NaN from the branch not taken  test_pitfalls::test_autodiff_of_our_values_is_finite_far_out
                                  test_reduction::test_weight_zero_equals_the_row_absent
                                  test_pitfalls::test_table
 7 logits of −∞                   test_losses::test_masked_classes
                                  test_losses::test_rows_all_masked_have_defined_values
                                  test_losses::test_infinite_logits_of_the_right_sign_cost_nothing
 8 sums overflow in float16       test_losses::test_many_classes_do_not_overflow
                                  test_gradients::test_half_precision_does_not_underflow_in_large_batches
                                  test_pitfalls::test_table
 9 cancellation when saturated    test_losses::test_the_label_entry_where_autodiff_cancels
                                  test_activations::test_derivatives_against_mpmath
                                  test_pitfalls::test_saturated_cross_entropies_in_every_dtype
                                  test_pitfalls::test_table
10 overflow in derivatives        test_activations::test_extremes_are_finite
                                  test_activations::test_derivatives_against_mpmath
                                  test_pitfalls::test_losses_overflow_only_where_the_truth_does
11 cross-entropy of probabilities test_losses::test_binary_cross_entropy_gradient_far_out
                                  test_pitfalls::test_table
12 compiled and eager differ      test_gradients::test_compiled
                                  test_losses::test_derivatives_against_autodiff
13 products in low precision      test_pitfalls::test_products_are_precise_whatever_the_default
14 one by one unlike a batch      test_pitfalls::test_a_batch_is_the_sum_of_its_examples
15 tolerance of the check itself  test_gradients::test_loss_by_dtype
                                  test_gradients::test_a_wrong_gradient_is_seen
16 labels of any integer dtype    test_gradients::test_label_dtypes
                                  test_closed_form_loss::test_integer_labels_and_keys_pass_through
17 wrong shape or dtype accepted  test_checking::test_structure_shape_and_dtype_come_first
                                  test_gradients::test_weak_type_and_tree_are_those_of_params
18 forward mode blocked           test_closed_form_loss::test_forward_mode
                                  test_closed_form_loss::test_hessian
19 several devices                test_pitfalls::test_any_number_of_devices_agrees
20 l2 divided by n, or on biases  test_reduction::test_l2_is_the_documented_formula_whatever_the_batch_and_the_weights
21 sums of clipped gradients      test_per_example::test_with_dropout_and_without_l2
                                  test_per_example::test_rows_that_fill_a_batch_up_count_as_absent
22 dropout masks differ           test_gradients::test_dropout
                                  test_gradients::test_dropout_scales_what_it_keeps
23 divergence                     test_stopping::test_a_broken_update_is_found
                                  test_stopping::test_the_best_epoch_before_the_failure_is_kept
24 a ragged last batch            test_training::test_ragged_last_batch_is_a_mean_over_its_own_examples
                                  test_training::test_nothing_recompiles
                                  test_reduction::test_dropout_of_a_padded_batch
25 loading silently partial       test_interchange::test_parameters_come_back_bit_for_bit
                                  test_interchange::test_files_that_do_not_fit_their_description
26 float64 silently float32       test_checking::test_the_oracle_runs_in_float64_and_leaves_the_configuration
                                  test_checking::test_a_reference_in_lower_precision_is_refused
"""
NOT_OURS = {"`log1p(exp(z)) - y*z`, slope": "jax.grad", "`gelu(z, approximate=False)`, value": "neither"}
"""The rows in which the closed form is not right, and who is."""


def covering(text):
    """The tests of each pitfall, by its number; one that funcnet cannot fall into has none."""
    tests = {}
    for line in text.strip("\n").splitlines():
        number = int(line[:2]) if line[:2].strip() else max(tests)
        named = line.split()[-1]
        tests.setdefault(number, []).extend([named] if "::" in named else [])
    return tests


def is_there(test):
    file, _, name = test.partition("::")
    path = ROOT / "tests" / f"{file}.py"
    return path.exists() and name in {getattr(node, "name", None) for node in ast.parse(path.read_text()).body}


def test_every_pitfall_is_accounted_for():
    tests = covering(PITFALLS)
    assert list(tests) == list(range(1, 27))
    assert all(tests.values())
    assert not [test for named in tests.values() for test in named if not is_there(test)]
    assert not is_there("test_losses::test_that_was_renamed")
    assert not is_there("test_elsewhere::test_kinks")


def columns(block, names):
    """Some columns of the table."""
    header, _, *rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
    return [[row[header.index(name)] for name in names] for row in rows]


@pytest.mark.quick
def test_table():
    """The closed form is right but where the table says otherwise, and the README shows what is computed now."""
    before = jax.config.jax_enable_x64
    rows = script.evaluate(script.cases())
    assert jax.config.jax_enable_x64 == before
    for row in rows:
        error = script.units(row.closed_form, row.truth, row.case.dtype)
        assert (error <= script.ALLOWED) == (row.case.function not in NOT_OURS), (row.case, error)
        if np.size(row.case.z) < 9:  # 70,000 take mpmath long
            with_more_digits = script.true_number(row.case, 3 * script.DIGITS)
            assert abs(with_more_digits - row.truth) <= 1e-20 * abs(row.truth), row.case
    shown = (ROOT / "README.md").read_text().partition(script.BEGIN)[2].partition(script.END)[0].strip()
    made, ours = script.table(rows), ["function", "input", "dtype", "closed form", "truth"]
    assert columns(shown, ours) == columns(made, ours)
    if shown.startswith(made.partition("\n")[0]):  # by the same version of JAX, on the same kind of device
        assert shown == made
        assert {row.case.function: row.right for row in rows if row.case.function in NOT_OURS} == NOT_OURS


def test_the_judge_convicts_a_wrong_closed_form():
    control = next(case for case in script.activation_cases() if case.where == "z = −40")
    wrong = [lambda z: 1.0001 * control.closed_form(z), lambda z: -control.closed_form(z), lambda z: z * jnp.nan]
    replaced = [control._replace(closed_form=each) for each in wrong]
    textbook = control._replace(z=40.0, closed_form=lambda z: fn.sigmoid.value(z) * (1 - fn.sigmoid.value(z)))
    both_wrong = control._replace(closed_form=wrong[0], usual=lambda z: z)
    rows = script.evaluate([control, *replaced, both_wrong, textbook])
    assert [row.right for row in rows] == ["both", "jax.grad", "jax.grad", "jax.grad", "neither", "neither"]


def test_the_table_is_put_between_its_markers(tmp_path, capsys, monkeypatch):
    cases = script.activation_cases()[:2]
    monkeypatch.setattr(script, "cases", lambda: cases)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    assert script.main(["--write", "--readme", str(readme)]) == 0
    table = capsys.readouterr().out
    assert readme.read_text() == f"before\n{script.BEGIN}\n{table}\n{script.END}\nafter\n"
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="must have the markers"):
        script.put(table, readme)
    assert readme.read_text() == "no markers"


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_cross_entropies_in_every_dtype(dtype):
    """A logit of m = 1 … 60, that of the label, and one of 0, whose probability is p.

    The loss is −log(1 − p), its gradient −p and p, its Hessian p (1 − p) times 1 and −1.
    """
    softmax, sigmoid, sizes = fn.softmax_cross_entropy, fn.sigmoid_cross_entropy, range(1, 61)
    z, one = jnp.asarray([[m, 0] for m in sizes], dtype), jnp.ones((60, 1), dtype)
    labels, units = jnp.zeros(60, "int32"), jnp.asarray([[1, 0]] * 60, dtype)

    @jax.jit
    def compute(z):
        alone = z[:, :1]
        values = [softmax.value(z, labels), softmax.value(z, units), sigmoid.value(alone, one)]
        gradients = [softmax.gradient(z, labels), softmax.gradient(z, units), sigmoid.gradient(alone, one)]
        actions = [softmax.hessian_action(z, labels, units), sigmoid.hessian_action(alone, one, one)]
        return values, [g[:, 0] for g in gradients], [-g[:, 1] for g in gradients[:2]], [a[:, 0] for a in actions]

    with mpmath.workdps(script.DIGITS):
        p = [1 / (1 + mpmath.exp(m)) for m in sizes]
        truths = [[-mpmath.log1p(-each) for each in p], [-each for each in p], [-each for each in p]]
        truths.append([each * (1 - each) for each in p])
    for arrays, truth in zip(compute(z), truths, strict=True):
        for array in arrays:
            got = np.asarray(array).astype(np.float64)
            errors = [script.units(each, true, dtype) for each, true in zip(got, truth, strict=True)]
            assert max(errors) <= script.ALLOWED, errors


@pytest.mark.parametrize("dtype", ["float16", WIDE])
def test_autodiff_of_our_values_is_finite_far_out(dtype):
    """Our losses are plain JAX, which users may differentiate: no branch that is not taken overflows into a NaN."""
    z = jnp.asarray([-1e4, -1e3, -100, -50, 50, 100, 1e3, 1e4], dtype)
    rows = z[:, None] * jnp.asarray([[1, -1, 0.5]], dtype)
    losses = [loss for loss in LOSSES if loss is not fn.poisson]  # whose truth overflows

    @jax.jit
    def derivatives(z, rows):
        by_activation = [jax.vmap(jax.grad(activation.value))(z) for activation in ACTIVATIONS]
        y = [targets(loss, dtype=dtype, n=len(z)) for loss in losses]
        return by_activation + [
            jax.grad(lambda rows, loss=loss, y=y: jnp.sum(loss.value(rows, y).astype("float32")))(rows)
            for loss, y in zip(losses, y, strict=True)
        ]

    for rule, derivative in zip([*ACTIVATIONS, *losses], derivatives(z, rows), strict=True):
        assert np.isfinite(np.asarray(derivative).astype(np.float64)).all(), rule


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_losses_overflow_only_where_the_truth_does(loss):
    """Value and derivatives are infinite just where the same in float64 is beyond the dtype, and never NaN."""
    for dtype in ("float16", "float32"):
        edge = float(np.log(float(jnp.finfo(dtype).max)))
        sizes = np.array([1, 40, 1e3, 1e4, 0.99 * edge, 1.01 * edge])
        z = jnp.asarray(np.concatenate([sizes, -sizes])[:, None] * [[1, -0.5, 0]], dtype)
        y, v = targets(loss, dtype=dtype, n=12), jnp.ones_like(z)

        def compute(z, y, v):
            return loss.value(z, y), loss.gradient(z, y), loss.hessian_action(z, y, v)

        for array, truth in zip(jax.jit(compute)(z, y, v), in_float64(compute, compiled=True)(z, y, v), strict=True):
            got = np.asarray(array).astype(np.float64)
            assert not np.isnan(got).any()
            np.testing.assert_array_equal(np.isinf(got), np.abs(truth) > float(jnp.finfo(dtype).max))


def test_a_kink_is_told_from_a_fault():
    """Finite differences across a kink are neither slope; the check says so and does not fail."""
    z = jnp.asarray([-1.0, 0.0, 2.0], WIDE)
    report = check_gradient(lambda z: jnp.sum(jax.nn.relu(z)), lambda z: fn.relu.slope(z, fn.relu.value(z)), z)
    assert report.passed
    assert report.kinks
    smooth = check_gradient(lambda z: jnp.sum(jnp.tanh(z)), lambda z: fn.tanh.slope(z, fn.tanh.value(z)), z)
    assert smooth.passed
    assert not smooth.kinks


def products(jaxpr):
    """The precision of each matrix product of a program, those of its inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from products(getattr(inner, "jaxpr", inner))


def test_products_are_precise_whatever_the_default():
    """Accelerators multiply float32 in fewer bits unless told otherwise: every product of ours tells them."""
    net, params, x, y = case(dtype="float32")
    highest = (jax.lax.Precision.HIGHEST,) * 2
    with jax.default_matmul_precision("bfloat16"):
        for function in (fn.value_and_grad, fn.loss, fn.input_gradient):
            found = list(products(jax.make_jaxpr(function, static_argnums=0)(net, params, x, y).jaxpr))
            assert len(found) >= 3
            assert all(each == highest for each in found), found
        plain = list(products(jax.make_jaxpr(jnp.matmul)(x, params[0].w).jaxpr))
        assert len(plain) == 1
        assert plain[0] != highest
    assert in_float64(lambda x: x if jax.config.jax_default_matmul_precision == "highest" else None)(x) is not None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", WIDE])
def test_a_batch_is_the_sum_of_its_examples(dtype):
    net, params, x, y = case(fn.gelu, fn.softmax_cross_entropy, dtype)
    weights = signed_weights("float64" if dtype == WIDE == "float64" else "float32")
    value, grads = jax.jit(fn.value_and_grad)(net, params, x, y, weights=weights.astype(dtype))
    each = jax.jit(jax.vmap(fn.value_and_grad, in_axes=(None, None, 0, 0)))
    one_by_one = each(net, params, x[:, None], y[:, None])
    c = np.asarray(weights.astype(dtype)).astype(np.float64)
    c /= c.sum()
    summed = jax.tree.map(lambda leaf: np.tensordot(c, np.asarray(leaf).astype(np.float64), axes=1), one_by_one)
    assert_close((value, grads), summed, like=(value, params), terms=float(np.abs(c).sum() * N))


def test_any_number_of_devices_agrees(tmp_path):
    """The mean of a batch that lies on 1, 2, 4 or 8 devices, weights included, is that of the whole batch."""
    program = """
        import jax, numpy as np, funcnet as fn
        from funcnet.checking import TOLERANCE, compare
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        random = np.random.default_rng(0)
        net = fn.MLP((5, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, l2=0.1)
        params = (fn.Layer(random.normal(0, 1, (5, 3)).astype("float32"), np.ones(3, "float32")),)
        batch = random.normal(0, 1, (16, 5)).astype("float32"), np.arange(16) % 3, np.arange(16, dtype="float32") - 2
        run = jax.jit(lambda params, x, y, w: fn.value_and_grad(net, params, x, y, weights=w))
        expected = run(params, *batch)
        for count in (1, 2, 4, 8):
            rows = NamedSharding(Mesh(np.array(jax.devices()[:count]), ("rows",)), PartitionSpec("rows"))
            x, y, w = jax.device_put(batch, rows)
            result = compare(run(params, x, y, w), expected)
            assert len(x.sharding.device_set) == count and result.error <= TOLERANCE["float32"], result
        print("agreed")
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    devices = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, tmp_path / "program.py"]
    done = subprocess.run(command, env=devices, capture_output=True, text=True, check=False)
    assert done.stdout == "agreed\n", done.stderr
