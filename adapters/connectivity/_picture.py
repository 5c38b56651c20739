"""The picture of a decoder: encoder's features on the left, stages on the right, and the connections that stay."""

from html import escape

from ranp.adapters.connectivity._edges import GLOBAL, Source
from ranp.adapters.connectivity._mask import ConnectivityMask

_ROW, _TOP, _LETTER, _BOX = 46, 40, 7.2, 26  # pixels; a letter of the 12 px monospace is 7.2 wide
_GAP, _STAGE = 230, 150  # between the columns, and how wide a stage is drawn
_STYLE = (
    "svg{font:12px ui-monospace,monospace;background:#fff}text{fill:#1f2933}.box{fill:#eef2f6;stroke:#7b8794}"
    ".gone{fill:none;stroke:#c3cad2;stroke-dasharray:4 3}.gone+text{fill:#a0a7b0}path{fill:none;stroke-width:1.6}"
    ".E{stroke:#0b66c3}.D{stroke:#c2410c}.G{stroke:#2f855a}"
    "@media(prefers-color-scheme:dark){svg{background:#14181d}text{fill:#d7dde4}.box{fill:#242b33}.E{stroke:#5db0ff}"
    ".D{stroke:#ff9d5c}.G{stroke:#6bd49a}}"
)


def draw(mask: ConnectivityMask) -> str:
    """Return an SVG, light or dark as the reader's screen is.

    A row for each feature, the finest on top; wider lines are larger gates; stages that went are dashed.
    """
    taps, kept = mask.features, mask.kept
    last = len(taps) - 1
    left = max(len(str(tap)) + len(f", {tap.channels}") for tap in taps) * _LETTER + 24
    stages = 12 + left + _GAP
    y = {level: _TOP + _ROW * (last - level) for level in range(last + 1)}
    bottom = _TOP + _ROW * (last + 1)
    parts = [_text(12, 22, "encoder"), _text(stages, 22, "decoder")]
    for level, tap in enumerate(taps):
        parts += _box("box", 12, y[level], left, f"{tap}, {tap.channels}")
        there = level in kept
        parts += _box("box" if there else "gone", stages, y[level], _STAGE, _name(level, last) if there else "dropped")
    parts += _box("box", 12, bottom, left, "global")
    for stage, sources in kept.items():
        for place, source in enumerate(sources):
            parts.append(_line(mask, stage, source, place, len(sources), (12 + left, stages), y, bottom))
    width, height = stages + _STAGE + 70, bottom + _ROW + 24
    parts.append(_text(12, height - 12, "blue: encoder  orange: stage  green: global"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img"><title>The connections of the decoder</title><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _name(level: int, last: int) -> str:
    return f"stage {level}" + (", output" if level == last else "")


def _line(
    mask: ConnectivityMask,
    stage: int,
    source: Source,
    place: int,
    count: int,
    columns: tuple[float, float],
    y: dict[int, int],
    bottom: int,
) -> str:
    """Return a connection: from the left into its stage, or around the right from a stage below."""
    left, stages = columns
    end = y[stage] + _BOX * (place + 1) / (count + 1)
    gate = mask.edge(stage, source).gate
    width = 1.6 if gate is None else 0.8 + 1.6 * min(gate, 2.0)
    said = f"{mask.said(stage, source)} to stage {stage}" + ("" if gate is None else f", gate {gate:.3g}")
    if source.kind == "D":
        start, edge = y[source.level] + _BOX / 2, stages + _STAGE
        bend = edge + 16 + 10 * (stage - source.level)
        path = f"M{edge:.0f} {start:.1f}C{bend:.0f} {start:.1f} {bend:.0f} {end:.1f} {edge:.0f} {end:.1f}"
    else:
        start = (bottom if source == GLOBAL else y[source.level]) + _BOX / 2
        middle = (left + stages) / 2
        path = f"M{left:.0f} {start:.1f}C{middle:.0f} {start:.1f} {middle:.0f} {end:.1f} {stages:.0f} {end:.1f}"
    return (
        f'<path class="{source.kind}" style="stroke-width:{width:.1f}" d="{path}"><title>{escape(said)}</title></path>'
    )


def _box(kind: str, x: float, y: float, width: float, text: str) -> list[str]:
    return [
        f'<rect class="{kind}" x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_BOX}" rx="4"/>'
        + _text(x + 8, y + 17, text)
    ]


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y}">{escape(text)}</text>'
