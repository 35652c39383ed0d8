-- +goose Up
-- Values sent to a field or as a tag by attempts that were not seen to end: a JSON list, or nothing.
ALTER TABLE desired ADD COLUMN tried TEXT COLLATE "C" NOT NULL DEFAULT '';
