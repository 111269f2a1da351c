"""What a command's result looks like to the person who ran it; `--json` prints the result itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]


def build(reports: Result) -> str:
    """What became of the rows, per domain."""
    if not reports:
        return "submitted; the scheduler builds, and the same command builds again what failed"
    lines = []
    for name, report in reports.items():
        tables, splits = report["tables"], report["splits"]
        lines.append(f"{name} ({report['source']['release']}): {tables['read']:,} rows read, {tables['kept']:,} kept")
        lines += [f"  {count:,} dropped: {reason.replace('_', ' ')}" for reason, count in tables["dropped"].items()]
        for split, part in report["scenes"].items():
            audit = {None: "too few to audit", True: "audits passed", False: "AUDITS FAILED"}[
                report["audits"][split]["passed"]
            ]
            lines.append(
                f"  {split}: {part['kept']:,} scenes of {splits['users'][split]:,} users, {part['regime']}; {audit}"
            )
        for regime, part in report["also_test"].items():
            lines.append(f"  also test: {part['kept']:,} of {part['candidates']:,} scenes, {regime}")
        lines += [f"  warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def bench(report: Result) -> str:
    """How much each subset can show."""
    lines = []
    for name, part in report["subsets"].items():
        lines.append(f"{name}: {part['rows']:,} rows of {part['scenes']:,} scenes of {part['users']:,} users")
        if part["scenes"]:
            low, high = sorted(100 * points for points in part["minimum_detectable_difference"].values())
            lines.append(
                f"  tells two models apart that differ by {low:.1f} (at chance) to {high:.1f} points (at 50 %)"
            )
        if part["underpowered"]:
            lines.append(f"  underpowered: below {report['underpowered_below_users']} users")
        lines += [f"  {count:,} dropped: {reason.replace('_', ' ')}" for reason, count in part["dropped"].items()]
        found = part["donors_found_by_relaxing"]
        lines.append(f"  donors of other histories, by what was given up: {_listed(found)}")
    effect = f"assumed: 80 % power, 5 % test, no pairing, design effect {report['assumed_design_effect']:g}"
    return "\n".join([*lines, effect])


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def counts(result: Result, depth: int = 0) -> str:
    """Nested facts, one line each."""
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and value:
            lines.append(f"{'  ' * depth}{key}:")
            lines.append(counts(value, depth + 1))
        else:
            lines.append(f"{'  ' * depth}{key}: {value}")
    return "\n".join(lines)


def distilled(report: Result) -> str:
    """What was kept of how much, and why not more."""
    lines = []
    for split, wanted in (("train", report["size"]), ("validation", report["validation_size"])):
        lines.append(f"{split}: {report['pairs'][split]:,} pairs of {wanted:,} wanted, by rule {report['rule']}")
        for name, domain in report["domains"].items():
            part = domain[split]
            lines.append(f"  {name}: {part['kept']:,} of {part['scenes']:,} scenes")
            lines += [f"    {count:,} {reason.replace('_', ' ')}" for reason, count in part["dropped"].items() if count]
            lines += [f"    {part['rescued']:,} rescued as direct rows"] * (part["rescued"] > 0)
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join([*lines, "preferences.html shows what was kept and dropped; --json prints all figures"])


def publication(result: Result) -> str:
    """What is where now, a line per repo."""
    lines = [f"{'would publish' if result['dry_run'] else 'published'} {result['tag']} at {result['endpoint']}"]
    for repo in result["repos"]:
        changes = ", ".join(f"{len(repo[kind])} {kind}" for kind in ("added", "changed", "deleted") if repo[kind])
        lines.append(f"  {' '.join(filter(None, (repo['kind'], repo['repo'], repo['sha'])))}: {changes or 'unchanged'}")
        lines += [f"    proposed: {repo['pull_request']}"] * bool(repo["pull_request"])
    if any(repo["pull_request"] for repo in result["repos"]):
        lines.append("  nothing is tagged yet: merge the pull requests, then publish again without --create-pr")
    return "\n".join(lines + [f"  withheld {name}: {reason}" for name, reason in result["withheld"].items()])


def rehydrated(result: Result) -> str:
    """Where full rows are now, and how to load them."""
    lines = [f"{result['repo']} at {result['revision']} is in {result['out']}, every row as before publication"]
    for subset, counts in result["rows"].items():
        rows = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        lines.append(f"  {subset}: {rows} rows{' (open: as published)' if subset in result['open'] else ''}")
    first = next(iter(result["rows"]))
    return "\n".join([*lines, f'load_dataset("{result["out"]}", "{first}"); the licences forbid to share the folder'])


def lineage(result: Result) -> str:
    """The tree of origins, and what the Hub says otherwise."""
    wrong = result["problems"]
    verdict = [f"PROBLEM {problem}" for problem in wrong] or ["every commit, tag and file is as its provenance says"]
    return "\n".join([*_origin(result["tree"], ""), "", *verdict])


def _origin(node: Result, indent: str) -> list[str]:
    what = f"{node['what']}: " if "what" in node else ""
    version = f" {node['tag']}" if "tag" in node else ""
    state = " (see above)" if "seen" in node else " (published by others)" if "external" in node else ""
    lines = [f"{indent}{what}{node['repo']}{version} @ {node['revision'][:12]}{state}"]
    indent += "  "
    lines += [f"{indent}PROBLEM {problem}" for problem in node["problems"]]
    for writer in node.get("generators", ()):
        lines.append(f"{indent}{writer['role']} of {writer['domain']}: {writer['model']} ({writer['licence']})")
    if "made_from" not in node:
        return lines
    for name, source in node["sources"].items() if not node["made_from"] else ():
        lines.append(f"{indent}{name}: {source['release']}, {source['licence']}, hf_mirror {source['code_version']}")
        lines += [f"{indent}  {file['name']} sha256:{file['sha256'][:12]}" for file in source["raw_files"]]
    return lines + [line for parent in node["made_from"] for line in _origin(parent, indent)]


def submitted(result: Result) -> str:
    """Where the results are now."""
    state = result["pull_request"] or ("new commit" if result["new_commit"] else "unchanged")
    lines = [f"{result['repo']} at {result['endpoint']}: {state} {result['sha']}"]
    lines += [f"  {name}" for name in result["files"]]
    return "\n".join(lines + [f"  {name}: predictions of a closed source stay at home" for name in result["withheld"]])


def verified(result: Result) -> str:
    """The status of every results file, and what does not hold."""
    lines = [f"{result['repo']} at {result['revision']}"]
    for record in result["records"]:
        again = f", {record['n_rerun']} scenes again: at most {record['max_abs_difference']:.1e} apart"
        lines.append(
            f"  {record['subset']} {record['mode']}: {record['status']}{again if record['n_rerun'] else ''}"
            f"{' (no predictions are published)' if record['status'] == 'self-reported' else ''}"
        )
    return "\n".join(lines + [f"  PROBLEM {problem}" for problem in result["problems"]])


def board(result: Result) -> str:
    """Results as one table."""
    from hf_mirror.leaderboard import table

    return table(result["results"])


def comparison(result: Result) -> str:
    """Every pair of models per subset, and the ranks that stay open."""
    lines = []
    for found in result["subsets"].values():
        about = f"{found['subset']} · {found['mode']} · {found['n_scenes']:,} scenes"
        lines.append(f"{about} (first less second; accuracy in points)")
        for pair in found["pairs"]:
            lines.append(f"  {pair['a']} - {pair['b']}")
            full, both = (_compared(pair[name]) for name in ("full", "intersection"))
            lines.append(f"    {full}")
            if both != full:
                lines.append(f"    answered by both: {both}")
        spans = (f"{name} {best}" if best == worst else f"{name} {best}-{worst}"
                 for name, (best, worst) in found["ranks"].items())  # fmt: skip
        lines.append(f"  ranks by log-loss: {', '.join(spans)}")
    return "\n".join([*lines, "95 % intervals and sign-flip p by user, p corrected over all pairs of a subset (Holm)."])


_COMPARED: tuple[tuple[str, str, int, int], ...] = (("accuracy", "accuracy", 100, 1), ("log-loss", "log_loss", 1, 3))


def _compared(part: Result) -> str:
    shown = [_difference(label, part[key], factor, digits) for label, key, factor, digits in _COMPARED if key in part]
    return f"{part['n_scenes']:,} scenes: {'; '.join(shown) or 'nothing in common'}"


def _difference(label: str, part: Result, factor: int, digits: int) -> str:
    value, low, high = (None if part[name] is None else factor * part[name] for name in ("value", "low", "high"))
    span = "" if low is None else f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"{label} {value:+.{digits}f}{span} p={part['p_value']:.4f} ({part['p_holm']:.4f})"


def leaderboard(result: Result) -> str:
    """The table, what was rejected and why, and where the page is."""
    parts = [board(result)] if result["results"] else []
    parts += [f"rejected: {line['where']}: {line['reason']}" for line in result["rejected"]]
    parts += [f"page: {result['page']}"] if "page" in result else []
    if space := result.get("space"):
        parts.append(f"{space['repo']}: {'new commit' if space['new_commit'] else 'unchanged'} {space['sha']}")
    return "\n".join(parts) or "no results; publish models with `mirror publish` first"


def run(summary: Result) -> str:
    """The table of a run, and its last words."""
    from hf_mirror.pipeline.next_steps import closing

    return f"{board(summary)}\n\n{closing(summary)}"


def audit(result: Result) -> str:
    """Each part's verdicts with the figures behind them."""
    return "\n".join(line for label, found in result.items() for line in _audit(label, found))


def _audit(label: str, found: Result) -> list[str]:
    head = f"{label}: {found['scenes']} scenes of {found['users']} users, {found['regime']}"
    if found["too_few"]:
        return [f"{head}: too few to audit"]
    places, shares, blind, fair = (found[key] for key in ("positions", "extremes", "history_blind", "eligibility"))
    figures = {"positions": f"first {_share(places['first'])}, last {_share(places['last'])}"}
    if places["never_last"]:
        figures["positions"] += ": the truth is never the last option"
    if found["checks"]["popularity"] != "no data":
        parts = (f"{name} {_share(shares['asof_count'][name])}" for name in ("largest", "smallest", "median"))
        figures["popularity"] = ", ".join(parts)
    if blind:
        figures["history_blind"] = f"{100 * blind['accuracy']:.1f} ± {100 * blind['standard_error']:.1f} %, by "
        figures["history_blind"] += ", ".join(blind["weights"]) or "nothing"
    if fair:
        parts = (f"{name} {100 * fair[name]['excess']:+.1f} points" for name in ("answers", "inputs"))
        figures["eligibility"] = ", ".join(parts)
    verdict = "passed" if found["passed"] else f"FAILED {', '.join(found['failed'])}"
    lines = [f"{head}, chance {100 * found['chance']:.1f} %: {verdict}"]
    for name, outcome in found["checks"].items():
        outcome = outcome.upper() if outcome == "failed" else outcome
        lines.append(f"  {name.replace('_', '-'):14}{outcome:9}{figures.get(name, '')}".rstrip())
    if found["gaps"]:
        day = found["gaps"]["strata"][">=1d"]
        small = ", too few for scores of their own" if found["gaps"]["too_small"] else ""
        lines.append(f"  {'gap >= 1 day':23}{day['scenes']} scenes of {day['users']} users{small}")
    return lines


def _share(part: Result) -> str:
    error = f" ± {100 * part['standard_error']:.1f}" if "standard_error" in part else ""
    return f"{100 * part['share']:.1f}{error} %"


def scenes(result: Result) -> str:
    """Memory, lettered options and the real choice of each scene, and what was decided about it."""
    return "\n\n".join("\n".join(_scene(scene)) for scene in result["scenes"])


def _scene(scene: Result) -> list[str]:
    profile = _facts(scene["profile"].values())
    named = [
        f"{name} {scene[name]}" for name in ("session_id", "impression_id", "n_clicked") if scene[name] is not None
    ]
    gap = [f"event before {scene['previous_event']}"] * (scene["previous_event"] is not None)
    lines = [
        f"{scene['scene_id']}  {scene['domain']}/{scene['split']}, {scene['regime']}",
        f"user {scene['user_id']}{f' ({profile})' if profile else ''}, {scene['time']}",
        ", ".join([*gap, *named, *["truncated"] * bool(scene["truncated"])]),
        "remembers, oldest first:",
    ]
    for entry in scene["memory"]:
        said = _facts(f"{name} {value}" for name, value in (entry["signal"] or {}).items() if value not in (None, ""))
        when = entry["ago"] or "at an unknown time"
        lines.append(f"  {'+' if entry['positive'] else '-'} {_title(entry)}  {when}  {said}".rstrip())
    lines.append("could choose:")
    for option in scene["options"]:
        more = ", met before" if option.get("repeated") else ""
        known = f"({option['source']}, {option['asof_count']} before{more})"
        lines.append(f"  {option['label']}. {_title(option)}  {known}{'  <- chosen' * option['chosen']}")
    if "decisions" in scene:
        readers = {decision["reader"] for decision in scene["decisions"] if decision["reader"]}
        lines.append(f"decisions{f', as {min(readers)} reads them' if readers else ''}:")
        for decision in scene["decisions"] or []:
            lines += _decision(decision)
    return lines


def _decision(decision: Result) -> list[str]:
    from hf_mirror.prompts import LABELS  # with all that writes files, which `--help` does without

    probs = decision["probabilities"]
    read = " ".join(f"{letter} {p:.2f}" for letter, p in zip(LABELS, probs, strict=False)) if probs else "not read"
    if decision["role"] == "direct":
        return [f"  without a thought  [{read}]"]
    stated = decision["states"] or decision["parse_error"]
    became = f"  <- the pair's {decision['became']}" if decision["became"] else ""
    head = f"  {decision['role']} {decision['sample']} ({decision['model']}) states {stated}  [{read}]{became}"
    return [head, *(f"      {line}" for line in decision["thought"].splitlines())]


def _title(entry: Result) -> str:
    return _short(entry["title"] or "without a title")


def _facts(values: Iterable[Any]) -> str:
    return ", ".join(_short(value) for value in values if value not in (None, "", []))


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"
