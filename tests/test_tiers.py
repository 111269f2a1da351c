"""Nothing of a closed source's data leaves: no title, id, time, rating or truth, in no file and by no join."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror.domains import import_file
from hf_mirror.errors import ConfigError
from hf_mirror.files import read_rows, read_table
from hf_mirror.publish import Publication, Repo, _stage
from hf_mirror.publish.licences import UNKNOWN, check_model_name, hub_licence, terms
from hf_mirror.publish.masking import Masker, aliases, normal
from hf_mirror.publish.staging import MIXED, Run, Staged, stage_datasets
from hf_mirror.sealing import PADDED_TO

fixture = import_file(Path(__file__).parent / "run_folder.py")

ITEMS = {
    "i1": {"title": "Stone, The: A Tale (1999)", "genres": ["Drama", "Film-Noir"]},
    "i2": {"title": "Blue Harbor (1988)", "plot": "two sailors search the seven seas for gold"},
    "i3": {"title": "Red Kite", "year": 1971},
    "i4": {"title": "Up (2009)"},
    "i5": {"title": "Purple Meadow (1990)"},
    "i6": {"title": "泰坦尼克号 (1997)"},
    "i7": {"title": "Nutcracker, The (1993)"},
}
MASKER = Masker(ITEMS, {"u": {"occupation": "farmer"}})


def scene(options: tuple[str, ...] = ("i1", "i2"), past: tuple[str, ...] = ("i3",)) -> dict[str, Any]:
    return {
        "user_id": "u",
        "exposure": [{"item_id": i} for i in options],
        "history": [{"item_id": i} for i in past],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def staged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Staged]:
    """Every dataset repo as it would be uploaded, cards and provenance included."""
    out = tmp_path_factory.mktemp("out")
    opened = Run.open(run)
    repos = stage_datasets(opened, out)
    job = Publication(opened, out, "acme", "v1.0.0", None, False)
    for repo in repos:
        _stage(job, Repo(repo.name, "dataset", repo))
        job.commits[repo.name] = "c" * 40
    return repos


def test_no_secret_of_a_closed_source_is_in_any_published_file(run: Path, tmp_path: Path) -> None:
    only_closed = fixture.make_run(tmp_path / "run", ("films",))
    opened, out = Run.open(only_closed), tmp_path / "out"
    job = Publication(opened, out, "acme", "v1.0.0", None, False)
    for repo in stage_datasets(opened, out):
        _stage(job, Repo(repo.name, "dataset", repo))
        job.commits[repo.name] = "c" * 40
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "README.md",
        "provenance.json",
        "LICENSE.md",
        "train.parquet",
        "test.parquet",
    }
    secrets = fixture.secrets(only_closed)
    for path in files:
        seen = path.read_bytes().decode("utf-8", errors="replace")
        if path.suffix == ".parquet":
            seen += fixture.texts(read_rows(path)) + str(pq.read_schema(path).metadata)
        assert [secret for secret in secrets if secret.lower() in seen.lower()] == [], path


def test_the_search_for_secrets_would_find_them(run: Path) -> None:
    seen = fixture.texts(read_rows(run / "films" / "preferences" / "train.parquet"))
    assert sum(secret in seen for secret in fixture.secrets(run)) > 10


def test_closed_rows_have_no_column_for_users_times_ratings_text_or_truth(staged: list[Staged]) -> None:
    columns = {
        repo.kind: set(pq.read_schema(repo.path("films", next(iter(repo.rows["films"])))).names) for repo in staged
    }
    key = {"scene_id", "domain", "split", "n_options", "row_hmac"}
    assert columns == {
        "scenes": key,
        "rationales": key | {"thought", "finish_reason", "parse_error"},
        "preferences": {"domain", "split", "row_hmac"},
        "bench": {"scene_id", "variant_id", "n_options", "row_hmac"},
    }


def test_thoughts_keep_the_writers_words_and_point_to_the_right_items(run: Path, staged: list[Staged]) -> None:
    scenes = {row["scene_id"]: row for row in read_rows(run / "films" / "scenes" / "train.parquet")}
    rows = read_rows(staged[1].path("films", "train"))
    assert len(rows) == 24 and staged[1].withheld == {"films": 0}
    for row in rows:
        assert row["thought"].startswith("Stimulus: {{item:") and "is before me" in row["thought"]
        assert "I rated {{history:0}} {{number}}" in row["thought"] and "like {{attribute}} things" in row["thought"]
        assert "as a {{profile}}" in row["thought"] and "Behavior" not in row["thought"]
        named = {int(n) for n in re.findall(r"\{\{item:(\d+)\}\}", row["thought"])}
        assert len(named) == 1 and named < set(range(len(scenes[row["scene_id"]]["exposure"])))


def test_closed_pairs_cannot_be_joined_with_anything(run: Path, staged: list[Staged]) -> None:
    """Two versions with other rules share the chosen thought, and a scene without a pair is one the teacher missed: so
    nothing says of which scene or thought a pair is."""
    others = set()
    for repo in (staged[0], staged[1], staged[3]):
        others |= {row["row_hmac"] for row in read_rows(repo.path("films", next(iter(repo.rows["films"]))))}
    rows = read_rows(staged[2].path("films", "train"))
    assert len(rows) == 6 and not {row["row_hmac"] for row in rows} & others
    assert [row["row_hmac"] for row in rows] == sorted(row["row_hmac"] for row in rows)
    in_full = read_rows(run / "films" / "preferences" / "train.parquet")
    assert not {row["row_hmac"] for row in rows} & {row["scene_id"] for row in in_full}


def test_rationales_of_a_scene_differ_in_their_text_alone(staged: list[Staged]) -> None:
    rationales = read_rows(staged[1].path("films", "train"))
    for scene_id in {row["scene_id"] for row in rationales}:
        rows = [row for row in rationales if row["scene_id"] == scene_id]
        rest = {json.dumps({k: v for k, v in row.items() if k not in ("thought", "row_hmac")}) for row in rows}
        assert len(rows) == 4 and len(rest) == 1
    keys = [(row["scene_id"], row["row_hmac"]) for row in rationales]
    assert keys == sorted(keys)


def test_no_card_says_where_truths_of_a_closed_source_stand(run: Path, staged: list[Staged]) -> None:
    """With few scenes of a K, the counts per slot are the truth."""
    for repo in staged:
        assert not list((repo.folder / "plots").glob("films-positions*"))
    card = (staged[0].folder / "README.md").read_text()
    assert "- `shop`, K = 4: 10, 0, 0, 0" in card and "`films`, K" not in card


def test_the_size_of_what_is_sealed_says_little(staged: list[Staged]) -> None:
    sizes = {path.stat().st_size for repo in staged for path in repo.folder.rglob("*.sealed")}
    assert sizes == {16 + PADDED_TO}


def test_mixed_holds_open_rows_only_beside_a_closed_domain(staged: list[Staged], tmp_path: Path) -> None:
    for repo in staged:
        if repo.kind != "bench":
            assert set(read_table(repo.path(MIXED, "train")).column("domain").to_pylist()) == {"shop"}
            assert repo.tiers == {"films": "closed", "shop": "open", MIXED: "open"}
        else:
            assert MIXED not in repo.rows
    alone = stage_datasets(Run.open(fixture.make_run(tmp_path / "run", ("films",))), tmp_path / "out")
    assert alone[0].tiers == {"films": "closed", MIXED: "closed"}
    assert pq.read_schema(alone[0].path(MIXED, "train")).names == pq.read_schema(alone[0].path("films", "train")).names


@pytest.mark.parametrize(
    ("thought", "masked"),
    [
        ("I take Blue Harbor (1988).", "I take {{item:1}}."),
        ("I take Blue Harbor, as I took Red Kite.", "I take {{item:1}}, as I took {{history:0}}."),
        ("The Stone: A Tale, or The Stone?", "{{item:0}}, or {{item:0}}?"),
        ("I pick [B], not option A.", "I pick {{item:1}}, not {{item:0}}."),
        ("A drama from 1999 that I gave five stars.", "A {{attribute}} from {{number}} that I gave {{number}} stars."),
        ("A farmer in March, user u7.", "A {{profile}} in {{time}}, user {{number}}."),
        ("Good.\nBehavior: I take the second\nBehavior: [B]", "Good."),
        ("{{item:1}} is forged.", "is forged."),
        (
            "In the nineties, in march or in Jan, half a star.",
            "In the {{number}}, in {{time}} or in {{time}}, {{number}} a star.",
        ),
        ("Part IV gets ★★★★☆, ⑤ or 五.", "Part {{number}} gets {{number}}, {{number}} or {{number}}."),
        ("I take Blue Har\u200bbor.", "I take {{item:1}}."),
    ],
)
def test_masks(thought: str, masked: str) -> None:
    assert MASKER.mask(thought, scene()) == masked


@pytest.mark.parametrize(
    "thought",
    [
        "I take blue harbor.",  # another case
        "I take BLUE-HARBOR!",  # other punctuation
        "I take Blue  Harbor.",  # other spaces
        "I know that Harbor well.",  # a capitalised word of a name
        "It is up to me.",  # `Up` is too short to mask, so its presence withholds the thought
        "I prefer Purple Meadow to both.",  # a name of the catalogue, though not in the scene
        "It is about sailors search the seven seas, they say.",  # five words of an attribute
        "Stimulus: Harbor catches my eye.",  # a capitalised word of a name, wherever it stands
        "Harbor again?",
        "我看到泰坦尼克号就想看",  # a name inside a word, in a script without spaces
    ],
)
def test_withholds_what_it_cannot_mask(thought: str) -> None:
    assert MASKER.mask(thought, scene(("i1", "i2", "i4"), ("i7",))) is None


def test_plain_words_are_not_withheld() -> None:
    plain = "A calm choice near the harbor, for an evening with friends."
    assert MASKER.mask(plain, scene()) == plain


def names() -> Iterator[str]:
    yield from (alias for item in ITEMS.values() for alias in aliases(item["title"]))


@given(st.lists(st.one_of(st.sampled_from(sorted(set(names()))), st.text(max_size=12)), max_size=8))
def test_whatever_comes_out_holds_no_name_and_no_digit(parts: list[str]) -> None:
    masked = MASKER.mask(" ".join(parts), scene(tuple(ITEMS), ()))
    if masked is not None:
        bare = re.sub(r"\{\{[a-z]+(:\d+)?\}\}", " | ", masked)
        assert not re.search(r"\d", bare)
        assert not any(normal(alias) in normal(bare) for alias in names())


def test_aliases_put_articles_in_front_and_drop_years() -> None:
    assert {"Stone, The: A Tale", "The Stone: A Tale", "The Stone", "Stone", "A Tale"} <= set(
        aliases("Stone, The: A Tale (1999)")
    )
    assert aliases("Stone, The: A Tale (1999)")[0] == "Stone, The: A Tale (1999)"
    assert {"La Cité des mouettes", "Gull City"} <= set(aliases("Gull City (Cité des mouettes, La) (1969)"))


def test_licence_terms() -> None:
    assert terms("meta-llama/Llama-3.2-3B-Instruct").prefix == "Llama"
    assert "research" in terms("Qwen/Qwen2.5-3B-Instruct").use and terms("Qwen/Qwen2.5-7B").licence == "apache-2.0"
    assert terms("teacher").weightless and not terms("someone/echo").weightless
    assert terms("someone/unheard-of") is UNKNOWN
    check_model_name("Llama-mirror-sft", ["meta-llama/Llama-3.2-1B"])
    with pytest.raises(ConfigError, match="begin with 'Llama'"):
        check_model_name("tiny-mirror-sft", ["teacher", "meta-llama/Llama-3.2-1B"])


def test_licences_the_hub_does_not_know_are_other_with_a_name_and_a_link() -> None:
    assert hub_licence("CC0-1.0") == {"license": "cc0-1.0"}
    assert hub_licence("Research use only!") == {
        "license": "other",
        "license_name": "research-use-only",
        "license_link": "LICENSE.md",
    }


def test_a_source_is_closed_unless_its_report_says_true(run: Path, tmp_path: Path) -> None:
    reports = {
        "a": {"source": {"redistributable": "yes"}},
        "b": {"source": {}},
        "c": {"source": {"redistributable": True}},
    }
    opened = Run(tmp_path, reports)
    assert [opened.closed(name) for name in "abc"] == [True, True, False]
