"""Closed rows come back byte for byte with one's own raw files, and not without them: real builds, a real Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import PROJECT, backends, bench, build, distill, domains, rationales
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.files import read_rows, read_table, sha256_file
from hf_mirror.hub import EmbeddedHub
from hf_mirror.publish import publish
from hf_mirror.publish.provenance import Published
from hf_mirror.publish.staging import HEADLINE, STAGES, Run, stage_datasets
from hf_mirror.rehydrate import rehydrate

KINDS = list(STAGES)
SAMPLES: dict[str, dict[str, Any]] = {
    "movielens": {"seed": 1, "users": 150, "films": 120, "ratings_per_user": 25},
    "mind": {"seed": 2},
}


@dataclass(frozen=True)
class World:
    """Raw folders of closed sources, the run made from them, and the Hub that it was published to."""

    raw: dict[str, Path]
    run: Path
    url: str

    def open_tier(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
        """What would have been published if nothing were closed: folders by kind."""
        monkeypatch.setattr(Run, "closed", lambda self, domain: False)
        return {repo.kind: repo.folder for repo in stage_datasets(Run.open(self.run), out)}


def without_licence(name: str, folder: Path) -> Path:
    """A made-up sample whose licence nobody states, and which is closed for it."""
    domains.import_file(PROJECT / "dataset_builders" / "sample" / f"{name}.py").generate(folder, **SAMPLES[name])
    for path in folder.rglob("README*"):
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("closed")
    run, raw = top / "run", {name: without_licence(name, top / "raw" / name) for name in SAMPLES}
    for name, folder in raw.items():
        settings = build.BuildSettings(scenes=60, seed=3, history=(2, 6), also_test=("uniform",))
        report = build.build(domains.load(name), folder, run, settings)
        assert not report["source"]["redistributable"]
    for role in rationales.ROLES:
        rationales.write(run, role, backends.load("template", role), rationales.WriteSettings(n=4))
    rationales.read(run, backends.load("template", "reader"))
    distill.distill(run, size=30)
    bench.bench(run, seed=5)
    with EmbeddedHub(top / "hub") as hub:
        publish(run, "acme", "v1.0.0", endpoint=hub.url)
        yield World(raw, run, hub.url)


def fetched(world: World, kind: str) -> Path:
    """All that was published of one kind."""
    published = Published.open(f"acme/mirror-{kind}@v1.0.0", world.url)
    return published.fetch(list(published.provenance["files"]))


def test_every_file_is_as_before_publication(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        reference = f"acme/mirror-{kind}@v1.0.0"
        found = rehydrate(reference, world.raw, tmp_path / kind, endpoint=world.url)
        assert found["rehydrated"] == ["mind", "movielens"] and found["open"] == []
    expected = world.open_tier(tmp_path / "open", monkeypatch)
    assert list(expected) == KINDS
    for kind in KINDS:
        files = sorted(path.relative_to(expected[kind]) for path in expected[kind].rglob("*.parquet"))
        files = [path for path in files if path.stem != HEADLINE]  # whose rows are those of test once more
        assert files == sorted(path.relative_to(tmp_path / kind) for path in (tmp_path / kind).rglob("*.parquet"))
        assert len(files) > 1 and read_table(expected[kind] / files[0]).num_rows > 0
        for name in files:
            assert sha256_file(tmp_path / kind / name) == sha256_file(expected[kind] / name), (kind, name)


def test_the_folder_loads_trains_and_is_scored(world: World, tmp_path: Path) -> None:
    from datasets import load_dataset

    from hf_mirror.evaluation import open_bench
    from recipes.arguments import DataArguments
    from recipes.data import load_pairs

    pairs, scored = tmp_path / "pairs", tmp_path / "scored"
    sha = rehydrate("acme/mirror-preferences@v1.0.0", world.raw, pairs, endpoint=world.url)["revision"]
    rehydrate("acme/mirror-bench@v1.0.0", world.raw, scored, endpoint=world.url)
    mixed = load_dataset(str(pairs), "mixed", split="train", cache_dir=str(tmp_path / "cache"))
    assert load_dataset(str(pairs), split="train", cache_dir=str(tmp_path / "cache")).num_rows == mixed.num_rows
    assert set(mixed["domain"]) == {"mind", "movielens"} and mixed["chosen"][0][0]["content"].startswith("Stimulus")
    rows, source = load_pairs(DataArguments(dataset=str(pairs), subset="mixed"), ("prompt", "chosen", "rejected"))
    assert rows["train"].to_list() == mixed.to_list()
    assert (source["id"], source["revision"]) == ("acme/mirror-preferences", sha)
    with pytest.raises(DataError, match="has no subset 'films'; it has mind, mixed, movielens"):
        load_pairs(DataArguments(dataset=str(pairs), subset="films"), ("prompt",))
    opened = open_bench(str(scored))
    assert opened.subsets == ("mind", "mind-uniform", "movielens", "movielens-uniform")
    assert opened.rows("movielens-uniform")[0][0]["regime"] == "uniform"
    assert opened.rows("mind")[0][0]["gold_index"] >= 0


def test_closed_rows_as_published_are_refused_with_the_way_out(world: World) -> None:
    from hf_mirror.evaluation import Bench

    folder = fetched(world, "bench")
    closed = Bench("acme/mirror-bench", ("mind",), files={"mind": folder / "mind" / "test.parquet"})
    with pytest.raises(DataError, match="closed-tier and holds no text; run `mirror rehydrate`"):
        closed.rows("mind")


def test_open_subsets_stay_and_mixed_is_theirs(world: World, tmp_path: Path) -> None:
    run, shop = tmp_path / "run", tmp_path / "shop"
    shutil.copytree(world.run / "movielens" / "tables", run / "movielens" / "tables")
    for name in ("scenes", "report.json", "seal.key", "template.jinja"):
        source = world.run / "movielens" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, run / "movielens" / name)
    sample = domains.import_file(PROJECT / "dataset_builders" / "sample" / "amazon_reviews.py")
    sample.generate(shop, seed=4)
    build.build(domains.load("amazon_reviews"), shop, run, build.BuildSettings(scenes=40))
    publish(run, "other", "v1.0.0", endpoint=world.url)
    reference = "other/mirror-scenes@v1.0.0"
    found = rehydrate(reference, {"": world.raw["movielens"]}, tmp_path / "out", endpoint=world.url)
    assert found["rehydrated"] == ["movielens"] and found["open"] == ["amazon_reviews", "mixed"]
    for subset in ("amazon_reviews", "movielens"):
        built = run / subset / "scenes" / "test.parquet"
        assert read_rows(tmp_path / "out" / subset / "test.parquet") == read_rows(built)
    assert set(read_table(tmp_path / "out" / "mixed" / "train.parquet")["domain"].to_pylist()) == {"amazon_reviews"}


# --- what is refused, in one line, leaving nothing ----------------------------------------------------------------


def refused(
    world: World, out: Path, raw: dict[str, Path], error: type[Exception], says: str, kind: str = "bench"
) -> None:
    with pytest.raises(error, match=says):
        rehydrate(f"acme/mirror-{kind}@v1.0.0", raw, out, endpoint=world.url)
    assert not list(out.parent.glob(f"{out.name}*")) and not list(out.parent.glob(".re*"))


def changed(world: World, tmp_path: Path, name: str, file: str, change: Callable[[bytes], bytes]) -> dict[str, Path]:
    """The raw folders with one file changed."""
    raw = dict(world.raw)
    raw[name] = tmp_path / "changed" / name
    shutil.copytree(world.raw[name], raw[name])
    (raw[name] / file).write_bytes(change((raw[name] / file).read_bytes()))
    return raw


def test_one_changed_rating_is_named_by_its_file(world: World, tmp_path: Path) -> None:
    raw = changed(world, tmp_path, "movielens", "ratings.dat", lambda data: data.replace(b"::5::", b"::1::", 1))
    says = r"changed/movielens/ratings\.dat is not the file that movielens was built from: it has .* bytes and SHA-256"
    refused(world, tmp_path / "out", raw, DataError, says)


def test_a_file_that_is_missing_or_new_is_named(world: World, tmp_path: Path) -> None:
    raw = changed(world, tmp_path, "mind", "dev/news.tsv", lambda data: data)
    shutil.rmtree(raw["mind"] / "dev")
    refused(
        world, tmp_path / "out", raw, DataError, r"changed/mind lacks dev/behaviors\.tsv, which mind was built from"
    )


def test_raw_folders_are_asked_for_by_name(world: World, tmp_path: Path) -> None:
    out, raw = tmp_path / "out", world.raw
    refused(world, out, {"mind": raw["mind"]}, ConfigError, "holds closed rows of movielens; give its raw files: --raw")
    refused(
        world, out, raw | {"films": raw["mind"]}, ConfigError, "has no closed source 'films'; it has mind, movielens"
    )
    refused(world, out, {"": raw["mind"]}, ConfigError, "holds closed rows of mind; give its raw files: --raw mind=DIR")


def test_nothing_is_overwritten(world: World, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="out exists and is not empty"):
        rehydrate("acme/mirror-bench@v1.0.0", world.raw, tmp_path / "out", endpoint=world.url)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_other_code_is_named_where_rows_differ(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As if the code had changed since: it draws other scenes from the same files."""
    from hf_mirror import rehydrate as room

    other = build.BuildSettings
    monkeypatch.setattr(other, "of", lambda settings: other(scenes=60, seed=4, history=(2, 6)))
    says = r"but it was built with hf_mirror 0\.\S+, as this is: with other code"
    refused(world, tmp_path / "out", world.raw, DataError, says, kind)
    monkeypatch.setattr(room, "__version__", "9.0.0")
    refused(
        world, tmp_path / "out", world.raw, DataError, r"was built with hf_mirror 0\.\S+: install that version", kind
    )


def test_another_template_is_named(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "builders" / "movielens.py"
    copy.parent.mkdir()
    for suffix in (".py", ".jinja"):
        shutil.copy(PROJECT / "dataset_builders" / f"movielens{suffix}", copy.with_suffix(suffix))
    reference, out = "acme/mirror-bench@v1.0.0", tmp_path / "out"
    rehydrate(reference, world.raw, out, builders=[copy], endpoint=world.url)  # the same one, in another place
    shutil.rmtree(out)
    copy.with_suffix(".jinja").write_text(copy.with_suffix(".jinja").read_text() + "!")
    with pytest.raises(DataError, match="the template of movielens is not the one that was published"):
        rehydrate(reference, world.raw, out, builders=[copy], endpoint=world.url)


def test_what_was_published_tells_nothing_of_the_raw_files(world: World) -> None:
    """Of builds of real files, every published byte: no title, no id, no time."""
    names, times = set(), set()
    for name in SAMPLES:
        for item in read_rows(world.run / name / "tables" / "items.parquet"):
            names |= {item["attributes"]["title"], item["item_id"]}
        for event in read_rows(world.run / name / "tables" / "events.parquet"):
            names.add(event["user_id"])
            time = event["timestamp"]
            times |= {str(int(time.timestamp())), time.isoformat()[:19], f"{time:%Y-%m-%d %H:%M:%S}"}
    names = {name for name in names if len(name) > 3}  # shorter ids are in any text
    assert len(names) > 300 and len(times) > 3000
    for kind in KINDS:
        folder = fetched(world, kind)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            seen = path.read_bytes().decode("utf-8", errors="replace")
            if path.suffix == ".parquet":
                seen += " ".join(map(str, read_rows(path)))
            by_chance = 7 if path.suffix == ".sealed" else 0  # short ids do occur in random bytes
            assert [name for name in names if len(name) > by_chance and name in seen] == [], path
            assert not times & set(re.findall(r"\d{9,10}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", seen)), path


def test_the_line_on_the_card_does_it(world: World, tmp_path: Path, mirror_process: Callable[..., Any]) -> None:
    folder = fetched(world, "preferences")
    card = (folder / "README.md").read_text()
    command, loading = re.findall(r"```bash\nmirror (.*?)\n```\n\n`full` is then a folder for `(.*?)`", card)[0]
    words = command.split()
    assert words[-2:] == ["--out", "full"]
    for name, raw in world.raw.items():
        words[words.index(f"{name}=DIR")] = f"{name}={raw}"
    done = mirror_process(*words[:-1], tmp_path / "full", HF_ENDPOINT=world.url, HF_HOME=str(tmp_path / "hf"))
    assert done.code == 0, done.err
    assert "every row as before publication" in done.out and re.search(r"mind: \d+ train", done.out)
    shown: dict[str, Any] = {}
    loading = loading.replace('"full"', repr(str(tmp_path / "full")))
    exec(f"from datasets import load_dataset\nrows = {loading}", shown)
    assert shown["rows"]["train"].num_rows and "chosen" in shown["rows"]["train"].column_names
