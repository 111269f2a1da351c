"""Reports as HTML pages, and the page of a build: audits, what scenes look like, what was dropped, and from what.

Pure functions of reports. A page is one file without scripts or anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hf_mirror import plots

TEMPLATE = Path(__file__).parent / "pages" / "report.html.jinja"
MARKS = {"passed": "✓", "failed": "✕", "shown": "·", "no data": "·"}
POPULARITY = "asof_count"

Facts = Mapping[str, Any]
Block = dict[str, Any]
Legend = tuple[tuple[str, str], ...]


def page(report: Facts) -> str:
    """The HTML of one domain's report (what build.build returns)."""
    source = report["source"]
    lead = f"{source['release']}. {source['licence']}; rows {'may' if source['redistributable'] else 'must not'} be "
    lead += (
        f"redistributed. A choice is {report['positive']}. hf_mirror {report['code_version']}, seed {report['seed']}."
    )
    sections = [_audits(report), _positions(report), _popularity(report), _options(report), _time(report),
                _drops(report), _origin(report)]  # fmt: skip
    return render(report["domain"], "build report", lead, report["warnings"], _tiles(report), sections)


def render(
    title: str, kind: str, lead: str, warnings: Sequence[str], tiles: Mapping[str, str], sections: Sequence[Facts]
) -> str:
    """A page: what it is of, a line about it, warnings, numbers, and sections (`section`) with plots and tables."""
    from jinja2 import Environment, StrictUndefined

    template = Environment(
        undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, kind=kind, lead=lead, warnings=warnings, tiles=tiles, sections=sections)


def section(title: str, lead: str, blocks: list[Block], kind: str = "", legend: Legend = ()) -> Facts:
    """A part of a page; `legend` has a class and what it stands for."""
    return {"title": title, "lead": lead, "blocks": blocks, "kind": kind, "legend": legend}


def block(body: Any, title: str = "", caption: str = "", wide: bool = False) -> Block:
    """A figure of a section."""
    return {"body": body, "title": title, "caption": caption, "wide": wide}


def _tiles(report: Facts) -> dict[str, str]:
    tables = report["tables"]
    counted = {"rows read": tables["read"]} | {name: tables[name] for name in ("events", "positives", "users", "items")}
    counted |= {f"{split} scenes": part["kept"] for split, part in report["scenes"].items()}
    return {name: plots.number(count) for name, count in counted.items()}


def _audits(report: Facts) -> Facts:
    lead = "What the options give away without their user. Shares are of scenes, ± one standard error over users."
    blocks = [
        block(
            plots.table(("check", "finding"), _audit(audit)),
            f"{split}, {audit['regime']}",
            f"{plots.number(audit['scenes'])} scenes of {plots.number(audit['users'])} users",
        )
        for split, audit in report["audits"].items()
    ]
    return section("Audits", lead, blocks)


def _audit(audit: Facts) -> list[list[plots.Cell]]:
    if audit["too_few"]:
        return [["all", "too few scenes or users"]]
    places, shares, blind, fair = (audit[name] for name in ("positions", "extremes", "history_blind", "eligibility"))
    figures = {"positions": [f"{end} {_share(places[end])}" for end in ("first", "last")]}
    figures["positions"] += ["the truth is never last"] * places["never_last"]
    if "largest" in shares.get(POPULARITY, {}):
        figures["popularity"] = [
            f"{name} {_share(shares[POPULARITY][name])}" for name in ("largest", "smallest", "median")
        ]
    if blind:
        accuracy = {"share": blind["accuracy"], "standard_error": blind["standard_error"]}
        figures["history_blind"] = [f"{_share(accuracy)}, chance {plots.number(blind['chance'])}"]
        figures["history_blind"] += [f"most by {', '.join(list(blind['weights'])[:3])}"] * bool(blind["weights"])
    if fair:
        figures["eligibility"] = [f"{name} {100 * fair[name]['excess']:+.1f} points" for name in ("answers", "inputs")]
    rows: list[list[plots.Cell]] = [
        [name.replace("_", "-"), [f"{MARKS[outcome]} {outcome}", *figures.get(name, [])]]
        for name, outcome in audit["checks"].items()
    ]
    return [*rows, ["gap of a day or more", _gap(audit["gaps"])]]


def _share(part: Facts) -> str:
    error = f" ± {100 * part['standard_error']:.1f}" if "standard_error" in part else ""
    return plots.number(float(part["share"])) + error


def _gap(gaps: Facts | None) -> plots.Cell:
    if not gaps:
        return "· no data"
    day = gaps["strata"][">=1d"]
    few = ["too few for scores of their own"] * gaps["too_small"]
    return [f"{plots.number(day['scenes'])} scenes", f"{plots.number(day['users'])} users", *few]


def _positions(report: Facts) -> Facts:
    lead = "Truths per slot of the list, by its number of options K. The dashed line is an equal share."
    blocks = []
    for split, part in report["scenes"].items():
        tests = report["audits"][split]["positions"]["per_k"]
        for k, slots in part["truth_positions"].items():
            p_value = f", p {tests[k]['p_value']:.2f}" if k in tests else ""
            labels = [str(slot + 1) for slot in range(len(slots))]
            top = 1.05 * max(*slots, 1)
            drawing = plots.bars([("one", "truths", slots)], labels, 80, top, sum(slots) / len(slots))
            blocks.append(block(drawing, f"{split}, K = {k}", f"{plots.number(sum(slots))} scenes{p_value}"))
    return section("Where the truth stands", lead, blocks, kind=" small")


def _popularity(report: Facts) -> Facts:
    lead = "Share of truths and of negatives by how many events the item had before the scene; a bar's number is the "
    lead += "least of its bin."
    blocks = []
    for split, audit in report["audits"].items():
        bins = audit.get("popularity_histogram")
        if not bins:
            continue
        shares = [[value / max(sum(bins[side]), 1) for value in bins[side]] for side in ("truth", "negatives")]
        top = plots.round_up(max(map(max, shares)))
        series = [("one", "of truths", shares[0]), ("two", "of negatives", shares[1])]
        drawing = plots.bars(series, [str(edge) for edge in bins["edges"]], 130, top)
        blocks.append(block(drawing, f"{split}, {audit['regime']}", f"events before; the axis ends at {100 * top:g} %"))
    legend = (("one", "truth"), ("two", "negatives"))
    return section("Popularity of truth and negatives", lead, blocks, legend=legend)


def _options(report: Facts) -> Facts:
    blocks = []
    for split, part in report["scenes"].items():
        if part["n_options"]:
            sizes = list(part["n_options"].values())
            top = plots.round_up(max(sizes))
            drawing = plots.bars([("one", "scenes", sizes)], list(part["n_options"]), 90, top)
            caption = f"number of options K; the axis ends at {plots.number(int(top))} scenes"
            blocks.append(block(drawing, f"{split}: scenes by K", caption))
    for split, part in report["scenes"].items():
        blocks.append(block(plots.counts(part["sources"]), f"{split}: options by source"))
    return section("Options", "How many options scenes have, and how they came to be options.", blocks)


def _time(report: Facts) -> Facts:
    line, splits = report["timeline"], report["splits"]
    start, end = (datetime.fromisoformat(line[name]) for name in ("start", "end"))
    days = [datetime.fromisoformat(splits[name]) for name in ("cut_1", "cut_2") if splits[name] is not None]
    lead = "Users are split by lot, without a cut in time."
    if days:
        lead = "Users who begin before cut 1 are train, those who begin after cut 2 test, those between validation."
    span = (end - start).total_seconds() or 1.0
    cuts = [(100 * (day - start).total_seconds() / span, f"cut {i}: {day.date()}") for i, day in enumerate(days, 1)]
    top = plots.round_up(max(line["events"]))
    drawing = plots.timeline(line["events"], line["positives"], str(start.date()), str(end.date()), cuts, top)
    kept = [[name, *(splits[of][name] for of in ("users", "events", "positives"))] for name in splits["users"]]
    lost = [
        [f"lost: {reason.replace('_', ' ')}", *(part[of] for of in ("users", "events", "positives"))]
        for reason, part in splits["lost"].items()
    ]
    relaxed = (
        "No cuts leave validation its minimum; these are the best." if splits["validation_minimum_relaxed"] else ""
    )
    blocks = [
        block(drawing, caption=f"the axis ends at {plots.number(int(top))} events", wide=True),
        block(plots.table(("split", "users", "events", "choices"), kept + lost), caption=relaxed, wide=True),
    ]
    return section("Events over time", lead, blocks, legend=(("one", "choices"), ("rest", "other events")))


def _drops(report: Facts) -> Facts:
    tables = report["tables"]
    title = f"rows: {plots.number(tables['read'])} read, {plots.number(tables['kept'])} kept"
    blocks = [block(plots.counts(tables["dropped"], "rest"), title)]
    for split, part in report["scenes"].items():
        title = f"{split}: {plots.number(part['candidates'])} choices, {plots.number(part['kept'])} scenes"
        blocks.append(block(plots.counts(part["dropped"], "rest"), title))
    return section("What was dropped", "Rows of the log, then choices that became no scene, by reason.", blocks)


def _origin(report: Facts) -> Facts:
    files = [[file["name"], file["bytes"], file["sha256"]] for file in report["source"]["files"]]
    settings = [[name, str(value)] for name, value in report["settings"].items()]
    blocks = [
        block(plots.table(("file", "bytes", "SHA-256"), files), wide=True),
        block(plots.table(("setting", "value"), settings), wide=True),
    ]
    return section("Made from", report["source"]["citation"], blocks)
