-- Second passes: records of pods that the API server sent again, so that queries have each use once.

-- Uses whose pod had an annotation audit.floe.dev/event.
CREATE TABLE found_event (
    -- The annotation in the form of event.request_uid, which it names if nobody forged it.
    request_uid ANY NOT NULL,
    time INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (request_uid, time, position)
) STRICT, WITHOUT ROWID;

-- Second passes with their first ones. Derived from the two records, and not part of a chain.
CREATE TABLE second_pass (
    position INTEGER PRIMARY KEY,
    first_position INTEGER NOT NULL UNIQUE
) STRICT;

INSERT INTO found_event (request_uid, time, position)
SELECT
    CASE
        WHEN found = lower(found) AND found LIKE '________-____-____-____-____________' AND length(unhex(found, '-')) = 16
            THEN unhex(found, '-')
        ELSE found
    END,
    time,
    position
FROM (
    SELECT
        CASE json_type(line, '$.request.found_event') WHEN 'text' THEN line ->> '$.request.found_event' ELSE '' END
            AS found,
        time,
        position,
        line
    FROM event
    WHERE action = 'pod.admit' AND outcome = 'success'
)
WHERE found <> ''
    AND json_type(line, '$.targets') = 'array'
    AND EXISTS (
        SELECT 1
        FROM json_each(line, '$.targets') AS t
        WHERE CASE t.type WHEN 'object' THEN json_type(t.value, '$.name') = 'text' AND t.value ->> '$.name' <> '' END
    );

INSERT INTO second_pass (position, first_position)
SELECT position, first_position
FROM (
    SELECT
        f.position,
        first.position AS first_position,
        row_number() OVER (PARTITION BY first.position ORDER BY f.time, f.position) AS number
    FROM found_event AS f
    CROSS JOIN event AS second ON second.position = f.position
    CROSS JOIN event AS first INDEXED BY event_request_uid ON first.request_uid = f.request_uid
    WHERE first.action = 'pod.admit'
        AND first.outcome = 'success'
        AND coalesce(json_type(first.line, '$.request.found_event'), '') <> 'text'
        AND second.time - first.time BETWEEN -5000000000 AND 29999999999
        AND second.actor IS first.actor
        AND second.actor_uid IS first.actor_uid
        AND second.namespace IS first.namespace
        AND second.line -> '$.object' IS first.line -> '$.object'
        AND second.line -> '$.part' IS first.line -> '$.part'
        AND second.line -> '$.targets' IS first.line -> '$.targets'
)
WHERE number = 1;
