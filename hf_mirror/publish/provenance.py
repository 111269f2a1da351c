"""What a published repo says of its origin: provenance.json, as it stands on a Hub at one commit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mirror.errors import ConfigError, DataError, HubError
from hf_mirror.files import read_json, sha256_file
from hf_mirror.publish.release import Remote, Snapshot

PROVENANCE = "provenance.json"
KINDS = ("dataset", "model")
REFERENCE = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([^@\s]+))?")


@dataclass(frozen=True)
class Published:
    """A repo that `mirror publish` made, at one commit; `there` is what the Hub holds. `tag` is the version that
    provenance.json names."""

    remote: Remote
    there: Snapshot
    provenance: Mapping[str, Any]

    @staticmethod
    def open(reference: str, endpoint: str | None = None, kinds: Sequence[str] = KINDS) -> Published:
        """Finds `<namespace>/<repo>[@<revision>]` as one of `kinds`. HubError where it is not there, or not ours."""
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise ConfigError(f"{reference!r} is not a Hub repo; expected NAMESPACE/REPO@REVISION")
        repo, revision = match[1], match[2]
        for kind in kinds:
            remote = Remote(endpoint, repo, kind)
            there = remote.snapshot(revision)
            if there.sha is not None:
                return Published(remote, there, _provenance(remote, there))
        raise HubError(f"{' or '.join(kinds)} {reference} is not on {remote.endpoint}; check name, revision and token")

    @property
    def revision(self) -> str:
        """The commit."""
        return str(self.there.sha)

    @property
    def repo(self) -> str:
        """Its name with its namespace."""
        return self.remote.repo

    def fetch(self) -> Path:
        """All of its files in a folder. DataError where one is not what provenance.json says."""
        folder = self.remote.fetch(self.revision)
        for name, sha256 in self.provenance["files"].items():
            if not (folder / name).is_file() or sha256_file(folder / name) != sha256:
                raise DataError(f"{self.repo}@{self.revision}: {name} is not the file that its {PROVENANCE} names")
        return folder


def _provenance(remote: Remote, there: Snapshot) -> dict[str, Any]:
    at = f"{remote.repo}@{there.sha}"
    if PROVENANCE not in there.files:
        raise HubError(f"{at} has no {PROVENANCE}; it was not made by `mirror publish`")
    found = read_json(remote.fetch(str(there.sha), [PROVENANCE]) / PROVENANCE)
    wanted = {"repo": str, "tag": str, "files": dict, "made_from": list, "sources": dict}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in wanted.items()):
        raise DataError(f"{PROVENANCE} of {at} is not as this version writes it; expected {', '.join(wanted)}")
    return found
