"""`mirror download`: a release from its publisher, as the builder lists it, into a folder that the builder reads.

A file grows under `<name>.part` and gets its name only when it is whole, so that a stopped download goes on from its
last byte. It goes on with `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14.2): where the publisher has another
file by now, the download starts again instead of joining two halves of two files. Archives are unpacked beside
themselves and removed; what is there already is left alone, without asking the publisher.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import time
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from hf_mirror import __version__
from hf_mirror.domains import Domain
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.progress import progress, say

# How often in a row a download may fail without getting further than ever, and the first pause, which doubles.
TRIES = 4
PAUSE_SECONDS = 1.0
BEGINNINGS = {".zip": b"PK", ".gz": b"\x1f\x8b"}
# No text shrinks further: an archive that claims to is made to fill the disk.
LARGEST_RATIO = 100
MOST_MEMBERS = 10_000


class _InterruptedError(Exception):
    """The publisher cannot go on just now: worth another try."""


def choose(domain: Domain, release: str | None) -> str:
    """The release that is meant: the only one, where none is named. Others are a ConfigError that names them."""
    known = list(domain.downloads)
    if not known:
        raise ConfigError(f"builder {domain.name} lists no downloads; its docstring says where its publisher is")
    if release is None and len(known) == 1:
        return known[0]
    if release is None:
        raise ConfigError(f"{domain.name} has several releases; name one of {', '.join(known)}")
    if release not in known:
        near = get_close_matches(release, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"name one of {', '.join(known)}"
        raise ConfigError(f"{domain.name} has no release {release!r}; {hint}")
    return release


def terms(domain: Domain, release: str) -> str:
    """What is offered and on which terms, to be read before anything is fetched."""
    offer = domain.downloads[release]
    lines = [f"{domain.name} {release}", f"licence: {offer.licence}", f"terms: {offer.licence_url}", "files:"]
    return "\n".join(lines + [f"  {url}  ({checksum or 'no published checksum'})" for url, checksum in offer.files])


def download(domain: Domain, release: str, out: Path) -> dict[str, Any]:
    """Fetches and unpacks what of a release is not in `out` yet. Returns what became of each file, and where to build.

    A publisher that refuses, a wrong checksum and a broken or hostile archive are DataErrors; a wrong file is not kept.
    """
    offer = domain.downloads[release]
    out.mkdir(parents=True, exist_ok=True)
    files, raw = {}, out
    agent = {"User-Agent": f"hf_mirror/{__version__}", "Accept-Encoding": "identity"}
    with httpx.Client(follow_redirects=True, timeout=60, headers=agent) as client:
        for url, checksum in offer.files:
            target = out / _name(url)
            archive = target.suffix == ".zip"
            folder = target.with_suffix("") if archive else out
            raw = folder if len(offer.files) == 1 else out
            if folder.is_dir() if archive else target.is_file():
                files[target.name] = "already there"
                continue
            if not target.is_file():
                _fetch(client, url, checksum, target)
            files[target.name] = f"{target.stat().st_size} bytes"
            if archive:
                _unpack(target, folder)
    return {"builder": domain.name, "release": release, "licence": offer.licence, "files": files, "raw": str(raw)}


def _name(url: str) -> str:
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise DataError(f"{url} names no file; mend DOWNLOADS in the builder")
    return name


def _fetch(client: httpx.Client, url: str, checksum: str | None, target: Path) -> None:
    """Tries until the file is whole, as long as there is some headway."""
    part = target.with_name(f"{target.name}.part")
    failures, furthest = 0, _size(part)
    while True:
        try:
            linked = _attempt(client, url, part)
            break
        except (httpx.HTTPError, _InterruptedError) as error:
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            why = str(error) or type(error).__name__
            if failures > TRIES:
                raise DataError(
                    f"{url}: {why}, {failures} times in a row; {_size(part)} bytes are kept in {part}: run the same "
                    "command again to go on"
                ) from None
            say(f"{target.name}: {why}; trying again from byte {_size(part)}")
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
    try:
        _check(part, url, target.suffix, checksum or linked)
    except DataError:
        _discard(part)
        raise
    part.replace(target)
    _discard(part)


def _attempt(client: httpx.Client, url: str, part: Path) -> str | None:
    """Fetches what is missing of `part`. Returns the checksum that the server named, if it did.

    Raises what `_fetch` knows how to go on from; a refusal is a DataError.
    """
    have, version = _size(part), _version_file(part)
    known = version.read_text(encoding="utf-8") if version.is_file() else ""
    resumed = {"Range": f"bytes={have}-", "If-Range": known} if have and known else {}
    with client.stream("GET", url, headers=resumed) as response:
        found = response.headers
        same = found.get("ETag", known) == known or not known.startswith('"')
        goes_on = response.status_code == 206 and found.get("Content-Range", "").startswith(f"bytes {have}-") and same
        if response.status_code == 416 and found.get("Content-Range") == f"bytes */{have}":
            return _linked_checksum(response)
        if resumed and (response.status_code == 416 or (response.status_code == 206 and not goes_on)):
            _discard(part)
            raise _InterruptedError("it cannot be resumed")
        if response.status_code == 429 or response.status_code >= 500:
            raise _InterruptedError(f"the server answered {response.status_code}")
        if response.status_code != 200 and not goes_on:
            raise DataError(f"{url}: the server answered {response.status_code}; look for the file at its publisher")
        if not goes_on:
            have = 0
            part.unlink(missing_ok=True)
            version.write_text(_version(response), encoding="utf-8")
        length = found.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with part.open("ab") as file, progress(total or 0, part.stem, "byte") as advance:
            advance(have)
            for block in response.iter_raw():
                file.write(block)
                advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and _size(part) != total:
            raise _InterruptedError(f"the connection ended at byte {_size(part)} of {total}")
        return _linked_checksum(response)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version(response: httpx.Response) -> str:
    """What tells this file from a later one in `If-Range`: a strong ETag, else the date. Empty: no resuming."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _linked_checksum(response: httpx.Response) -> str | None:
    """The Hub redirects to large files, and names their SHA-256 there (`X-Linked-Etag`, see huggingface_hub)."""
    for earlier in response.history:
        if match := re.fullmatch(r'"?([0-9a-f]{64})"?', earlier.headers.get("X-Linked-Etag", "")):
            return f"sha256:{match[1]}"
    return None


def _check(part: Path, url: str, suffix: str, checksum: str | None) -> None:
    """The file is what its name and the checksum say, or it is a DataError."""
    with part.open("rb") as file:
        if checksum is not None:
            kind, _, expected = checksum.partition(":")
            digest = hashlib.file_digest(file, kind).hexdigest()
            if digest != expected:
                raise DataError(
                    f"{url}: found a file with {kind} {digest}; expected {expected}; nothing is kept: run the same "
                    "command again, and if it stays so, the publisher has changed the file"
                )
        file.seek(0)
        beginning = file.read(16)
    if not beginning.startswith(BEGINNINGS.get(suffix, b"")):
        raise DataError(
            f"{url}: found a file that begins with {beginning!r}; expected a {suffix} file; look for the file at its "
            "publisher"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks all of an archive into `folder`, or nothing, and removes it. A single folder around all is left away.

    Raises DataError for members that would leave the folder, links, archives that grow beyond all measure, and damage
    (`zipfile` reads no more of a member than the archive says, and checks it).
    """
    temporary = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [
                one for one in packed.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")
            ]
            for member, path in zip(members, _safe_paths(archive, members), strict=True):
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, (temporary / path).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        temporary.replace(folder)
        archive.unlink()
    except DataError:
        archive.unlink()
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise  # the archive is not at fault
        archive.unlink()
        raise DataError(f"{archive} does not unpack ({error}); it is removed: run the same command again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _safe_paths(archive: Path, members: list[zipfile.ZipInfo]) -> list[PurePosixPath]:
    """Where the members go below the folder."""
    unpacked, packed = sum(member.file_size for member in members), archive.stat().st_size
    if not members or len(members) > MOST_MEMBERS or unpacked > LARGEST_RATIO * packed:
        raise DataError(
            f"{archive}: found {len(members)} files of {unpacked} bytes in {packed}; expected some, at most "
            f"{MOST_MEMBERS} and {LARGEST_RATIO} times as large; it is removed: look for the file at its publisher"
        )
    paths = [PurePosixPath(member.filename) for member in members]
    for member, path in zip(members, paths, strict=True):
        link = stat.S_ISLNK(member.external_attr >> 16)
        if link or not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", member.filename):
            raise DataError(
                f"{archive}: found {member.filename!r}; expected files below one folder; the archive is removed: look "
                "for the file at its publisher"
            )
    tops = {path.parts[0] for path in paths}
    if len(tops) == 1 and all(len(path.parts) > 1 for path in paths):
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return paths
