"""A whole page: one file that loads nothing, of one run or of two."""

from importlib.resources import files

from ranp import __version__
from ranp.report._markup import Content, Html, element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, *body: Content) -> str:
    """Return an HTML document with its style in it; its policy forbids it to load anything."""
    style = Html(files("ranp.report").joinpath("style.css").read_text(encoding="utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"ranp {__version__}"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    footer = element("footer", f"ranp {__version__}")
    return f"<!DOCTYPE html>\n{element('html', head, element('body', *body, footer), lang='en')}\n"
