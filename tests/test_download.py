"""Downloads from a publisher that cuts, refuses, changes files and lies: what arrives is whole, or it is not kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hf_mirror import domains, download

Mirror = Callable[..., Any]
Contents = Callable[[Path], dict[str, str]]
RATINGS = random.Random(1).randbytes(300_000)


def packed(members: dict[str, bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


ARCHIVE = packed({"films/ratings.dat": RATINGS, "films/deep/README": b"Made up."})


@dataclass
class Reply:
    """How one request is answered: a status instead of the file, or only so many bytes of it."""

    status: int = 0
    cut: int | None = None


@dataclass
class Publisher:
    """A server's files and manners. `replies` are used up one per request; then all goes well."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    redirects: dict[str, dict[str, str]] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    ranges: bool = True
    heeds_if_range: bool = True
    names_length: bool = True
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)
    sent: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """What the server does with one GET."""
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.asked.append((handler.path, wanted, condition))
        self.encodings.add(handler.headers.get("Accept-Encoding"))
        if handler.path in self.redirects:
            return self._send(handler, 302, self.redirects[handler.path], b"")
        reply = self.replies.pop(0) if self.replies else Reply()
        if reply.status or handler.path not in self.files:
            return self._send(handler, reply.status or 404, {}, b"an error page")
        data, headers, status = self.files[handler.path], dict(self.headers), 200
        known = condition in (self.headers.get("ETag"), self.headers.get("Last-Modified"))
        if wanted and self.ranges and (known or not self.heeds_if_range):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(data):
                return self._send(handler, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        self._send(handler, status, headers, data, reply.cut)

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, cut: int | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if self.names_length:
            handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data[:cut])
        self.sent += len(data[:cut]) if status in (200, 206) else 0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    state = Publisher(files={"/films.zip": ARCHIVE})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def builder(tmp_path: Path, publisher: Publisher) -> Callable[..., Path]:
    """Writes a builder whose only release is the files that are named, each as (path, checksum)."""

    def write(*files: tuple[str, str | None]) -> Path:
        listed = tuple((publisher.address + path, checksum) for path, checksum in files)
        path = tmp_path / "films.py"
        path.write_text(
            "from hf_mirror.domains import Download\nNAME, POSITIVE, detect, load = 'films', 'liked', None, None\n"
            f"DOWNLOADS = {{'films-1': Download('for research only', 'https://example.invalid/terms', {listed})}}\n"
        )
        path.with_suffix(".jinja").write_text("{{ now }}")
        return path

    return write


@pytest.fixture
def fetch(tmp_path: Path, builder: Callable[..., Path], mirror: Mirror) -> Callable[..., Any]:
    """Runs `mirror download` on one file; what it leaves is below tmp_path/raw."""

    def run(path: str = "/films.zip", checksum: str | None = None) -> Any:
        return mirror("download", builder((path, checksum)), "--out", tmp_path / "raw", "--accept-license", "--json")

    return run


Fetch = Callable[..., Any]


def left(tmp_path: Path) -> list[str]:
    """The files below tmp_path/raw."""
    raw = tmp_path / "raw"
    return sorted(str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file())


WHOLE = ["films/deep/README", "films/ratings.dat"]
PART = ["films.zip.part", "films.zip.part.version"]


def check_whole(tmp_path: Path) -> None:
    assert left(tmp_path) == WHOLE
    assert (tmp_path / "raw" / "films" / "ratings.dat").read_bytes() == RATINGS


def check_refused(answer: Any, found: str) -> None:
    assert answer.code == 1
    assert answer.out == ""
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: ") and found in last
    assert "Traceback" not in answer.err


# The licence comes first


def test_without_acceptance_terms_are_shown_and_nothing_is_asked_for(
    builder: Callable[..., Path], publisher: Publisher, mirror: Mirror, tmp_path: Path
) -> None:
    answer = mirror("download", builder(("/films.zip", "md5:abc")), "--out", tmp_path / "raw")
    assert answer.code == 2
    assert answer.err.count("\n") == 1 and "--accept-license" in answer.err
    for text in ("for research only", "https://example.invalid/terms", f"{publisher.address}/films.zip", "md5:abc"):
        assert text in answer.out
    assert not publisher.asked and not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("downloads", "release", "found"),
    [
        ("", [], "lists no downloads"),
        ("DOWNLOADS = {'a': None, 'b': None}", [], "several releases; name one of a, b"),
        ("DOWNLOADS = {'a': None, 'b': None}", ["c"], "no release 'c'; name one of a, b"),
        ("DOWNLOADS = {'films-1': None, 'b': None}", ["films"], "no release 'films'; did you mean 'films-1'?"),
    ],
)
def test_a_release_that_is_not_offered_is_wrong_usage(
    downloads: str, release: list[str], found: str, mirror: Mirror, tmp_path: Path
) -> None:
    path = tmp_path / "films.py"
    path.write_text(f"NAME, POSITIVE, detect, load = 'films', 'liked', None, None\n{downloads}\n")
    path.with_suffix(".jinja").write_text("{{ now }}")
    answer = mirror("download", path, *release, "--out", tmp_path / "raw", "--accept-license")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert found in answer.err


@pytest.mark.parametrize("name", [name for name in domains.available() if domains.load(name).downloads])
def test_builders_list_files_with_names_terms_and_checksums(name: str) -> None:
    lengths = {"md5": 32, "sha256": 64}
    for offer in domains.load(name).downloads.values():
        assert offer.licence and offer.licence_url.startswith("https://")
        targets = [download._name(url) for url, _ in offer.files]
        assert targets and len(set(targets)) == len(targets)
        for url, checksum in offer.files:
            assert url.startswith("https://")
            if checksum is not None:
                kind, _, digest = checksum.partition(":")
                assert re.fullmatch(f"[0-9a-f]{{{lengths[kind]}}}", digest)


# What arrives


@pytest.mark.parametrize("kind", [None, "md5", "sha256"])
def test_an_archive_is_fetched_checked_and_unpacked(kind: str | None, fetch: Fetch, tmp_path: Path) -> None:
    answer = fetch(checksum=kind and f"{kind}:{hashlib.new(kind, ARCHIVE).hexdigest()}")
    assert answer.code == 0, answer.err
    check_whole(tmp_path)
    assert f'"raw": "{tmp_path / "raw" / "films"}"' in answer.out


def test_a_second_run_asks_for_nothing_and_changes_nothing(
    fetch: Fetch, publisher: Publisher, contents: Contents, tmp_path: Path
) -> None:
    fetch()
    before, asked = contents(tmp_path / "raw"), len(publisher.asked)
    answer = fetch()
    assert answer.code == 0 and "already there" in answer.out
    assert contents(tmp_path / "raw") == before and len(publisher.asked) == asked


def test_several_archives_do_not_mix(
    builder: Callable[..., Path], publisher: Publisher, mirror: Mirror, tmp_path: Path
) -> None:
    """Archives without a folder of their own, and with the same names in them, as MIND's."""
    for part in ("train", "dev"):
        publisher.files[f"/{part}.zip"] = packed({"news.tsv": part.encode(), "__MACOSX/._news.tsv": b"x"})
    path = builder(("/train.zip", None), ("/dev.zip", None))
    answer = mirror("download", path, "films-1", "--out", tmp_path / "raw", "--accept-license")
    assert answer.code == 0, answer.err
    assert left(tmp_path) == ["dev/news.tsv", "train/news.tsv"]
    assert (tmp_path / "raw" / "train" / "news.tsv").read_text() == "train"
    assert f"raw: {tmp_path / 'raw'}\n" in answer.out + "\n"


def test_a_file_that_is_no_archive_is_kept_as_it_was_sent(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    """Also where the server calls the file's own compression one of the transfer."""
    publisher.files["/reviews.jsonl.gz"] = gzip.compress(b"{}\n" * 1000)
    publisher.headers["Content-Encoding"] = "gzip"
    assert fetch("/reviews.jsonl.gz").code == 0
    assert left(tmp_path) == ["reviews.jsonl.gz"]
    assert (tmp_path / "raw" / "reviews.jsonl.gz").read_bytes() == publisher.files["/reviews.jsonl.gz"]
    assert "already there" in fetch("/reviews.jsonl.gz").out
    assert publisher.encodings == {"identity"}  # a range of a file that is packed on the way is no range of the file


def test_a_server_need_not_name_lengths(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.names_length = False
    assert fetch().code == 0
    check_whole(tmp_path)


# Cuts


def test_after_a_cut_it_goes_on_from_the_byte(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.replies = [Reply(cut=70_000), Reply(cut=1), Reply(cut=50_000)]
    answer = fetch(checksum=f"md5:{hashlib.md5(ARCHIVE).hexdigest()}")
    assert answer.code == 0, answer.err
    check_whole(tmp_path)
    assert publisher.sent == len(ARCHIVE)  # not one byte twice
    assert publisher.asked == [
        ("/films.zip", None, None),
        ("/films.zip", "bytes=70000-", '"first"'),
        ("/films.zip", "bytes=70001-", '"first"'),
        ("/films.zip", "bytes=120001-", '"first"'),
    ]


def test_a_later_run_goes_on_from_the_byte(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.replies = [Reply(cut=70_000), *[Reply(cut=0)] * 4]
    check_refused(fetch(), f"70000 bytes are kept in {tmp_path / 'raw' / 'films.zip.part'}")
    assert left(tmp_path) == PART
    assert fetch().code == 0
    check_whole(tmp_path)
    assert publisher.asked[-1] == ("/films.zip", "bytes=70000-", '"first"')
    assert publisher.sent == len(ARCHIVE)


def test_headway_is_not_given_up_on(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.replies = [Reply(cut=1000)] * 40
    assert fetch().code == 0
    check_whole(tmp_path)


def test_going_back_and_forth_is_no_headway(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges, publisher.replies = False, [Reply(cut=cut) for cut in (2000, 1000) * 9]
    check_refused(fetch(), "5 times in a row")
    assert len(publisher.asked) == 5


def test_a_file_that_has_changed_is_fetched_from_its_beginning(
    fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.replies = [Reply(cut=70_000), *[Reply(status=503)] * 9]
    fetch()
    other = packed({"films/ratings.dat": RATINGS[::-1]})
    publisher.files["/films.zip"], publisher.headers, publisher.replies = other, {"ETag": '"second"'}, []
    assert fetch().code == 0
    assert left(tmp_path) == ["films/ratings.dat"]
    assert (tmp_path / "raw" / "films" / "ratings.dat").read_bytes() == RATINGS[::-1]


@pytest.mark.parametrize("smaller", [True, False])
def test_a_server_that_joins_two_files_is_noticed(
    smaller: bool, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    """It heeds no `If-Range`: it answers the range, with the new file's ETag, or that the range is past the end."""
    publisher.replies = [Reply(cut=200_000), *[Reply(status=503)] * 9]
    fetch()
    other = packed({"films/ratings.dat": RATINGS[: 100_000 if smaller else None][::-1]})
    publisher.files["/films.zip"], publisher.headers, publisher.replies = other, {"ETag": '"second"'}, []
    publisher.heeds_if_range = False
    assert fetch().code == 0
    assert (tmp_path / "raw" / "films" / "ratings.dat").read_bytes() == RATINGS[: 100_000 if smaller else None][::-1]


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}, "Wed, 01 Jan 2020 00:00:00 GMT"),
        ({"ETag": 'W/"weak"', "Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}, "Wed, 01 Jan 2020 00:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
def test_only_what_identifies_a_file_is_resumed(
    headers: dict[str, str], condition: str | None, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.headers, publisher.replies = headers, [Reply(cut=70_000)]
    assert fetch().code == 0
    check_whole(tmp_path)
    assert publisher.asked[1] == ("/films.zip", "bytes=70000-" if condition else None, condition)


def test_a_server_without_ranges_sends_all_again(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges, publisher.replies = False, [Reply(cut=70_000)]
    assert fetch().code == 0
    check_whole(tmp_path)


def test_a_part_that_is_whole_needs_no_byte(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    """As after a kill between the last byte and the file's name."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "films.zip.part").write_bytes(ARCHIVE)
    (tmp_path / "raw" / "films.zip.part.version").write_text('"first"')
    assert fetch().code == 0
    check_whole(tmp_path)
    assert publisher.sent == 0


def test_an_archive_whose_unpacking_was_killed_is_unpacked(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "raw" / "films.unpacking").mkdir(parents=True)
    (tmp_path / "raw" / "films.unpacking" / "ratings.dat").write_bytes(RATINGS[:10])
    (tmp_path / "raw" / "films.zip").write_bytes(ARCHIVE)
    assert fetch().code == 0
    check_whole(tmp_path)
    assert not publisher.asked


# Refusals


def test_a_server_that_is_busy_is_asked_again(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.replies = [Reply(status=503), Reply(status=429), Reply(status=500)]
    assert fetch().code == 0
    check_whole(tmp_path)


def test_a_server_that_stays_busy_is_one_line(fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.replies = [Reply(status=503)] * 99
    check_refused(fetch(), "the server answered 503, 5 times in a row")
    assert len(publisher.asked) == 5 and left(tmp_path) == []


def test_a_server_that_is_not_there_is_one_line(
    fetch: Fetch, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "address", "http://127.0.0.1:1")
    check_refused(fetch(), "http://127.0.0.1:1/films.zip: ")
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_one_line_and_not_asked_again(
    status: int, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.replies = [Reply(status=status)]
    check_refused(fetch(), f"films.zip: the server answered {status}")
    assert len(publisher.asked) == 1 and left(tmp_path) == []


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_one_error_and_keeps_nothing(
    kind: str, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    wrong = hashlib.new(kind, b"something else").hexdigest()
    publisher.replies = [Reply(cut=1000)]
    check_refused(fetch(checksum=f"{kind}:{wrong}"), f"expected {wrong}; nothing is kept")
    assert left(tmp_path) == []


@pytest.mark.parametrize("right", [True, False])
def test_the_checksum_that_the_hub_names_on_its_way_counts(
    right: bool, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    linked = hashlib.sha256(ARCHIVE if right else b"something else").hexdigest()
    publisher.redirects["/resolve/films.zip"] = {"Location": "/films.zip", "X-Linked-Etag": f'"{linked}"'}
    answer = fetch("/resolve/films.zip")
    if right:
        check_whole(tmp_path)
    else:
        check_refused(answer, f"expected {linked}; nothing is kept")
        assert left(tmp_path) == []


@pytest.mark.parametrize("path", ["/films.zip", "/reviews.jsonl.gz"])
def test_a_page_in_place_of_a_file_is_one_error(path: str, fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    publisher.files[path] = b"<!DOCTYPE html><title>Please log in</title>"
    check_refused(fetch(path), "begins with b'<!DOCTYPE html><'")
    assert left(tmp_path) == []


@pytest.mark.parametrize("path", ["/", "/..", "/a/", "/.hidden", "/%2e%2e%2fevil.zip", "/a%5cb.zip", "/a%00.zip"])
def test_a_url_must_name_a_file(path: str, fetch: Fetch, publisher: Publisher, tmp_path: Path) -> None:
    if path == "/a/":  # a folder's name is a name
        check_refused(fetch(path), "answered 404")
    else:
        check_refused(fetch(path), "names no file")
        assert not publisher.asked
    assert left(tmp_path) == []


# Archives that are not what they should be


def linked() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("films/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    return file.getvalue()


def longer_than_it_says() -> bytes:
    """The central directory gives `ratings.dat` ten bytes less than it has."""
    size = len(RATINGS)
    head, tail = ARCHIVE[: ARCHIVE.rindex(b"PK\x01\x02") - 200], ARCHIVE[ARCHIVE.rindex(b"PK\x01\x02") - 200 :]
    return head + tail.replace(size.to_bytes(4, "little"), (size - 10).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("archive", "found"),
    [
        (lambda: packed({"a": b"1", "../evil": b"2"}), "'../evil'"),
        (lambda: packed({"a": b"1", "a/../../evil": b"2"}), "'a/../../evil'"),
        (lambda: packed({"a": b"1", "/evil": b"2"}), "'/evil'"),
        (lambda: packed({"a": b"1", "..\\evil": b"2"}), "evil'"),
        (lambda: packed({"a": b"1", "C:evil": b"2"}), "'C:evil'"),
        (lambda: packed({"a": b"1", ".": b"2"}), "'.'"),
        (linked, "'films/link'"),
        (twice, "does not unpack"),
        (lambda: packed({"a": b"1", "a/b": b"2"}), "does not unpack"),
        (lambda: packed({"a": bytes(30_000_000)}), "found 1 files of 30000000 bytes"),
        (lambda: packed({f"{n}": b"" for n in range(10_001)}), "found 10001 files"),
        (lambda: packed({}), "found 0 files"),
        (lambda: packed({"films/": b""}), "found 0 files"),
        (lambda: ARCHIVE[:-100], "does not unpack"),
        (lambda: ARCHIVE[:5000] + b"\0" * 100 + ARCHIVE[5100:], "does not unpack"),
        (longer_than_it_says, "does not unpack"),
    ],
    ids=["up", "up later", "root", "backslash", "drive", "dot", "link", "twice", "file and folder", "bomb", "many",
         "empty", "only a folder", "truncated", "damaged", "longer"],
)  # fmt: skip
def test_a_hostile_or_broken_archive_is_one_error_and_keeps_nothing(
    archive: Callable[[], bytes], found: str, fetch: Fetch, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.files["/films.zip"] = archive()
    outside = sorted(tmp_path.iterdir())
    check_refused(fetch(), found)
    assert left(tmp_path) == []
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in outside} <= {
        "raw",
        "films.py",
        "films.jinja",
    }
    assert not (tmp_path / "raw" / "films").exists() and not (tmp_path / "raw" / "films.unpacking").exists()
    assert not Path("/evil").exists()
