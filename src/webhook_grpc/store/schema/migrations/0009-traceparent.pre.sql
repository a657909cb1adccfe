-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.

-- step
-- The W3C `traceparent` of the call that published the event, NULL for none (domain/trace_context.py). What attempts of its
-- deliveries are linked to. See docs/decisions/0040-traces.md.
ALTER TABLE events ADD COLUMN traceparent text;
