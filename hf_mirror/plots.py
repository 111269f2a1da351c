"""Plots and tables as HTML: SVG whose widths are percentages and whose texts have the page's size, so that one drawing
fits a phone and a screen. Colours are classes (`one`, `two`, `rest`), which the page's style knows.

They are written here rather than in a template because a template of this size takes longer to compile than a small
domain takes to build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

Cell = str | int | Sequence[str | int]

MARKS = {"✓": "good", "✕": "bad"}

# A class, what its bars count, and the bars.
Series = tuple[str, str, Sequence[float]]


def bars(
    series: Sequence[Series], labels: Sequence[str], height: int, top: float, expected: float | None = None
) -> Markup:
    """Upright bars, those of all series beside each other over each label; the axis ends at `top`. `expected` draws a
    dashed line. Shares are floats, counts are ints: the numbers on the bars say so."""
    slot = 100 / len(labels)
    wide = slot * (0.78 if len(labels) > 1 else 0.4) / len(series)
    left = (slot - wide * len(series)) / 2
    parts = [_line(height, y) for y in (0.5, height / 2)]
    for place, (kind, name, values) in enumerate(series):
        for i, value in enumerate(values):
            tip = f"{labels[i]}: {number(value)} {name}"
            parts.append(_bar(kind, slot * i + left + wide * place, wide, height, value / top, tip))
    parts.append(_line(height, height, "axis"))
    if expected is not None:
        parts.append(_line(height, height * (1 - expected / top), "expected"))
    every = -(-len(labels) // 10)  # ten labels fit
    parts += [_text(slot * (i + 0.5), height + 14, labels[i], "middle") for i in range(0, len(labels), every)]
    return _svg(height + 18, " and ".join(name for _, name, _ in series), parts)


def timeline(
    totals: Sequence[int], parts_of: Sequence[int], start: str, end: str, cuts: Sequence[tuple[float, str]], top: float
) -> Markup:
    """Bars of `totals` over time with `parts_of` them in front, and a line with words at each cut (percent, words)."""
    height, above, slot = 150, 34, 100 / len(totals)
    parts = [_line(height, y) for y in (0, height / 2)]
    for i, (total, part) in enumerate(zip(totals, parts_of, strict=True)):
        tip = f"{number(total)} events, {number(part)} choices"
        parts.append(_bar("rest", slot * i, slot * 0.86, height, total / top, tip))
        parts.append(_bar("one", slot * i, slot * 0.86, height, part / top, tip))
    parts.append(_line(height, height, "axis"))
    for row, (at, words) in enumerate(cuts):
        y = -6 - 14 * row  # the words of the second pass above the first line
        parts.append(f'<line class="cut" x1="{at:.2f}%" x2="{at:.2f}%" y1="{y}" y2="{height}"/>')
        parts.append(_text(at, y + 9, words, "end" if at > 25 else "start", -5 if at > 25 else 5))
    parts += [_text(0, height + 15, start, "start"), _text(100, height + 15, end, "end")]
    moved = f'<g transform="translate(0 {above})">{"".join(parts)}</g>'
    return _svg(height + above + 20, "events over time, with the two cuts", [moved])


def scatter(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], across: str, up: str) -> Markup:
    """Dots of shares from 0 to 1, a class, x and y for each series; a dashed line where both are the same."""
    height, foot = 260, 34
    parts = [_line(height, y) for y in (0.5, height / 2)]
    parts.append(f'<line class="expected" x1="0" x2="100%" y1="{height}" y2="0"/>')
    parts += [
        f'<circle class="{kind} dot" cx="{100 * x:.1f}%" cy="{height * (1 - y):.1f}" r="2.5"/>'
        for kind, xs, ys in series
        for x, y in zip(xs, ys, strict=True)
    ]
    parts.append(_line(height, height, "axis"))
    parts += [_text(0, 11, f"{up}: 1", "start", 4), _text(0, height + 15, "0", "start")]
    parts += [_text(50, height + 15, across, "middle"), _text(100, height + 15, "1", "end")]
    return _svg(height + foot, f"{up} against {across}", parts)


def counts(values: Mapping[str, int], kind: str = "one") -> Markup:
    """Lying bars with their names and numbers, the longest first."""
    if not values:
        return Markup('<p class="quiet">none</p>')
    top = max(values.values()) or 1
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td class="n">{number(value)}</td><td class="bar">'
        f'<svg width="100%" height="12" aria-hidden="true"><rect class="{kind}" width="{100 * value / top:.2f}%" '
        'height="12" rx="2"/></svg></td></tr>'
        for name, value in sorted(values.items(), key=lambda pair: -pair[1])
    )
    return Markup(f'<table class="bars">{rows}</table>')


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Markup:
    """A table. Numbers stand to the right; of a cell with several lines all but the first are small, and a first line
    that begins with a mark has its colour."""
    numbers = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    first = "".join(f"<th{' class=n' * right}>{escape(name)}</th>" for name, right in zip(head, numbers, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return Markup(f"<table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>")


def _cell(cell: Cell) -> str:
    if isinstance(cell, int):
        return f'<td class="n">{number(cell)}</td>'
    lines = [cell] if isinstance(cell, str) else [str(line) for line in cell]
    kind = MARKS.get(lines[0][:1])
    more = "".join(f"<small>{escape(line)}</small>" for line in lines[1:])
    first = f'<span class="{kind}">{escape(lines[0])}</span>' if kind else escape(lines[0])
    return f"<td>{first}{more}</td>"


def number(value: float) -> str:
    """12,345 for a count, 20.3 % for a share."""
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}\u00a0%"


def round_up(value: float) -> float:
    """The next number of one digit, as 3, 40 or 0.2: where an axis ends."""
    step = 1.0
    while step * 10 < value:
        step *= 10
    while 0 < value < step:
        step /= 10
    return next(step * factor for factor in range(1, 11) if step * factor >= value * (1 - 1e-9))


def _svg(height: int, says: str, parts: Sequence[str]) -> Markup:
    return Markup(f'<svg width="100%" height="{height}" role="img" aria-label="{escape(says)}">{"".join(parts)}</svg>')


def _bar(kind: str, x: float, wide: float, height: int, share: float, tip: str) -> str:
    tall = height * share
    return (
        f'<rect class="{kind}" x="{x:.2f}%" y="{height - tall:.1f}" width="{wide:.2f}%" height="{tall:.1f}">'
        f"<title>{escape(tip)}</title></rect>"
    )


def _line(height: int, y: float, kind: str = "grid") -> str:
    return f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, dx: int = 0) -> str:
    return f'<text x="{x:.2f}%" y="{y:.0f}" dx="{dx}" text-anchor="{anchor}">{escape(words)}</text>'
