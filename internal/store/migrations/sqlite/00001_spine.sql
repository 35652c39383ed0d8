-- +goose Up
-- Times are microseconds since 1970 UTC (the zero time is Go's, far below zero). Fat rows live in rowid tables, which grow at
-- their end; only what is found by key has an index, because every index costs a random page per event.

CREATE TABLE customers (
  no             INTEGER PRIMARY KEY,
  id             TEXT NOT NULL UNIQUE,
  kind           TEXT NOT NULL,
  sequence       INTEGER NOT NULL,
  first_event_at INTEGER NOT NULL,
  decided_at     INTEGER NOT NULL,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL,
  merged_into    TEXT NOT NULL,
  name           TEXT NOT NULL,
  email          TEXT NOT NULL,
  tags           TEXT NOT NULL,
  previous       TEXT NOT NULL
);
CREATE INDEX customers_merged ON customers (merged_into) WHERE merged_into <> '';

CREATE TABLE profiles (
  no          INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,
  customer_id TEXT NOT NULL,
  connection  TEXT NOT NULL,
  key         TEXT NOT NULL,
  joined_into TEXT NOT NULL,
  identifiers TEXT NOT NULL,
  facts       BLOB NOT NULL
);
CREATE INDEX profiles_customer ON profiles (customer_id);

-- hash: 16 bytes of kind and value, then 4 of the connection, so that a value is found whoever issued it.
CREATE TABLE identifiers (
  hash        BLOB NOT NULL PRIMARY KEY,
  kind        TEXT NOT NULL,
  connection  TEXT NOT NULL,
  value       TEXT NOT NULL,
  flags       INTEGER NOT NULL,
  customer_id TEXT NOT NULL,
  profile_id  TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX identifiers_customer ON identifiers (customer_id);

-- One row per version of an event: the ledger and the history in one. Found by ids, which is entered late.
CREATE TABLE events (
  no          INTEGER PRIMARY KEY,
  id          TEXT NOT NULL,
  activation  INTEGER NOT NULL,
  fetch_no    INTEGER NOT NULL,
  profile_id  TEXT NOT NULL,
  customer_id TEXT NOT NULL,
  occurred_at INTEGER NOT NULL,
  known_from  INTEGER NOT NULL,
  known_until INTEGER,
  withdrawn   INTEGER NOT NULL,
  body        TEXT NOT NULL
);

-- Where the versions of an event (kind 1), a delivery (3) and a webhook (6) lie: hash is the first 8 bytes of the id's SHA-256.
CREATE TABLE ids (
  hash INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  no   INTEGER NOT NULL,
  PRIMARY KEY (hash, kind, no)
) WITHOUT ROWID;

-- Rows lie in the order of their making, as those of customers and profiles do: who came at the same time is written at the same time.
CREATE TABLE stages (
  no           INTEGER PRIMARY KEY,
  customer_id  TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_id   TEXT NOT NULL,
  model        TEXT NOT NULL,
  version      INTEGER NOT NULL,
  stage        TEXT NOT NULL,
  since        INTEGER NOT NULL,
  decided_by   TEXT NOT NULL,
  decided_at   INTEGER NOT NULL,
  wakes_at     INTEGER,
  path         BLOB,
  UNIQUE (customer_id, subject_kind, subject_id, model)
);
CREATE INDEX stages_wakes ON stages (model, wakes_at) WHERE wakes_at IS NOT NULL;

CREATE TABLE pins (
  subject_kind TEXT NOT NULL,
  subject_id   TEXT NOT NULL,
  model        TEXT NOT NULL,
  stage        TEXT NOT NULL,
  who          TEXT NOT NULL,
  why          TEXT NOT NULL,
  at           INTEGER NOT NULL,
  until        INTEGER NOT NULL,
  PRIMARY KEY (subject_id, model, subject_kind)
) WITHOUT ROWID;

CREATE TABLE transitions (
  no           INTEGER PRIMARY KEY,
  id           TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_id   TEXT NOT NULL,
  customer_id  TEXT NOT NULL,
  model        TEXT NOT NULL,
  version      INTEGER NOT NULL,
  from_stage   TEXT NOT NULL,
  to_stage     TEXT NOT NULL,
  at           INTEGER NOT NULL,
  decided_at   INTEGER NOT NULL,
  sequence     INTEGER NOT NULL,
  cause_type   TEXT NOT NULL,
  cause_id     TEXT NOT NULL,
  rule         INTEGER NOT NULL,
  passing      INTEGER NOT NULL,
  why          TEXT NOT NULL
);

CREATE TABLE merges (
  no         INTEGER PRIMARY KEY,
  from_id    TEXT NOT NULL,
  into_id    TEXT NOT NULL,
  at         INTEGER NOT NULL,
  decided_at INTEGER NOT NULL,
  reason     TEXT NOT NULL,
  event_id   TEXT NOT NULL,
  sequence   INTEGER NOT NULL
);

-- A customer's history: where her events (1), transitions (2), deliveries (3) and merges (4) lie, by no. What one event
-- brings lies in one page, where an index on each table would touch three. A merge moves the rows to the survivor.
CREATE TABLE moments (
  customer_id TEXT NOT NULL,
  at          INTEGER NOT NULL,
  kind        INTEGER NOT NULL,
  no          INTEGER NOT NULL,
  PRIMARY KEY (customer_id, at, kind, no)
) WITHOUT ROWID;

-- Up to which no events (1), transitions (2), deliveries (3) and webhooks (6) are entered in ids and moments. Entered one by one
-- each would cost a random page; many at a time share them.
CREATE TABLE entered (
  kind INTEGER PRIMARY KEY,
  upto INTEGER NOT NULL
);
INSERT INTO entered (kind, upto) VALUES (1, 0), (2, 0), (3, 0), (6, 0);

-- Moments that are not entered yet.
CREATE VIEW moments_waiting AS
  SELECT customer_id, occurred_at AS at, 1 AS kind, no FROM events WHERE no > (SELECT upto FROM entered WHERE kind = 1)
  UNION ALL SELECT customer_id, at, 2, no FROM transitions WHERE no > (SELECT upto FROM entered WHERE kind = 2)
  UNION ALL SELECT customer_id, created_at, 3, no FROM deliveries WHERE no > (SELECT upto FROM entered WHERE kind = 3);

CREATE TABLE desired (
  slot               TEXT NOT NULL PRIMARY KEY,
  destination        TEXT NOT NULL,
  customer_id        TEXT NOT NULL,
  field              TEXT NOT NULL,
  action             TEXT NOT NULL,
  mode               TEXT NOT NULL,
  value              TEXT NOT NULL,
  generation         INTEGER NOT NULL,
  written            TEXT NOT NULL,
  written_generation INTEGER NOT NULL,
  updated_at         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX desired_customer ON desired (customer_id);

-- due_at of a sending row is the end of its lease, so one index finds all that a worker may take.
CREATE TABLE deliveries (
  no           INTEGER PRIMARY KEY,
  id           TEXT NOT NULL, -- found by ids
  destination  TEXT NOT NULL,
  action       TEXT NOT NULL,
  customer_id  TEXT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject_id   TEXT NOT NULL,
  state        TEXT NOT NULL,
  due_at       INTEGER NOT NULL,
  attempts     INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  slot         TEXT NOT NULL,
  key          TEXT NOT NULL,
  params       TEXT NOT NULL,
  body         BLOB,
  reference    TEXT NOT NULL,
  sent_at      INTEGER NOT NULL,
  uncertain    INTEGER NOT NULL,
  external_id  TEXT NOT NULL,
  cause        TEXT NOT NULL,
  last         TEXT NOT NULL,
  claim        INTEGER NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (destination, due_at, state) WHERE state IN ('due', 'retrying', 'sending');
CREATE INDEX deliveries_aside ON deliveries (state, no) WHERE state IN ('held', 'parked', 'dead');
CREATE UNIQUE INDEX deliveries_slot ON deliveries (slot) WHERE slot <> '' AND state IN ('held', 'due', 'sending', 'retrying', 'parked');
CREATE INDEX deliveries_key ON deliveries (customer_id, key) WHERE key <> '' AND state IN ('held', 'due', 'sending', 'retrying', 'parked', 'delivered');

CREATE TABLE attempts (
  no          INTEGER PRIMARY KEY,
  delivery_no INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  status      INTEGER NOT NULL,
  outcome     TEXT NOT NULL,
  error       TEXT NOT NULL,
  duration    INTEGER NOT NULL
);
CREATE INDEX attempts_delivery ON attempts (delivery_no);

-- Writes of ours, until the webhook that each causes has been seen. hash: of connection, object, id, field and value.
CREATE TABLE journal (
  hash    BLOB NOT NULL,
  sent_at INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  PRIMARY KEY (hash, sent_at)
) WITHOUT ROWID;
CREATE INDEX journal_sent ON journal (sent_at);

CREATE TABLE hydrations (
  connection  TEXT NOT NULL,
  object      TEXT NOT NULL,
  id          TEXT NOT NULL,
  webhook_id  TEXT NOT NULL,
  item        INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  due_at      INTEGER NOT NULL,
  attempts    INTEGER NOT NULL,
  context     BLOB,
  state       TEXT NOT NULL,
  error       TEXT NOT NULL,
  claim       INTEGER NOT NULL,
  PRIMARY KEY (connection, object, id, webhook_id, item)
) WITHOUT ROWID;
CREATE INDEX hydrations_due ON hydrations (connection, due_at) WHERE state <> 'dead';
CREATE INDEX hydrations_received ON hydrations (connection, received_at) WHERE state <> 'dead';
CREATE INDEX hydrations_dead ON hydrations (connection) WHERE state = 'dead';
CREATE INDEX hydrations_webhook ON hydrations (webhook_id);

CREATE TABLE fetched (
  webhook_id TEXT NOT NULL,
  connection TEXT NOT NULL,
  object     TEXT NOT NULL,
  id         TEXT NOT NULL,
  item       INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  body       BLOB NOT NULL,
  PRIMARY KEY (webhook_id, connection, object, id, item)
) WITHOUT ROWID;

CREATE TABLE webhooks (
  no          INTEGER PRIMARY KEY,
  id          TEXT NOT NULL, -- found by ids
  connection  TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  state       TEXT NOT NULL,
  reason      TEXT NOT NULL,
  kinds       TEXT NOT NULL,
  event_ids   TEXT NOT NULL,
  incarnation TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  item        INTEGER NOT NULL,
  activation  INTEGER NOT NULL
);
CREATE INDEX webhooks_state ON webhooks (state, no) WHERE state <> 'done';

CREATE TABLE connections (
  connection       TEXT NOT NULL PRIMARY KEY,
  webhooks         INTEGER NOT NULL,
  last_webhook_at  INTEGER NOT NULL,
  last_delivery_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE rejected (
  no         INTEGER PRIMARY KEY,
  id         TEXT NOT NULL,
  connection TEXT NOT NULL,
  at         INTEGER NOT NULL,
  reason     TEXT NOT NULL,
  detail     TEXT NOT NULL,
  headers    TEXT NOT NULL,
  size       INTEGER NOT NULL
);

CREATE TABLE dead_letters (
  no       INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  of_what  TEXT NOT NULL,
  ref      TEXT NOT NULL,
  at       INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  place    TEXT NOT NULL,
  attempts INTEGER NOT NULL
);
CREATE INDEX dead_letters_ref ON dead_letters (ref);

-- position is a row's place in the feed, in commit order; null until the relay has published it.
CREATE TABLE outbox (
  no           INTEGER PRIMARY KEY,
  id           TEXT NOT NULL,
  kind         TEXT NOT NULL,
  subject      TEXT NOT NULL,
  customer_id  TEXT NOT NULL,
  body         BLOB NOT NULL,
  created_at   INTEGER NOT NULL,
  position     INTEGER,
  published_at INTEGER NOT NULL
);
CREATE INDEX outbox_waiting ON outbox (no) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;

CREATE TABLE cursors (
  incarnation  TEXT NOT NULL,
  partition_no INTEGER NOT NULL,
  seq          INTEGER NOT NULL,
  PRIMARY KEY (incarnation, partition_no)
) WITHOUT ROWID;

CREATE TABLE horizons (
  connection  TEXT NOT NULL PRIMARY KEY,
  at          INTEGER NOT NULL,
  hold        INTEGER NOT NULL,
  computed_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE gaps (
  connection TEXT NOT NULL,
  start      INTEGER NOT NULL,
  opened_at  INTEGER NOT NULL,
  PRIMARY KEY (connection, start)
) WITHOUT ROWID;

CREATE TABLE leases (
  name   TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE model_sets (
  number       INTEGER NOT NULL PRIMARY KEY,
  state        TEXT NOT NULL,
  hash         TEXT NOT NULL,
  definition   BLOB NOT NULL,
  created_at   INTEGER NOT NULL,
  published_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX model_sets_active ON model_sets (state) WHERE state = 'active';

CREATE TABLE models (
  set_number INTEGER NOT NULL,
  place      INTEGER NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  body       TEXT NOT NULL,
  hash       TEXT NOT NULL,
  PRIMARY KEY (set_number, place)
) WITHOUT ROWID;

CREATE TABLE activations (
  connector TEXT NOT NULL,
  number    INTEGER NOT NULL,
  hash      TEXT NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (connector, number)
) WITHOUT ROWID;

CREATE TABLE tokens (
  connection TEXT NOT NULL PRIMARY KEY,
  sealed     BLOB NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE settings (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
