"""Tables become scenes: user memory, exposure list and the real choice, each as of one moment.

A scene is a positive event whose truth is eligible, with at least two earlier events as memory. Scenes are drawn user
by user in turn (every user's first scene before anyone's second), so that few users never fill a split. Each draw is
seeded by the event's key and has a stream of its own; the position of the truth is one of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_mirror.eligibility import REASONS, eligible, failed_rules
from hf_mirror.exposure import REGIMES, AsOf, MatchedBins
from hf_mirror.identity import Draws, digest, event_key, scene_id
from hf_mirror.prompts import prompt_sha256
from hf_mirror.rendering import Renderer, utc_from_ms
from hf_mirror.splits import SPLITS
from hf_mirror.world import World

MIN_HISTORY, MAX_HISTORY = 2, 10
TRAIN_OPTIONS = (2, 12)
EVALUATION_OPTIONS = 5
SESSION_GAP_MS = 3_600_000
TEST_REGIME = "popularity_matched"


@dataclass
class SplitReport:
    """What became of a split's positives: `candidates == kept + sum(dropped.values())`."""

    regime: str
    candidates: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    truth_positions: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A scene before it is rendered: positions into the world."""

    event: int
    key: bytes
    options: tuple[int, ...]
    choice_index: int
    counts: tuple[int, ...]
    history: tuple[int, ...]


def draw(
    world: World,
    split: str,
    count: int,
    regime: str,
    secret: bytes,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[list[Draft], SplitReport]:
    """Up to `count` scenes of one split, with a report in which every positive of the split is accounted for."""
    report = SplitReport(regime)
    queue, keys = _candidates(world, split, secret, report)
    bins = world.matched_bins()
    drafts: list[Draft] = []
    taken = without_peers = 0
    while len(drafts) < count and taken < len(queue):
        batch = queue[taken : taken + count - len(drafts)]
        taken += len(batch)
        asof = world.asof()
        for event in sorted(batch, key=lambda e: (world.time[e], keys[e])):
            asof.advance(int(world.time[event]))
            draft = _draft(world, asof, bins, event, keys[event], split, regime)
            if draft is None:
                without_peers += 1
            else:
                drafts.append(draft)
                progress(1)
    report.dropped |= {"too_few_peers": without_peers, "not_needed": len(queue) - taken}
    report.dropped = {reason: n for reason, n in report.dropped.items() if n}
    report.kept = len(drafts)
    for draft in drafts:
        slots = report.truth_positions.setdefault(str(len(draft.options)), [0] * len(draft.options))
        slots[draft.choice_index] += 1
    report.truth_positions = dict(sorted(report.truth_positions.items(), key=lambda pair: int(pair[0])))
    return drafts, report


def _candidates(world: World, split: str, secret: bytes, report: SplitReport) -> tuple[list[int], dict[int, bytes]]:
    """The split's usable positives in the order they are taken, and their keys."""
    code = SPLITS.index(split)
    positives = np.flatnonzero((world.split == code) & world.positive)
    report.candidates = len(positives)
    item, time = world.item[positives], world.time[positives]
    failed = failed_rules(
        world.first_seen[item], world.available_from[item], world.repeated[positives], world.described[item], time
    )
    alive = world.earlier[positives] >= MIN_HISTORY
    report.dropped["too_little_history"] = int((~alive).sum())
    for reason, broken in zip(REASONS, failed, strict=True):
        report.dropped[reason] = int((alive & broken).sum())
        alive &= ~broken
    usable = positives[alive].tolist()
    keys = {
        e: event_key(
            secret, world.domain, world.users[world.user[e]], world.items[world.item[e]], int(world.time[e]),
            int(world.ordinal[e]),
        )
        for e in usable
    }  # fmt: skip
    lots = {e: digest(keys[e].hex(), "sample") for e in usable}
    turn: Counter[int] = Counter()
    turns = {}
    for e in sorted(usable, key=lots.__getitem__):
        turns[e] = turn[int(world.user[e])]
        turn[int(world.user[e])] += 1
    return sorted(usable, key=lambda e: (turns[e], lots[e])), keys


def _draft(
    world: World, asof: AsOf, bins: MatchedBins, event: int, key: bytes, split: str, regime: str
) -> Draft | None:
    time, truth = int(world.time[event]), int(world.item[event])
    low, high = TRAIN_OPTIONS if split == "train" else (EVALUATION_OPTIONS, EVALUATION_OPTIONS)
    n_options = low + Draws(key, "options").below(high - low + 1)
    own = world.of_user[world.user[event]]
    met = own[: np.searchsorted(world.time[own], time, side="right")]
    touched = np.zeros(len(world.items), bool)
    touched[world.item[met]] = True
    allowed = eligible(world.first_seen, world.available_from, touched, world.described, time)
    allowed[truth] = False
    weights = REGIMES[regime](asof, truth, bins) * allowed
    negatives = Draws(key, "negatives").weighted(weights, n_options - 1)
    if negatives is None:
        return None
    options = Draws(key, "order").shuffled(negatives)
    position = Draws(key, "position").below(n_options)
    options.insert(position, truth)
    length = MIN_HISTORY + Draws(key, "history").below(MAX_HISTORY - MIN_HISTORY + 1)
    earlier = own[: int(world.earlier[event])]
    return Draft(
        event, key, tuple(options), position, tuple(int(asof.counts[i]) for i in options),
        tuple(int(e) for e in earlier[-length:]),
    )  # fmt: skip


def rows(world: World, drafts: list[Draft], split: str, regime: str, renderer: Renderer) -> Iterator[dict[str, Any]]:
    """Scene rows (schema.SCENE) in the order of their ids."""
    ranks: Counter[tuple[int, int, tuple[int, ...]]] = Counter()
    built = []
    for draft in sorted(drafts, key=lambda d: d.key):
        user, time = int(world.user[draft.event]), int(world.time[draft.event])
        same = (user, time, tuple(sorted(draft.options)))
        built.append(_row(world, draft, split, regime, ranks[same], renderer))
        ranks[same] += 1
    yield from sorted(built, key=lambda row: row["scene_id"])


def _row(world: World, draft: Draft, split: str, regime: str, rank: int, renderer: Renderer) -> dict[str, Any]:
    user = world.users[world.user[draft.event]]
    time = int(world.time[draft.event])
    exposed = [world.items[i] for i in draft.options]
    gap, session = _session(world, draft.event)
    row: dict[str, Any] = {
        "scene_id": scene_id(world.domain, user, time, rank, exposed),
        "domain": world.domain,
        "split": split,
        "regime": regime,
        "user_id": user,
        "timestamp": utc_from_ms(time),
        "gap_seconds": gap // 1000,
        "session_id": digest("session", world.domain, user, session)[:16],
        "impression_id": None,
        "n_clicked": None,
        "truncated": False,
        "history": [
            {
                "item_id": world.items[world.item[e]],
                "timestamp": utc_from_ms(int(world.time[e])),
                "signal": json.loads(world.signal[e]),
                "positive": bool(world.positive[e]),
            }
            for e in draft.history
        ],
        "exposure": [
            # The truth has the regime's name too: a source of its own would tell it apart.
            {"item_id": item, "source": regime, "asof_count": count}
            for item, count in zip(exposed, draft.counts, strict=True)
        ],
        "choice_index": draft.choice_index,
    }
    row["prompt"] = renderer.prompt(row)
    row["prompt_sha256"] = prompt_sha256(row["prompt"])
    return row


def _session(world: World, event: int) -> tuple[int, int]:
    """The gap to the user's previous event in ms, and the time in ms at which the running session began."""
    own = world.of_user[world.user[event]]
    times = world.time[own[: int(world.earlier[event])]]
    now = int(world.time[event])
    gaps = np.diff(np.r_[times, now])
    breaks = np.flatnonzero(gaps > SESSION_GAP_MS)
    start = np.r_[times, now][breaks[-1] + 1] if len(breaks) else times[0]
    return now - int(times[-1]), int(start)
