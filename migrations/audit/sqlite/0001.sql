-- Lines of the audit trail. The columns beside the line are an index of it. Times are nanoseconds since 1970.

CREATE TABLE chain (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    last_seq INTEGER NOT NULL,
    last_hash BLOB NOT NULL,
    last_time INTEGER NOT NULL,
    -- Lines up to this number were deleted by retention.
    retained_seq INTEGER NOT NULL,
    -- Lines that are stored.
    lines INTEGER NOT NULL,
    -- 1 if the last line is a system.stop.
    ended INTEGER NOT NULL
) STRICT;

-- Ranges of a chain that its writer has declared as lost. Import fills them.
CREATE TABLE missing (
    chain INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (chain, first_seq)
) STRICT, WITHOUT ROWID;

-- Texts that many lines have. One that no line has any more is deleted with the last line that had it.
CREATE TABLE name (
    key INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE secret (
    key INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

CREATE TABLE event (
    -- AUTOINCREMENT: a deleted position is never given out again, because followers continue after a position.
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The 16 bytes of a UUID, or another text as it is. So is request_uid.
    id ANY,
    chain INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    -- 0: received from the writer; 1: imported, between confirmed lines; 2: imported, confirmed on one side.
    provenance INTEGER NOT NULL,
    class TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    -- Keys of names. NULL if the record has none.
    actor INTEGER,
    actor_uid INTEGER,
    namespace INTEGER,
    request_uid ANY,
    line TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX event_chain ON event (chain, seq);
CREATE INDEX event_chain_time ON event (chain, time);
CREATE INDEX event_time ON event (time);
CREATE INDEX event_id ON event (id) WHERE id IS NOT NULL;
CREATE INDEX event_actor ON event (actor, time) WHERE actor IS NOT NULL;
CREATE INDEX event_actor_uid ON event (actor_uid, time) WHERE actor_uid IS NOT NULL;
CREATE INDEX event_namespace ON event (namespace, time) WHERE namespace IS NOT NULL;
CREATE INDEX event_request_uid ON event (request_uid) WHERE request_uid IS NOT NULL;
CREATE INDEX event_refused ON event (time) WHERE outcome <> 'success';
CREATE INDEX event_imported ON event (chain, seq) WHERE provenance <> 0;

CREATE TABLE event_secret (
    secret INTEGER NOT NULL,
    time INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (secret, time, position)
) STRICT, WITHOUT ROWID;

-- Lines that a checkpoint, or the start of the next process in the pod, confirms. Chains by id: one need not be stored.
CREATE TABLE checkpoint (
    chain TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    -- Record that confirms the line.
    position INTEGER NOT NULL,
    PRIMARY KEY (chain, seq, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX checkpoint_position ON checkpoint (position);
