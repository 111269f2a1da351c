"""A stage runs once: it is skipped while its settings, its inputs and what it wrote are unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hf_mirror import __version__
from hf_mirror.files import canonical_json, read_json, sha256_file, write_json
from hf_mirror.progress import say


class Stamps:
    """The stages of one run folder. A stage that ran leaves `DIR/.stages/<name>.json` with hashes of files it used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.seconds: dict[str, float] = {}

    def run(
        self,
        name: str,
        settings: Any,
        inputs: Iterable[Path],
        outputs: Callable[[], Iterable[Path]],
        work: Callable[[], Any],
    ) -> bool:
        """Runs `work` unless it is done; True if it ran. `inputs` and `outputs()` are files, hashed by content."""
        stamp = self._directory / ".stages" / f"{name}.json"
        before = {"version": __version__, "settings": settings, "inputs": self._hashes(inputs)}
        if stamp.is_file():
            old = read_json(stamp)
            same = canonical_json(old["before"]) == canonical_json(before)
            if same and old["outputs"] and old["outputs"] == self._hashes(map(Path, old["outputs"])):
                say(f"- {name}: unchanged, skipped")
                return False
        begin = time.monotonic()
        say(f"- {name}")
        stamp.unlink(missing_ok=True)
        work()
        self.seconds[name] = round(time.monotonic() - begin, 1)
        write_json(stamp, {"before": before, "outputs": self._hashes(outputs()), "seconds": self.seconds[name]})
        return True

    def _hashes(self, paths: Iterable[Path]) -> dict[str, str]:
        return {str(path): sha256_file(path) if path.is_file() else "missing" for path in sorted(set(paths))}
