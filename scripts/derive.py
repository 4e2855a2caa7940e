"""Derive the gradient of a scalar expression of matrices step by step, and prove it against `jax.grad`.

EXPRESSION is such as "norm(A@x - b)**2": + - and unary minus, * / ** for each entry, @ the matrix product, .T the
transpose, and functions: tr inv det logdet adj sum norm diag diagonal ones identity, exp log sqrt abs sin cos tanh
sigmoid relu softplus and the other activations, softmax log_softmax logsumexp (of a vector, or of each row). Parts
before semicolons give names: "a = W@x; sum(tanh(a))".
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
from tyro.conf import Positional, arg

from funcnet.checking import GradientMismatch
from funcnet.derive import Derivation, derive
from funcnet.interchange import write_whole
from funcnet.runs.command_line import parse, run_script, stop_output
from funcnet.runs.config import OpenPath

OpenWords = Annotated[tuple[str, ...] | None, arg(metavar="[NAME ...]", help_behavior_hint="")]


@dataclass(frozen=True)
class Options:
    """Derive the gradient of a scalar expression of matrices."""

    expression: Annotated[str, Positional, arg(metavar="EXPRESSION")]
    """The scalar."""
    shape: Annotated[tuple[str, ...], arg(metavar="NAME=SHAPE ...")]
    """Of each symbol: W=hxd a matrix, x=d a column, r=1xk a row, s=1 a scalar; S=nxn,symmetric and y=k,sums_to_one."""
    wrt: OpenWords = None
    """What to derive in. By default every symbol."""
    format: Literal["text", "latex", "html", "python"] = "text"
    """text, LaTeX (amsmath), a page of its own, or a Python module for JAX."""
    out: OpenPath = None
    """The file to write, which must not be there yet. By default standard output."""
    proof: bool = True
    """Check the gradients at a random point of random sizes."""
    seed: int = 0
    """Of that point."""


def rendered(derivation: Derivation, form: str) -> str:
    """The derivation in the form that was asked for."""
    forms = {
        "text": derivation.__str__,
        "latex": derivation.latex,
        "html": derivation.html,
        "python": derivation.source,
    }
    return forms[form]().rstrip("\n") + "\n"


def run(options: Options) -> None:
    """Parse, derive, prove, and write."""
    if options.out is not None and options.out.exists():
        raise FileExistsError(f"out {options.out} is there already; choose another name")
    derivation = derive(options.expression, options.wrt, shapes=options.shape)
    text = rendered(derivation, options.format)
    if options.proof:
        report = derivation.check(jax.random.key(options.seed))
        worst = max(one.found.error for leaf in report.leaves for one in leaf.runs if one.name == "formula")
        print(f"proof: at most {worst:.2g} eps·max from jax.grad, both in float64", file=sys.stderr)
    if options.out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(options.out, text.encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit status is 0, 1 for a wrong gradient, 2 for wrong input."""
    words = sys.argv[1:] if argv is None else list(argv)
    minus = [
        f" {word}" if word.startswith("-") and not word.startswith("--") and len(word) > 2 else word for word in words
    ]
    options = parse(Options, minus, __doc__, "derive.py")
    try:
        run(options)
    except BrokenPipeError:  # the reader of standard output has had enough
        stop_output()
    except GradientMismatch as error:
        print(error, file=sys.stderr)
        return 1
    except (TypeError, ValueError, OSError) as error:
        print(f"derive.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("derive.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_script(main)
