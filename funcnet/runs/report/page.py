"""The page as a whole: its sections in order, and where it is written."""

import os
from pathlib import Path

from funcnet.interchange import write_whole
from funcnet.runs.outcome import outcome
from funcnet.runs.record import origin
from funcnet.runs.report.about import (
    curve_section,
    glance,
    heading,
    options_section,
    proof_section,
    sweep_section,
    time_section,
)
from funcnet.runs.report.judged import confusion_section, examples_section, residual_section, units_section
from funcnet.runs.report.markup import GENERATOR, document, element
from funcnet.runs.trained import Trained

HEAD = 2000
"""The mark of a page of ours stands in its first bytes."""


def report_page(trained: Trained) -> bytes:
    """The page on a run."""
    found, made = outcome(trained.model, trained.setup.parts), origin(trained.setup)
    result = confusion_section(found) if found.predictions.labels is not None else residual_section(found)
    parts = [
        curve_section(trained),
        sweep_section(trained),
        result,
        examples_section(trained, found),
        units_section(trained),
        proof_section(trained),
        time_section(trained, made),
        options_section(trained.setup.config),
    ]
    sections = [part for part in parts if part is not None]
    links = [element("a", part.findtext("h2"), href=f"#{part.get('id')}") for part in sections]
    nav = element("nav", *links, aria_label="sections")
    foot = element("footer", f"Written by funcnet {made['versions']['funcnet']}, {made['created']}.")
    main = element("main", heading(trained), glance(trained), nav, *sections, foot)
    return document(f"{trained.setup.parts['train'].name} · funcnet training run", main)


def write_report(path: Path, trained: Trained) -> None:
    """Write the page on a run, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    write_whole(path, report_page(trained))


def check_report(path: Path) -> None:
    """Refuse to write a page in the place of what is no page of ours.

    Raises:
        FileExistsError: If something else is there.
    """
    if not os.path.lexists(path):
        return
    if not _is_ours(path):
        raise FileExistsError(
            f"{path} is no report of a run, and would be overwritten; choose another name for the plot"
        )


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(HEAD)
