-- Objects whose authors ask for the secrets of later objects, and records whose requesters are looked for.

-- Successful admissions of workloads, Namespaces and ServiceAccounts. The namespace of a Namespace is its name.
CREATE TABLE event_object (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Name; if the API server generates it, the prefix of the name and an asterisk.
    name TEXT NOT NULL,
    time INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind, name, time, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE unattributed (
    position INTEGER PRIMARY KEY,
    -- Time of the first attempt that did not find the requester; NULL before it.
    since INTEGER
) STRICT;

-- A target by its index in the record takes less room than by its names. Nothing has written the table before.
DROP TABLE attribution;

-- Requesters of attributions. One without any more is deleted with the last of them.
CREATE TABLE requester (
    key INTEGER PRIMARY KEY,
    username TEXT NOT NULL,
    uid TEXT NOT NULL,
    UNIQUE (username, uid)
) STRICT;

CREATE TABLE attribution (
    position INTEGER NOT NULL,
    target INTEGER NOT NULL,
    -- Key of the requester; NULL if it is not known.
    requester INTEGER,
    -- Record in which the requester asked. It may be deleted earlier.
    source_position INTEGER,
    -- Why the requester is not known.
    reason TEXT,
    PRIMARY KEY (position, target)
) STRICT, WITHOUT ROWID;

CREATE INDEX attribution_requester ON attribution (requester) WHERE requester IS NOT NULL;

CREATE TRIGGER attribution_deleted AFTER DELETE ON attribution
WHEN OLD.requester IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attribution WHERE requester = OLD.requester)
BEGIN
    DELETE FROM requester WHERE key = OLD.requester;
END;

INSERT INTO event_object (namespace, kind, name, time, position)
SELECT namespace, kind, CASE WHEN name <> '' THEN name ELSE prefix || '*' END, time, position
FROM (
    SELECT
        CASE
            WHEN json_type(line, '$.object.namespace') = 'text' THEN namespace
            WHEN line ->> '$.object.kind' = 'Namespace' THEN namespace
            ELSE ''
        END AS namespace,
        CASE json_type(line, '$.object.kind') WHEN 'text' THEN line ->> '$.object.kind' ELSE '' END AS kind,
        CASE json_type(line, '$.object.name') WHEN 'text' THEN line ->> '$.object.name' ELSE '' END AS name,
        CASE json_type(line, '$.object.generate_name') WHEN 'text' THEN line ->> '$.object.generate_name' ELSE '' END
            AS prefix,
        time,
        position
    FROM (
        SELECT coalesce((SELECT text FROM name WHERE key = e.namespace), '') AS namespace, action, outcome, line, time,
            position
        FROM event AS e
    )
    WHERE action IN ('workload.admit', 'defaults.admit') AND outcome = 'success'
)
WHERE namespace <> '' AND kind <> '' AND name || prefix <> '';

INSERT INTO unattributed (position)
SELECT e.position
FROM event AS e
WHERE e.action IN ('pod.admit', 'workload.admit')
    AND e.outcome = 'success'
    AND json_type(e.line, '$.targets') = 'array'
    AND json_array_length(e.line, '$.targets') > 0
    AND (
        json_type(e.line, '$.object.owner') = 'object'
        OR EXISTS (
            SELECT 1
            FROM json_each(e.line, '$.targets') AS t
            WHERE CASE t.type WHEN 'object' THEN t.value ->> '$.origin' END IN ('namespace', 'serviceaccount')
        )
    );
