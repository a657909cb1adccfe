-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
-- They would sign with the secret only: webhooks get another signature type when none of them runs.
--
-- Ed25519 keys of customers. See docs/decisions/0064-ed25519.md.

-- step
-- 'hmac' or 'ed25519'.
ALTER TABLE webhooks ADD COLUMN signature_type text NOT NULL DEFAULT 'hmac';

-- step
CREATE TABLE signing_keys (
    id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL,
    public_key bytea NOT NULL,
    private_key bytea NOT NULL,  -- sealed for the customer and the id
    created_at timestamptz NOT NULL,
    retire_at timestamptz  -- until when it signs beside a newer key; NULL: it is the newest
);
CREATE INDEX signing_keys_by_customer ON signing_keys (customer_id, id);
-- As webhooks_by_key (0008): with which keys they are sealed.
CREATE INDEX signing_keys_by_key ON signing_keys (substr(private_key, 1, 5), id);
