-- Indexes of records that are rare, so that a query of them does not read all others of its range.

CREATE INDEX event_rare_action ON event (action, time) WHERE action <> 'pod.admit';
CREATE INDEX event_rare_class ON event (class, time) WHERE class <> 'injection';

-- With the outcome, so that refusals of one kind are counted and found without their lines.
DROP INDEX event_refused;
CREATE INDEX event_refused ON event (outcome, time) WHERE outcome <> 'success';

-- From here on, a negative target in an attribution stands for so many first targets, with one requester: usually all of
-- a record.
