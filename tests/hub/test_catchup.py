"""The heart: whatever happens on its way, a reader gets every entry once, in order, or is told.

The state machine below drives `Splice` and `CatchUp` as the hub does, against a log that is
trimmed, ended and reopened at random, over connections that break anywhere, and judges by what a
page sees: the bytes, read by the specification's parser.
"""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flask_eventstream.event import RESET, STREAM_END, Event
from flask_eventstream.hub import splice as splice_module
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.log.entries import Entry, Place, Replay
from harness.event_stream import Dispatched, EventStreamParser
from hub.catchup_model import Client, Connection, ModelLog

CHANNELS = ["a", "b", "c", "other"]
CHANNEL = st.sampled_from(CHANNELS)


class WayToLive(RuleBasedStateMachine):
    """One client of some channels of a log, from its first connection to its last."""

    def __init__(self) -> None:
        super().__init__()
        # A hold of four entries and pages of three: overflow and boundaries are everyday things.
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(splice_module, "_MAX_HELD", 4)

    @initialize(
        count=st.integers(1, 3),
        apart=st.booleans(),
        page=st.integers(1, 3),
        tells_position=st.booleans(),
    )
    def begin(self, count: int, apart: bool, page: int, tells_position: bool) -> None:  # noqa: FBT001
        self.log = ModelLog(apart=apart)
        self.client = Client(CHANNELS[:count])
        self.page = page
        self.tells_position = tells_position
        self.owed_from: int | None = None
        self.connect()

    def connect(self) -> None:
        self.connection = Connection(
            self.log, self.client, page=self.page, tells_position=self.tells_position
        )

    # ---- what may happen

    @rule(channel=CHANNEL, count=st.integers(1, 6))
    def publish(self, channel: str, count: int) -> None:
        for _ in range(count):
            self.connection.post(self.log.append(channel))

    @rule(channel=CHANNEL)
    def end(self, channel: str) -> None:
        if channel not in self.log.ended:  # an application that ends twice is told of both
            self.connection.post(self.log.append(channel, end=True))

    @rule(count=st.integers(1, 8))
    def deliver(self, count: int) -> None:
        self.connection.deliver(count)

    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.connection.step()

    @rule()
    def lose(self) -> None:
        self.connection.lose()

    @precondition(lambda self: not self.connection.live)
    @rule(channel=CHANNEL, keep=st.integers(0, 2))
    def trim(self, channel: str, keep: int) -> None:
        self.log.trim(channel, keep)

    @rule()
    def break_off(self) -> None:
        self.connect()

    # ---- what must hold

    @invariant()
    def owed_from_where_it_began(self) -> None:
        """Once a client has an id it may hold us to everything since its first page was read."""
        if self.owed_from is None and self.client.last_event_id:
            self.owed_from = self.connection.began_at

    @invariant()
    def in_order_and_once(self) -> None:
        sequences = self.client.sequences()
        assert sequences == sorted(set(sequences))

    @invariant()
    def ends_are_told_once(self) -> None:
        over: set[str] = set()
        for event in self.client.seen:
            if event["type"] == STREAM_END:
                ended = set(json.loads(event["data"])["channels"])
                assert not ended & over, "an end told twice"
                over |= ended
            elif event["type"] == RESET:
                over -= set(json.loads(event["data"])["channels"])
            else:
                over.discard(event["type"])

    @rule()
    def come_to_rest(self) -> None:
        """Become live, take everything, and be judged."""
        for _ in range(1000):
            self.connection.step()
            if self.connection.live:
                break
        assert self.connection.live, "never live"
        self.connection.deliver(1000)
        self.owed_from_where_it_began()
        for channel in self.client.channels:
            self._judge(channel)

    def teardown(self) -> None:
        self._patch.undo()

    def _judge(self, channel: str) -> None:
        """Every entry of the channel was seen, or a reset stands in its place, and only there."""
        story = [place for event in self.client.seen if (place := self._told(event, channel))]
        seen = {place for place in story if isinstance(place, int)}
        events = [e.sequence for e in self.log.entries if e.channel == channel and e.event]
        owed_from = self.connection.began_at if self.owed_from is None else self.owed_from
        missed = [sequence for sequence in events if sequence > owed_from and sequence not in seen]
        gaps = self._resets_between(story)
        for sequence in missed:
            assert any(before < sequence < after for before, after in gaps), (
                f"{sequence} is missing"
            )
        lost = [e.sequence for e in self.log.entries if e.channel == channel]
        for before, after in gaps:
            assert any(before < sequence < after and sequence not in seen for sequence in lost), (
                "a reset where nothing is gone"
            )
        if channel in self.log.ended:
            trimmed = lost[-1] <= self.log.trimmed.get(channel, 0)
            # Of an end that is gone itself, a reader cut off between two pages has the reset.
            last = story[-1:]
            assert last == ["end"] or (trimmed and last == ["reset"]), "the end is missing"

    def _told(self, event: Dispatched, channel: str) -> int | str | None:
        if event["type"] == channel:
            return int(event["data"])
        named = event["type"] in {RESET, STREAM_END} and json.loads(event["data"])["channels"]
        if named and channel in named:
            return "reset" if event["type"] == RESET else "end"
        return None

    def _resets_between(self, story: list[int | str]) -> list[tuple[float, float]]:
        """For each reset the events that the client saw before and after it."""
        gaps = []
        for index, place in enumerate(story):
            if place == "reset":
                before = [p for p in story[:index] if isinstance(p, int)]
                after = [p for p in story[index:] if isinstance(p, int)]
                gaps.append((before[-1] if before else 0, after[0] if after else float("inf")))
        return gaps


TestWayToLive = WayToLive.TestCase
# One failure, shrunk and not explained: a report within the time that a test has.
TestWayToLive.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
)


@pytest.mark.parametrize("seed", range(6))
def test_ways_to_live(seed: int) -> None:
    """The same machine on hundreds of longer ways, drawn evenly: rare meetings need many tries."""
    chance = random.Random(seed)
    for _ in range(1000):
        machine = WayToLive()
        machine.begin(
            count=chance.randint(1, 3),
            apart=chance.random() < 0.5,
            page=chance.randint(1, 3),
            tells_position=chance.random() < 0.5,
        )
        rest_at = chance.randint(5, 60)
        for _ in range(rest_at):
            walk_on(machine, chance)
            machine.owed_from_where_it_began()
            machine.in_order_and_once()
            machine.ends_are_told_once()
        machine.come_to_rest()
        machine.in_order_and_once()
        machine.ends_are_told_once()
        machine.teardown()


def walk_on(machine: WayToLive, chance: random.Random) -> None:
    action = chance.choice(
        ["publish", "publish", "deliver", "deliver", *["step"] * 6, "trim", "rare"]
    )
    if action == "publish":
        machine.publish(chance.choice(CHANNELS), chance.randint(1, 4))
    elif action == "deliver":
        machine.deliver(chance.randint(1, 6))
    elif action == "step":
        machine.step(1)
    elif action == "trim":
        if not machine.connection.live:
            machine.trim(chance.choice(CHANNELS), chance.randint(0, 2))
    else:
        chance.choice(
            [
                machine.lose,
                machine.break_off,
                lambda: machine.end(chance.choice(CHANNELS)),
            ]
        )()


# ---- one by one


def read(stream: bytes) -> list[tuple[str, str, str]]:
    return [(e["type"], e["data"], e["id"]) for e in EventStreamParser().feed(stream)]


def entry(sequence: int, channel: str = "a", *, end: bool = False) -> Entry:
    position = f"p-{sequence}"
    if end:
        return Entry.end(channel, sequence, position)
    return Entry(channel, sequence, position, Event(str(sequence)))


def page(
    *entries: Entry,
    gone: str = "",
    ended: str = "",
    more: bool = False,
    at: int = 9,
) -> Replay:
    return Replay(
        entries, frozenset(gone), at, "p-start", f"p-{at}", more=more, ended=frozenset(ended)
    )


def catch_up(after: str | None = "p-0", *, tells_position: bool = False) -> CatchUp:
    return CatchUp(["a", "b"], after, preamble=b":hello\n", tells_position=tells_position)


def test_the_preamble_leaves_first_and_once() -> None:
    """What opens a stream stands before the first page and before no other."""
    reader = catch_up()

    assert reader.page(page(entry(1), more=True)) == b":hello\n" + entry(1).frame
    assert reader.page(page(entry(2))) == entry(2).frame


def test_a_reset_comes_before_anything_newer() -> None:
    """What is gone is told before the page's entries, with a place to resume from."""
    written = read(catch_up().page(page(entry(5), gone="ba")))

    assert written == [(RESET, '{"channels": ["a", "b"]}', "p-start"), ("message", "5", "p-5")]


def test_a_reset_is_not_repeated_page_after_page() -> None:
    """While a channel's gap lies ahead of the pages, its reader is told once."""
    reader = catch_up()
    first = reader.page(page(entry(1, "b"), gone="a", more=True))
    second = reader.page(page(entry(2, "b"), gone="a"))

    assert [kind for kind, _, _ in read(first + second)] == [RESET, "message", "message"]


def test_a_new_gap_is_a_new_reset() -> None:
    """When a channel gave something after its reset, another gap in it is told again."""
    reader = catch_up()
    first = reader.page(page(entry(1), gone="a", more=True))
    second = reader.page(page(entry(5), gone="a"))

    assert [kind for kind, _, _ in read(first + second)] == [RESET, "message", RESET, "message"]


def test_a_fresh_reader_is_told_of_ends() -> None:
    """A reader who never was here is told which channels are ended, at its position."""
    reader = catch_up(None)
    written = reader.page(page(ended="a"))

    assert read(written) == [(STREAM_END, '{"channels": ["a"]}', "p-9")]
    assert reader.ended == {"a"}


def test_an_end_is_told_once() -> None:
    """SharedPages that are read again, because live entries were lost, tell no end again."""
    reader = catch_up(None)
    reader.page(page(ended="a"))

    assert reader.page(page(ended="a")) == b""


def test_who_has_seen_the_end_is_not_told_again() -> None:
    """A reader who resumes behind the end knows it."""
    reader = catch_up("p-8")

    assert read(reader.page(page(ended="a"))) == []
    assert reader.ended == {"a"}


def test_an_end_among_the_entries_is_told_by_them() -> None:
    """An end that the page contains needs no other word."""
    written = read(catch_up().page(page(entry(8), entry(9, end=True), ended="a")))

    assert [kind for kind, _, _ in written] == ["message", STREAM_END]


def test_an_end_that_is_gone_is_told() -> None:
    """A reader who missed the end, because it is trimmed away, is told after the reset."""
    written = read(catch_up().page(page(gone="a", ended="a")))

    assert [kind for kind, _, _ in written] == [RESET, STREAM_END]


def test_ends_are_told_with_the_last_page() -> None:
    """While more pages follow nothing is said of ends: entries of the channel may follow too."""
    reader = catch_up(None)

    assert read(reader.page(page(ended="a", more=True))) == []
    assert reader.ended == set()


def test_a_browser_is_told_where_it_is() -> None:
    """A client that understands it gets the position although no event carries it."""
    parser = EventStreamParser()

    assert parser.feed(catch_up(None, tells_position=True).page(page())) == []
    assert parser.last_event_id == "p-9"


def test_others_are_not_told_where_they_are() -> None:
    """Clients that would take an id alone for an event get none."""
    assert catch_up(None).page(page()) == b":hello\n"


@pytest.mark.parametrize("given", [page(entry(9)), page(ended="a")], ids=["entry", "end"])
def test_a_position_is_not_told_twice(given: Replay) -> None:
    """Where an event carries the position already, nothing more is written."""
    assert b"\n\nid:" not in catch_up(None, tells_position=True).page(given)


def test_a_position_that_is_known_is_not_told() -> None:
    """A reader who comes back to the log's end is told nothing."""
    assert catch_up("p-9", tells_position=True).page(page()) == b":hello\n"


def test_what_was_held_is_written() -> None:
    """The live entries of the meantime are written as they are, ends and new starts included."""
    reader = catch_up(None)
    reader.page(page(ended="b"))
    held = [entry(10), entry(11, end=True), entry(12, "b")]

    assert reader.release(held) == b"".join(each.frame for each in held)
    assert reader.ended == {"a"}


def test_held_entries_carry_every_channels_position() -> None:
    """Where each channel has a log of its own, held entries carry all positions in their id."""
    places = {"a": Place(1, "p-1"), "b": Place(2, "p-2")}
    reader = catch_up(None)
    reader.page(Replay((), frozenset(), 2, "m", "m", places=places))

    ((_, _, first), (_, _, second)) = read(reader.release([entry(3, "a"), entry(4, "b")]))

    assert first.partition("_")[2] == "p-3_p-2"
    assert second.partition("_")[2] == "p-3_p-4"
