"""A distillation as one HTML page: which scenes were kept and which were lost, and how good the writing is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_mirror import plots
from hf_mirror.distill.scoring import KEPT
from hf_mirror.rationales.shards import ROLES, SPLITS
from hf_mirror.report_page import block, render, section

FEW = 5  # bars whose numbers have room under them

Facts = Mapping[str, Any]


def page(report: Facts, points: Mapping[str, Facts]) -> str:
    """The HTML of `preferences.json`, with `points` per domain: both roles' entropies of some scenes, and `kept`."""
    told = report["scene_blind_probe"]
    lead = f"Rule {report['rule']}, {report['size']:,} train pairs wanted, seed {report['seed']}; rejected of "
    lead += f"{report['rejected_role']} role; read by {report['reader']['model']}. Entropies are shares of log2 K."
    tiles = {f"{split} pairs": plots.number(report["pairs"][split]) for split in SPLITS}
    tiles |= {"told apart without the scene": plots.number(float(told["accuracy"])), "rule": report["rule"]}
    for role in ROLES:
        tiles[role] = ", ".join(writer["model"] for writer in report["generators"][role])
    sections = [
        _uncertainty(report, points), _outcomes(report), _against(report), *_quality(report), *_factors(report)
    ]  # fmt: skip
    return render("Preference pairs", "distillation report", lead, report["warnings"], tiles, sections)


def _uncertainty(report: Facts, points: Mapping[str, Facts]) -> Facts:
    lead = (
        "One dot per train scene: how undecided the reader is after a thought, on average. Above the dashed line the "
    )
    lead += "student leaves it less decided than the teacher, which is what rule uncertainty_gap prefers."
    blocks = []
    for domain, found in points.items():
        at = {True: found["kept"], False: ~found["kept"]}
        series = [
            (kind, found["teacher"][at[kept]].tolist(), found["student"][at[kept]].tolist())
            for kind, kept in (("rest", False), ("one", True))
        ]
        drawing = plots.scatter(series, "teacher", "student")
        means = report["domains"][domain]["uncertainty"]
        figures = "; ".join(
            f"{role} within {means[role].get('within_decision_entropy', float('nan')):.3f}, "
            f"between {means[role].get('between_decision_information', float('nan')):.3f}"
            for role in ROLES
        )
        blocks.append(block(drawing, domain, f"Means: {figures}"))
    return section("Uncertainty of the two roles", lead, blocks, legend=(("one", "kept"), ("rest", "not kept")))


def _outcomes(report: Facts) -> Facts:
    blocks = [
        block(
            plots.counts({KEPT: part[split]["kept"], **part[split]["dropped"]}),
            f"{domain}, {split}",
            f"{plots.number(part[split]['scenes'])} scenes"
            + (f", {plots.number(part[split]['rescued'])} rescued for SFT" if part[split]["rescued"] else ""),
        )
        for domain, part in report["domains"].items()
        for split in SPLITS
    ]
    return section("What became of every scene", "Each scene has one outcome.", blocks)


def _against(report: Facts) -> Facts:
    lead = "Share of train scenes that were kept, by what they are: where bars differ, pairs are no sample of scenes."
    blocks = []
    for domain, part in report["domains"].items():
        for factor, levels in part["train"]["kept_against_dropped"].items():
            shown = {level: n for level, n in levels.items() if n["kept"] + n["dropped"]}
            if len(shown) > 1:
                shares = [n["kept"] / (n["kept"] + n["dropped"]) for n in shown.values()]
                few = len(shown) <= FEW
                labels = [f"{n}: {plots.number(s)}" if few else n for n, s in zip(shown, shares, strict=True)]
                drawing = plots.bars([("one", "kept", shares)], labels, 90, max(*shares, 0.01) * 1.1)
                blocks.append(block(drawing, f"{domain}: {factor.replace('_', ' ')}"))
    return section("Kept against dropped", lead, blocks)


def _quality(report: Facts) -> list[Facts]:
    """Of all decisions that were written, whether they were kept or not."""
    rows: list[list[plots.Cell]] = []
    for domain, part in report["domains"].items():
        for role, found in part.get("quality", {}).items():
            if found["parsed"]:
                consistency = found["consistency"]
                rows.append([
                    f"{domain}, {role}", found["decisions"], _of(found["parsed"], found["decisions"]),
                    _share(found["in_form"]), _share(found["grounding"]),
                    [_share(consistency), f"chance {_percent(consistency['chance'])}"] if consistency else "not read",
                    _share(found["names_choice"]), f"{found['words']['mean']:.0f}", _share(found["repeats"]),
                ])  # fmt: skip
    head = ("decisions of", "written", "parse", "in form", "grounded", "consistent", "name their pick", "words",
            "repeats")  # fmt: skip
    lead = "Grounded: titles and attributes that a thought names and its prompt has. Consistent: the stated choice is "
    lead += "the likeliest one for a reader of the thought alone, with titles and letters masked."
    return [section("The writing", lead, [block(plots.table(head, rows), wide=True)])] if rows else []


def _factors(report: Facts) -> list[Facts]:
    blocks = [
        block(plots.counts(named), f"{domain}, {role}: {factor}")
        for domain, part in report["domains"].items()
        for role, found in part.get("quality", {}).items()
        for factor, named in found.get("factors", {}).items()
    ]
    lead = "Decisions whose part speaks of it, by the words that give it away."
    return [section("What decisions speak of", lead, blocks)] if blocks else []


def _of(count: int, of: int) -> str:
    return _percent(count / of if of else None)


def _share(found: Facts) -> str:
    return _percent(found["share"])


def _percent(value: float | None) -> str:
    return "–" if value is None else plots.number(float(value))
