-- Requesters behind a controller, for each secret of a record. Derived from other records, and not part of a chain.

CREATE TABLE attribution (
    position INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Requester; NULL if it is not known.
    asked_by TEXT,
    asked_by_uid TEXT,
    -- Record in which the requester asked.
    source_position INTEGER,
    -- Why the requester is not known.
    reason TEXT,
    PRIMARY KEY (position, namespace, name)
) STRICT, WITHOUT ROWID;
