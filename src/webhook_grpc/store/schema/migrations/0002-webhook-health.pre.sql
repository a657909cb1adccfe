-- works with: 1
-- Runs before the code that needs it is deployed; processes of the version before run on with it.

-- step
ALTER TABLE webhooks ADD COLUMN rate_limit_per_second integer;

-- step
-- 1: a process may have died of this delivery, so it is marked before it is sent; 2: marked. Written only after a crash.
ALTER TABLE deliveries ADD COLUMN danger smallint NOT NULL DEFAULT 0;

-- step
-- When an owner was last found dead. What was due by then is marked before it is sent, also by owners after the next one:
-- they may have been given the shard in order, before all of that was sent.
ALTER TABLE shards ADD COLUMN abandoned_at timestamptz;

-- step
-- How the receivers of webhooks that are not well have answered lately, so that the next owner need not learn it anew.
-- A webhook without a row is well. Written by the owner of its shard, a little behind: nothing may depend on it but pace.
CREATE TABLE webhook_health (
    webhook_id bigint PRIMARY KEY,
    breaker text NOT NULL CHECK (breaker IN ('closed', 'open', 'half_open')),
    probe_at timestamptz,  -- while the breaker is open: when one request may try again
    probe_count integer NOT NULL DEFAULT 0,  -- times that it opened since it was closed
    failing_since timestamptz,  -- the first failure since the last success
    failure_count integer NOT NULL DEFAULT 0,
    blocked_count integer NOT NULL DEFAULT 0,  -- times in a row that its address could not be called
    blocked_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
