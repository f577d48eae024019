"""Pages of logs: the script that reads one, and what its answer means. No connection.

`XRANGE` can be bounded by a number of entries only, and entries may be megabytes. Here the server
takes the entries of all asked channels in the order of the log, few at a time, until the page is
full. What does not fit is not sent, so nothing is sent twice to a reader who asks page by page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_eventstream.brokers.redis.answers import ChannelState, LogState
from flask_eventstream.brokers.redis.message import Unreadable, decode_message
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.log.entries import PAGE, PAGE_SIZE, Entry, Replay
from flask_eventstream.log.position import Position

__all__ = [
    "FROM_THE_START",
    "READ_NEWEST",
    "READ_PAGE",
    "READ_PAGE_SHA",
    "PageAnswer",
    "Row",
    "make_entry",
    "make_replay",
    "page_arguments",
]

#: KEYS: log, then for each channel its stream and its hash. ARGV: entries and bytes after which a
#: page ends, then for each channel the epoch ("" for any) and the sequence ("" for no entries)
#: after which it is read.
#:
#: Answer: seconds, microseconds, the log's fields, for each channel [last, trimmed, ended, "1" if
#: there is an entry after its place], rows of [channel's number, id, body, time], "1" if there is
#: more. Nothing is given to a place in an epoch that the log does not know.
READ_PAGE = """
local log = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'past', 'age', 'run', 'began')
local most, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local states, open, rows, size = {}, {}, {}, 0

local function fill(one)
    local batch = math.min(one.batch, most - #rows + 1)
    if one.count > 0 then
        local mean = one.bytes / one.count
        batch = math.min(batch, math.floor(math.max(limit - size, 0) / math.max(mean, 1)) + 1)
    end
    one.rows = redis.call('XRANGE', one.key, '(' .. one.after, log[2], 'COUNT', batch)
    one.batch, one.at = one.batch * 2, 0
end

local function step(one)
    one.at = one.at + 1
    if one.at > #one.rows then
        fill(one)
        one.at = 1
        if #one.rows == 0 then return false end
    end
    local row = one.rows[one.at]
    one.after, one.body, one.time = row[1], '', ''
    one.place = tonumber(string.match(row[1], '^%d+'))
    for i = 1, #row[2], 2 do
        if row[2][i] == 'm' then one.body = row[2][i + 1] end
        if row[2][i] == 'a' then one.time = row[2][i + 1] end
    end
    one.bytes, one.count = one.bytes + #one.body, one.count + 1
    return true
end

for i = 1, (#KEYS - 1) / 2 do
    local epoch, place = ARGV[2 * i + 1], ARGV[2 * i + 2]
    local state = redis.call('HMGET', KEYS[2 * i + 1], 'last', 'trimmed', 'ended')
    state[4] = '0'
    states[i] = state
    local known = log[1] and (epoch == '' or epoch == log[1]
        or string.find(' ' .. log[3], ' ' .. epoch .. ':', 1, true))
    local last = state[1] and tonumber(state[1])
    if place ~= '' and known and not (last and last <= tonumber(place)) then
        local one = {number = i, key = KEYS[2 * i], after = place .. '-18446744073709551615',
                     batch = 1, bytes = 0, count = 0, rows = {}, at = 0}
        if step(one) then
            state[4] = '1'
            open[#open + 1] = one
        end
    end
end

while #open > 0 and #rows < most and size <= limit do
    local first = 1
    for i = 2, #open do
        if open[i].place < open[first].place then first = i end
    end
    local one = open[first]
    rows[#rows + 1] = {one.number, one.after, one.body, one.time}
    size = size + #one.body
    if not step(one) then table.remove(open, first) end
end
local time = redis.call('TIME')
return {time[1], time[2], log, states, rows, #open > 0 and '1' or '0'}
"""

#: KEYS: log, a channel's stream, its hash. ARGV: entries and bytes at the most.
#:
#: Answer: as of `READ_PAGE`, with the last entries of the one channel.
READ_NEWEST = """
local log = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'past', 'age', 'run', 'began')
local most, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[3], 'last', 'trimmed', 'ended')
state[4] = '0'
local rows, size, before, batch = {}, 0, '+', 1
while #rows < most and size <= limit do
    batch = math.min(batch, most - #rows)
    local found = redis.call('XREVRANGE', KEYS[2], before, '-', 'COUNT', batch)
    for _, row in ipairs(found) do
        local body, time = '', ''
        for i = 1, #row[2], 2 do
            if row[2][i] == 'm' then body = row[2][i + 1] end
            if row[2][i] == 'a' then time = row[2][i + 1] end
        end
        if size <= limit then table.insert(rows, 1, {1, row[1], body, time}) end
        before, size = '(' .. row[1], size + #body
    end
    if #found < batch then break end
    local mean = math.max(size / #rows, 1)
    batch = math.max(1, math.min(2 * batch, math.floor((limit - size) / mean)))
end
local time = redis.call('TIME')
return {time[1], time[2], log, {state}, rows, '0'}
"""

READ_PAGE_SHA = hashlib.sha1(READ_PAGE.encode(), usedforsecurity=False).hexdigest()

#: A place for `page_arguments`: before all that a channel has, in whatever epoch.
FROM_THE_START = Position("", 0)


def page_arguments(
    keys: Keys, positions: Mapping[str, Position | None], *, most: int = PAGE
) -> tuple[list[str], list[str]]:
    """Keys and arguments that ask for a page. With ``None`` a channel is asked for no entries."""
    names = [keys.log(next(iter(positions), ""))]
    arguments = [str(most), str(PAGE_SIZE)]
    for channel, position in positions.items():
        names += [keys.events(channel), keys.channel(channel)]
        arguments += ["", ""] if position is None else [position.epoch, str(position.sequence)]
    return names, arguments


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a channel's stream, as it lies there."""

    channel: str
    place: bytes
    """``SEQUENCE-0``; what does not end so is not ours."""
    body: bytes
    time: bytes
    """Milliseconds since 1970."""

    @property
    def sequence(self) -> int:
        """Its place in the log."""
        return int(self.place.partition(b"-")[0])

    @property
    def time_ms(self) -> int:
        """When it was published.

        Raises:
            Unreadable: Somebody else wrote it there.
        """
        if not (self.place.endswith(b"-0") and self.time.isdigit()):
            why = f"at {self.place.decode()}, published at {self.time.decode(errors='replace')!r}"
            raise Unreadable("no entry of ours", why)
        return int(self.time)


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What the script answered: one page of some channels, at one moment."""

    state: LogState | None
    """``None`` where there is no log."""
    channels: Mapping[str, ChannelState]
    has_later: frozenset[str]
    """Channels that have an entry after their place, in this page or in a later one."""
    rows: Sequence[Row]
    """Over all channels, in the order of the log."""
    more: bool
    now_ms: int

    @classmethod
    def parse(cls, answer: Sequence[Any], channels: Sequence[str]) -> PageAnswer:
        """Read the answer about these channels."""
        seconds, microseconds, log, states, rows, more = answer
        by_channel = dict(zip(channels, states, strict=True))
        return cls(
            state=LogState.parse(log),
            channels={name: ChannelState.parse(state[:3]) for name, state in by_channel.items()},
            has_later=frozenset(name for name, state in by_channel.items() if state[3] == b"1"),
            rows=[Row(channels[number - 1], *rest) for number, *rest in rows],
            more=more == b"1",
            now_ms=int(seconds) * 1000 + int(microseconds) // 1000,
        )

    @property
    def ended(self) -> frozenset[str]:
        """Channels that are ended."""
        return frozenset(name for name, state in self.channels.items() if state.ended)


def make_entry(channel: str, body: bytes, position: Position) -> Entry:
    """The entry of a message body in the log.

    Raises:
        Unreadable: Somebody else wrote it there.
    """
    message = decode_message(b'{"id":"%s", %s' % (str(position).encode(), body))
    if message.position is None:
        raise Unreadable("no message of ours", repr(body[:40]))
    return message.entry(channel, position.sequence)


def make_replay(
    answer: PageAnswer,
    state: LogState,
    starts: Mapping[str, int],
    *,
    skipped: Callable[[str, Unreadable], object],
) -> Replay:
    """One page of several channels: what is in it, and what is gone before it.

    Args:
        answer: What the server said.
        state: The log, as it counts.
        starts: The channels of the page, and after which sequence each was read. Rows of others
            are left out.
        skipped: Called with the channel of each row that is no event, and what is wrong with it.
    """
    rows, expired = _take_fresh(answer, state, starts, skipped)
    reached = answer.rows[-1].sequence if answer.more else state.sequence
    entries = []
    for row in rows:
        try:
            entries.append(make_entry(row.channel, row.body, state.position(row.sequence)))
        except Unreadable as error:
            skipped(row.channel, error)
    gone = expired | {
        name
        for name, start in starts.items()
        if start < answer.channels[name].trimmed
        or (start < answer.channels[name].last and name not in answer.has_later)
    }
    return Replay(
        entries=entries,
        gone=frozenset(gone),
        sequence=reached,
        start=str(state.position(rows[0].sequence - 1 if rows else reached)),
        position=str(state.position(reached)),
        more=answer.more,
        ended=answer.ended,
    )


def _take_fresh(
    answer: PageAnswer,
    state: LogState,
    starts: Mapping[str, int],
    skipped: Callable[[str, Unreadable], object],
) -> tuple[list[Row], set[str]]:
    """The rows that readers may have, and the channels of those that are too old."""
    # What lies behind an event that may be given is given too, however old a clock that was set
    # back makes it look: a gap in the middle would be none that a reset could name.
    oldest_ms = answer.now_ms - state.age_ms
    fresh: list[Row] = []
    begun: set[str] = set()
    expired: set[str] = set()
    for row in answer.rows:
        if row.channel not in starts:
            continue
        try:
            is_old = row.time_ms < oldest_ms
        except Unreadable as error:
            skipped(row.channel, error)
            continue
        if is_old and row.channel not in begun:
            expired.add(row.channel)
        else:
            begun.add(row.channel)
            fresh.append(row)
    return fresh, expired
