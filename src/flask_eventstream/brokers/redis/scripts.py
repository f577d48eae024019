"""Where a log lies in Redis, and the two scripts that write it.

Keys, each with the configured prefix, ``sse:`` by default:

``log``
    A hash, the log itself: ``epoch``, ``seq`` (of the last event, over all channels), ``run``
    (the server process in which the epoch began), ``past`` (earlier epochs and where they ended),
    and the retention. One for all channels, and the only key that never expires. In a cluster,
    where keys of different channels lie on different nodes, ``log:{CHANNEL}``: each channel is a
    log of its own, gone after thirty ages.
``events:{CHANNEL}``
    A stream: the last events of a channel, up to an eighth more than the retention's length (XTRIM
    is cheap on many, and 17 µs each on one). Gone after the retention's age and an eighth: so its
    end is put off now and then, and not by every event. Every sixteenth event removes what expired;
    readers are never given it anyway.
``channel:{CHANNEL}``
    A hash: ``last`` sequence, ``trimmed`` up to, ``ended`` at. Gone after thirty ages.

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

__all__ = ["NEEDS_OPENING", "OPEN", "Keys", "publish_script"]

#: How the publishing script's error begins where the log must be opened first.
NEEDS_OPENING = "SSEOPEN"


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys, made of a prefix."""

    prefix: str
    is_cluster: bool = False
    """True where each channel has a log of its own, in its own slot."""

    def of(self, channel: str) -> tuple[str, str, str]:
        """What the publishing script wants."""
        return self.log(channel), self.events(channel), self.channel(channel)

    def log(self, channel: str) -> str:
        """The hash of the log that a channel is in."""
        return f"{self.prefix}log:{{{channel}}}" if self.is_cluster else f"{self.prefix}log"

    def events(self, channel: str) -> str:
        """The stream of a channel's events."""
        return f"{self.prefix}events:{{{channel}}}"

    def channel(self, channel: str) -> str:
        """What is known of a channel."""
        return f"{self.prefix}channel:{{{channel}}}"


#: KEYS: log. ARGV: run id, a new epoch's name, "1" where acknowledged writes survive a restart,
#: history length and age in ms ("" to keep those that are there), defaults for both, "1" where the
#: log is one channel's.
OPEN = """
local state = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'seq', 'past')
if not state[2] then
    local time = redis.call('TIME')
    local seq = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
    redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', ARGV[2], 'seq', seq, 'past', '')
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
    redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', ARGV[2], 'past', past)
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

_ASK_RUN = """
if not string.find(redis.call('INFO', 'server'), 'run_id:' .. run, 1, true) then
    return redis.error_reply('SSEOPEN the script is of another run')
end"""

#: KEYS: log, events, channel. ARGV: body of the message, channel, "1" for the channel's end,
#: PUBLISH or SPUBLISH.
_PUBLISH = """
local run = '%s'%s
local state = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'length', 'age')
if state[1] ~= run then return redis.error_reply('SSEOPEN the log is not open') end
local length, age = tonumber(state[3]), tonumber(state[4])
local time = redis.call('TIME')
local now = string.format('%%d', time[1] * 1000 + math.floor(time[2] / 1000))
local seq = string.format('%%d', redis.call('HINCRBY', KEYS[1], 'seq', 1))
local id = seq .. '-0'
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', id, 'm', ARGV[1], 'a', now) then
    redis.call('XADD', KEYS[2], id, 'm', ARGV[1], 'a', now)
    local last = redis.call('HGET', KEYS[3], 'last')
    if last then redis.call('HSET', KEYS[3], 'trimmed', last) end
end
local cut = nil
local over = redis.call('XLEN', KEYS[2]) - length
if over > math.floor(length / 8) then
    local old = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', over)
    cut = old[#old][1]
end
if tonumber(seq) %% 16 == 0 then
    for i = 1, 64 do
        local from = '-'
        if cut then from = '(' .. cut end
        local oldest = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 1)[1]
        if not oldest or tonumber(oldest[2][4]) + age >= tonumber(now) then break end
        cut = oldest[1]
    end
end
if cut then
    local trimmed = string.match(cut, '%%d+')
    redis.call('XTRIM', KEYS[2], 'MINID', string.format('%%d', tonumber(trimmed) + 1))
    redis.call('HSET', KEYS[3], 'trimmed', trimmed)
end
redis.call('HSET', KEYS[3], 'last', seq, 'ended', ARGV[3] == '1' and seq or '0')
local least = math.max(age, 1000)
if redis.call('PTTL', KEYS[2]) < least + least / 16 then
    redis.call('PEXPIRE', KEYS[2], string.format('%%d', least + least / 8))
    redis.call('PEXPIRE', KEYS[3], string.format('%%d', math.max(30 * age, 60000)))
end
local position = state[2] .. '-' .. seq
if ARGV[4] == 'SPUBLISH' then
    redis.call('PEXPIRE', KEYS[1], string.format('%%d', math.max(30 * age, 60000)))
end
redis.call(ARGV[4], ARGV[2], '{"id":"' .. position .. '", ' .. ARGV[1])
return position
"""


def publish_script(run_id: str, *, may_outlive: bool) -> tuple[str, str]:
    """The publishing script for one run of a server, and its SHA-1, by which it is called.

    Args:
        run_id: The run's.
        may_outlive: True where another run may know the script.
    """
    text = _PUBLISH % (run_id, _ASK_RUN if may_outlive else "")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
