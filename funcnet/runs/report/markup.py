"""HTML as trees of elements, so that every text from outside is escaped where it is written, and nowhere else."""

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

from funcnet.runs.report.style import STYLE

Content = str | Element | None
GENERATOR = "funcnet training report"
_VOID = re.compile(r"></(meta|img|br)>")
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def readable(text: str) -> str:
    """A text without the characters that no page may hold, such as control characters and halves of others."""
    return _NO_TEXT.sub("\ufffd", text)


def element(tag: str, *content: Content, **attributes: str) -> Element:
    """An element from its texts and elements in order; attributes are named class_, aria_label and so on."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): readable(text) for name, text in attributes.items()})
    for part in content:
        if isinstance(part, Element):
            made.append(part)
        elif part and len(made):
            made[-1].tail = (made[-1].tail or "") + readable(part)
        elif part:
            made.text = (made.text or "") + readable(part)
    return made


def section(name: str, title: str, *content: Content) -> Element:
    """A part of the page under a heading of its own."""
    return element("section", element("h2", title), *content, id=name)


def paragraph(*content: Content) -> Element:
    """A paragraph in small print."""
    return element("p", *content, class_="note")


def table(
    caption: str, columns: Sequence[Content], rows: Iterable[Sequence[Content]], words: Sequence[int] = (0,)
) -> Element:
    """A table that scrolls on its own where the screen is too narrow.

    Args:
        caption: What it shows.
        columns: The heads.
        rows: The cells; the first of each row is its head. What is an element of a cell already stays one.
        words: The columns of words; numbers stand to the right.
    """

    def cell(number: int, content: Content, tag: str, **scope: str) -> Element:
        if isinstance(content, Element) and content.tag in ("td", "th"):
            return content
        return element(tag, content, **scope, **({"class_": "words"} if number in words else {}))

    head = element("tr", *(cell(i, name, "th", scope="col") for i, name in enumerate(columns)))
    body = [
        element("tr", *(cell(i, each, "td") if i else cell(i, each, "th", scope="row") for i, each in enumerate(row)))
        for row in rows
    ]
    return framed(
        caption, element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    )


def framed(name: str, content: Element) -> Element:
    """Something wide, in a frame that scrolls and that the keyboard reaches."""
    return element("div", content, class_="scroll", role="region", tabindex="0", aria_label=name)


def facts(pairs: Iterable[tuple[str, Content]], class_: str = "facts") -> Element:
    """Names and their values."""
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs), class_=class_
    )


def document(title: str, *content: Content) -> bytes:
    """The whole page, which reads as HTML and as XML."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=GENERATOR),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", STYLE),
    )
    page = element("html", head, element("body", *content), lang="en")
    text = tostring(page, encoding="unicode", short_empty_elements=False)  # <td /> would leave a cell open in HTML
    return f"<!DOCTYPE html>\n{_VOID.sub(' />', text)}\n".encode()
