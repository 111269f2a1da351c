"""What the world answers about the past, against the same questions asked of a small log row by row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_mirror.domains import import_file
from hf_mirror.grouped import Grouped, stable_order
from hf_mirror.impressions import UNKNOWN
from hf_mirror.splits import Split
from hf_mirror.world import FOREVER, SESSION_GAP_MS, UNTIMED, World

small = import_file(Path(__file__).parent / "small_logs.py")

STEP = SESSION_GAP_MS // 2
PEOPLE, FILMS = ("a", "b", "ç", "d e"), ("v", "w", "x", "y", "z")
TITLES = (None, "", "Red Kite", "red sea, Red Sea!", "café 用户", "Kite: the end", 'A "b" \\c',
          "Kite: null and void", "truth: true, falsehood", 'say "yes": true', "two\nlines\tor more")  # fmt: skip
few = settings(deadline=None, max_examples=80)


class Case(NamedTuple):
    """A small log, and how it was typed."""

    events: list[tuple[Any, ...]]
    items: dict[str, dict[str, Any]]
    available: dict[str, int]
    histories: dict[str, list[str]] | None

    def plain(self) -> Any:
        """The log, to be asked row by row."""
        return small.Plain(
            small.prepared(self.events, items=self.items, available=self.available, histories=self.histories)
        )


films = st.sampled_from(FILMS)
times = st.integers(0, 9).map(lambda n: n * STEP) | st.integers(0, 9 * STEP)
plain_events = st.tuples(st.sampled_from(PEOPLE), films, times, st.integers(1, 5))


@st.composite
def cases(draw: st.DrawFn, events: Any = plain_events) -> Case:
    """Few people and films, so that ties, repeats and equal rows are common. One film is described, but never met."""
    titles = draw(st.lists(st.sampled_from(TITLES), min_size=len(FILMS), max_size=len(FILMS)))
    return Case(
        draw(st.lists(events, min_size=1, max_size=25)),
        {film: {"title": title, "year": n} for n, (film, title) in enumerate(zip(FILMS, titles, strict=True))}
        | {"unmet": {"title": "Nobody saw it"}},
        draw(st.dictionaries(films, times, max_size=2)),
        draw(st.none() | st.dictionaries(st.sampled_from((*PEOPLE, "reader")), st.lists(films | st.just("gone")))),
    )


def moments(plain: Any) -> list[int]:
    """Before, at and after everything that happens."""
    return sorted({time + around for time, *_ in plain.events for around in (-1, 0, 1)} | {-1, 20 * STEP})


def every(*columns: Any) -> Iterator[np.ndarray]:
    """All combinations, as arrays."""
    return (np.array(column) for column in zip(*itertools.product(*columns), strict=True))


def ids(frame: Any, key: str) -> dict[str, int]:
    return {one: place for place, one in enumerate(frame[key])}


@few
@given(cases())
def test_the_arrays_are_the_log(case: Case) -> None:
    plain = case.plain()
    log, sides = plain.log, np.arange(len(plain.events), dtype=np.int8) % 3
    world = World.of("films", log, Split(sides, 0, 0, {}))
    assert world.domain == "films" and world.split is sides
    assert list(world.users) == sorted(log.users["user_id"]) and list(world.items) == sorted(case.items)
    rows = zip(world.time.tolist(), world.user.tolist(), world.item.tolist(), world.positive.tolist(), strict=True)
    assert [(at, world.users[u], world.items[i], liked) for at, u, i, liked in rows] == plain.events
    assert plain.events == sorted(plain.events, key=lambda event: event[:3])
    for place, film in enumerate(world.items):
        seen = [time for time, _, item, _ in plain.events if item == film]
        assert world.first_seen[place] == min(seen, default=FOREVER)
        assert world.available_from[place] == case.available.get(film, min(seen, default=-FOREVER))
        assert world.described[place] == bool(case.items[film]["title"])
        assert json.loads(world.attributes[place]) == case.items[film]


@few
@given(cases())
def test_edges_and_counts(case: Case) -> None:
    plain = case.plain()
    world, when = small.world_of(plain.log), moments(plain)
    edges = world.edge(np.array(when))
    assert edges.tolist() == [len(plain.before(time)) for time in when]
    liked = [[event for event in plain.before(time) if event[3]] for time in when]
    assert world.total_likes(edges).tolist() == [len(before) for before in liked]
    item, columns = np.arange(len(world.items))[:, None], edges[None, :]
    assert world.count(item, columns).tolist() == [
        [sum(event[2] == film for event in plain.before(time)) for time in when] for film in world.items
    ]
    assert world.likes(item, columns).tolist() == [
        [sum(event[2] == film for event in before) for before in liked] for film in world.items
    ]
    assert world.count(np.array([0]), edges).shape == edges.shape, "shapes broadcast"


@few
@given(cases())
def test_what_a_user_has_met(case: Case) -> None:
    plain = case.plain()
    world, when = small.world_of(plain.log), moments(plain)
    users, films = list(world.users), list(world.items)
    user, item, time = every(range(len(users)), range(len(films)), when)
    met = {(u, t): plain.met(users[u], t) for u in range(len(users)) for t in when}
    assert world.touched(user, item, time).tolist() == [
        films[i] in met[u, t] for u, i, t in zip(user.tolist(), item.tolist(), time.tolist(), strict=True)
    ]
    # Users by film: as scenes ask.
    someone, now = np.arange(len(users))[:, None], np.full((len(users), 1), when[len(when) // 2])
    grid = world.touched(someone, np.arange(len(films)), now)
    assert grid.tolist() == [[film in met[u, int(now[0, 0])] for film in films] for u in range(len(users))]

    event = np.arange(len(plain.events))
    before = [(plain.before(time), user, item) for time, user, item, _ in plain.events]
    assert world.earlier(event).tolist() == [sum(e[1] == user for e in past) for past, user, _ in before]
    assert world.repeats(event).tolist() == [
        any(e[1:3] == (user, item) for e in past) or item in plain.untimed.get(user, []) for past, user, item in before
    ]


@few
@given(cases())
def test_the_memory_that_a_scene_shows(case: Case) -> None:
    """The latest few of what came before the log and of the user's events strictly before the time; oldest first."""
    plain = case.plain()
    world = small.world_of(plain.log)
    for (place, user), time in itertools.product(enumerate(world.users), moments(plain)):
        memory = plain.memory(user, time)
        if not memory:
            continue
        pairs = [(shown, position) for shown in range(1, len(memory) + 1) for position in range(shown)]
        shown, position = (np.array(column) for column in zip(*pairs, strict=True))
        owner, edge = np.full(len(pairs), place), np.repeat(world.edge(np.array([time])), len(pairs))
        item, event = world.memory_at(owner, edge, shown, position)
        expected = [memory[len(memory) - s + p] for s, p in pairs]
        assert [world.items[i] for i in item.tolist()] == [film for film, _ in expected]
        assert [None if e == UNTIMED else world.time[e] for e in event.tolist()] == [at for _, at in expected]
        timed = event[event != UNTIMED]
        assert (world.user[timed] == place).all() and (world.item[timed] == item[event != UNTIMED]).all()
        # Events at one time are shown in the order of the log.
        assert event[-len(memory) :].tolist() == sorted(event[-len(memory) :].tolist())


def test_memory_by_hand() -> None:
    """Three films before the log, one of them gone from the catalogue, and two events at one time."""
    events = [("u", "x", 5, 4), ("u", "w", 5, 1), ("u", "v", 9, 4), ("v", "v", 1, 4)]
    log = small.prepared(events, histories={"u": ["y", "gone", "v", "y"]},
                         items={film: {"title": film} for film in "vwxy"})  # fmt: skip
    world = small.world_of(log)

    def memory(shown: int, time: int) -> tuple[list[str], list[int | None]]:
        everything = np.full(shown, shown), np.arange(shown)
        item, event = world.memory_at(np.zeros(shown, int), world.edge(np.full(shown, time)), *everything)
        return [world.items[i] for i in item.tolist()], [None if e == UNTIMED else int(world.time[e]) for e in event]

    assert memory(6, 10) == (["y", "v", "y", "w", "x", "v"], [None, None, None, 5, 5, 9])
    assert memory(4, 9) == (["v", "y", "w", "x"], [None, None, 5, 5])
    assert memory(2, 5) == (["v", "y"], [None, None])
    assert world.repeats(np.arange(4)).tolist() == [False, False, False, True]


def test_histories_may_be_missing_for_some_or_empty() -> None:
    events = [("b", "x", 5, 4), ("b", "x", 6, 4)]
    histories = {"a": [], "b": ["x"], "c": ["gone"], "d": ["x", "x"]}
    world = small.world_of(small.prepared(events, histories=histories))
    assert world.memory_start.tolist() == [0, 0, 1, 1, 3]
    assert world.memory.tolist() == [0, 0, 0]
    everyone = np.arange(4)
    assert world.touched(everyone, np.zeros(4, int), np.full(4, -99)).tolist() == [False, True, False, True]


@few
@example(
    Case([("a", "x", 0, 5), ("a", "x", 2 * STEP, 5), ("a", "x", 4 * STEP + 1, 5)], {"x": {"title": "X"}}, {}, None)
)
@given(cases())
def test_sessions_and_ordinals(case: Case) -> None:
    """A gap of exactly an hour does not end a session."""
    plain = case.plain()
    world = small.world_of(plain.log)
    events = np.arange(len(plain.events))
    assert world.session_start(events).tolist() == [plain.events[plain.session(event)[0]][0] for event in events]
    # Rows alike in user, film and time differ in their ratings, or they would be duplicates.
    alike = [event[:3] for event in plain.events]
    assert world.ordinal.tolist() == [alike[:event].count(alike[event]) for event in events]


def test_rows_alike_are_numbered_in_the_order_of_what_they_say() -> None:
    rows = [("a", "x", 1, rating) for rating in (3, 5, 1)] + [("a", "x", 2, 1), ("b", "x", 2, 1), ("b", "y", 2, 1)]
    log = small.prepared(rows)
    assert small.world_of(log).ordinal.tolist() == [0, 1, 2, 0, 0, 0]
    assert [signal["rating"] for signal in log.events["signal"][:3]] == [1, 3, 5]


@few
@given(cases())
def test_arrivals(case: Case) -> None:
    plain = case.plain()
    world = small.world_of(plain.log)
    first: dict[str, int] = {}
    for event, (_, user, _, _) in enumerate(plain.events):
        first.setdefault(user, event)
    assert world.arrivals.tolist() == sorted(first.values())
    order = [world.users[user] for user in world.arrival_order.tolist()]
    assert order[: len(first)] == list(first), "who has no event comes last"
    assert sorted(order) == list(world.users)


@few
@given(cases())
def test_choices(case: Case) -> None:
    plain = case.plain()
    world, when = small.world_of(plain.log), moments(plain)
    chosen = [event for event, row in enumerate(plain.events) if row[3]]
    assert world.choice_events.tolist() == chosen
    edges = world.edge(np.array(when))
    for grouped, column, names in ((world.choices, 1, world.users), (world.choices_by_item, 2, world.items)):
        for place, name in enumerate(names):
            own = [event for event in chosen if plain.events[event][column] == name]
            assert grouped.positions[grouped.start[place] : grouped.start[place + 1]].tolist() == own
            assert grouped.nth(np.full(len(own), place), np.arange(len(own))).tolist() == own
            before = grouped.before(np.full(len(edges), place), edges)
            assert before.tolist() == [sum(plain.events[event][0] < time for event in own) for time in when]


@few
@given(cases())
def test_what_could_be_offered(case: Case) -> None:
    plain = case.plain()
    world = small.world_of(plain.log)
    assert world.appearances.tolist() == sorted(world.offered_from.tolist())
    assert sorted(world.order_of_appearance.tolist()) == list(range(len(world.items)))
    for time in moments(plain):
        offered = plain.offered(time)
        assert {world.items[i] for i in np.flatnonzero(world.offered_from <= time).tolist()} == offered
        known = int(np.searchsorted(world.appearances, time, side="right"))
        assert {world.items[i] for i in world.order_of_appearance[:known].tolist()} == offered
    ties = zip(world.appearances.tolist(), world.order_of_appearance.tolist(), strict=True)
    assert list(ties) == sorted(zip(world.offered_from.tolist(), range(len(world.items)), strict=True))


@few
@given(cases())
def test_words(case: Case) -> None:
    plain = case.plain()
    world, words = small.world_of(plain.log), small.world_of(plain.log).words
    films = list(world.items)
    vocabulary = sorted(set().union(*(plain.words(film) for film in films)))
    held = [plain.words(film) for film in films]
    for place, mine in enumerate(held):
        codes = words.of_item[words.start[place] : words.start[place + 1]].tolist()
        assert {vocabulary[code] for code in codes} == mine and len(codes) == len(mine)
    for n in range(len(films) + 1):
        offered = world.order_of_appearance[:n].tolist()
        codes = np.arange(len(vocabulary))
        frequency = words.holders.before(codes, np.full(len(codes), n))
        assert frequency.tolist() == [sum(word in held[item] for item in offered) for word in vocabulary]
        for code, count in enumerate(frequency.tolist()):
            places = words.holders.nth(np.full(count, code), np.arange(count))
            assert [offered[place] for place in places.tolist()] == [i for i in offered if vocabulary[code] in held[i]]


@few
@given(cases(), st.integers(0, 10))
def test_the_past_does_not_change_with_the_future(case: Case, steps: int) -> None:
    """Every answer as of a moment is the same in a world that ends there."""
    now = steps * STEP
    described = {"items": case.items, "histories": {user: [] for user in PEOPLE} | (case.histories or {})}
    past = [event for event in case.events if event[2] < now]
    if not past:
        return
    whole, cut = (
        small.world_of(small.prepared(events, available=case.available, **described)) for events in (case.events, past)
    )
    assert list(whole.users) == list(cut.users) and list(whole.items) == list(cut.items)
    n, known = len(cut.time), whole.edge(np.array([now]))
    assert known.tolist() == cut.edge(np.array([now])).tolist() == [n]
    users, films = np.arange(len(cut.users)), np.arange(len(cut.items))
    edges, when = cut.edge(np.r_[cut.time, now]), np.r_[cut.time, now] - 1
    for ask in (
        lambda world: world.time[:n],
        lambda world: world.count(films[:, None], edges),
        lambda world: world.likes(films[:, None], edges),
        lambda world: world.total_likes(edges),
        lambda world: world.earlier(np.arange(n)),
        lambda world: world.repeats(np.arange(n)),
        lambda world: world.session_start(np.arange(n)),
        lambda world: world.ordinal[:n],
        lambda world: world.touched(users[:, None, None], films[:, None], when),
        lambda world: world.choices.before(users[:, None], edges),
        lambda world: world.choices_by_item.before(films[:, None], edges),
        lambda world: np.searchsorted(world.arrivals, edges),
        lambda world: world.order_of_appearance[: np.searchsorted(world.appearances, now, side="right")],
        lambda world: world.appearances[world.appearances <= now],
    ):  # fmt: skip
        assert np.array_equal(ask(whole), ask(cut))
    # What has happened up to then, in the same order: items, and the words that they hold.
    offered = int((cut.appearances <= now).sum())
    codes = np.arange(len(cut.words.holders.start) - 1)
    frequency = [world.words.holders.before(codes, np.full(len(codes), offered)) for world in (whole, cut)]
    assert np.array_equal(*frequency)


# Impressions


@st.composite
def clicks(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """The clicks of some impressions, as a click log has them; and events of which no impression is known."""
    events: list[tuple[Any, ...]] = []
    for number in range(draw(st.integers(1, 6))):
        shown = draw(st.lists(films | st.sampled_from(["gone", "lost"]), max_size=6, unique=True))
        user, time = draw(st.sampled_from(PEOPLE[:2])), draw(times)
        # Ids are unique among those of a user; one may be missing, and then nobody knows what else was clicked.
        name = None if draw(st.integers(0, 5)) == 5 else f"{user} {number}" if draw(st.booleans()) else f"{number}"
        chosen = draw(st.lists(st.sampled_from(shown), unique=True)) if shown else []
        events += [(user, item, time, 5, name, shown) for item in chosen]
    return events + draw(st.lists(plain_events, max_size=3))


@few
@given(cases(), clicks())
def test_impressions(case: Case, events: list[tuple[Any, ...]]) -> None:
    described = [row for row in events if row[1] in case.items]
    if not described:
        return
    plain = case._replace(events=events).plain()
    world = small.world_of(plain.log)
    seen, films = world.impressions, list(world.items)
    if not any(len(row) == small.SHOWN_TOO for row in described):
        assert seen is None
        return
    columns = plain.log.events.select("impression_id", "impression").rows()
    # Per event: who it was, in which impression, and what that shows; each without a name is one of its own.
    rows = [(user, name, shown, item, name or object())
            for (_, user, item, _), (name, shown) in zip(plain.events, columns, strict=True)]  # fmt: skip
    assert seen.ids.to_list() == [name for _, name, _, _, _ in rows]
    others, described = (answer.tolist() for answer in seen.beside(np.arange(len(rows)), world.described))
    for event, (user, _, shown, item, which) in enumerate(rows):
        clicked = {film for who, _, _, film, other in rows if (who, other) == (user, which)}
        assert item in clicked and seen.n_clicked[event] == len(clicked)
        beside = [film for film in shown or [] if film not in clicked]
        assert [films[i] if i != UNKNOWN else "unknown" for i in seen.unclicked(event).tolist()] == sorted(
            {film if film in films else "unknown" for film in beside}, key=lambda film: (film != "unknown", film)
        )
        assert others[event] == bool(beside)
        assert described[event] == all(film in films and bool(case.items[film]["title"]) for film in beside)


def test_impressions_by_hand() -> None:
    items = {film: {"title": film} for film in "vwxy"} | {"z": {"title": ""}}
    slate = ["y", "v", "x", "w"]
    log = small.prepared(
        [
            ("a", "x", 1, 5, "1", slate), ("a", "y", 1, 5, "1", slate), ("b", "v", 1, 5, "1", ["v", "z"]),
            ("b", "v", 2, 5, "2", ["v", "gone", "w"]), ("b", "v", 3, 5, "3", ["v"]), ("b", "v", 4, 5, None, None),
        ],
        items=items,
    )  # fmt: skip
    world = small.world_of(log)
    seen = world.impressions
    assert seen is not None
    assert world.items.gather(world.item).to_list() == ["x", "y", "v", "v", "v", "v"]
    assert seen.n_clicked.tolist() == [2, 2, 1, 1, 1, 1], "impression 1 of b is another than that of a"
    for event in (0, 1):
        assert world.items.gather(seen.unclicked(event)).to_list() == ["v", "w"]
    assert seen.unclicked(3).tolist() == [UNKNOWN, 1]
    assert seen.unclicked(4).tolist() == seen.unclicked(5).tolist() == []
    # z has no title, "gone" is not described, and one option alone is no choice.
    others, described = seen.beside(np.arange(6), world.described)
    assert others.tolist() == [True, True, True, True, False, False]
    assert described.tolist() == [True, True, False, False, True, True]
    assert [answer.tolist() for answer in seen.beside(np.array([4, 1]), world.described)] == [[False, True], [True] * 2]


def test_a_log_without_impressions_has_none() -> None:
    events = [("a", "x", 1, 5), ("a", "y", 2, 5)]
    assert "impression" not in small.prepared(events).events.columns
    assert small.world_of(small.prepared(events)).impressions is None
    nothing = [(*event, None, None) for event in events]
    assert "impression" in small.prepared(nothing).events.columns
    assert small.world_of(small.prepared(nothing)).impressions is None


# The index behind it all


@settings(deadline=None, max_examples=100)
@example({}, 0)
@example({3: 4}, 0)
@given(st.dictionaries(st.integers(0, 30), st.integers(0, 4), max_size=30), st.integers(1, 40))
def test_grouped(things: dict[int, int], more: int) -> None:
    """Things of groups 0 to 4 at positions in any order; group 5 is empty."""
    position, group = (np.array(list(column), np.int64) for column in (things.keys(), things.values()))
    end = max(things, default=0) + more
    grouped, edges = Grouped.by(group, 6, position, end), np.arange(end + 1)
    for g in range(6):
        mine = sorted(place for place, other in things.items() if other == g)
        assert grouped.positions[grouped.start[g] : grouped.start[g + 1]].tolist() == mine
        assert grouped.nth(np.full(len(mine), g), np.arange(len(mine))).tolist() == mine
        before = [sum(place < edge for place in mine) for edge in edges.tolist()]
        assert grouped.before(np.full(len(edges), g), edges).tolist() == before
        assert (grouped.place(np.full(len(edges), g), edges) - grouped.start[g]).tolist() == before
    assert grouped.start[6] == len(things)
    # Beyond the last thing of all there is nothing to find, and nothing fails.
    if things:
        assert grouped.nth(np.array([5, 5]), np.array([0, 7])).tolist() == [grouped.positions[-1]] * 2


@given(st.lists(st.integers(0, 3), max_size=20))
def test_grouped_things_stand_where_they_are_by_default(group: list[int]) -> None:
    grouped, edges = Grouped.by(np.array(group, np.int32), 4), np.arange(len(group) + 1)
    for g in range(4):
        before = [group[:edge].count(g) for edge in edges.tolist()]
        assert grouped.before(np.full(len(edges), g), edges).tolist() == before
        assert grouped.before(np.array([[g]]), edges[:, None]).tolist() == [[count] for count in before]
    assert grouped.positions.tolist() == sorted(range(len(group)), key=group.__getitem__)


@given(st.lists(st.integers(0, 7) | st.integers(0, 2**32 - 1) | st.sampled_from([65535, 65536, 65537, 131072])))
def test_a_stable_order(codes: list[int]) -> None:
    """Also of codes that fill 32 bits."""
    expected = sorted(range(len(codes)), key=codes.__getitem__)
    assert stable_order(np.array(codes, np.int64)).tolist() == expected
    small_codes = np.array([code % 2**31 for code in codes], np.int32)
    assert stable_order(small_codes).tolist() == np.argsort(small_codes, kind="stable").tolist()
