"""A network's description as plain values that a file can hold, and back."""

from collections.abc import Mapping
from typing import Any

from funcnet import activations, losses
from funcnet.activations import Activation
from funcnet.losses import Loss
from funcnet.network import MLP

FIELDS = ("widths", "activation", "output_activation", "loss", "l2", "dropout", "operand_dtype")


def describe(net: MLP) -> dict[str, Any]:
    """The description as a dictionary that JSON can hold; `network_of` is its inverse.

    Raises:
        ValueError: If an activation or a loss is not one of funcnet's: functions are not written to files.

    >>> import funcnet as fn
    >>> from funcnet.interchange import describe
    >>> describe(fn.MLP((4, 8, 3), activation=fn.tanh, loss=fn.label_smoothed(0.2), l2=1e-4))["loss"]
    'label_smoothed(0.2)'
    """
    hidden = net.activation
    return {
        "widths": list(net.widths),
        "activation": [_name(a) for a in hidden] if isinstance(hidden, tuple) else _name(hidden),
        "output_activation": _name(net.output_activation),
        "loss": _loss_text(net.loss),
        "l2": None if net.l2 is None else float(net.l2),
        "dropout": None if net.dropout is None else float(net.dropout),
        "operand_dtype": net.operand_dtype,
    }


def network_of(description: Mapping[str, Any]) -> MLP:
    """The network that a dictionary from `describe` stands for.

    Raises:
        TypeError: If it is no dictionary, or a value is not of its kind.
        ValueError: If a field is missing or unknown, or a value is out of its range.
    """
    if not isinstance(description, Mapping):
        raise TypeError(f"the description of a network must be a dictionary; got {type(description).__name__}")
    missing = [field for field in FIELDS if field not in description]
    unknown = [field for field in description if field not in FIELDS]
    if missing or unknown:
        raise ValueError(
            f"the description of a network must have the fields {', '.join(FIELDS)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    widths, hidden = description["widths"], description["activation"]
    return MLP(
        tuple(widths) if isinstance(widths, list) else widths,
        activation=(
            tuple(activations.by_name(name) for name in hidden)
            if isinstance(hidden, list)
            else activations.by_name(hidden)
        ),
        output_activation=activations.by_name(description["output_activation"]),
        loss=losses.by_name(description["loss"]),
        l2=description["l2"],
        dropout=description["dropout"],
        operand_dtype=description["operand_dtype"],
    )


def checked_text(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Further text of a file, by name.

    Raises:
        TypeError: If a name or a value is no text.
    """
    for name, text in (metadata or {}).items():
        if not (isinstance(name, str) and isinstance(text, str)):
            kind = type(text).__name__
            raise TypeError(f"metadata[{name!r}] must be text, such as json.dumps gives of a list; got {kind}")
    return dict(metadata or {})


def _name(activation: Activation) -> str:
    if activations.ACTIVATIONS.get(activation.name) != activation:
        raise ValueError(f"only funcnet's own activations can be written to a file; got {activation.name!r}")
    return activation.name


def _loss_text(loss: Loss) -> str:
    constants = f"({', '.join(repr(float(c)) for c in loss.constants)})" if loss.constants else ""
    if loss.name not in losses.LOSSES or losses.by_name(loss.name + constants) != loss:
        raise ValueError(f"only funcnet's own losses can be written to a file; got {loss.name!r}")
    return loss.name + constants
