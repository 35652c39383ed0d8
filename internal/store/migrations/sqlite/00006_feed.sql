-- +goose Up
-- A row of the outbox has its position from the beginning. One with a subject is published when published_at is set, one without
-- counts as published when it is written. Rows that waited for the relay get here what they would have got from it.
UPDATE outbox SET position = w.position, published_at = CASE WHEN subject = '' THEN CAST(strftime('%s', 'now') AS INTEGER) * 1000000 ELSE 0 END
  FROM (SELECT no AS waiting, row_number() OVER (ORDER BY no) + max(coalesce((SELECT max(o.position) FROM outbox o), 0),
      coalesce((SELECT CAST(s.value AS INTEGER) FROM settings s WHERE s.key = 'feed.floor'), 0)) AS position
    FROM outbox WHERE position IS NULL) w
  WHERE outbox.no = w.waiting;
DROP INDEX outbox_waiting;
CREATE INDEX outbox_published ON outbox (published_at) WHERE subject <> '';
