-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- The queries of webhooks' URLs are sealed, like secrets. See docs/decisions/0058-sealed-headers.md.

-- step
-- The query, sealed, NULL for none. `url` has '…' in its place then. Any other query there is in the clear, and counts: a
-- process of the version before wrote it, or nobody has sealed it yet.
ALTER TABLE webhooks ADD COLUMN sealed_query bytea;

-- step: index
-- Webhooks with a query in the clear: those that are to be sealed.
CREATE INDEX webhooks_by_clear_query ON webhooks (id)
    WHERE strpos(url, '?') BETWEEN 1 AND length(url) - 1 AND right(url, 2) <> '?…';

-- step: index
-- As webhooks_by_headers_key (0012): with which keys they are sealed.
CREATE INDEX webhooks_by_query_key ON webhooks (substr(sealed_query, 1, 5), id)
    WHERE (sealed_query IS NOT NULL AND status <> 'deleted') IS TRUE;
