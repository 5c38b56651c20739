"""HTML built from elements, in which every text is escaped: only what `element` made counts as markup.

>>> element("p", "a < b", class_="note")
'<p class="note">a &lt; b</p>'
>>> element("p", element("b", "x"), " & y")
'<p><b>x</b> &amp; y</p>'
"""

import html
from collections.abc import Iterable

VOID = {"br", "hr", "img", "link", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Content = str | Iterable["Content"] | None


def element(tag: str, *children: Content, **attributes: str | float | None) -> Html:
    """Return an element; a trailing underscore of an attribute's name is dropped, other underscores become hyphens.

    Args:
        tag: its name.
        children: text, which is escaped, elements, or iterables of these; None is nothing.
        attributes: values are escaped; None leaves one out.
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{words}>")
    return Html(f"<{tag}{words}>{joined(*children)}</{tag}>")


def joined(*children: Content) -> Html:
    """Return children one after the other."""
    return Html("".join(_text(child) for child in children))


def _text(child: Content) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return joined(*child)
