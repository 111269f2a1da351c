"""Plots of a dataset card, as SVG files of the repo: `plots/<domain>-<what>.svg`.

They are drawn from the rows as they are published, and from counts that the card states as well: a plot tells no more
than its repo does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup, escape

from hf_mirror import plots
from hf_mirror.files import read_table
from hf_mirror.publish.staging import HEADLINE, MIXED, Staged

Figure = tuple[str, str]  # a file of the repo, and what it shows in words
Panel = tuple[str, Markup]

WIDTH, HEAD, GAP = 760, 20, 16  # pixels
STYLE = (
    "text{font:11px sans-serif;fill:#5b6675}.title{font-weight:600;fill:#1b2330}.one{fill:#2563c9}"
    ".two{fill:#c26a00}.grid{stroke:#e3e7ec}.axis{stroke:#9aa5b3}.expected{stroke:#1b2330;stroke-dasharray:4 3}"
)
BINS = 20


def draw(staged: Staged, positions: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, list[Figure]]:
    """Writes the plots of every domain of a repo and returns them by domain. `positions` has the truths per slot, by
    domain and K, where the repo shows them."""
    found: dict[str, list[Figure]] = {}
    for subset, counts in staged.rows.items():
        if subset == MIXED:
            continue
        parts = [
            read_table(staged.path(subset, split)) for split in counts if split != HEADLINE
        ]  # its rows are in test
        rows = pa.concat_tables(parts, promote_options="default")
        panels = {"positions": _positions(positions[subset])} if subset in positions else {}
        panels |= {name: make(rows) for name, make in DRAWINGS[staged.kind].items()}
        for name, drawn in panels.items():
            if not drawn:
                continue
            path = staged.folder / "plots" / f"{subset}-{name}.svg"
            path.parent.mkdir(exist_ok=True)
            path.write_text(_picture(drawn), encoding="utf-8")
            found.setdefault(subset, []).append((path.relative_to(staged.folder).as_posix(), WORDS[name]))
    return found


def _positions(by_k: Mapping[str, Sequence[int]]) -> list[Panel]:
    """A panel per number of options: how many truths stand in each slot, and what an equal share would be."""
    panels = []
    for k, slots in by_k.items():
        labels, total = [str(slot + 1) for slot in range(len(slots))], sum(slots)
        drawing = plots.bars([("one", "truths", slots)], labels, 70, 1.05 * max(*slots, 1), total / len(slots))
        panels.append((f"K = {k}, {total:,} scenes", drawing))
    return panels


def _options(rows: pa.Table) -> list[Panel]:
    """Scenes by their number of options, which closed pairs do not tell."""
    if "scene_id" not in rows.column_names:
        return []
    first = np.unique(rows["scene_id"].to_numpy(zero_copy_only=False), return_index=True)[1]
    rows = rows.take(pa.array(np.sort(first)))
    if "n_options" in rows.column_names:
        k = rows["n_options"].to_numpy()
    else:
        k = pc.list_value_length(rows["choices" if "choices" in rows.column_names else "exposure"]).to_numpy()
    values, counts = np.unique(k, return_counts=True)
    bars = plots.bars([("one", "scenes", counts.tolist())], [str(v) for v in values], 130, 1.05 * int(counts.max()))
    return [("scenes by number of options K", bars)]


def _prompts(rows: pa.Table) -> list[Panel]:
    """Words per prompt, which closed rows do not have."""
    if "prompt" not in rows.column_names:
        return []
    return _words([chat[-1]["content"] for chat in rows["prompt"].to_pylist()], "words per prompt")


def _thoughts(rows: pa.Table) -> list[Panel]:
    """Words per thought; of open pairs, both sides."""
    if "thought" in rows.column_names:
        texts = rows["thought"].to_pylist()
    else:
        sides = [rows[side].to_pylist() for side in ("chosen", "rejected") if side in rows.column_names]
        texts = [chat[-1]["content"] for side in sides for chat in side]
    return _words([text for text in texts if text], "words per decision")


def _words(texts: Sequence[str], what: str) -> list[Panel]:
    lengths = [len(text.split()) for text in texts]
    return [(f"{what}, mean {np.mean(lengths):.0f}", _histogram([("one", lengths)], what))] if lengths else []


def _uncertainty(rows: pa.Table) -> list[Panel]:
    """Of the scenes that were kept: how sure the reader is after a decision, by who wrote it."""
    if "scores" not in rows.column_names:
        return []
    scores = rows["scores"].combine_chunks().flatten()
    names = [field.name for field in rows.schema.field("scores").type]
    panels = []
    for what in ("within_decision_entropy", "total_entropy"):
        series = []
        for kind, role in (("one", "teacher"), ("two", "student")):
            values = scores[names.index(f"{role}_{what}")].drop_null().to_numpy(zero_copy_only=False)
            series.append((kind, values.tolist()))
        if all(values for _, values in series):
            title = f"{what.replace('_', ' ')} / log2 K: teacher blue, student orange"
            panels.append((title, _histogram(series, "pairs", (0.0, 1.0))))
    return panels


def _histogram(
    series: Sequence[tuple[str, Sequence[float]]], what: str, span: tuple[float, float] | None = None
) -> Markup:
    """Shares of each series per bin, over the span of all values unless one is given."""
    everything = [value for _, values in series for value in values]
    whole = span is None and all(isinstance(value, int) for value in everything)
    low, high = span or (min(everything), max(everything))
    edges = np.linspace(low, max(high, low + 1e-9) if not whole else high + 1, BINS + 1)
    if whole:
        edges = np.unique(np.floor(edges))
    shares = [np.histogram(np.clip(values, low, high), edges)[0] / len(values) for _, values in series]
    labels = [f"{edge:.0f}" if whole else f"{edge:.2g}" for edge, _ in pairwise(edges)]
    top = plots.round_up(float(max(map(np.max, shares))))
    bars = [(kind, what, share.tolist()) for (kind, _), share in zip(series, shares, strict=True)]
    return plots.bars(bars, labels, 130, top)


# What is drawn of the rows of each kind of repo.
DRAWINGS: dict[str, dict[str, Callable[[pa.Table], list[Panel]]]] = {
    "scenes": {"options": _options, "prompts": _prompts},
    "rationales": {"words": _thoughts},
    "preferences": {"uncertainty": _uncertainty, "options": _options, "words": _thoughts},
    "bench": {"options": _options, "prompts": _prompts},
}
WORDS = {
    "positions": "truths per slot of the list, by number of options K; the dashed line is an equal share",
    "options": "scenes by number of options",
    "prompts": "words per prompt",
    "words": "words per decision",
    "uncertainty": "entropy of the reader's choice over the kept scenes, teacher and student",
}


def _picture(panels: Sequence[Panel]) -> str:
    """One SVG of its own: small panels beside each other, large ones below each other."""
    columns = 4 if len(panels) > 2 else 1
    wide = (WIDTH - GAP * (columns - 1)) / columns
    tall = HEAD + max(int(str(drawing).split('height="')[1].split('"')[0]) for _, drawing in panels) + GAP
    parts = []
    for i, (title, drawing) in enumerate(panels):
        x, y = (i % columns) * (wide + GAP), (i // columns) * tall
        parts.append(f'<text class="title" x="{x:.0f}" y="{y + 13}">{escape(title)}</text>')
        parts.append(f'<svg x="{x:.0f}" y="{y + HEAD}" width="{wide:.0f}" height="{tall - HEAD}">{drawing}</svg>')
    height = tall * -(-len(panels) // columns)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * GAP}" height="{height + GAP}" '
        f'viewBox="{-GAP} {-GAP} {WIDTH + 2 * GAP} {height + GAP}"><style>{STYLE}</style>'
        f'<rect x="{-GAP}" y="{-GAP}" width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
