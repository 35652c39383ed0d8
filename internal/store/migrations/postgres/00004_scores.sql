-- +goose Up
-- Snapshots of what was fitted to all customers together, by version: the newest decides. body is JSON.
CREATE TABLE scores (
  version  BIGINT NOT NULL PRIMARY KEY,
  at       BIGINT NOT NULL,
  saved_at BIGINT NOT NULL,
  body     BYTEA NOT NULL
);
