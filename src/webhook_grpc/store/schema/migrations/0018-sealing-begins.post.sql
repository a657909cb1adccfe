-- works with: 18
-- Runs when the last process of a version before 0018 has ended: from here on queries of URLs are sealed, which those can't
-- open. So it also ends the way back to them: they do not start any more. See docs/decisions/0095-the-end-of-an-upgrade.md.
COMMENT ON COLUMN webhooks.sealed_query IS 'NULL in all rows until 0018-sealing-begins.post is in webhook_migrations';
