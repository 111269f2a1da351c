"""Arrows point inward: the library imports no builder, recipe or eval, and names no domain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hf_mirror import PROJECT, domains

LIBRARY = sorted((PROJECT / "hf_mirror").rglob("*.py"))
TEMPLATES = [*(PROJECT / "hf_mirror").rglob("*.jinja"), *(PROJECT / "model_cards").glob("*.jinja")]
OUTSIDE = {"dataset_builders", "recipes", "evals", "pipelines", "model_cards", "benchmarks", "tests"}


def imports(source: str) -> set[str]:
    """The top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def names_a_domain(source: str) -> bool:
    """Whether a builder's name is in the text as a word or as a part of an identifier, in any spelling: movielens,
    MovieLens, movie_lens, Movie-Lens."""
    names = {name.replace("_", "") for name in domains.available()}
    longest = max(map(len, names))
    # Words that are joined, or apart by one mark, and in them the parts between two changes of case.
    for words in re.findall(r"[A-Za-z0-9]+(?:[ ._-][A-Za-z0-9]+)*", source):
        parts = re.findall(r"[A-Z]+|[a-z]+|\d+", words)
        for start in range(len(parts)):
            for end in range(start + 1, min(start + longest, len(parts)) + 1):
                if "".join(parts[start:end]).lower() in names:
                    return True
    return False


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_imports_nothing_from_outside(path: Path) -> None:
    assert not imports(path.read_text(encoding="utf-8")) & OUTSIDE


@pytest.mark.parametrize("path", [*LIBRARY, *TEMPLATES], ids=name_of)
def test_the_library_names_no_domain(path: Path) -> None:
    assert not names_a_domain(path.read_text(encoding="utf-8"))


def test_these_checks_can_fail() -> None:
    assert imports("def f():\n    from dataset_builders.sample import x") & OUTSIDE
    assert imports("import evals.tasks as t") & OUTSIDE
    assert {"movielens", "mind", "amazon_reviews"} <= set(domains.available())
    for source in (
        "if name == 'Movie-Lens':", "movie_lens", "load_movielens(path)", "MOVIELENS = 1", "class MovieLensReader:",
        "MINDsmall_train", "MIND", "of mind.", "is_mind", "mind2", "readMind()", "Amazon reviews", "amazonReviews",
        "AMAZON_REVIEWS", "amazon.reviews",
    ):  # fmt: skip
        assert names_a_domain(source), source
    for source in (
        "movies and lenses", "amovielens", "movielensing", "_item(index", "remind", "mindful", "reminder", "minded",
        "from collections import item, index", "amazon", "reviews", "them individually", "min(d)", "HTMLIndex", "",
    ):  # fmt: skip
        assert not names_a_domain(source), source
    assert len(LIBRARY) > 20


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_habits_that_are_forbidden(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert not imports(source) & {"pickle", "dill", "cloudpickle", "joblib"}
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), "a bare except"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "sys.path.insert", "sys.path.append", "np.random.seed", "random.seed"}
            for word in node.keywords:
                trusted = word.arg == "trust_remote_code" and ast.unparse(word.value) != "False"
                assert not trusted, "trust_remote_code"


def test_help_does_not_wait_for_heavy_imports() -> None:
    """Nothing that the command line imports at its top imports a heavy package at its own."""
    heavy = {"torch", "transformers", "datasets", "huggingface_hub", "trl", "lighteval", "polars", "pyarrow", "numpy"}
    room = PROJECT / "hf_mirror"
    for path in (room / "__init__.py", room / "errors.py", *(room / "cli").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        assert not imports(ast.unparse(top)) & heavy
