-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- No statement may depend on what Postgres believes of our tables (docs/decisions/0019-plans.md). This makes the beliefs
-- right all the same: a table of one row never changes enough to be analysed by itself.

-- step
-- The queue is analysed in the minute in which it filled or was drained, not when it has changed by 20,000 rows.
ALTER TABLE deliveries SET (autovacuum_analyze_threshold = 2000);

-- step
ALTER TABLE commands SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000);

-- step: alone
ANALYZE meta;

-- step: alone
ANALYZE shards;

-- step: alone
ANALYZE workers;

-- step: alone
ANALYZE event_types;

-- step: alone
ANALYZE webhooks;

-- step: alone
ANALYZE webhook_health;
