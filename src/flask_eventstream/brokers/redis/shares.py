"""What processes say of channels, in Redis: a hash for each, which expires with its process.

All of them lie in one slot of a cluster. Each script is a step of microseconds, as long as an owner
says a few hundred things at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["HOME", "share_command", "shares_command", "unshare_command"]

#: In whose slot they lie.
HOME = "shares"

#: KEYS: owners, the owner's hash. ARGV: owner, milliseconds, "1" for the whole, then channels and
#: texts. The empty field keeps a hash alive that has nothing to say.
_SHARE = """
if ARGV[3] == '1' then
    redis.call('DEL', KEYS[2])
elseif redis.call('EXISTS', KEYS[2]) == 0 then
    return 0
end
redis.call('HSET', KEYS[2], '', '')
for i = 4, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        redis.call('HDEL', KEYS[2], ARGV[i])
    else
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

#: KEYS: owners, the owner's hash. ARGV: owner.
_UNSHARE = """
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[1], ARGV[1])
"""

#: KEYS: owners. ARGV: a channel. An owner's hash is named by the owner behind the key of all.
_SHARES = """
local said = {}
for _, owner in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local key = KEYS[1] .. ':' .. owner
    local text = redis.call('HGET', key, ARGV[1])
    if text then
        said[#said + 1] = text
    elseif redis.call('EXISTS', key) == 0 then
        redis.call('SREM', KEYS[1], owner)
    end
end
return said
"""


def share_command(
    owners: str, owner: str, changed: Mapping[str, str], *, for_s: float, whole: bool
) -> tuple[Any, ...]:
    """Says what an owner has; answers 0 where the rest is gone."""
    said = [part for channel_and_text in changed.items() for part in channel_and_text]
    for_ms = max(1, int(for_s * 1000))
    keys = (owners, f"{owners}:{owner}")
    return ("EVAL", _SHARE, 2, *keys, owner, for_ms, "1" if whole else "0", *said)


def unshare_command(owners: str, owner: str) -> tuple[Any, ...]:
    """Takes away what an owner said."""
    return ("EVAL", _UNSHARE, 2, owners, f"{owners}:{owner}", owner)


def shares_command(owners: str, channel: str) -> tuple[Any, ...]:
    """Asks what all owners say of a channel."""
    return ("EVAL", _SHARES, 1, owners, channel)
