-- +goose Up
-- Times are microseconds since 1970 UTC (the zero time is Go's, far below zero). The columns are those of SQLite, in its order.

CREATE TABLE customers (
  no             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id             TEXT COLLATE "C" NOT NULL UNIQUE,
  kind           TEXT COLLATE "C" NOT NULL,
  sequence       BIGINT NOT NULL,
  first_event_at BIGINT NOT NULL,
  decided_at     BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL,
  merged_into    TEXT COLLATE "C" NOT NULL,
  name           TEXT COLLATE "C" NOT NULL,
  email          TEXT COLLATE "C" NOT NULL,
  tags           TEXT COLLATE "C" NOT NULL,
  previous       TEXT COLLATE "C" NOT NULL
);
CREATE INDEX customers_merged ON customers (merged_into) WHERE merged_into <> '';

CREATE TABLE profiles (
  no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id          TEXT COLLATE "C" NOT NULL UNIQUE,
  customer_id TEXT COLLATE "C" NOT NULL,
  connection  TEXT COLLATE "C" NOT NULL,
  key         TEXT COLLATE "C" NOT NULL,
  joined_into TEXT COLLATE "C" NOT NULL,
  identifiers TEXT COLLATE "C" NOT NULL,
  facts       BYTEA NOT NULL
);
CREATE INDEX profiles_customer ON profiles (customer_id);

-- hash: 16 bytes of kind and value, then 4 of the connection, so that a value is found whoever issued it.
CREATE TABLE identifiers (
  hash        BYTEA NOT NULL PRIMARY KEY,
  kind        TEXT COLLATE "C" NOT NULL,
  connection  TEXT COLLATE "C" NOT NULL,
  value       TEXT COLLATE "C" NOT NULL,
  flags       BIGINT NOT NULL,
  customer_id TEXT COLLATE "C" NOT NULL,
  profile_id  TEXT COLLATE "C" NOT NULL
);
CREATE INDEX identifiers_customer ON identifiers (customer_id);

-- One row per version of an event: the ledger and the history in one.
CREATE TABLE events (
  no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id          TEXT COLLATE "C" NOT NULL,
  activation  BIGINT NOT NULL,
  fetch_no    BIGINT NOT NULL,
  profile_id  TEXT COLLATE "C" NOT NULL,
  customer_id TEXT COLLATE "C" NOT NULL,
  occurred_at BIGINT NOT NULL,
  known_from  BIGINT NOT NULL,
  known_until BIGINT,
  withdrawn   BIGINT NOT NULL,
  body        TEXT COLLATE "C" NOT NULL,
  UNIQUE (id, activation, fetch_no)
);

CREATE TABLE stages (
  customer_id  TEXT COLLATE "C" NOT NULL,
  subject_kind TEXT COLLATE "C" NOT NULL,
  subject_id   TEXT COLLATE "C" NOT NULL,
  model        TEXT COLLATE "C" NOT NULL,
  version      BIGINT NOT NULL,
  stage        TEXT COLLATE "C" NOT NULL,
  since        BIGINT NOT NULL,
  decided_by   TEXT COLLATE "C" NOT NULL,
  decided_at   BIGINT NOT NULL,
  wakes_at     BIGINT,
  path         BYTEA,
  PRIMARY KEY (customer_id, subject_kind, subject_id, model)
);
CREATE INDEX stages_wakes ON stages (model, wakes_at) WHERE wakes_at IS NOT NULL;

CREATE TABLE pins (
  subject_kind TEXT COLLATE "C" NOT NULL,
  subject_id   TEXT COLLATE "C" NOT NULL,
  model        TEXT COLLATE "C" NOT NULL,
  stage        TEXT COLLATE "C" NOT NULL,
  who          TEXT COLLATE "C" NOT NULL,
  why          TEXT COLLATE "C" NOT NULL,
  at           BIGINT NOT NULL,
  until        BIGINT NOT NULL,
  PRIMARY KEY (subject_id, model, subject_kind)
);

CREATE TABLE transitions (
  no           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id           TEXT COLLATE "C" NOT NULL,
  subject_kind TEXT COLLATE "C" NOT NULL,
  subject_id   TEXT COLLATE "C" NOT NULL,
  customer_id  TEXT COLLATE "C" NOT NULL,
  model        TEXT COLLATE "C" NOT NULL,
  version      BIGINT NOT NULL,
  from_stage   TEXT COLLATE "C" NOT NULL,
  to_stage     TEXT COLLATE "C" NOT NULL,
  at           BIGINT NOT NULL,
  decided_at   BIGINT NOT NULL,
  sequence     BIGINT NOT NULL,
  cause_type   TEXT COLLATE "C" NOT NULL,
  cause_id     TEXT COLLATE "C" NOT NULL,
  rule         BIGINT NOT NULL,
  passing      BIGINT NOT NULL,
  why          TEXT COLLATE "C" NOT NULL
);

CREATE TABLE merges (
  no         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  from_id    TEXT COLLATE "C" NOT NULL,
  into_id    TEXT COLLATE "C" NOT NULL,
  at         BIGINT NOT NULL,
  decided_at BIGINT NOT NULL,
  reason     TEXT COLLATE "C" NOT NULL,
  event_id   TEXT COLLATE "C" NOT NULL,
  sequence   BIGINT NOT NULL
);

-- A customer's history: where her events (1), transitions (2), deliveries (3) and merges (4) lie, by no. What one event
-- brings lies in one page, where an index on each table would touch three. A merge moves the rows to the survivor.
CREATE TABLE moments (
  customer_id TEXT COLLATE "C" NOT NULL,
  at          BIGINT NOT NULL,
  kind        BIGINT NOT NULL,
  no          BIGINT NOT NULL,
  PRIMARY KEY (customer_id, at, kind, no)
);

CREATE TABLE desired (
  slot               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  destination        TEXT COLLATE "C" NOT NULL,
  customer_id        TEXT COLLATE "C" NOT NULL,
  field              TEXT COLLATE "C" NOT NULL,
  action             TEXT COLLATE "C" NOT NULL,
  mode               TEXT COLLATE "C" NOT NULL,
  value              TEXT COLLATE "C" NOT NULL,
  generation         BIGINT NOT NULL,
  written            TEXT COLLATE "C" NOT NULL,
  written_generation BIGINT NOT NULL,
  updated_at         BIGINT NOT NULL
);
CREATE INDEX desired_customer ON desired (customer_id);

-- due_at of a sending row is the end of its lease, so one index finds all that a worker may take.
CREATE TABLE deliveries (
  no           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id           TEXT COLLATE "C" NOT NULL UNIQUE,
  destination  TEXT COLLATE "C" NOT NULL,
  action       TEXT COLLATE "C" NOT NULL,
  customer_id  TEXT COLLATE "C" NOT NULL,
  subject_kind TEXT COLLATE "C" NOT NULL,
  subject_id   TEXT COLLATE "C" NOT NULL,
  state        TEXT COLLATE "C" NOT NULL,
  due_at       BIGINT NOT NULL,
  attempts     BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  slot         TEXT COLLATE "C" NOT NULL,
  key          TEXT COLLATE "C" NOT NULL,
  params       TEXT COLLATE "C" NOT NULL,
  body         BYTEA,
  reference    TEXT COLLATE "C" NOT NULL,
  sent_at      BIGINT NOT NULL,
  uncertain    BIGINT NOT NULL,
  external_id  TEXT COLLATE "C" NOT NULL,
  cause        TEXT COLLATE "C" NOT NULL,
  last         TEXT COLLATE "C" NOT NULL,
  claim        BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (destination, due_at, state) WHERE state IN ('due', 'retrying', 'sending');
CREATE INDEX deliveries_aside ON deliveries (state, no) WHERE state IN ('held', 'parked', 'dead');
CREATE UNIQUE INDEX deliveries_slot ON deliveries (slot) WHERE slot <> '' AND state IN ('held', 'due', 'sending', 'retrying', 'parked');
CREATE INDEX deliveries_key ON deliveries (customer_id, key) WHERE key <> '' AND state IN ('held', 'due', 'sending', 'retrying', 'parked', 'delivered');

CREATE TABLE attempts (
  no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  delivery_no BIGINT NOT NULL,
  at          BIGINT NOT NULL,
  status      BIGINT NOT NULL,
  outcome     TEXT COLLATE "C" NOT NULL,
  error       TEXT COLLATE "C" NOT NULL,
  duration    BIGINT NOT NULL
);
CREATE INDEX attempts_delivery ON attempts (delivery_no);

-- Writes of ours, until the webhook that each causes has been seen. hash: of connection, object, id, field and value.
CREATE TABLE journal (
  hash    BYTEA NOT NULL,
  sent_at BIGINT NOT NULL,
  n       BIGINT NOT NULL,
  PRIMARY KEY (hash, sent_at)
);
CREATE INDEX journal_sent ON journal (sent_at);

CREATE TABLE hydrations (
  connection  TEXT COLLATE "C" NOT NULL,
  object      TEXT COLLATE "C" NOT NULL,
  id          TEXT COLLATE "C" NOT NULL,
  webhook_id  TEXT COLLATE "C" NOT NULL,
  item        BIGINT NOT NULL,
  received_at BIGINT NOT NULL,
  due_at      BIGINT NOT NULL,
  attempts    BIGINT NOT NULL,
  context     BYTEA,
  state       TEXT COLLATE "C" NOT NULL,
  error       TEXT COLLATE "C" NOT NULL,
  claim       BIGINT NOT NULL,
  PRIMARY KEY (connection, object, id, webhook_id, item)
);
CREATE INDEX hydrations_due ON hydrations (connection, due_at) WHERE state <> 'dead';
CREATE INDEX hydrations_received ON hydrations (connection, received_at) WHERE state <> 'dead';
CREATE INDEX hydrations_dead ON hydrations (connection) WHERE state = 'dead';
CREATE INDEX hydrations_webhook ON hydrations (webhook_id);

CREATE TABLE fetched (
  webhook_id TEXT COLLATE "C" NOT NULL,
  connection TEXT COLLATE "C" NOT NULL,
  object     TEXT COLLATE "C" NOT NULL,
  id         TEXT COLLATE "C" NOT NULL,
  item       BIGINT NOT NULL,
  at         BIGINT NOT NULL,
  body       BYTEA NOT NULL,
  PRIMARY KEY (webhook_id, connection, object, id, item)
);

CREATE TABLE webhooks (
  no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id          TEXT COLLATE "C" NOT NULL UNIQUE,
  connection  TEXT COLLATE "C" NOT NULL,
  received_at BIGINT NOT NULL,
  state       TEXT COLLATE "C" NOT NULL,
  reason      TEXT COLLATE "C" NOT NULL,
  kinds       TEXT COLLATE "C" NOT NULL,
  event_ids   TEXT COLLATE "C" NOT NULL,
  incarnation TEXT COLLATE "C" NOT NULL,
  seq         BIGINT NOT NULL,
  item        BIGINT NOT NULL,
  activation  BIGINT NOT NULL
);
CREATE INDEX webhooks_state ON webhooks (state, no) WHERE state <> 'done';

CREATE TABLE connections (
  connection       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  webhooks         BIGINT NOT NULL,
  last_webhook_at  BIGINT NOT NULL,
  last_delivery_at BIGINT NOT NULL
);

CREATE TABLE rejected (
  no         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL,
  connection TEXT COLLATE "C" NOT NULL,
  at         BIGINT NOT NULL,
  reason     TEXT COLLATE "C" NOT NULL,
  detail     TEXT COLLATE "C" NOT NULL,
  headers    TEXT COLLATE "C" NOT NULL,
  size       BIGINT NOT NULL
);

CREATE TABLE dead_letters (
  no       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id       TEXT COLLATE "C" NOT NULL UNIQUE,
  of_what  TEXT COLLATE "C" NOT NULL,
  ref      TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  reason   TEXT COLLATE "C" NOT NULL,
  place    TEXT COLLATE "C" NOT NULL,
  attempts BIGINT NOT NULL
);
CREATE INDEX dead_letters_ref ON dead_letters (ref);

-- position is a row's place in the feed, in commit order; null until the relay has published it.
CREATE TABLE outbox (
  no           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id           TEXT COLLATE "C" NOT NULL,
  kind         TEXT COLLATE "C" NOT NULL,
  subject      TEXT COLLATE "C" NOT NULL,
  customer_id  TEXT COLLATE "C" NOT NULL,
  body         BYTEA NOT NULL,
  created_at   BIGINT NOT NULL,
  position     BIGINT,
  published_at BIGINT NOT NULL
);
CREATE INDEX outbox_waiting ON outbox (no) WHERE position IS NULL;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;

CREATE TABLE cursors (
  incarnation  TEXT COLLATE "C" NOT NULL,
  partition_no BIGINT NOT NULL,
  seq          BIGINT NOT NULL,
  PRIMARY KEY (incarnation, partition_no)
);

CREATE TABLE horizons (
  connection  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  at          BIGINT NOT NULL,
  hold        BIGINT NOT NULL,
  computed_at BIGINT NOT NULL
);

CREATE TABLE gaps (
  connection TEXT COLLATE "C" NOT NULL,
  start      BIGINT NOT NULL,
  opened_at  BIGINT NOT NULL,
  PRIMARY KEY (connection, start)
);

CREATE TABLE leases (
  name   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  holder TEXT COLLATE "C" NOT NULL,
  until  BIGINT NOT NULL
);

CREATE TABLE model_sets (
  number       BIGINT NOT NULL PRIMARY KEY,
  state        TEXT COLLATE "C" NOT NULL,
  hash         TEXT COLLATE "C" NOT NULL,
  definition   BYTEA NOT NULL,
  created_at   BIGINT NOT NULL,
  published_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX model_sets_active ON model_sets (state) WHERE state = 'active';

CREATE TABLE models (
  set_number BIGINT NOT NULL,
  place      BIGINT NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  version    BIGINT NOT NULL,
  body       TEXT COLLATE "C" NOT NULL,
  hash       TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (set_number, place)
);

CREATE TABLE activations (
  connector TEXT COLLATE "C" NOT NULL,
  number    BIGINT NOT NULL,
  hash      TEXT COLLATE "C" NOT NULL,
  at        BIGINT NOT NULL,
  PRIMARY KEY (connector, number)
);

CREATE TABLE tokens (
  connection TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  sealed     BYTEA NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE settings (
  key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  value TEXT COLLATE "C" NOT NULL
);
