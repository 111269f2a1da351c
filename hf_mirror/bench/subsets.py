"""Which subsets a domain's benchmark has: its headline, and the same choices in other regimes where they were built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hf_mirror.errors import DataError
from hf_mirror.rationales import domain_folders


@dataclass(frozen=True)
class Subset:
    """`name` is the subset's, `folder` the domain's in the run; its scenes lie in `folder/scenes/<scenes>.parquet`."""

    name: str
    folder: Path
    scenes: str = "test"

    @property
    def domain(self) -> str:
        """The domain's name."""
        return self.folder.name


def subsets_of(folder: Path) -> list[Subset]:
    """The subsets of one domain folder: `<domain>` from `test.parquet`, and `<domain>-<regime>` from each
    `test-<regime>.parquet` (`mirror build --also-test`)."""
    others = sorted(path.stem for path in (folder / "scenes").glob("test-*.parquet"))
    return [Subset(folder.name + stem.removeprefix("test"), folder, stem) for stem in ("test", *others)]


def subsets(directory: Path) -> list[Subset]:
    """The subsets of a run. DataError where two have one name: a domain may be called as another's regime."""
    found = [subset for folder in domain_folders(directory) for subset in subsets_of(folder)]
    _check_names(found)
    return found


def _check_names(found: Iterable[Subset]) -> None:
    by_name: dict[str, Subset] = {}
    for subset in found:
        if (other := by_name.setdefault(subset.name, subset)) is not subset:
            raise DataError(
                f"{other.folder} and {subset.folder} both make a subset {subset.name}; build one of them elsewhere"
            )
