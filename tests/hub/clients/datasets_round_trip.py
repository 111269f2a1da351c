"""datasets: a card with several configs, load_dataset whole and streaming at a tag, push_to_hub."""

import sys
from pathlib import Path

from datasets import Dataset, load_dataset
from huggingface_hub import HfApi

repo = sys.argv[1]
api = HfApi()
api.create_repo(repo, repo_type="dataset")
folder = Path("data")
card = ["---", "configs:"]
for config in ("mixed", "sample"):
    card += [f"- config_name: {config}", "  data_files:"]
    for split, rows in (("train", 7), ("test", 3)):
        path = folder / config / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict({"n": list(range(rows)), "config": [config] * rows}).to_parquet(path)
        card += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
(folder / "README.md").write_text("\n".join([*card, "---", "# Made up"]) + "\n")
api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder)
api.create_tag(repo, tag="v0.1.0", repo_type="dataset")
api.delete_file("sample/test.parquet", repo, repo_type="dataset")

for config in ("mixed", "sample"):
    whole = load_dataset(repo, config, revision="v0.1.0")
    assert {split: len(rows) for split, rows in whole.items()} == {"train": 7, "test": 3}
    assert set(whole["train"]["config"]) == {config}
    stream = load_dataset(repo, config, revision="v0.1.0", split="test", streaming=True)
    assert [row["n"] for row in stream] == [0, 1, 2]

pushed = f"{repo}-pushed"
Dataset.from_dict({"n": list(range(1000))}).push_to_hub(pushed, config_name="one", split="train")
Dataset.from_dict({"n": list(range(10))}).push_to_hub(pushed, config_name="two", split="test")
assert load_dataset(pushed, "one", split="train")["n"][-1] == 999
assert load_dataset(pushed, "two", split="test").num_rows == 10
