"""Made-up preference pairs: readers who like one kind of book and take the one option of that kind."""

from __future__ import annotations

import random
from pathlib import Path

from hf_mirror import files, prompts
from hf_mirror.schema import PAIR, SCORES

KINDS = ("Crime", "Poetry", "Travel", "Comedy", "Horror", "Cookery")
WORDS = (
    "Amber",
    "Bridge",
    "Cedar",
    "Dawn",
    "Ember",
    "Fjord",
    "Grove",
    "Harbour",
    "Iris",
    "Juniper",
    "Kettle",
    "Lantern",
)


def book(rng: random.Random, kind: str) -> str:
    return f"{rng.choice(WORDS)} {rng.choice(WORDS)} ({rng.randint(1950, 1999)}) [{kind}]"


def decision(titles: list[str], pick: int, taste: str) -> list[dict[str, str]]:
    text = (
        f"Stimulus: {titles[pick]} catches my eye.\nKnowledge: I often took {taste} before.\n"
        f"Evaluation: {titles[pick]} suits me best.\n{prompts.answer_line(pick)}"
    )
    return [{"role": "assistant", "content": text}]


def pair(index: int, domain: str, split: str, history: int, options: int = 5) -> dict:
    rng = random.Random(f"{domain}{split}{index}")
    taste, *others = rng.sample(KINDS, options)
    kinds = [taste, *others]
    rng.shuffle(kinds)
    titles = [book(rng, kind) for kind in kinds]
    truth = kinds.index(taste)
    wrong = rng.choice([i for i in range(options) if i != truth])
    past = [f"- {book(rng, rng.choice(KINDS) if rng.random() < 0.2 else taste)}: took it" for _ in range(history)]
    scene = "\n".join(
        ["You are a reader.", "", "What you read before:", *past, "", "Options:"]
        + [f"{prompts.LABELS[i]}. {title}" for i, title in enumerate(titles)]
    )
    chosen = decision(titles, truth, taste)
    return {
        "scene_id": f"{domain}-{split}-{index}",
        "domain": domain,
        "split": split,
        "n_options": options,
        "prompt": prompts.rationale_messages([{"role": "user", "content": scene}]),
        "completion": chosen,
        "chosen": chosen,
        "rejected": decision(titles, wrong, kinds[wrong]),
        "chosen_role": "teacher",
        "rejected_role": "student",
        "rule": "uncertainty_gap",
        "scores": dict.fromkeys(SCORES, 0.5),
    }


def write_pairs(folder: Path, domain: str, train: int, validation: int) -> None:
    for split, count in (("train", train), ("validation", validation)):
        rows = [pair(index, domain, split, history=6 + index % 4) for index in range(count)]
        files.write_rows(folder / domain / "preferences" / f"{split}.parquet", rows, PAIR)
