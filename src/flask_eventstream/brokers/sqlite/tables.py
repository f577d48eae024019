"""The tables of a SQLite log."""

from __future__ import annotations

__all__ = ["SCHEMA"]

#: Statements, each harmless where it was executed before.
SCHEMA = """
CREATE TABLE IF NOT EXISTS sse_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- over all channels, never used twice
    channel TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    kind INTEGER NOT NULL DEFAULT 0,             -- see _KINDS in log.py
    data TEXT, type TEXT, id TEXT, retry INTEGER,
    exclude TEXT,                                -- the client that does not get it
    repeats INTEGER NOT NULL DEFAULT 0           -- 1: the channel had an event of this id before
);
CREATE INDEX IF NOT EXISTS sse_events_of_channel ON sse_events (channel, sequence);
CREATE INDEX IF NOT EXISTS sse_events_by_id ON sse_events (id, channel) WHERE id IS NOT NULL;
CREATE TABLE IF NOT EXISTS sse_channels (
    channel TEXT PRIMARY KEY,
    stored INTEGER NOT NULL,                     -- events in the file, roughly
    trimmed INTEGER NOT NULL DEFAULT 0,          -- greatest sequence that was removed
    ended INTEGER NOT NULL DEFAULT 0,            -- sequence of the end, 0 while it goes on
    touched_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_epochs (
    epoch TEXT PRIMARY KEY,
    boot TEXT NOT NULL, inode INTEGER NOT NULL,  -- what it is bound to
    began_ms INTEGER NOT NULL,
    last INTEGER                                 -- its last sequence; NULL: it goes on
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_records (         -- what is remembered beside the log
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sse_records_by_end ON sse_records (until_ms);
CREATE TABLE IF NOT EXISTS sse_owners (          -- processes that say what they have
    owner TEXT PRIMARY KEY,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_shares (          -- of channels
    channel TEXT NOT NULL, owner TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (channel, owner)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sse_shares_of_owner ON sse_shares (owner);
CREATE TABLE IF NOT EXISTS sse_log (             -- one row
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL DEFAULT '',              -- the one that goes on
    floor INTEGER NOT NULL DEFAULT 0,            -- greatest `trimmed` of a forgotten channel
    length INTEGER NOT NULL, age_s REAL NOT NULL -- the retention that the application asked for
);
"""
