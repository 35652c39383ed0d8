-- +goose Up
-- Since when a subject is in a model, whichever stage it came into first, and whether the model found it there (adopted): then it
-- cannot be told how long it had been. 0 is not known.
ALTER TABLE stages ADD COLUMN entered_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stages ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0;
UPDATE stages SET entered_at = CASE WHEN decided_by = 'initial' THEN since
  ELSE min(since, coalesce((SELECT c.first_event_at - 1000 FROM customers c WHERE c.id = stages.customer_id), since)) END;

-- Customers who were merged into one that stood nowhere in the model: their transitions there are the survivor's.
CREATE TABLE inherited (
  from_id TEXT NOT NULL,
  model   TEXT NOT NULL,
  into_id TEXT NOT NULL,
  PRIMARY KEY (from_id, model)
) WITHOUT ROWID;

-- What follows is read by other programs (Tableau, Metabase, Excel): names and columns stay, and may be added to. Names that begin
-- with stagewire_ are documented by `stagewire schema --views`; those that begin with counted_ are their parts. Times are ISO 8601 text, in UTC.

-- Transitions as they count: those of customers who were merged into another one only where that one took them over.
CREATE VIEW counted_moves AS
  SELECT t.no, t.id, t.subject_kind, coalesce(i.into_id, t.subject_id) AS subject_id,
    CASE WHEN i.into_id IS NOT NULL THEN i.into_id
      WHEN t.subject_kind = 'deal' THEN coalesce((SELECT c.merged_into FROM customers c WHERE c.id = t.customer_id AND c.merged_into <> ''), t.customer_id)
      ELSE t.customer_id END AS customer_id,
    t.model, t.version, t.from_stage, t.to_stage, t.at, t.decided_at, t.cause_type, t.passing
  FROM transitions t LEFT JOIN inherited i ON i.from_id = t.subject_id AND i.model = t.model
  WHERE i.into_id IS NOT NULL OR t.subject_kind = 'deal' OR t.subject_id NOT IN (SELECT c.id FROM customers c WHERE c.merged_into <> '');

-- Stages as they count: those of merged customers are history.
CREATE VIEW counted_stages AS
  SELECT s.customer_id, s.subject_kind, s.subject_id, s.model, s.version, s.stage, s.since, s.decided_by, s.wakes_at,
    CASE WHEN s.entered_at = 0 THEN s.since ELSE s.entered_at END AS entered_at, s.adopted
  FROM stages s WHERE s.customer_id NOT IN (SELECT c.id FROM customers c WHERE c.merged_into <> '');

CREATE VIEW stagewire_customers AS
  SELECT c.id AS customer_id, c.kind, strftime('%Y-%m-%dT%H:%M:%fZ', nullif(c.first_event_at, -62135596800000000) / 1000000.0, 'unixepoch') AS first_event_at, strftime('%Y-%m-%dT%H:%M:%fZ', c.created_at / 1000000.0, 'unixepoch') AS created_at, strftime('%Y-%m-%dT%H:%M:%fZ', c.updated_at / 1000000.0, 'unixepoch') AS updated_at
  FROM customers c WHERE c.merged_into = '';

CREATE VIEW stagewire_customers_personal AS
  SELECT c.id AS customer_id, c.name, c.email, c.tags FROM customers c WHERE c.merged_into = '';

CREATE VIEW stagewire_stages_now AS
  SELECT s.customer_id, s.subject_kind, s.subject_id, s.model, s.version AS model_version, s.stage, strftime('%Y-%m-%dT%H:%M:%fZ', s.since / 1000000.0, 'unixepoch') AS since, s.decided_by,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.entered_at / 1000000.0, 'unixepoch') AS in_model_since, s.adopted, strftime('%Y-%m-%dT%H:%M:%fZ', s.wakes_at / 1000000.0, 'unixepoch') AS wakes_at
  FROM counted_stages s;

CREATE VIEW stagewire_stage_counts AS
  SELECT s.model, s.subject_kind, s.stage, count(*) AS customers FROM counted_stages s GROUP BY s.model, s.subject_kind, s.stage;

CREATE VIEW stagewire_transitions AS
  SELECT m.id AS transition_id, m.customer_id, m.subject_kind, m.subject_id, m.model, m.version AS model_version, m.from_stage, m.to_stage,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.at / 1000000.0, 'unixepoch') AS at, date(m.at / 1000000, 'unixepoch') AS day, strftime('%Y-%m-%dT%H:%M:%fZ', m.decided_at / 1000000.0, 'unixepoch') AS decided_at, m.cause_type AS cause, m.passing
  FROM counted_moves m;

CREATE VIEW stagewire_stays AS
  SELECT t.customer_id, t.subject_kind, t.subject_id, t.model, t.stage, strftime('%Y-%m-%dT%H:%M:%fZ', t.at / 1000000.0, 'unixepoch') AS entered_at, strftime('%Y-%m-%dT%H:%M:%fZ', t.left_at / 1000000.0, 'unixepoch') AS left_at, t.next_stage,
    (t.left_at - t.at) / 1000000 AS seconds, t.adopted,
    CASE WHEN t.no = 0 AND t.adopted = 0 AND t.left_at - t.at <= 1000 THEN 1 ELSE 0 END AS at_once
  FROM (
    SELECT r.customer_id, r.subject_kind, r.subject_id, r.model, r.no, r.adopted, r.left_at, r.next_stage,
      CASE WHEN r.no = 0 AND r.left_at < r.at THEN r.left_at ELSE r.at END AS at,
      CASE WHEN r.no = 0 THEN coalesce(r.next_from, r.stage) ELSE r.stage END AS stage
    FROM (
      SELECT a.*, lead(a.at) OVER w AS left_at, lead(a.stage) OVER w AS next_stage, lead(a.from_stage) OVER w AS next_from
      FROM (
        SELECT s.customer_id, s.subject_kind, s.subject_id, s.model, 0 AS no, s.adopted, s.entered_at AS at, NULL AS from_stage, s.stage FROM counted_stages s
        UNION ALL
        SELECT m.customer_id, m.subject_kind, m.subject_id, m.model, m.no, 0, m.at, m.from_stage, m.to_stage FROM counted_moves m
      ) a
      WINDOW w AS (PARTITION BY a.model, a.subject_kind, a.subject_id ORDER BY a.no)
    ) r
  ) t;

CREATE VIEW stagewire_flow_daily AS
  SELECT date(f.day * 86400, 'unixepoch') AS day, f.model, f.subject_kind, f.from_stage, f.to_stage, f.moves, f.customers
  FROM (
    SELECT m.at / 86400000000 AS day, m.model, m.subject_kind, m.from_stage, m.to_stage, count(*) AS moves, count(DISTINCT m.subject_id) AS customers
    FROM counted_moves m GROUP BY 1, 2, 3, 4, 5
  ) f;
