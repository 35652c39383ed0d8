-- +goose Up
-- The conditions of the partial indexes with OR where they had lists: for a list of more than two SQLite makes a table of its own,
-- and it did so for each delivery written. An index may be replaced here, where no other release works on the database.
DROP INDEX deliveries_due;
DROP INDEX deliveries_aside;
DROP INDEX deliveries_slot;
DROP INDEX deliveries_key;
CREATE INDEX deliveries_due ON deliveries (destination, due_at, state) WHERE (state = 'due' OR state = 'retrying' OR state = 'sending');
CREATE INDEX deliveries_aside ON deliveries (state, no) WHERE (state = 'held' OR state = 'parked' OR state = 'dead');
CREATE UNIQUE INDEX deliveries_slot ON deliveries (slot) WHERE slot <> ''
  AND (state = 'held' OR state = 'due' OR state = 'sending' OR state = 'retrying' OR state = 'parked');
CREATE INDEX deliveries_key ON deliveries (customer_id, key) WHERE key <> ''
  AND (state = 'held' OR state = 'due' OR state = 'sending' OR state = 'retrying' OR state = 'parked' OR state = 'delivered');
