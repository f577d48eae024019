"""Where a log lies in Redis, and the two scripts that write it.

Keys, each with the configured prefix, ``sse:`` by default:

``log``
    A hash, the log itself: ``epoch``, ``seq`` (of the last event, over all channels), ``run``
    (the server process in which the epoch began), ``began`` (after which sequence), ``past``
    (earlier epochs and where they ended), and the retention. One for all channels, and the only
    key that never expires. In a cluster, where keys of different channels lie on different nodes,
    ``log:{CHANNEL}``: each channel is a log of its own, opened by its first event, and gone after
    thirty ages.
``events:{CHANNEL}``
    A stream: the last events of a channel, up to an eighth more than the retention's length (XTRIM
    is cheap on many, and 17 µs each on one). Gone after the retention's age and an eighth: so its
    end is put off now and then, and not by every event. Every sixteenth event removes what expired;
    readers are never given it anyway.
``ids:{CHANNEL}``
    A sorted set, only where events have ids of their own: id (as in JSON), and the sequence of the
    last event that has it. With a line break before it, the same for an id that more than one event
    had: it is no place in the log. Twice as many ids are kept as events, so that an id is known to
    have been there before. It expires with the events.
``channel:{CHANNEL}``
    A hash: ``last`` sequence, ``trimmed`` up to, ``ended`` at. Gone after thirty ages.
``record:{NAME}``
    A hash of one field, ``text``: what is remembered beside the log, for a time of its own.

Pub/sub channels have the channels' names, so that older extensions understand them. Those of hidden
channels have the prefix before them: ``sse:__control``.

**Epochs.** A server that starts again may have lost its last events and would then give their
sequence numbers out a second time, which no reader could notice. So an epoch belongs to one run of
one server: the publishing script has the run's id in its text, and a server that was started anew
does not know that script. (Before Redis 7 it may, from its file or its primary. There the script
asks the server for its run, at the price of an ``INFO`` for each event.) Whoever is told so asks
for the run's id and opens a new epoch. Where the
server's settings say that an acknowledged write survives, positions of the old epoch stay good up
to where it ended; else they are not, and their readers are told that something is gone.

**Sequences** of a new log begin at the milliseconds since 1970, so that they grow on where a log
was emptied: a reader that is between its page and live compares them, and so does XADD where the
log's hash was removed and a stream was not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flask_eventstream.log.entries import HIDDEN

__all__ = ["NEEDS_OPENING", "OPEN", "REMEMBER", "REPEATED", "Keys", "Script"]

#: How the publishing script's error begins where the log must be opened first.
NEEDS_OPENING = "SSEOPEN"


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys, made of a prefix."""

    prefix: str
    is_cluster: bool = False
    """True where each channel has a log of its own, in its own slot."""
    channel_prefix: str = ""
    """What pub/sub channels begin with. None where older extensions are to be understood."""

    def of(self, channel: str) -> tuple[str, str, str]:
        """What a channel has beside the log."""
        return self.events(channel), self.channel(channel), self.ids(channel)

    def pubsub(self, channel: str) -> str:
        """The pub/sub channel of a channel. In a cluster it lies in the slot of the keys."""
        if channel.startswith(HIDDEN):
            bare = channel.removeprefix(HIDDEN)
            return self._hidden + (f"{{{channel}}}" if self.is_cluster else bare)
        if self.is_cluster and self.channel_prefix:
            return f"{self.channel_prefix}{{{channel}}}"
        return f"{self.channel_prefix}{channel}"

    def channel_of(self, pubsub: str) -> str:
        """The channel of one of our pub/sub channels."""
        if pubsub.startswith(self._hidden):
            bare = pubsub.removeprefix(self._hidden)
            return bare[1:-1] if self.is_cluster else HIDDEN + bare
        bare = pubsub.removeprefix(self.channel_prefix)
        return bare[1:-1] if self.is_cluster and self.channel_prefix else bare

    @property
    def _hidden(self) -> str:
        """What the pub/sub channels of hidden channels begin with."""
        return f"{self.prefix}{HIDDEN}"

    def is_taken(self, channel: str) -> bool:
        """True for a channel whose pub/sub channel is a hidden one's."""
        named = f"{self.channel_prefix}{channel}"
        return named.startswith(self._hidden) and not channel.startswith(HIDDEN)

    def record(self, name: str) -> str:
        """Where the text of a name is."""
        return f"{self.prefix}record:{{{name}}}"

    def owners(self, home: str) -> str:
        """The set of those who say what they have; their hashes' names begin with its name."""
        return f"{self.prefix}owners:{{{home}}}"

    def log(self, channel: str) -> str:
        """The hash of the log that a channel is in."""
        return f"{self.prefix}log:{{{channel}}}" if self.is_cluster else f"{self.prefix}log"

    def events(self, channel: str) -> str:
        """The stream of a channel's events."""
        return f"{self.prefix}events:{{{channel}}}"

    def channel(self, channel: str) -> str:
        """What is known of a channel."""
        return f"{self.prefix}channel:{{{channel}}}"

    def ids(self, channel: str) -> str:
        """Where a channel's events with an id of their own are."""
        return f"{self.prefix}ids:{{{channel}}}"


#: KEYS: log. ARGV: run id, a new epoch's name, "1" where acknowledged writes survive a restart,
#: history length and age in ms ("" to keep those that are there), defaults for both, "1" where the
#: log is one channel's.
OPEN = """
local state = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'seq', 'past')
if not state[2] then
    local time = redis.call('TIME')
    local seq = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
    redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', ARGV[2], 'seq', seq, 'past', '',
        'began', seq)
elseif state[1] ~= ARGV[1] then
    local past = ''
    if ARGV[3] == '1' then
        past = state[2] .. ':' .. state[3]
        local kept = 1
        for one in string.gmatch(state[4], '[^ ]+') do
            if kept < 16 then past = past .. ' ' .. one end
            kept = kept + 1
        end
    end
    redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', ARGV[2], 'past', past,
        'began', state[3])
end
if ARGV[4] ~= '' then
    redis.call('HSET', KEYS[1], 'length', ARGV[4], 'age', ARGV[5])
else
    redis.call('HSETNX', KEYS[1], 'length', ARGV[6])
    redis.call('HSETNX', KEYS[1], 'age', ARGV[7])
end
if ARGV[8] == '1' then
    local age = tonumber(redis.call('HGET', KEYS[1], 'age'))
    redis.call('PEXPIRE', KEYS[1], string.format('%d', math.max(30 * age, 60000)))
end
"""

#: KEYS: record. ARGV: text, milliseconds for which it is kept.
REMEMBER = """
redis.call('HSET', KEYS[1], 'text', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_ASK_RUN = """
if not string.find(redis.call('INFO', 'server'), 'run_id:' .. run, 1, true) then
    return redis.error_reply('SSEOPEN the script is of another run')
end"""

#: What stands before an own id in the index that was given out a second time. No id has one.
REPEATED = "\n"

#: KEYS: log, then of each channel events, channel, ids. ARGV: PUBLISH or SPUBLISH, "1" for the
#: channels' end, of each channel its pub/sub channel, and one or more bodies of messages. Each
#: channel gets all of them, or none: nothing comes between, and what refuses the first refuses all.
#: Gives the position of the first; the others follow, channel by channel.
#:
#: An own id is the last field of a body (message.py), and has 800 bytes at the most, so 2,400 as
#: JSON: all of it lies in the last 2,500. Within data such a field would end with two braces.
_PUBLISH = """
local run = '%s'%s
local state = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'length', 'age')
if state[1] ~= run then return redis.error_reply('SSEOPEN the log is not open') end
local length, age = tonumber(state[3]), tonumber(state[4])
local time = redis.call('TIME')
local now = string.format('%%d', time[1] * 1000 + math.floor(time[2] / 1000))
local verb, ends = ARGV[1], ARGV[2] == '1'
local channels = (#KEYS - 1) / 3
local before = channels + 2
local count = #ARGV - before
local function text(number) return string.format('%%d', number) end
local least = math.max(age, 1000)
local forgotten = text(math.max(30 * age, 60000))
local head = '{"id":"' .. state[2] .. '-'

local owns, any = {}, false
for i = 1, count do
    local tail = string.sub(ARGV[before + i], -2500)
    if string.sub(tail, -2) == '"}' and string.find(tail, ', "id": "', 1, true) then
        local own = string.match(tail, '.*, "id": "(.*)"}$')
        if own and not string.find(string.gsub(own, '\\\\.', ''), '"', 1, true) then
            owns[i], any = own, true
        end
    end
end

local function index(ids, first)
    for i = 1, count do
        local own = owns[i]
        if own then
            local place = text(first + i - 1)
            if redis.call('ZADD', ids, 'NX', place, own) == 0 then
                redis.call('ZADD', ids, place, own, place, '\\n' .. own)
            end
        end
    end
    if redis.call('PTTL', ids) < least + least / 16 then
        redis.call('PEXPIRE', ids, text(least + least / 8))
    end
end

local function append(events, channel, ids, pubsub, first)
    local last = first + count - 1
    local body = ARGV[before + 1]
    if not redis.call('XADD', events, 'NOMKSTREAM', text(first) .. '-0', 'm', body, 'a', now) then
        redis.call('XADD', events, text(first) .. '-0', 'm', body, 'a', now)
        local previous = redis.call('HGET', channel, 'last')
        if previous then redis.call('HSET', channel, 'trimmed', previous) end
    end
    for i = 2, count do
        redis.call('XADD', events, text(first + i - 1) .. '-0', 'm', ARGV[before + i], 'a', now)
    end
    if any then index(ids, first) end
    local cut = nil
    local over = redis.call('XLEN', events) - length
    if over > math.floor(length / 8) then
        local old = redis.call('XRANGE', events, '-', '+', 'COUNT', over)
        cut = old[#old][1]
    end
    if math.floor(last / 16) > math.floor((first - 1) / 16) then
        for i = 1, 64 do
            local from = '-'
            if cut then from = '(' .. cut end
            local oldest = redis.call('XRANGE', events, from, '+', 'COUNT', 1)[1]
            if not oldest or tonumber(oldest[2][4]) + age >= tonumber(now) then break end
            cut = oldest[1]
        end
    end
    if cut then
        local trimmed = string.match(cut, '%%d+')
        redis.call('XTRIM', events, 'MINID', text(tonumber(trimmed) + 1))
        redis.call('HSET', channel, 'trimmed', trimmed)
        redis.call('ZREMRANGEBYRANK', ids, 0, text(-2 * length - 101))
    end
    redis.call('HSET', channel, 'last', text(last), 'ended', ends and text(last) or '0')
    if redis.call('PTTL', events) < least + least / 16 then
        redis.call('PEXPIRE', events, text(least + least / 8))
        redis.call('PEXPIRE', channel, forgotten)
    end
    for i = 1, count do
        redis.call(verb, pubsub, head .. text(first + i - 1) .. '", ' .. ARGV[before + i])
    end
end

local last = redis.call('HINCRBY', KEYS[1], 'seq', channels * count)
local first = last - channels * count + 1
for i = 1, channels do
    append(KEYS[3 * i - 1], KEYS[3 * i], KEYS[3 * i + 1], ARGV[i + 2], first + (i - 1) * count)
end
if verb == 'SPUBLISH' then redis.call('PEXPIRE', KEYS[1], forgotten) end
return state[2] .. '-' .. text(first)
"""


@dataclass(frozen=True, slots=True)
class Script:
    """The publishing script for one run of a server."""

    text: str = ""
    """Empty: for none that we know of."""
    sha: str = ""
    """Its SHA-1, by which it is called."""

    @classmethod
    def of(cls, run_id: str, *, may_outlive: bool) -> Script:
        """The script for a run. ``may_outlive`` is true where another run may know it."""
        text = _PUBLISH % (run_id, _ASK_RUN if may_outlive else "")
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
