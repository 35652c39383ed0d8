-- +goose Up
-- looks_at is when the poll for wake-ups looks at the row: never later than wakes_at, so that none is missed, but often earlier. Each
-- event of an active customer moves her wake-up later; as long as only wakes_at knows, no index is touched. Where the poll finds a row
-- whose wake-up lies ahead, or is gone, it moves looks_at there (store/wake.go). A row with a wake-up always has a looks_at. The index
-- is replaced by another, as those of 00007 were: no other release works on the database.
ALTER TABLE stages ADD COLUMN looks_at INTEGER;
DROP INDEX stages_wakes;
UPDATE stages SET looks_at = wakes_at WHERE wakes_at IS NOT NULL;
CREATE INDEX stages_looks ON stages (model, looks_at) WHERE looks_at IS NOT NULL;
