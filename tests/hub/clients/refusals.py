"""huggingface_hub on a Hub with tokens: who may do what with private and gated repos, and which error says so."""

import sys

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

team, writer_token, reader_token = sys.argv[1:]
writer, reader, nobody = HfApi(token=writer_token), HfApi(token=reader_token), HfApi(token=False)


def raises(expected, call, *arguments, **more):
    """The call raises exactly this."""
    try:
        call(*arguments, **more)
    except expected as error:
        return error
    raise SystemExit(f"{call.__name__} went through")


def status(error):
    """Of an answer, also where the client wraps it."""
    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error and error.response.status_code


assert (writer.whoami()["name"], reader.whoami()["name"]) == ("ann", "bob")
assert writer.whoami()["auth"]["accessToken"]["role"] == "write"
assert status(raises(HfHubHTTPError, HfApi(token="hf_wrong").whoami)) == 401
assert status(raises(HfHubHTTPError, reader.create_repo, f"{team}/x")) == 403
assert status(raises(HfHubHTTPError, nobody.create_repo, f"{team}/x")) == 401

for name, settings in {"open": {}, "private": {"private": True}, "gated": {"gated": "manual"}}.items():
    writer.create_repo(f"{team}/{name}", repo_type="dataset")
    for path, data in (("a.txt", b"a"), ("b.bin", bytes(1000) + name.encode() + team.encode())):
        writer.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=f"{team}/{name}", repo_type="dataset")
    if settings:
        writer.update_repo_settings(f"{team}/{name}", repo_type="dataset", **settings)
public, private, gated = (f"{team}/{name}" for name in ("open", "private", "gated"))
here = {"repo_type": "dataset"}

upload = {"path_or_fileobj": b"x", "path_in_repo": "x.txt", "repo_id": public, **here}
assert status(raises(HfHubHTTPError, reader.upload_file, **upload)) == 403
assert status(raises(HfHubHTTPError, nobody.upload_file, **upload)) == 401
assert status(raises(HfHubHTTPError, reader.delete_repo, public, **here)) == 403
assert nobody.file_exists(public, "a.txt", **here) and nobody.hf_hub_download(public, "b.bin", **here)

error = raises(RepositoryNotFoundError, nobody.dataset_info, private)
assert status(error) == 401 and not isinstance(error, GatedRepoError)
assert not nobody.repo_exists(private, **here) and reader.repo_exists(private, **here)
assert [info.id for info in nobody.list_datasets(author=team, search="private")] == []
assert [info.id for info in reader.list_datasets(author=team, search="private")] == [private]
raises(RepositoryNotFoundError, nobody.auth_check, private, **here)
raises(RepositoryNotFoundError, snapshot_download, private, token=False, **here)
reader.auth_check(private, **here)
assert hf_hub_download(private, "b.bin", token=reader_token, **here)

assert nobody.dataset_info(gated).gated == "manual"
for who, code in ((nobody, 401), (reader, 403)):
    assert status(raises(GatedRepoError, who.auth_check, gated, **here)) == code
    raises((GatedRepoError, LocalEntryNotFoundError), who.hf_hub_download, gated, "b.bin", **here)
assert writer.hf_hub_download(gated, "a.txt", local_dir="writers", **here)
writer.grant_access(gated, "bob", **here)
reader.auth_check(gated, **here)
assert reader.hf_hub_download(gated, "b.bin", local_dir="readers", **here)
raises(GatedRepoError, nobody.auth_check, gated, **here)
