"""Strict settings: what does not fit fails by name, with the nearest known key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mirror import PROJECT
from hf_mirror.errors import ConfigError
from hf_mirror.pipeline.settings import load_yaml, parse


@dataclass(frozen=True)
class Engine:
    backend: str
    model: str = "base"


@dataclass(frozen=True)
class Plan:
    out: str
    builders: tuple[str, ...]
    scenes: int = 10
    rate: float = 0.5
    fast: bool = False
    teacher: Engine | None = None
    sizes: dict[str, int] = field(default_factory=dict)


GOOD = """
out: runs/x
builders: [one, two]
scenes: 20
rate: 1
teacher: {backend: template}
sizes: {films: 3}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_becomes_the_dataclass(tmp_path: Path) -> None:
    plan = load_yaml(written(tmp_path, GOOD), Plan)
    assert plan == Plan("runs/x", ("one", "two"), 20, 1.0, False, Engine("template"), {"films": 3})
    assert type(plan.rate) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("scenes: 20", "scnees: 20"), r"unknown key 'scnees'; did you mean 'scenes'\?"),
        (("backend:", "bakend:"), r"teacher: unknown key 'bakend'; did you mean 'backend'\?"),
        (("scenes: 20", "3: 20"), r"unknown key 3"),
        (("scenes: 20", "scenes: many"), r"scenes: found 'many'; expected int"),
        (("scenes: 20", "scenes: true"), r"scenes: found True; expected int"),
        (("scenes: 20", "scenes: 2.5"), r"scenes: found 2\.5; expected int"),
        (("rate: 1", "rate: true"), r"rate: found True; expected float"),
        (("builders: [one, two]", "builders: one"), r"builders: found 'one'; expected a list"),
        (("builders: [one, two]", "builders: [one, 2]"), r"builders: found 2; expected str"),
        (("{films: 3}", "[films]"), r"sizes: found \['films'\]; expected a mapping"),
        (("{films: 3}", "{films: x}"), r"sizes\.films: found 'x'; expected int"),
        (("{backend: template}", "template"), r"teacher: found 'template'; expected a mapping with backend, model"),
        (("{backend: template}", "{model: x}"), r"teacher: missing backend"),
        (("out: runs/x", ""), r"missing out"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(written(tmp_path, GOOD.replace(*change)), Plan)
    assert "plan.yaml" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "out: [", "a: b: c", "\t- x"])
def test_other_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"plan\.yaml") as caught:
        load_yaml(written(tmp_path, text), Plan)
    assert "\n" not in str(caught.value)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml does not exist"):
        load_yaml(tmp_path / "gone.yaml", Plan)
    (tmp_path / "plan.yaml").write_bytes(b"out: \xff\xfe")
    with pytest.raises(ConfigError, match="not YAML"):
        load_yaml(tmp_path / "plan.yaml", Plan)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scenes"):
        load_yaml(written(tmp_path, GOOD + "scenes: 30\n"), Plan)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["out", "builders", "teacher"]), inner),
    max_leaves=6,
)


@given(anything)
def test_any_value_is_a_plan_or_a_config_error(value: object) -> None:
    try:
        plan = parse(value, Plan, "here")
    except ConfigError as error:
        assert str(error).startswith("here")
    else:
        assert isinstance(plan.out, str) and all(isinstance(name, str) for name in plan.builders)


@pytest.mark.parametrize("path", sorted((PROJECT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_pipelines_that_come_with_the_project_are_valid(path: Path) -> None:
    from hf_mirror.pipeline import Pipeline

    assert load_yaml(path, Pipeline).builders


def test_a_key_that_is_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("? [x, y]\n: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="plain word"):
        load_yaml(path, Plan)
