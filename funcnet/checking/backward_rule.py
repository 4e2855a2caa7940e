"""`check_vjp`: the backward rules of `jax.custom_vjp` and `jax.custom_jvp`, and (fwd, bwd) pairs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.checking.answer import read
from funcnet.checking.call import is_float, take_apart, widen
from funcnet.checking.comparison import unit_of
from funcnet.checking.examination import Answers, Subject, run_gradient
from funcnet.checking.programs import arithmetic, prepare
from funcnet.checking.reference import differentiate
from funcnet.checking.report import Diagnosis, GradientMismatch, GradientReport
from funcnet.checking.verdict import examine

SEED = 0
EARLIER = ("shape", "dtype", "not finite", "not summed", "impure")
"""Faults that say more than what a rule does with its cotangent."""


class Rule(NamedTuple):
    """A backward rule.

    Attributes:
        primal: The function it belongs to, without the rule.
        fixed: The positions of the arguments that it does not differentiate in.
        pull: (outputs, one cotangent for each other argument) from (args, cotangent of the outputs).
    """

    primal: Callable[..., Any]
    fixed: tuple[int, ...]
    pull: Callable[[tuple[Any, ...], Any], tuple[Any, Any]]


def _pair(fwd: Callable[..., Any], bwd: Callable[..., Any], fixed: tuple[int, ...]) -> Callable[..., Any]:
    def pull(args: tuple[Any, ...], cotangent: Any) -> tuple[Any, Any]:
        outputs, residuals = fwd(*args)
        return outputs, bwd(*(args[i] for i in fixed), residuals, cotangent)

    return pull


def _by_jax(fun: Callable[..., Any], fixed: tuple[int, ...]) -> Callable[..., Any]:
    def pull(args: tuple[Any, ...], cotangent: Any) -> tuple[Any, Any]:
        free = [i for i in range(len(args)) if i not in fixed]

        def of(*moved: Any) -> Any:
            merged = list(args)
            for i, value in zip(free, moved, strict=True):
                merged[i] = value
            return fun(*merged)

        outputs, back = jax.vjp(of, *(args[i] for i in free))
        return outputs, back(cotangent)

    return pull


def _rule(fun: Callable[..., Any], rule: Any) -> Rule:
    """The rule to check.

    Raises:
        TypeError: If there is none.
    """
    if isinstance(rule, tuple | list) and len(rule) == 2 and all(callable(each) for each in rule):
        return Rule(fun, (), _pair(rule[0], rule[1], ()))
    owner = fun if rule is None else rule
    if isinstance(owner, jax.custom_vjp | jax.custom_jvp):
        fixed = tuple(owner.nondiff_argnums)
        primal = owner.fun if rule is None else fun
        if isinstance(owner, jax.custom_vjp) and not owner.symbolic_zeros:
            if owner.fwd is None or owner.bwd is None:
                raise TypeError(f"fun has no backward rule yet: call {getattr(owner, '__name__', 'its')}.defvjp first")
            return Rule(primal, fixed, _pair(owner.fwd, owner.bwd, fixed))
        return Rule(primal, fixed, _by_jax(owner, fixed))
    if rule is not None and callable(rule):
        return Rule(fun, (), _by_jax(rule, ()))
    raise TypeError(
        "fun must be a jax.custom_vjp or jax.custom_jvp function, or come with rule=(fwd, bwd) or with rule=another "
        f"function of the same arguments; got fun={fun!r} and rule={rule!r}"
    )


def _argnums(args: tuple[Any, ...], fixed: tuple[int, ...], argnums: Any) -> tuple[int, ...]:
    if argnums is not None:
        return (argnums,) if isinstance(argnums, int) else tuple(argnums)
    free = [i for i in range(len(args)) if i not in fixed]
    found = [i for i in free if any(is_float(x) or isinstance(x, float) for x in jax.tree.leaves(args[i]))]
    if not found:
        raise TypeError("no argument holds a floating-point array to differentiate in")
    return tuple(found)


class Pulled(NamedTuple):
    """A rule with random cotangents as further arrays.

    Attributes:
        subject: What is to be checked: the gradient of ⟨cotangent, outputs⟩.
        cotangents: How many of the last arrays are cotangents.
    """

    subject: Subject
    cotangents: int


def _pulled(rule: Rule, args: tuple[Any, ...], argnums: tuple[int, ...]) -> Pulled:
    call = take_apart(args, {}, argnums)
    positions = [i for i in range(len(args)) if i not in rule.fixed]
    chosen = [positions.index(i % len(args)) for i in argnums]
    with arithmetic(wide=False):
        try:
            outputs = jax.eval_shape(call.bind(rule.primal), call.values())
        except Exception:  # what cannot be traced is run
            outputs = call.bind(rule.primal)(call.values())
    models, structure = jax.tree.flatten(outputs)
    random = np.random.default_rng(SEED)
    floats = [i for i, model in enumerate(models) if is_float(model)]
    vectors = [_cotangent(models[i], random) for i in floats]
    count = len(vectors)

    def whole(given: Sequence[Any]) -> Any:
        zeros = [np.zeros(np.shape(model), jax.dtypes.float0) for model in models]
        for i, vector in zip(floats, given, strict=True):
            zeros[i] = vector
        return jax.tree.unflatten(structure, zeros)

    def inner(given: Sequence[Any], outputs: Any) -> Any:
        parts = [jax.tree.leaves(outputs)[i] for i in floats]
        own = max((part.dtype for part in parts), key=lambda dtype: jnp.finfo(dtype).bits)
        wide = own if jnp.finfo(own).bits > 32 else jnp.dtype(np.float32)
        products = [v.astype(wide) * o.astype(wide) for v, o in zip(given, parts, strict=True)]
        return sum((jnp.sum(p) for p in products), start=jnp.zeros((), wide)).astype(own)

    def scalar(values: Sequence[Any]) -> Any:
        return inner(values[-count:], call.bind(rule.primal)(values[:-count]))

    def gradient(values: Sequence[Any]) -> Any:
        own = call.bind(lambda *args: args)(values[:-count])
        outputs, back = rule.pull(own, whole(values[-count:]))
        if not isinstance(back, tuple | list) or len(back) != len(positions):
            return back
        picked = [_zeros(args, back[k]) for k, args in ((k, own[positions[k]]) for k in chosen)]
        return inner(values[-count:], outputs), tuple(picked)

    return Pulled(Subject(call, scalar, gradient, [*call.values(), *vectors], SEED), count)


def _cotangent(model: Any, random: np.random.Generator) -> Any:
    values = random.uniform(0.5, 1.5, model.shape) * random.choice([-1.0, 1.0], model.shape)
    return jnp.asarray(values, model.dtype)


def _zeros(argument: Any, cotangent: Any) -> Any:
    """A rule may give None for a cotangent of zeros."""
    return jax.tree.map(jnp.zeros_like, argument) if cotangent is None else cotangent


def _other_cotangents(pulled: Pulled, wide: list[Any]) -> dict[str, list[Any]]:
    """Cotangents that a rule must tell from those of the check, each with what it means if it does not."""
    own, random = wide[-pulled.cotangents :], np.random.default_rng(SEED + 1)
    others = [v * random.uniform(2, 3, v.shape) * random.choice([-1.0, 1.0], v.shape) for v in own]
    found = {"the cotangent is ignored: another one gives the same": others}
    for i in range(len(own) if len(own) > 1 else 0):
        changed = [o if i == k else v for k, (v, o) in enumerate(zip(own, others, strict=True))]
        found[f"the cotangent of output {i} is ignored: another one gives the same"] = changed
    if all(v.ndim > 0 and v.shape[0] > 1 for v in own):
        means = [np.broadcast_to(v.mean(axis=0, keepdims=True), v.shape) for v in own]
        found["the rows of the cotangent are not told apart: their mean gives the same"] = means
        signs = [np.sign(v) for v in own]
        found["only the signs of the cotangent count"] = signs
    return found


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two leaves differ by no more than rounding could ever explain."""
    return bool(np.all(np.abs(a - b) <= 1e6 * unit_of(np.float64, b)))


def _cotangent_faults(pulled: Pulled, answers: Answers, wrong: set[str], known: set[str]) -> list[Diagnosis]:
    """What a rule does with its cotangent that it must not do: be bent by it, or (in wrong leaves) not see it."""
    subject, wide = pulled.subject, widen(pulled.subject.values)
    rest, own = wide[: -pulled.cotangents], wide[-pulled.cotangents :]
    if answers.formula is None or answers.formula.problem is not None:
        return []

    def leaves(cotangents: list[Any]) -> list[np.ndarray]:
        answer = read(subject.call, answers.wide.run([*rest, *cotangents]))
        return [np.asarray(leaf, np.float64) for leaf in answer.leaves]

    got, longer = leaves(own), leaves([-1000.0 * v for v in own])
    texts: dict[str, str] = {}
    if wrong:
        oracle = prepare(differentiate(subject.scalar, subject.call.targets()), wide, wide=True)
        for text, cotangents in _other_cotangents(pulled, wide).items():
            _, truth = oracle.run(wide)
            _, other = oracle.run([*rest, *cotangents])
            for path, now, before, a, b in zip(subject.call.paths, leaves(cotangents), got, other, truth, strict=True):
                if path in wrong and np.any(before) and _same(now, before) and not _same(a, b):
                    texts.setdefault(path, text)
    for path, a, b in zip(subject.call.paths, longer, got, strict=True):
        if path not in known and not _same(a, -1000.0 * b):
            texts.setdefault(path, "not linear in the cotangent: −1000 times as much of it gives something else")
    return [
        Diagnosis("ignored cotangent", tuple(p for p in texts if texts[p] == text), text)
        for text in dict.fromkeys(texts.values())
    ]


def check_vjp(
    fun: Callable[..., Any],
    *args: Any,
    rule: Any = None,
    argnums: int | tuple[int, ...] | None = None,
    raises: bool = True,
) -> GradientReport:
    """Check a backward rule: that it gives vᵀJ for the Jacobian J of `fun` and random cotangents v, never ones.

    As `check_gradient` for the function ⟨v, fun(args)⟩, and that the rule is linear in v and ignores none of it.
    The outputs of the forward pass are checked too.

    Args:
        fun: A `jax.custom_vjp` or `jax.custom_jvp` function; or, with a `rule`, any function in JAX. It may have
            several outputs, in any structure.
        *args: The arguments at which to check.
        rule: The rule if fun has none of its own: `(fwd, bwd)` as for `jax.custom_vjp`, with fwd(*args) → (outputs,
            residuals) and bwd(residuals, cotangent) → one cotangent for each argument; or another function of the
            same arguments, whose `jax.vjp` is then checked against that of fun.
        argnums: Which arguments the rule is checked in; by default all that hold floating-point arrays.
        raises: Whether to raise on a wrong rule, or only return the report.

    Raises:
        GradientMismatch: If the rule is wrong; the message is the report.
        TypeError: If there is no rule, or an argument cannot be differentiated in.
        ValueError: If argnums names no argument.

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> x, w, b = jnp.ones((3, 2)), jnp.ones((2, 4)), jnp.ones(4)
    >>> forward = lambda x, w, b: (fn.affine(x, w, b), (x, w))
    >>> backward = lambda saved, dy: fn.affine_backward(*saved, dy)
    >>> fn.check_vjp(fn.affine, x, w, b, rule=(forward, backward)).passed
    True
    """
    __tracebackhide__ = True
    chosen = _rule(fun, rule)
    pulled = _pulled(chosen, args, _argnums(args, chosen.fixed, argnums))
    answers = run_gradient(pulled.subject)
    report = examine(pulled.subject, answers)
    if report.oracle != "not asked":
        known = {path for cause in report.diagnoses if cause.kind in EARLIER for path in cause.paths}
        wrong = {leaf.path for leaf in report.leaves if not leaf.right} - known
        faults = _cotangent_faults(pulled, answers, wrong, known)
        rest = [d for d in report.diagnoses if not any(set(d.paths) <= set(fault.paths) for fault in faults)]
        note = "v is a random cotangent: value is ⟨v, outputs⟩, and each gradient vᵀJ"
        notes = report.notes if report.passed and not faults else (*report.notes, note)
        report = report._replace(passed=report.passed and not faults, diagnoses=(*faults, *rest), notes=notes)
    if raises and not report.passed:
        raise GradientMismatch(report)
    return report
