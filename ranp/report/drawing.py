"""Pictures of the coupling: dot text for graphviz, and an SVG that needs no program at all.

The SVG has a row for each layer and a column for each group: a full circle makes the group's channels, an empty one
reads them, and the line between them says that they live and die together.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from ranp.graph.couplings import Coupling

_ROW, _COLUMN, _TOP, _LETTER = 18, 22, 46, 7.2  # pixels; a letter of the 12 px monospace is 7.2 wide
_LEGEND = "\u25cf makes \u25cb reads the channels counted above; joined: kept or removed together; grey: must stay"
_STYLE = (
    "svg{font:12px ui-monospace,monospace;background:#fff;color:#1f2933}.free{color:#0b66c3}.frozen{color:#a0a7b0}"
    "text{fill:#1f2933}line,circle{stroke:currentColor;stroke-width:1.6}.reads{fill:#fff}.makes{fill:currentColor}"
    "@media(prefers-color-scheme:dark){svg,.reads{background:#14181d;fill:#14181d}text{fill:#d7dde4}.free{color:#5db0ff}"
    ".frozen{color:#6a737d}.makes{fill:currentColor}}"
)


def dot(couplings: Iterable[Coupling]) -> str:
    """Return the coupling as a graph in dot: boxes are modules, ellipses are groups and their width.

    >>> print(dot([Coupling("a", 8, ("a",), (), ("b",), {})]))
    digraph coupling {
      rankdir=TB; node [fontname="monospace"];
      "a" [shape=box]; "b" [shape=box];
      "group a" [label="a\\n8 channels"];
      "a" -> "group a"; "group a" -> "b";
    }
    <BLANKLINE>
    """
    lines = []
    groups = list(couplings)
    modules = dict.fromkeys(module for group in groups for module in group.makes + group.reads)
    lines.append(" ".join(f"{_quoted(module)} [shape=box];" for module in modules))
    for group in groups:
        node = _quoted(f"group {group.name}")
        why = "".join(f"\n{count} frozen: {reason}" for reason, count in group.frozen.items())
        style = " style=dashed" if group.frozen else ""
        label = f"{group.name}\n{group.width} channels{why}"
        lines.append(f"{node} [label={_quoted(label)}{style}];")
        edges = [f"{_quoted(module)} -> {node};" for module in group.makes]
        edges += [f"{node} -> {_quoted(module)};" for module in group.reads]
        lines.append(" ".join(edges))
    body = "\n".join(f"  {line}" for line in lines if line)
    return f'digraph coupling {{\n  rankdir=TB; node [fontname="monospace"];\n{body}\n}}\n'


def svg(couplings: Iterable[Coupling], order: Sequence[str] = ()) -> str:
    """Return the coupling as a picture, light or dark as the reader's screen is.

    Args:
        couplings: the groups.
        order: of the modules, from top to bottom; those it leaves out follow.
    """
    groups = list(couplings)
    rows = {name: row for row, name in enumerate(_in_order(groups, order))}
    left = int(max((len(name) for name in rows), default=0) * _LETTER) + 24
    width = max(left + _COLUMN * len(groups), int(len(_LEGEND) * _LETTER)) + 12
    height = _TOP + _ROW * (len(rows) + 1) + 12
    parts = [f'<text x="{left - 16}" y="{_TOP + _ROW * row + 4}" text-anchor="end">{escape(name)}</text>'
             for name, row in rows.items()]  # fmt: skip
    parts.append(f'<text x="8" y="{height - 12}">{_LEGEND}</text>')
    for column, group in enumerate(groups):
        parts += _column(group, left + _COLUMN * column, rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>Which layers share which channels</title><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _column(group: Coupling, x: int, rows: dict[str, int]) -> Iterator[str]:
    """Yield the line of one group, its members, and its width above."""
    places = [_TOP + _ROW * rows[module] for module in group.makes + group.reads]
    stays = sum(group.frozen.values())
    why = "; ".join(f"{count} frozen: {reason}" for reason, count in group.frozen.items())
    title = f"{group.name}: {group.width} channels" + (f"; {why}" if why else "")
    yield f'<g class="{"frozen" if stays == group.width else "free"}"><title>{escape(title)}</title>'
    yield f'<text x="{x}" y="{_TOP - 14}" transform="rotate(-60 {x} {_TOP - 14})">{group.width}</text>'
    yield f'<line x1="{x}" y1="{min(places, default=_TOP)}" x2="{x}" y2="{max(places, default=_TOP)}"/>'
    for kind, modules in (("reads", group.reads), ("makes", group.makes)):
        for module in modules:
            yield f'<circle class="{kind}" cx="{x}" cy="{_TOP + _ROW * rows[module]}" r="4.5"/>'
    yield "</g>"


def _in_order(groups: list[Coupling], order: Sequence[str]) -> list[str]:
    """Return the modules of groups in an order, what makes a group before what reads it where it says nothing."""
    known: dict[str, None] = {}
    for group in groups:
        known |= dict.fromkeys(group.makes)
    known |= dict.fromkeys(module for group in groups for module in group.reads)
    return [name for name in order if name in known] + [name for name in known if name not in set(order)]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
