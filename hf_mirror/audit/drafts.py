"""The scenes of a build as an audit sees them: straight from the world's arrays, without reading anything back."""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_mirror.audit.choices import Choices, clusters
from hf_mirror.exposure import NOTHING
from hf_mirror.scenes import Drafts
from hf_mirror.world import FOREVER, World

DAY_MS = 86_400_000


def of_drafts(world: World, drafts: Drafts, regime: str) -> Choices:
    """The options' features as of their scenes; the same ones that items.py reads back from a run's tables."""
    there = drafts.options != NOTHING
    item = np.where(there, drafts.options, 0)
    time = world.time[drafts.event][:, None]
    edge = world.edge(time)
    title_length, missing = _described(world.attributes, np.unique(item))
    first, available = world.first_seen[item], world.available_from[item]
    features = {
        "asof_count": drafts.counts,
        "positive_share": world.likes(item, edge) / np.maximum(drafts.counts, 1),
        "first_seen_days": np.where(first < time, (time - first) / DAY_MS, np.nan),
        "available_days": np.where(available > -FOREVER, (time - available) / DAY_MS, np.nan),
        "described": world.described[item],
        "title_length": title_length[item],
        "missing_attributes": missing[item],
        "source": drafts.sources,
    }
    user = world.user[drafts.event]
    earlier = world.by_user.before(user, edge[:, 0])
    last = world.by_user.nth(user, np.maximum(earlier - 1, 0))
    gap = np.where(earlier > 0, (time[:, 0] - world.time[last]) // 1000, -1)
    known = {name: np.where(there, values, np.nan) for name, values in features.items()}
    known["positive_share"][drafts.counts == 0] = np.nan
    people, of_scene = np.unique(user, return_inverse=True)
    cluster = clusters(world.users[people].to_list())[of_scene]
    return Choices(drafts.n_options, drafts.choice_index, cluster, known, gap, regime)


def _described(attributes: pl.Series, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of the title, and how many attributes are null or empty, of the items given; shape of all items."""
    text = attributes[items]
    length, missing = np.zeros(len(attributes)), np.zeros(len(attributes))
    length[items] = text.str.json_path_match("$.title").str.len_chars().fill_null(0).to_numpy()
    missing[items] = text.str.count_matches(r':(null|""|\[\])[,}]').to_numpy()
    return length, missing
