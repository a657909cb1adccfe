-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- With which keys secrets are sealed, and who has those keys. See docs/decisions/0028-secret-keys.md.

-- step: index
-- The first five bytes of a sealed secret name its key. So the keys in use are found however many webhooks there are.
-- IS TRUE: no other statement implies that. With stale statistics the planner otherwise reads all of this index where it
-- should look up a customer (publishing looked at twice as many pages).
CREATE INDEX webhooks_by_key ON webhooks (substr(secret, 1, 5), id) WHERE (status <> 'deleted') IS TRUE;

-- step: index
CREATE INDEX webhooks_by_previous_key ON webhooks (substr(previous_secret, 1, 5), id) WHERE previous_secret IS NOT NULL;

-- step
-- The ids of the keys that the process has. NULL: it is of a version that does not say.
ALTER TABLE workers ADD COLUMN secret_key_ids bigint[];

-- step
-- The delivery that the process has last sent alone, because it may be one that kills. The row outlives the process, so
-- whoever comes next can count how many have died of it. See docs/decisions/0023-careful-mode-alone.md.
ALTER TABLE workers ADD COLUMN isolated_webhook_id bigint, ADD COLUMN isolated_event_id uuid;
