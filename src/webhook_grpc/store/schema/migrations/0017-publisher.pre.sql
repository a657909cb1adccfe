-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
-- Of what they publish nobody knows who did.

-- step
-- Who published the event, as audit_entries names callers: `whk_<token_id>` for a token of the database. NULL for tests, for
-- publish_event, and for what was published before. See docs/decisions/0075-publishers.md.
ALTER TABLE events ADD COLUMN publisher text;
