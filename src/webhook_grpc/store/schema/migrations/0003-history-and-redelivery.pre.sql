-- works with: 2
-- Runs before the code that needs it is deployed; processes of the version before run on with it.

-- step
ALTER TABLE event_types
    ADD COLUMN json_schema text,  -- what data must fit, NULL for anything
    ADD COLUMN archived boolean NOT NULL DEFAULT false,
    ADD COLUMN built_in boolean NOT NULL DEFAULT false,
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
-- step
UPDATE event_types SET built_in = true WHERE event_type IN (
    'environment.created', 'environment.started', 'environment.stopped', 'job.completed', 'job.failed',
    'alert.triggered', 'quota.exceeded'
);

-- step
-- While it lasts, requests are signed with the secret before as well.
ALTER TABLE webhooks
    ADD COLUMN previous_secret bytea,
    ADD COLUMN previous_secret_until timestamptz,
    ADD COLUMN rotation_request_id text,
    ADD COLUMN rotation_fingerprint bigint;  -- of the last rotation; NULL: the secret is the first

-- step
-- The event of a TestWebhook call goes to this webhook only.
ALTER TABLE events ADD COLUMN test_webhook_id bigint;

-- step: index
CREATE INDEX events_by_customer ON events (customer_id, event_id);

-- step
-- What causes the next attempt: NULL for the publication or the schedule. Whatever else it is, there is one attempt only.
ALTER TABLE deliveries ADD COLUMN trigger text, ADD COLUMN replay_id bigint;

-- step: index
-- Both empty but for what replays have under way: see docs/decisions/0010-commands.md.
CREATE INDEX deliveries_by_replay ON deliveries (replay_id, webhook_id) WHERE replay_id IS NOT NULL;

-- step: index
CREATE INDEX deliveries_replaying ON deliveries (shard, webhook_id, due_at, event_id) WHERE trigger = 'replay';

-- step
-- `trigger` is written for endings and restarts too. A row whose customer's data was deleted has the status 'erased' and
-- nothing else: its `seq` must not become a hole.
ALTER TABLE attempts
    ADD COLUMN replay_id bigint,
    ADD COLUMN own_headers text,  -- names of the webhook's own headers that were sent, separated by spaces
    ADD COLUMN response_headers text;  -- a JSON object of those that are kept, NULL for none

-- step: index
-- With all that GetWebhookStats counts, so that a million attempts are counted without reading their rows.
CREATE INDEX attempts_by_time ON attempts (webhook_id, created_at, seq)
    INCLUDE (status, outcome, trigger, latency_ms, response_status);

-- step: index
CREATE INDEX attempts_by_ending ON attempts (webhook_id, status, event_created_at, event_id, seq)
    WHERE status IN ('failed', 'cancelled', 'expired');

-- step: index
CREATE INDEX attempts_by_replay ON attempts (replay_id, status) WHERE replay_id IS NOT NULL;

-- step: index
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

-- step
-- What callers have asked the owner of a shard to do with a delivery: it alone moves and ends them. A row goes in the
-- statement that carries it out.
CREATE TABLE commands (
    shard smallint NOT NULL,
    webhook_id bigint NOT NULL,
    event_id uuid NOT NULL,
    command text NOT NULL CHECK (command IN ('retry', 'replay', 'cancel', 'test')),
    customer_id bigint NOT NULL,
    replay_id bigint,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (shard, webhook_id, event_id, command)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);
CREATE INDEX commands_by_replay ON commands (replay_id, webhook_id) WHERE replay_id IS NOT NULL;

-- step
CREATE TABLE replays (
    replay_id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL,
    webhook_ids bigint[] NOT NULL,  -- empty: all of the customer
    event_types text[] NOT NULL,  -- empty: all
    statuses text[] NOT NULL,
    include_undelivered boolean NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'cancelled')),
    is_settled boolean NOT NULL DEFAULT false,  -- whether it has ended and nothing of it is waiting any more
    position uuid,  -- once it is settled: the last event that was looked at for all its webhooks; NULL: all were
    delivery_count bigint NOT NULL DEFAULT 0,
    skipped_count bigint NOT NULL DEFAULT 0,
    succeeded_count bigint NOT NULL DEFAULT 0,  -- these three once it is settled; what is in the log by then is not here
    failed_count bigint NOT NULL DEFAULT 0,
    cancelled_count bigint NOT NULL DEFAULT 0,  -- and before that, the commands that its cancellation dropped
    request_id text,
    request_fingerprint bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX replays_by_customer ON replays (customer_id, replay_id);
-- Few rows: what the job looks at, and what counts against the customer's quota.
CREATE INDEX replays_unsettled ON replays (customer_id, replay_id) WHERE NOT is_settled;
CREATE UNIQUE INDEX replays_by_request ON replays (customer_id, request_id) WHERE request_id IS NOT NULL;

-- step
-- The webhooks of replays for which events are left to be looked at. Each goes on by itself.
CREATE TABLE replay_webhooks (
    replay_id bigint NOT NULL REFERENCES replays ON DELETE CASCADE,
    webhook_id bigint NOT NULL,
    position uuid NOT NULL,  -- the last event that was looked at
    moved_at timestamptz NOT NULL,  -- who has waited longest for a turn is next
    PRIMARY KEY (replay_id, webhook_id)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

-- step
-- Customers whose data is being deleted, or was.
CREATE TABLE erasures (
    customer_id bigint PRIMARY KEY,
    requested_at timestamptz NOT NULL,
    completed_at timestamptz
);

-- step
ALTER TABLE webhook_health
    ADD COLUMN hold_until timestamptz,  -- nothing is sent before: the receiver asked for it
    ADD COLUMN throttled_until timestamptz,  -- its 429 answers slow it down until then
    ADD COLUMN throttle_rate double precision,  -- requests a second that the last 429 has left it
    ADD COLUMN throttle_ceiling double precision;  -- to which that grows back until then

-- step
-- The payload is NULL once the event is older than events are kept.
CREATE OR REPLACE VIEW webhook_logs AS
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
LEFT JOIN events e ON e.event_id = a.event_id
WHERE a.outcome IS NOT NULL;
