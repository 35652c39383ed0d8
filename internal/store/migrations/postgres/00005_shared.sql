-- +goose Up
-- Who has which address, phone, e-mail address or device, for shared() in rules: hash stands for what it is. A row without a
-- customer is there to be locked, so that two who get the same at one time see each other.
CREATE TABLE shared (
  what        TEXT COLLATE "C" NOT NULL,
  hash        TEXT COLLATE "C" NOT NULL,
  customer_id TEXT COLLATE "C" NOT NULL,
  mention     TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (what, hash, customer_id)
);
CREATE INDEX shared_customer ON shared (customer_id) WHERE customer_id <> '';
