"""Results from a namespace of the Hub: model repos' evaluations, and the benchmark's baselines.

Results are comparable where the benchmark's rows are the same bytes, whatever commit of it they name: a new card makes
no new benchmark. They are accepted where the benchmark holds the commit (or the rows) that they name, where its
baselines say the same of those rows, and where they lie in the repo of the model that they are about.
"""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from hf_mirror.alignment import Row
from hf_mirror.errors import DataError, HubError
from hf_mirror.leaderboard.gather import Entry, Gathered, scored_rows
from hf_mirror.leaderboard.origin import COMMIT, REPO, origin_of, repo_lines
from hf_mirror.leaderboard.statuses import Statuses
from hf_mirror.memorisation import REGIME
from hf_mirror.publish.release import PassingError, Remote
from hf_mirror.result_schema import RESULT_BYTES, Result, read
from hf_mirror.results import PREDICTION_BYTES, predictions_of

BENCH = "mirror-bench"
RESULT = re.compile(r"evaluations/([A-Za-z0-9_-]{1,64})\.(direct|rationale)\.json")
BASELINE = re.compile(r"baselines/[^/\x00-\x1f\x7f]{1,64}/([A-Za-z0-9_-]{1,64})\.json")
MOST_MODELS, MOST_FILES, MOST_RESULTS = 1000, 10_000, 200
ROWS_BYTES = 4 * 2**30  # of a benchmark's subset
EXACT = 1e-6  # what two machines may differ in


def from_hub(namespace: str, endpoint: str | None = None, statuses: Statuses | None = None) -> Gathered:
    """Results for `<namespace>/mirror-bench` in model repos of the namespace and in those that the Hub's leaderboard of
    the benchmark names, and the benchmark's baselines. HubError where the Hub or the benchmark is not there."""
    bench = Benchmark(Repo(Remote(endpoint, f"{namespace}/{BENCH}", "dataset"), None))
    gathered = Gathered(bench.repo.remote.endpoint, bench.rows_of)
    bench.baselines(bench.repo.sha, gathered)
    for name in _models(bench.repo.remote, namespace):
        try:
            _add(Repo(Remote(endpoint, name, "model"), None), bench, gathered, statuses or Statuses())
        except PassingError:
            raise
        except PrivateError:
            continue
        except (HubError, DataError) as problem:
            gathered.reject(name, problem)
    gathered.entries += bench.entries.values()
    return gathered


def _models(bench: Remote, namespace: str) -> list[str]:
    """Model repos of the namespace, and those that the Hub ranks."""
    from huggingface_hub.errors import RepositoryNotFoundError

    own = bench.ask(lambda api: [model.id for model in islice(api.list_models(author=namespace), MOST_MODELS)])
    ranked: list[str] = []
    try:
        ranked = [
            row.model_id
            for row in bench.ask(lambda api: api.get_dataset_leaderboard(bench.repo, base_model_only=False))
        ]
    except PassingError:
        raise
    except (RepositoryNotFoundError, HubError):
        pass  # so the Hub says that no model has results
    return sorted({name for name in [*own, *ranked[:MOST_MODELS]] if REPO.fullmatch(name)})


class PrivateError(HubError):
    """A repo that not everybody may know of, so that a board for everybody does not name it."""


class Repo:
    """One public repo at one commit (None: of its main branch), and the small files that are read from it."""

    def __init__(self, remote: Remote, revision: str | None):
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        self.remote = remote
        try:
            info = remote.ask(lambda api: api.repo_info(remote.repo, repo_type=remote.kind, revision=revision))
            if info.private:
                raise PrivateError(f"{remote.repo} is private, and a board is for all to read")
            self.sha, self.card = str(info.sha), info.card_data
            self.files = remote.ask(self._files)
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
            at = f" at {revision}" if revision else ""
            raise HubError(f"{remote.kind} {remote.repo} is not on {remote.endpoint}{at}") from None

    def _files(self, api: Any) -> dict[str, Any]:
        from huggingface_hub.hf_api import RepoFile

        tree = api.list_repo_tree(self.remote.repo, repo_type=self.remote.kind, revision=self.sha, recursive=True)
        return {entry.path: entry for entry in islice(tree, MOST_FILES) if isinstance(entry, RepoFile)}

    def fetch(self, name: str, largest: int) -> Path:
        """A file, in the Hub's cache; DataError where it is too large to be what it should be."""
        size = self.files[name].size
        if size > largest:
            raise DataError(f"{size:,} bytes, more than {largest:,}")
        where = {"repo_id": self.remote.repo, "repo_type": self.remote.kind, "revision": self.sha, "filename": name}
        return Path(self.remote.ask(lambda api: api.hf_hub_download(**where)))

    def read(self, name: str) -> bytes:
        """A small file's bytes."""
        return self.fetch(name, RESULT_BYTES).read_bytes()

    def beside(self, name: str) -> Path | None:
        """The predictions beside a results file, where they are published."""
        predictions = predictions_of(Path(name)).as_posix()
        return self.fetch(predictions, PREDICTION_BYTES) if predictions in self.files else None

    def has(self, name: str, commit: str) -> bool:
        """Whether a file was the same at another commit."""
        try:
            there = self if commit == self.sha else Repo(self.remote, commit)
        except PassingError:
            raise
        except HubError:
            return False
        return name in there.files and there.files[name].blob_id == self.files[name].blob_id


class Benchmark:
    """The benchmark's repo, its commits that results name, and its baselines' entries by subset, rows and name."""

    def __init__(self, repo: Repo):
        self.repo, self.entries = repo, dict[tuple[str, str, str], Entry]()
        self.at = cache(lambda commit: repo if commit == repo.sha else Repo(repo.remote, commit))
        refs = repo.remote.ask(lambda api: api.list_repo_refs(repo.remote.repo, repo_type="dataset"))
        self.tags = {tag.target_commit: tag.name for tag in sorted(refs.tags, key=lambda tag: tag.name)}

    def rows(self, commit: str, subset: str) -> str:
        """What names the rows of a subset at a commit: the hash of their file."""
        file = self.at(commit).files.get(f"{subset}/test.parquet")
        if file is None:
            raise DataError(f"{self.repo.remote.repo}@{commit[:12]} has no subset {subset}")
        return f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}"

    def rows_of(self, entry: Entry) -> list[Row] | None:
        """The rows behind an entry, from a commit that has them."""
        subset = entry.result["subset"]
        for commit in (self.repo.sha, entry.result["bench_revision"]):
            if COMMIT.fullmatch(commit) and self.rows(commit, subset) == entry.rows:
                return scored_rows(self.at(commit).fetch(f"{subset}/test.parquet", ROWS_BYTES))
        return None

    def commit_of(self, result: Result) -> str:
        """The commit that a result names, by itself or by the hash of the rows."""
        named, subset = str(result["bench_revision"]), result["subset"]
        if COMMIT.fullmatch(named):
            try:
                return self.at(named).sha
            except HubError:
                raise DataError(f"bench_revision {named} is not in {self.repo.remote.repo}") from None
        mine = [entry.result for key, entry in self.entries.items() if key[0] == subset]
        if named in {self.rows(self.repo.sha, subset), *(entry["bench_revision"] for entry in mine)}:
            return self.repo.sha
        raise DataError(f"bench_revision {named[:80]} is neither a commit nor rows of {self.repo.remote.repo}")

    def baselines(self, commit: str, gathered: Gathered) -> None:
        """Takes in the baselines at a commit, for rows that have none yet."""
        repo, known = self.at(commit), {key[:2] for key in self.entries}
        for name in sorted(repo.files):
            match = BASELINE.fullmatch(name)
            if match is None:
                continue
            try:
                result = read(repo.read(name))
                if "baseline" not in result or result["subset"] != match[1]:
                    raise DataError(f"not a baseline's results for {match[1]}")
                rows = self.rows(commit, result["subset"])
            except DataError as problem:
                gathered.reject(f"{repo.remote.repo}/{name}", problem)
                continue
            if (result["subset"], rows) not in known:
                self.entries[result["subset"], rows, name] = self.entry(result, result["model"], repo, name, commit)

    def check(self, result: Result, commit: str, gathered: Gathered) -> None:
        """DataError where a result is not of the rows that it names: the baselines know what these say."""
        self.baselines(commit, gathered)
        key = result["subset"], self.rows(commit, result["subset"])
        for reference in [entry.result for of, entry in self.entries.items() if of[:2] == key][:1]:
            for name in ("domain", "regime", "n_scenes", "n_clusters"):
                if result[name] != reference[name]:
                    raise DataError(f"{name} is {result[name]!r}, the benchmark's baselines have {reference[name]!r}")
            for name, metric in (("chance", "accuracy"), ("chance", "log_loss"), ("popularity", "accuracy")):
                ours, theirs = (of["baselines"].get(name, {}).get(metric) for of in (reference, result))
                if ours and (theirs is None or abs(ours["value"] - theirs["value"]) > EXACT):
                    raise DataError(
                        f"its {name} {metric} is not that of the benchmark's rows: other scenes were scored"
                    )

    def entry(self, result: Result, name: str, repo: Repo, where: str, commit: str, **more: Any) -> Entry:
        """A result as the board has it."""
        remote = self.repo.remote
        version = self.tags.get(commit, commit[:12])
        rows, predictions = self.rows(commit, result["subset"]), repo.beside(where)
        where = f"{repo.remote.repo}/{where}"
        return Entry(result, name, where, remote.repo, rows, version, predictions=predictions, **more)


def _add(repo: Repo, bench: Benchmark, gathered: Gathered, statuses: Statuses) -> None:
    """Takes in a model repo's results."""
    names = sorted(name for name in repo.files if name.startswith("evaluations/") and name.endswith(".json"))
    if not names and any(name.startswith(".eval_results/") for name in repo.files):
        gathered.reject(repo.remote.repo, "has .eval_results, but no evaluations/<subset>.<mode>.json to show")
    if len(names) > MOST_RESULTS:
        raise DataError(f"{len(names)} files in evaluations/, more than {MOST_RESULTS}")
    for name in names:
        try:
            result = _checked(repo, name)
            if result["regime"] == REGIME:
                gathered.add_probe(repo.remote.repo, result)
            else:
                gathered.entries.append(_entry(repo, name, result, bench, gathered, statuses))
        except DataError as problem:
            gathered.reject(f"{repo.remote.repo}/{name}", problem)


def _checked(repo: Repo, name: str) -> Result:
    """A results file that is named as it should be and is of the repo's model."""
    match, remote = RESULT.fullmatch(name), repo.remote
    if match is None:
        raise DataError("expected evaluations/<subset>.<mode>.json")
    result = read(repo.read(name))
    if (result["subset"], result["mode"]) != match.groups():
        raise DataError(f"is of subset {result['subset']} in mode {result['mode']}")
    if "baseline" in result:
        raise DataError("is a baseline's; these stand in the benchmark's repo")
    model = result["model"]
    if model != remote.repo and model.rstrip("/").split("/")[-1] != remote.repo.split("/")[-1]:
        raise DataError(f"is of model {model}, not of this repo's")
    return result


def _entry(repo: Repo, name: str, result: Result, bench: Benchmark, gathered: Gathered, statuses: Statuses) -> Entry:
    remote = repo.remote
    commit = bench.commit_of(result)
    bench.check(result, commit, gathered)
    card = repo.card.to_dict() if repo.card else None
    provenance = None
    if "provenance.json" in repo.files:
        try:
            provenance = json.loads(repo.read("provenance.json"))
        except (ValueError, RecursionError, DataError):
            provenance = None  # `mirror lineage` says what is wrong with it; the results stand without
    stated = {**result, "model": remote.repo, "bench": bench.repo.remote.repo}
    if not COMMIT.fullmatch(result["bench_revision"]):
        stated["bench_revision"] = commit
    lines = origin_of(stated, remote.endpoint)
    lines[2:2] = repo_lines(remote.repo, repo.sha, name, remote.endpoint, provenance, card)
    status = statuses.of(remote.repo, result, lambda commit: repo.has(name, commit))
    return bench.entry(result, remote.repo, repo, name, commit, status=status, origin=lines)
