-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
-- Their calls leave no entries.

-- step
-- Who changed what: an entry for each call that changed something, and for calls that were refused. No values of anything.
-- See docs/decisions/0062-audit.md.
CREATE TABLE audit_entries (
    entry_id bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL,
    method text NOT NULL,
    caller text NOT NULL,
    caller_token_id bigint,  -- NULL: not a token of the database
    source_address text NOT NULL,  -- '': not a call over the network
    request_id text NOT NULL,
    customer_id bigint,  -- NULL: of no single customer
    resources text[] NOT NULL,  -- like 'webhook:14'
    fields text[] NOT NULL,
    result text NOT NULL,  -- the code of the answer: 'OK', or why the call was refused
    reason text NOT NULL
);
CREATE INDEX audit_entries_customer ON audit_entries (customer_id, entry_id) WHERE customer_id IS NOT NULL;

-- Entries are added and read, never changed: whoever gets rights on every new table keeps only these two on this one.
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE c.oid = 'audit_entries'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_entries FROM %s', grantee);
    END LOOP;
END
$$;

-- Deletes by age are a function of the owner (as in 0014). It looks at the oldest entries, at most so many, and never
-- deletes one that is younger than 30 days, whatever the caller wants. Its time is the believed one (0007).
CREATE FUNCTION delete_audit_entries(days integer, batch integer) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted bigint;
BEGIN
    IF days IS NULL OR days < 30 OR batch IS NULL OR batch NOT BETWEEN 1 AND 10000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'entries are kept for 30 days at least, and deleted 1 to 10000 at once';
    END IF;
    DELETE FROM audit_entries
    WHERE entry_id = ANY(ARRAY(SELECT entry_id FROM audit_entries ORDER BY entry_id LIMIT batch))
        AND created_at < least(now(), (SELECT at + interval '1 hour' FROM believed_time)) - make_interval(days => days);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;

REVOKE EXECUTE ON FUNCTION delete_audit_entries FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION delete_audit_entries SET search_path = %I, pg_temp', current_schema);
END
$$;
