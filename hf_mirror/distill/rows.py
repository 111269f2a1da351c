"""Scored scenes as rows: preference pairs, and rescued scenes as direct rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hf_mirror.distill.decisions import Ints, role_files, take
from hf_mirror.distill.scoring import KEPT, Domain
from hf_mirror.files import arrow
from hf_mirror.prompts import answer_line, direct_messages, rationale_messages
from hf_mirror.rationales.shards import ROLES, SPLITS
from hf_mirror.schema import SCORES


def pairs(domain: Domain, rule: str) -> dict[str, pa.Table]:
    """The kept pairs (schema.PAIR) by split, in the order of their scenes' ids. Files are gone through once."""
    kept = np.flatnonzero(domain.outcome == KEPT)
    splits = domain.scenes["split"][kept]
    kept = kept[np.lexsort((domain.scenes["scene_id"][kept], splits))]
    splits = np.sort(splits)
    prompts = take([domain.folder / "scenes" / f"{s}.parquet" for s in SPLITS], ["prompt"], domain.scenes["row"][kept])
    sides = {side: domain.scores[side][kept] for side in ("chosen", "rejected")}
    texts = _answers(domain, np.concatenate(list(sides.values())))
    chosen, rejected = _chats("assistant", texts[: len(kept)]), _chats("assistant", texts[len(kept) :])
    roles = {f"{side}_role": _texts(np.array(ROLES)[domain.decisions["role"][d]]) for side, d in sides.items()}
    columns = {
        "scene_id": _texts(domain.scenes["scene_id"][kept]),
        "domain": arrow([domain.folder.name] * len(kept)),
        "split": _texts(splits),
        "n_options": arrow(domain.scenes["n_options"][kept]),
        "prompt": _chats("user", [rationale_messages(p)[0]["content"] for p in prompts["prompt"].to_pylist()]),
        "completion": chosen,
        "chosen": chosen,
        "rejected": rejected,
        **roles,
        "rule": arrow([rule] * len(kept)),
        "scores": pa.StructArray.from_arrays([_nullable(domain.scores[name][kept]) for name in SCORES], list(SCORES)),
    }
    table = pa.table(columns)
    first = {split: int((splits < split).sum()) for split in SPLITS}
    return {split: table.slice(first[split], int((splits == split).sum())) for split in SPLITS}


def rescued(domain: Domain, split: str) -> pa.Table:
    """The scenes of one split that the teacher decided and never hit, as direct rows (schema.RESCUED), by their ids."""
    decided = (domain.scenes["split"] == split) & (domain.scores["teacher_used"] > 0)
    at = np.flatnonzero(decided & (domain.scores["teacher_hits"] == 0))
    at = at[np.argsort(domain.scenes["scene_id"][at])]
    prompts = take([domain.folder / "scenes" / f"{s}.parquet" for s in SPLITS], ["prompt"], domain.scenes["row"][at])
    columns = {
        "scene_id": _texts(domain.scenes["scene_id"][at]),
        "domain": arrow([domain.folder.name] * len(at)),
        "split": arrow([split] * len(at)),
        "n_options": arrow(domain.scenes["n_options"][at]),
        "prompt": _chats("user", [direct_messages(prompt)[0]["content"] for prompt in prompts["prompt"].to_pylist()]),
        "completion": _chats("assistant", [answer_line(truth) for truth in domain.scenes["truth"][at]]),
    }
    return pa.table(columns)


def _answers(domain: Domain, decisions: Ints) -> list[str]:
    """What the models wrote for these decisions."""
    texts = np.full(len(decisions), "", dtype=object)
    for code, role in enumerate(ROLES):
        mine = np.flatnonzero(domain.decisions["role"][decisions] == code)
        rows = domain.decisions["row"][decisions[mine]]
        paths = role_files(domain.folder, "rationales", role)
        texts[mine] = [text.strip() for text in take(paths, ["text"], rows)["text"].to_pylist()]
        # Where the model spelled the answer line another way: its thought, and the line as we define it.
        lines = [answer_line(choice) for choice in domain.decisions["stated"][decisions[mine]]]
        odd = np.array([line not in text for line, text in zip(lines, texts[mine], strict=True)], dtype=bool)
        thoughts = take(paths, ["thought"], rows[odd])["thought"].to_pylist() if odd.any() else []
        texts[mine[odd]] = [f"{t}\n{lines[i]}".lstrip() for t, i in zip(thoughts, np.flatnonzero(odd), strict=True)]
    return texts.tolist()


def _nullable(values: np.ndarray) -> pa.Array:
    """Null where NaN."""
    return arrow(values.astype(np.float32), np.isnan(values))


def _texts(values: np.ndarray) -> pa.Array:
    return arrow(values.tolist())


def _chats(role: str, contents: list[str]) -> pa.ListArray:
    """One-message chats as Arrow, without a Python dict per row."""
    n = len(contents)
    message = pa.StructArray.from_arrays([arrow([role] * n), arrow(contents)], ["role", "content"])
    return pa.ListArray.from_arrays(arrow(np.arange(n + 1, dtype=np.int32)), message)
