"""Export a run that scripts/train.py kept, with its scales, to where funcnet is not installed.

The file is run and compared with funcnet on random rows before it gets its name. onnx and stablehlo take raw features
and give probabilities or numbers in the units of the data. torch is a safetensors file of the state_dict of an
nn.Sequential, whose metadata hold scales and names. safetensors is funcnet's own model file.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tyro.conf import Positional, arg

from funcnet.data import restore, standardise
from funcnet.interchange import describe, to_onnx, to_stablehlo, to_torch, write_whole
from funcnet.runs import Model, load_model, predict, read_run, save_model
from funcnet.runs.command_line import parse, run_script
from funcnet.runs.config import OpenPath
from funcnet.runs.folder import FILES

ROWS = 256
TOLERANCE = 1e-4
"""The largest difference that rounding makes, as a share of each output's largest value: another order of sums."""


@dataclass(frozen=True)
class Options:
    """Export a run that scripts/train.py kept."""

    run: Annotated[Path, Positional, arg(metavar="RUN")]
    """The folder of the run: --run-dir of scripts/train.py."""
    to: Literal["onnx", "stablehlo", "torch", "safetensors"]
    """The format."""
    out: OpenPath = None
    """The file to write. By default beside the folder of the run, with its name."""
    overwrite: bool = False
    """Put the file in the place of the one that is there."""


class Format(NamedTuple):
    """A format: how its files end, how a model is written to one, and what the file makes of raw features."""

    suffix: str
    write: Callable[[Model, Path], None]
    run: Callable[[Path, Model, Float[np.ndarray, "n d"]], Float[np.ndarray, "n k"]]


class WrongExportError(ValueError):
    """The file does not compute what funcnet does."""


def names(model: Model) -> dict[str, str]:
    """Names of classes and columns as text, those there are."""
    known = {name: getattr(model.schema, name) for name in ("class_names", "feature_names", "target_names")}
    return {name: json.dumps(list(value)) for name, value in known.items() if value}


def write_onnx(model: Model, path: Path) -> None:
    """An ONNX file, with the names in its metadata."""
    to_onnx(model.net, model.params, path, features=model.features, targets=model.targets, metadata=names(model))


def run_onnx(path: Path, model: Model, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """What ONNX Runtime computes."""
    from onnxruntime import InferenceSession

    values: Any = InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return values[0]


def write_stablehlo(model: Model, path: Path) -> None:
    """A StableHLO program, which has no room for names."""
    to_stablehlo(model.net, model.params, path, features=model.features, targets=model.targets)


def run_stablehlo(path: Path, model: Model, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """What the program computes."""
    from jax import export

    return np.asarray(export.deserialize(bytearray(path.read_bytes())).call(jnp.asarray(x)))


def write_torch(model: Model, path: Path) -> None:
    """The state_dict as safetensors; scales, names, network and the text of the module in the metadata."""
    from safetensors.torch import save

    module = to_torch(model.net, model.params)
    scales = {"features": model.features, "targets": model.targets}
    texts = {
        of: json.dumps({name: array.tolist() for name, array in scale._asdict().items()})
        for of, scale in scales.items()
        if scale is not None
    }
    about = {"network": json.dumps(describe(model.net)), "module": str(module)}
    path.write_bytes(save(module.state_dict(), {**names(model), **texts, **about}))


def run_torch(path: Path, model: Model, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """What a module of these weights computes, scaled as the metadata of its file say."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata()
    scales = {
        of: type(scale)(**{name: np.array(values) for name, values in json.loads(metadata[of]).items()})
        for of, scale in (("features", model.features), ("targets", model.targets))
        if scale is not None
    }
    module = to_torch(model.net, jax.tree.map(jnp.zeros_like, model.params)).eval()
    module.load_state_dict(load_file(path))
    rows = standardise(scales["features"], x) if "features" in scales else x
    with torch.no_grad():
        outputs = module(torch.from_numpy(rows).to(next(module.parameters()).dtype)).float().numpy()
    values = np.asarray(model.net.loss.inverse_link(jnp.asarray(outputs)))
    return restore(scales["targets"], values) if "targets" in scales else values


FORMATS = {
    "onnx": Format(".onnx", write_onnx, run_onnx),
    "stablehlo": Format(".stablehlo", write_stablehlo, run_stablehlo),
    "torch": Format(".torch.safetensors", write_torch, run_torch),
    "safetensors": Format(
        ".safetensors",
        lambda model, path: save_model(path, model),
        lambda path, model, x: predict(load_model(path), x).values,
    ),
}


def random_rows(model: Model) -> Float[np.ndarray, "n d"]:
    """Rows of features as the model's data could have them."""
    rows = np.random.default_rng(0).normal(size=(ROWS, model.schema.n_features))
    return (rows if model.features is None else rows * model.features.scale + model.features.mean).astype(np.float32)


def difference(model: Model, kind: Format, path: Path) -> float:
    """The largest difference between what a file computes on random rows and what funcnet predicts.

    Raises:
        WrongExportError: If it is more than rounding makes.
    """
    x = random_rows(model)
    expected, got = predict(model, x).values.astype(np.float64), kind.run(path, model, x).astype(np.float64)
    if got.shape != expected.shape:
        raise WrongExportError(f"the file gives values of shape {got.shape}, funcnet of {expected.shape}")
    with np.errstate(invalid="ignore"):
        apart = np.where(got == expected, 0, np.abs(got - expected))
    allowed = TOLERANCE * max(1, float(jnp.finfo(model.params[0].w.dtype).eps) / float(np.finfo(np.float32).eps))
    if not (apart <= allowed * np.maximum(np.abs(expected).max(axis=0), np.finfo(np.float32).tiny)).all():
        raise WrongExportError(f"the file was not kept: its values are up to {apart.max():.2g} from funcnet's")
    return float(apart.max())


def checked_out(options: Options) -> Path:
    """Where the file goes.

    Raises:
        FileExistsError: If something is there and may not be overwritten.
        ValueError: If that is a file of the run.
    """
    run = options.run.resolve()
    out = options.out or run.with_name(run.name + FORMATS[options.to].suffix)
    if out.resolve().parent == run and out.name in FILES:
        raise ValueError(f"out {out} is the run's own; choose another name")
    if os.path.lexists(out) and not options.overwrite:
        raise FileExistsError(f"out {out} is there already; choose another name or add --overwrite")
    return out


def contents(model: Model, to: str) -> str:
    """What goes in and what comes out, in a line."""
    of = ", ".join(model.schema.class_names or model.schema.target_names) or f"{model.net.widths[-1]} targets"
    if to == "torch":
        return f"{model.schema.n_features} features, scaled as its metadata say → the network's own outputs: {of}"
    kind = "numbers" if not model.classifies else "probabilities" if model.net.loss.logits else "scores"
    return f"{model.schema.n_features} features, as they are in the data → {kind}: {of}"


def run(options: Options) -> None:
    """Read the run, write the file where nobody sees it, compare, and give it its name."""
    out, kind = checked_out(options), FORMATS[options.to]
    model = read_run(options.run).model
    with tempfile.TemporaryDirectory() as folder:
        unseen = Path(folder) / f"model{kind.suffix}"
        kind.write(model, unseen)
        largest = difference(model, kind, unseen)
        content = unseen.read_bytes()
    write_whole(out, content)
    print(f"{out} ({len(content):,} bytes): {'-'.join(map(str, model.net.widths))} as {options.to}")
    print(contents(model, options.to))
    print(f"largest difference from funcnet on {ROWS} random rows: {largest:.2g}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit status is 0, 2 for a wrong option or file, 130 for Ctrl-C."""
    options = parse(Options, argv, __doc__, "export.py")
    try:
        run(options)
    except ModuleNotFoundError as error:
        print(f"export.py: {error}; --to {options.to} needs it", file=sys.stderr)
        return 2
    except (TypeError, ValueError, OSError) as error:
        print(f"export.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("export.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_script(main)
