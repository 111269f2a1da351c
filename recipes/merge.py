"""Merges a trained adapter into its base: one full model, for engines and tools that take no adapters.

    python recipes/merge.py ADAPTER_DIR OUT

ADAPTER_DIR is an output of sft.py or dpo.py with `use_peft: true`. OUT receives the model in the base's precision, its
tokenizer and the adapter's `train_report.json`. Nothing needs merging for `mirror evaluate`, `UserSimulator` or DPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from hf_mirror import files
from hf_mirror.errors import ConfigError, DataError
from hf_mirror.weights import load_causal_lm
from recipes.arguments import run


def main(argv: Sequence[str]) -> None:
    """`argv` as on the command line."""
    if len(argv) != 2:
        raise ConfigError("expected two folders: python recipes/merge.py ADAPTER_DIR OUT")
    folder, out = map(Path, argv)
    if not (folder / "adapter_config.json").is_file():
        raise DataError(f"{folder} holds no adapter_config.json; only an adapter can be merged")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    report = files.read_json(folder / "train_report.json")
    load_causal_lm(folder, str(folder), dtype="auto").save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(out)
    files.write_json(out / "train_report.json", {**report, "merged_adapter": True})
    print(f"saved to {out}")


if __name__ == "__main__":
    run(main)
