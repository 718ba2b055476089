-- Lines of the audit trail. The columns beside the line are an index of it. Times are nanoseconds since 1970. All tables
-- are in a schema of their own, which the search path names.

-- One row: marks the schema as a store.
CREATE TABLE store (
    is_store boolean PRIMARY KEY DEFAULT true CHECK (is_store),
    -- Of this store: a database that was replaced by another one has another id, or none.
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    version integer NOT NULL,
    -- Of the last line. A deleted position is never given out again, because followers continue after a position.
    last_position bigint NOT NULL DEFAULT 0,
    -- Of the lines and their index, as counted by this program: deleted lines leave files as large as they are.
    bytes bigint NOT NULL DEFAULT 0
);

CREATE TABLE chain (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    last_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    last_time bigint NOT NULL,
    -- Lines up to this number were deleted by retention.
    retained_seq bigint NOT NULL,
    -- Lines that are stored.
    lines bigint NOT NULL,
    -- Whether the last line is a system.stop.
    ended boolean NOT NULL
);

-- Ranges of a chain that its writer has declared as lost. Import fills them.
CREATE TABLE missing (
    chain bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (chain, first_seq)
);

CREATE TABLE event (
    -- Given out by the row of the store, in the order of commits.
    position bigint PRIMARY KEY,
    -- NULL if the record has none. So are actor, actor_uid, namespace and request_uid.
    id text,
    chain bigint NOT NULL,
    seq bigint NOT NULL,
    time bigint NOT NULL,
    -- 0: received from the writer; 1: imported, between confirmed lines; 2: imported, confirmed on one side.
    provenance smallint NOT NULL,
    class text NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL,
    actor text,
    actor_uid text,
    namespace text,
    request_uid text,
    line text NOT NULL
);

CREATE UNIQUE INDEX event_chain ON event (chain, seq);
CREATE INDEX event_chain_time ON event (chain, time, position);
CREATE INDEX event_time ON event (time, position);
CREATE INDEX event_id ON event (id) WHERE id IS NOT NULL;
CREATE INDEX event_actor ON event (actor, time, position) WHERE actor IS NOT NULL;
CREATE INDEX event_actor_uid ON event (actor_uid, time, position) WHERE actor_uid IS NOT NULL;
CREATE INDEX event_namespace ON event (namespace, time, position) WHERE namespace IS NOT NULL;
CREATE INDEX event_request_uid ON event (request_uid) WHERE request_uid IS NOT NULL;
CREATE INDEX event_refused ON event (time, position) WHERE outcome <> 'success';
CREATE INDEX event_imported ON event (chain, seq) WHERE provenance <> 0;

CREATE TABLE event_secret (
    namespace text NOT NULL,
    name text NOT NULL,
    time bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (namespace, name, time, position)
);

-- Lines that a checkpoint, or the start of the next process in the pod, confirms. Chains by id: one need not be stored.
CREATE TABLE checkpoint (
    chain text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    -- Record that confirms the line.
    position bigint NOT NULL,
    PRIMARY KEY (chain, seq, position)
);

CREATE INDEX checkpoint_position ON checkpoint (position);

-- Successful admissions of workloads, Namespaces and ServiceAccounts. The namespace of a Namespace is its name.
CREATE TABLE event_object (
    namespace text NOT NULL,
    kind text NOT NULL,
    -- Name; if the API server generates it, the prefix of the name and an asterisk.
    name text NOT NULL,
    time bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (namespace, kind, name, time, position)
);

-- Records whose requesters are looked for.
CREATE TABLE unattributed (
    position bigint PRIMARY KEY,
    -- Time of the first attempt that did not find the requester; NULL before it.
    since bigint
);

-- Requesters behind a controller, for each secret of a record. Derived from other records, and not part of a chain.
CREATE TABLE attribution (
    position bigint NOT NULL,
    target integer NOT NULL,
    -- Requester; NULL if it is not known.
    username text,
    uid text,
    -- Record in which the requester asked. It may be deleted earlier.
    source_position bigint,
    -- Why the requester is not known.
    reason text,
    PRIMARY KEY (position, target)
);

-- Uses whose pod had an annotation audit.floe.dev/event.
CREATE TABLE found_event (
    -- The annotation, which names event.request_uid if nobody forged it.
    request_uid text NOT NULL,
    time bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (request_uid, time, position)
);

-- Second passes with their first ones. Derived from the two records, and not part of a chain.
CREATE TABLE second_pass (
    position bigint PRIMARY KEY,
    first_position bigint NOT NULL UNIQUE
);

INSERT INTO store (version) VALUES (0);
