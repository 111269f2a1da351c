"""`mirror submit`: results of a model that others published, into its own repo, beside what is there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.evaluation.benchmark import HUB_ID, open_bench
from hf_mirror.files import read_json
from hf_mirror.publish.evaluations import RESULTS, Evaluation, entries, find_evaluations, stage
from hf_mirror.publish.provenance import PROVENANCE
from hf_mirror.publish.release import Remote, Snapshot
from hf_mirror.result_schema import Result
from hf_mirror.results import predictions_of, rescore
from hf_mirror.sealing import NOTE

MESSAGE = "Results on mirror-bench"
LARGEST = 2**20  # bytes of what stands in .eval_results


def submit(results: Path, repo: str, *, create_pr: bool = False, endpoint: str | None = None) -> dict[str, Any]:
    """Adds what `mirror evaluate` left in a folder to the model `repo`, by one commit or one pull request; results that
    are there already make neither. Files and `.eval_results` entries of others stay.

    Everything is scored again first. Raises DataError for results that do not hold, ConfigError for those of another
    model or of a benchmark that nobody else can get, HubError where the Hub refuses or has no such model.
    """
    if not HUB_ID.fullmatch(repo):
        raise ConfigError(f"{repo!r} is not a Hub model; expected NAMESPACE/MODEL")
    found = find_evaluations(results, lambda result: _bench_of(result)[1])
    if not found:
        raise DataError(f"{results} holds no results; run `mirror evaluate --out {results}` first")
    bench = {_bench_of(each.result)[0] for each in found}
    if len(bench) > 1:
        raise ConfigError(f"{results} has results on {' and '.join(sorted(bench))}; submit them one by one")
    for each in found:
        _check(each, repo)
    remote = Remote(endpoint, repo, "model", whole=False)
    head = remote.snapshot(None)
    if head.sha is None:
        raise HubError(f"model {repo} is not on {remote.endpoint}; check the name and the token")
    with tempfile.TemporaryDirectory(prefix="mirror-submit-") as work:
        folder = Path(work)
        stage(found, folder, repo=repo, bench=min(bench), bench_commit=None)
        _keep_others(folder / RESULTS, remote, head, entries([each.result for each in found], min(bench), None))
        changes = remote.changes(folder, head)
        sha, request = head.sha, None
        if changes and create_pr:
            sha, request = remote.propose(folder, changes, head.sha, MESSAGE)
        elif changes:
            sha = remote.commit(folder, changes, head.sha, MESSAGE)
    return {
        "repo": repo,
        "endpoint": remote.endpoint,
        "sha": sha,
        "new_commit": bool(changes),
        "pull_request": request,
        "files": [*changes.added, *changes.changed],
        "withheld": [each.name for each in found if each.closed],
    }


def _bench_of(result: Result) -> tuple[str, bool]:
    """The published benchmark that a result was made on, and whether its domain is closed there."""
    folder = Path(result["bench"])
    if (folder / NOTE).is_file():
        sources = read_json(folder / PROVENANCE)["sources"]
        return str(read_json(folder / NOTE)["repo"]), sources.get(result["domain"], {}).get("tier") != "open"
    repo = result["bench"].partition("@")[0]
    if folder.exists() or not HUB_ID.fullmatch(repo):
        raise ConfigError(
            f"{result['subset']} was made on the folder {result['bench']}, which nobody else has; evaluate on a "
            "published benchmark (--bench NAMESPACE/REPO@REVISION), or on what `mirror rehydrate` made of one"
        )
    return repo, False


def _check(evaluation: Evaluation, repo: str) -> None:
    result = evaluation.result
    if result["model"] != repo and HUB_ID.fullmatch(result["model"]) and not Path(result["model"]).exists():
        raise ConfigError(f"{evaluation.path} has results of {result['model']}, not of {repo}")
    local = Path(result["bench"]).exists()
    bench = open_bench(result["bench"] if local else f"{_bench_of(result)[0]}@{result['bench_revision']}")
    rescore(evaluation.path, predictions_of(evaluation.path), bench)


def _keep_others(path: Path, remote: Remote, head: Snapshot, ours: list[dict[str, Any]]) -> None:
    """Writes our entries after those of others that the repo has under the same name."""
    import yaml

    if RESULTS not in head.files:
        return
    there: Any = None
    if head.sizes[RESULTS] <= LARGEST:
        try:
            there = yaml.safe_load((remote.fetch(str(head.sha), [RESULTS]) / RESULTS).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            there = None
    if not isinstance(there, list) or not all(isinstance(one, dict) and _task(one) for one in there):
        raise DataError(f"{RESULTS} of {remote.repo} is not a list of results; repair or delete it first")
    mine = [_task(one) for one in ours]
    kept = [one for one in there if _task(one) not in mine]
    path.write_text(yaml.safe_dump(kept + ours, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _task(entry: dict[str, Any]) -> tuple[str, str] | None:
    dataset = entry.get("dataset")
    return (str(dataset.get("id")), str(dataset.get("task_id"))) if isinstance(dataset, dict) else None
