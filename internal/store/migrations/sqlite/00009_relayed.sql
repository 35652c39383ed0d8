-- +goose Up
-- What is published is known by the position of the last row that was: a row of the outbox is written once and has no index for it. The
-- table remembers what had been published when (store/relay.go), which the relay asks for at its start. published_at is when a row came
-- into the feed: it goes by that how long it stays there.
CREATE TABLE relayed (
  position INTEGER PRIMARY KEY,
  at       INTEGER NOT NULL
);
-- What was published ten minutes before the last and earlier, and what was until now.
INSERT INTO relayed SELECT max(position), 0 FROM outbox
  WHERE subject <> '' AND published_at > 0 AND published_at < (SELECT max(published_at) FROM outbox WHERE subject <> '') - 600000000
  HAVING max(position) IS NOT NULL;
INSERT OR REPLACE INTO relayed SELECT max(position), max(published_at) FROM outbox
  WHERE published_at > 0 AND position < (SELECT coalesce(min(position), 9223372036854775807) FROM outbox WHERE subject <> '' AND published_at = 0)
  HAVING max(position) IS NOT NULL;
DROP INDEX outbox_published;
UPDATE outbox SET published_at = CAST(strftime('%s', 'now') AS INTEGER) * 1000000 WHERE published_at = 0;
