"""What a score says of models whose answers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mirror.alignment import score
from hf_mirror.domains import import_file

made = import_file(Path(__file__).parent / "made_rows.py")
scene_rows, tasteful, twin = made.scene_rows, made.tasteful, made.twin

SIZES = st.lists(st.integers(2, 8), min_size=1, max_size=12)


def rows_of(sizes, users=4, **given):
    return [row for n, size in enumerate(sizes) for row in scene_rows(n, size, n % users, **given)]


def finite(found) -> str:
    return json.dumps(found, allow_nan=False)


@settings(deadline=None, max_examples=15)
@given(SIZES)
def test_a_uniform_model_gets_chance_on_every_k(sizes):
    rows = rows_of(sizes)
    found = score(rows, [[1 / len(row["options"])] * len(row["options"]) for row in rows], seed=0)
    assert found["scores"]["accuracy"]["value"] == pytest.approx(np.mean([1 / size for size in sizes]))
    assert found["scores"]["log_loss"]["value"] == pytest.approx(np.log(sizes).mean())
    assert found["scores"]["mcfadden_r2_uniform"]["value"] == pytest.approx(0)
    assert found["scores"] == found["baselines"]["chance"]
    for size, parts in found["brier_decomposition"].items():
        assert parts["reliability"] == pytest.approx(0, abs=1e-9)
        assert parts["resolution"] == pytest.approx(0, abs=1e-9)
        assert parts["uncertainty"] == pytest.approx(1 - 1 / int(size))
    finite(found)


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 8), st.data())
def test_a_model_that_only_knows_slots_is_exposed(size, data):
    slot = data.draw(st.integers(0, size - 1))
    rows = rows_of([size] * 40)
    answer = [0.02 / (size - 1)] * size
    answer[slot] = 0.98
    found = score(rows, [answer] * len(rows), seed=0)
    assert found["scores"]["accuracy"]["value"] == pytest.approx(1 / size)
    assert found["position"]["choice_share"][str(size)][slot] == 1
    # The chosen item moves with the order: over all shifts it is the one of the random order once in K.
    assert found["position"]["flip_rate"] == pytest.approx(1 - 1 / size)
    told = np.array(found["position"]["truth_share"][str(size)]) * 40
    p, q = (told + 1) / (40 + size), (np.arange(size) == slot) * 40.0
    assert found["position"]["ckld"][str(size)] == pytest.approx(float((p * np.log(p / ((q + 1) / (40 + size)))).sum()))
    assert found["position"]["ckld"][str(size)] > 0.1


@settings(deadline=None, max_examples=10)
@given(SIZES, st.integers(0, 2**32 - 1))
def test_permuting_options_and_rows_changes_no_score(sizes, seed):
    rng = np.random.default_rng(seed)
    rows = rows_of(sizes)
    probs = [rng.dirichlet(np.ones(len(row["options"]))).tolist() for row in rows]
    moved, answers = [], []
    for index in rng.permutation(len(rows)):
        row, order = rows[index], rng.permutation(len(rows[index]["options"]))
        options = [row["options"][slot] for slot in order]
        moved.append({**row, "options": options, "gold_index": int(np.flatnonzero(order == row["gold_index"])[0])})
        answers.append([probs[index][slot] for slot in order])
    before, after = score(rows, probs, seed=0), score(moved, answers, seed=0)
    for part in ("scores", "calibration", "brier_decomposition", "divergence"):
        assert flat(after[part]) == pytest.approx(flat(before[part]))
    assert after["position"]["flip_rate"] == pytest.approx(before["position"]["flip_rate"])


def flat(found, path=()):
    """Nested numbers by their path."""
    if isinstance(found, dict):
        found = list(found.items())
    elif isinstance(found, list):
        found = list(enumerate(found))
    else:
        return {path: found}
    return {key: value for name, part in found for key, value in flat(part, (*path, name)).items()}


def test_mcfadden_by_hand():
    # Counts 0 and 7, the truth is item 1: popularity says 8/9. The model says 0.95.
    rows = [row for n in range(4) for row in scene_rows(n, 2, n, truth=1)]
    found = score(rows, [tasteful(row, 0.95) for row in rows], seed=0)["scores"]
    assert found["mcfadden_r2_uniform"]["value"] == pytest.approx(1 - math.log(0.95) / math.log(0.5))
    assert found["mcfadden_r2_popularity"]["value"] == pytest.approx(1 - math.log(0.95) / math.log(8 / 9))


def test_a_twin_is_compared_with_the_same_scene_in_the_same_order():
    rows = rows_of([4] * 30, users=10)
    own = [row for row in rows if row["variant"]["order"] == "random"]
    twins = [twin(row, "swapped:random-full-random") for row in own]
    twins += [twin(row, "swapped:nearest-full-random") for row in own[:5]]
    answers = [tasteful(row, 0.7) for row in rows] + [tasteful(row, 0.4) for row in twins]
    answers[-1] = []
    found = score(rows + twins, answers, seed=0)
    random = found["twins"]["swapped:random-full-random"]
    assert random["n_scenes"] == 30
    assert random["log_loss"]["value"] == pytest.approx(math.log(0.7 / 0.4))
    assert random["accuracy"]["value"] == 0
    assert random["p_value"] == pytest.approx(2 / 2**10)  # all ten users agree: 2 of 1,024 sign vectors
    assert found["twins"]["swapped:nearest-full-random"]["n_scenes"] == 4
    plain = score(rows, answers[: len(rows)], seed=0)
    assert plain["twins"] == {} and plain["scores"] == found["scores"]


def test_groups_and_the_worst_of_them():
    rows = [row for n in range(20) for row in scene_rows(n, 2, n, groups={"gap": "first" if n % 2 else "<1h"})]
    answers = [tasteful(row, 0.9 if row["groups"]["gap"] == "first" else 0.4) for row in rows]
    found = score(rows, answers, seed=0)
    first = found["groups"]["gap"]["first"]
    assert (first["n_scenes"], first["n_clusters"], first["accuracy"]["value"]) == (10, 10, 1.0)
    assert first["log_loss"]["value"] == pytest.approx(-math.log(0.9))
    assert found["worst_group"] == {"gap": {"group": "<1h", "accuracy": 0.0, "gap": 1.0}}


def test_a_handful_of_users_is_never_the_worst_group():
    ages = ["old" if n >= 20 else "young" if n % 2 else "middle" for n in range(29)]  # nine old users, all wrong
    rows = [row for n, age in enumerate(ages) for row in scene_rows(n, 2, n, groups={"age": age, "gap": "first"})]
    answers = [tasteful(row, {"old": 0.1, "young": 0.9, "middle": 0.4}[row["groups"]["age"]]) for row in rows]
    found = score(rows, answers, seed=0)
    assert found["groups"]["age"]["old"]["n_clusters"] == 9
    assert found["worst_group"] == {"age": {"group": "middle", "accuracy": 0.0, "gap": 1.0}}  # of one group: none


def test_options_of_unknown_popularity_count_as_never_taken():
    rows = rows_of([2])
    unknown = [{**row, "options": [{**option, "asof_count": None} for option in row["options"]]} for row in rows]
    found = score(unknown, [tasteful(row, 0.7) for row in rows], seed=0)
    assert found["baselines"]["popularity"] == found["baselines"]["chance"]
    assert "popularity" not in found["divergence"]


def test_a_model_that_follows_the_crowd_has_a_lift():
    def known(rows):
        for row in rows:
            for option in row["options"]:
                option |= {"asof_percentile": option["asof_count"] / 14, "category": f"c{option['asof_count']}"}
        return rows

    rows = known([row for n in range(6) for row in scene_rows(n, 3, n, truth=0)])
    popular = [[float(option["asof_count"] == 14) for option in row["options"]] for row in rows]
    found = score(rows, popular, seed=0)
    assert found["popularity_lift"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["divergence"]["popularity"] == {"jsd": pytest.approx(math.log(2)), "ks": pytest.approx(1)}
    assert found["divergence"]["category"] == {"jsd": pytest.approx(math.log(2)), "ks": None}
    right = score(rows, [tasteful(row, 1.0) for row in rows], seed=0)
    assert right["divergence"]["category"]["jsd"] == right["popularity_lift"]["value"] == 0
    matched = [{**row, "regime": "popularity_matched"} for row in rows]
    assert score(matched, popular, seed=0)["popularity_lift"] is None


@pytest.mark.parametrize("users", [1, 3])
@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_odd_results_have_no_nan(users, answered):
    """One scene, one user, failures: `answered` in three rows have probabilities."""
    rows = rows_of([3, 2, 3][: 1 if users == 1 else 3], users=users, groups={"gap": None, "activity": "few"})
    answers = [
        tasteful(row, 0.6) if i % 3 < answered else (None, [], [math.nan] * 3)[i % 3] for i, row in enumerate(rows)
    ]
    found = score(rows, answers, seed=0)
    assert finite(found)
    assert found["coverage"] == pytest.approx(answered / 3, abs=0.35)
    if users == 1:
        assert found["scores"]["accuracy"]["low"] is None
