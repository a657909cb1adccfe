-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.

-- step
-- When the service disabled the webhook; NULL while it is not disabled, and if a process of the version before did it, which
-- does not say when. Such a process that resumes a webhook leaves the time; it counts only while the webhook is disabled.
ALTER TABLE webhooks ADD COLUMN disabled_at timestamptz;
