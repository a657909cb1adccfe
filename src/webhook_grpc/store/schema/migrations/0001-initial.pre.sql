-- works with: 1
-- Runs before the code that needs it is deployed.
--
-- Three kinds of table: configuration (webhooks, event_types), what is still to be done (deliveries, rows are deleted when
-- they end) and append-only history in partitions by time (events, attempts). No foreign keys, triggers or enum types on
-- the hot ones. Names are relative to search_path, so that one database can hold many cells.

CREATE TABLE meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    log_incarnation uuid NOT NULL  -- set a new one after restoring a backup: cursors of before then say so
);
INSERT INTO meta (log_incarnation) VALUES (gen_random_uuid());

CREATE TABLE event_types (
    event_type text PRIMARY KEY,
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO event_types (event_type, description) VALUES
    ('environment.created', 'An environment was created.'),
    ('environment.started', 'An environment was started.'),
    ('environment.stopped', 'An environment was stopped.'),
    ('job.completed', 'A job ended successfully.'),
    ('job.failed', 'A job ended with an error.'),
    ('alert.triggered', 'An alert was triggered.'),
    ('quota.exceeded', 'A quota was exceeded.');

CREATE TABLE webhooks (
    id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL,
    name varchar(128) NOT NULL,
    url varchar(512) NOT NULL,
    secret bytea NOT NULL,  -- sealed, see domain/sealing.py
    secret_hint text NOT NULL,
    secret_generated boolean NOT NULL,
    events text[] NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'disabled', 'deleted')),
    status_reason text NOT NULL DEFAULT '',
    retry_delays_seconds double precision[],
    timeout_seconds double precision,
    max_in_flight integer,
    headers jsonb NOT NULL DEFAULT '{}',
    labels jsonb NOT NULL DEFAULT '{}',
    description text NOT NULL DEFAULT '',
    request_id text,
    request_fingerprint bigint,
    version integer NOT NULL DEFAULT 1,
    shard smallint GENERATED ALWAYS AS ((id % 64)::smallint) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_by_customer ON webhooks (customer_id, id);
CREATE INDEX webhooks_by_update ON webhooks (updated_at);
CREATE UNIQUE INDEX webhooks_by_request ON webhooks (customer_id, request_id) WHERE request_id IS NOT NULL;

-- What happened. Partitions follow the time in the UUIDv7.
CREATE TABLE events (
    event_id uuid PRIMARY KEY,
    customer_id bigint NOT NULL,
    event_type text NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    body bytea NOT NULL,  -- what receivers get, byte for byte; never jsonb, which changes bytes and can be a bomb
    data_start smallint NOT NULL,  -- where the producer's data starts in it
    attributes text  -- a JSON object, NULL for none
) PARTITION BY RANGE (event_id);

CREATE TABLE idempotency_keys (
    customer_id bigint NOT NULL,
    request_id text NOT NULL,
    event_id uuid NOT NULL,
    fingerprint bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, request_id)
);

-- The outbox: deliveries still to be made. A row whose delivery the log does not know has due_at = its event's
-- created_at; any other has the due_at of its last row in the log. So every row can be found by this one key.
CREATE TABLE deliveries (
    shard smallint NOT NULL,
    webhook_id bigint NOT NULL,
    due_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    customer_id bigint NOT NULL,
    attempt smallint NOT NULL,  -- attempts already made
    PRIMARY KEY (shard, webhook_id, due_at, event_id)
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

-- The log: one row for every attempt and every ending, `seq` dense in each shard and given in commit order. It is both
-- the live stream and the history.
CREATE TABLE attempts (
    shard smallint NOT NULL,
    seq bigint NOT NULL,
    created_at timestamptz NOT NULL,
    customer_id bigint NOT NULL,
    webhook_id bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    event_created_at timestamptz NOT NULL,
    status text NOT NULL,  -- of the delivery, after this
    attempt_count smallint NOT NULL,  -- of the delivery, after this
    next_due_at timestamptz,  -- while it is pending
    outcome text,  -- of the attempt; this and all below is NULL when the delivery ended without one
    trigger text,
    started_at timestamptz,
    latency_ms integer,
    reason text,
    response_status integer,
    response_body bytea,
    PRIMARY KEY (shard, seq, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX attempts_by_delivery ON attempts (webhook_id, event_created_at, event_id, seq);

-- One row a process; a process that does not renew its lease owns nothing.
CREATE TABLE workers (
    worker_id uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    retiring boolean NOT NULL DEFAULT false  -- it drains: takes no shards, and its share is the others'
);

-- Who may send and settle the deliveries of a shard. Written only when that changes; `epoch` then grows.
CREATE TABLE shards (
    shard smallint PRIMARY KEY,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL DEFAULT 0  -- at least this; the log may be further
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 63);

-- For people with psql. A body may be valid JSON that jsonb refuses (\u0000, huge exponents) or that explodes when it is
-- printed; such a body is shown as text. Not PARALLEL SAFE: an exception block is a subtransaction.
CREATE FUNCTION body_as_jsonb(body bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    body_text text := convert_from(body, 'UTF8');
BEGIN
    IF body_text ~ '[eE][+]?[0-9]{4,}' THEN
        RETURN to_jsonb(body_text);
    END IF;
    RETURN body_text::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN to_jsonb(body_text);
END
$$;

-- What a receiver answered may be anything; what is not UTF-8 text is shown with escapes.
CREATE FUNCTION bytes_as_text(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN data_exception THEN
    RETURN encode(bytes, 'escape');
END
$$;

CREATE VIEW webhook_logs AS
SELECT
    a.seq * 64 + a.shard AS id,
    a.webhook_id,
    a.event_type,
    body_as_jsonb(e.body) AS payload,
    a.response_status,
    bytes_as_text(a.response_body) AS response_body,
    (a.attempt_count - 1)::integer AS retry_count,
    a.created_at
FROM attempts a
JOIN events e ON e.event_id = a.event_id
WHERE a.outcome IS NOT NULL;
