"""Which columns of a table are features, and which is the target."""

from funcnet.data.dataset import Schema
from funcnet.data.messages import listed


def find(target: str | int, names: tuple[str, ...], width: int) -> int | None:
    """The place of a column given by name or, where no name fits, by number from 1; None if there is no such."""
    text = str(target).strip()
    if text in names:
        return names.index(text)
    return int(text) - 1 if text.isdecimal() and 1 <= int(text) <= width else None


def choose(names: tuple[str, ...], width: int, target: str | int | None) -> tuple[list[int], int]:
    """Features and target of a table to learn from: the target column, by default the last, and all others.

    Raises:
        ValueError: If there is no such column, none beside it, or one without a name.
    """
    if width < 2:
        raise ValueError("a single column; expected features and a target, separated by comma, semicolon or tab")
    if "" in names:
        raise ValueError(f"column {names.index('') + 1} has no name; leave it out if it numbers the rows")
    place = width - 1 if target is None else find(target, names, width)
    if place is None:
        raise ValueError(_no_column(target, names, width))
    return [i for i in range(width) if i != place], place


def choose_as(
    names: tuple[str, ...], width: int, target: str | int | None, like: Schema
) -> tuple[list[int], int | None]:
    """Features and, where it is there, target of a table that is to fit other data.

    Features are found by name where both sides have names, and other columns are left aside; else they are told by
    their number.

    Raises:
        ValueError: If a feature or the target asked for is missing, or the number of columns does not fit.
    """
    if names and like.feature_names:
        features = by_name(names, like.feature_names)
        own = like.target_names[0] if len(like.target_names) == 1 else None
        place = names.index(own) if target is None and own in names else None
        if target is not None and (place := find(target, names, width)) is None:
            raise ValueError(_no_column(target, names, width))
        if place in features:
            raise ValueError(f"column {names[place]!r} is a feature; it cannot be the target")
        return features, place
    if width == like.n_features:
        return list(range(width)), None
    if width == like.n_features + 1:
        return choose(names, width, target)
    raise ValueError(f"{width} columns; expected {like.n_features} features, alone or with a target")


def by_name(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """The place of each wanted feature.

    Raises:
        ValueError: If some are missing.
    """
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ValueError(f"features are missing: {listed(missing)}; there are: {listed(names)}")
    return [places[name] for name in wanted]


def _no_column(target: str | int | None, names: tuple[str, ...], width: int) -> str:
    there = f"there are: {listed(names)}" if names else f"there are {width}, without names"
    return f"no column {target!r} for the target; {there}"
