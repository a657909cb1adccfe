-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
-- They do not know these tokens.

-- step
-- Tokens of callers, `whk_<token_id>_<secret>`. See docs/decisions/0059-tokens.md.
CREATE TABLE tokens (
    token_id bigserial PRIMARY KEY,
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),  -- of the secret, which is 256 random bits
    role text NOT NULL,
    customer_ids bigint[],  -- NULL: all customers
    description text NOT NULL,
    expires_at timestamptz,  -- NULL: never
    created_at timestamptz NOT NULL,
    last_used_at timestamptz  -- to the minute, and a little behind
) WITH (fillfactor = 70);
