-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- Values of webhooks' own headers are sealed, like secrets. See docs/decisions/0058-sealed-headers.md.

-- step
-- The values of `headers`, sealed together, NULL for none. `headers` keeps the names, each with '…'. Any other value there
-- is in the clear, and counts: a process of the version before wrote it, or nobody has sealed it yet.
ALTER TABLE webhooks ADD COLUMN sealed_headers bytea;

-- step: index
-- Webhooks with a value in the clear: those that are to be sealed.
CREATE INDEX webhooks_by_clear_headers ON webhooks (id) WHERE jsonb_path_exists(headers, '$.* ? (@ != "…")');

-- step: index
-- As webhooks_by_key (0008): with which keys they are sealed.
CREATE INDEX webhooks_by_headers_key ON webhooks (substr(sealed_headers, 1, 5), id)
    WHERE (sealed_headers IS NOT NULL AND status <> 'deleted') IS TRUE;
