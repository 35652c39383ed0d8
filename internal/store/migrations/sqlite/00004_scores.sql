-- +goose Up
-- Snapshots of what was fitted to all customers together, by version: the newest decides. body is JSON.
CREATE TABLE scores (
  version  INTEGER NOT NULL PRIMARY KEY,
  at       INTEGER NOT NULL,
  saved_at INTEGER NOT NULL,
  body     BLOB NOT NULL
);
