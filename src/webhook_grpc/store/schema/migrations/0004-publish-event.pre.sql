-- works with: 3
-- Runs before the code that needs it is deployed; processes of the version before run on with it.
--
-- For applications that share this database: publish_event publishes in the application's own transaction. What that
-- commits is delivered like any other event; what it rolls back never existed. It takes no lock that the service waits
-- for, and sends no NOTIFY (which would serialise commits): owners find the rows by looking. See docs/decisions/0013.
--
-- Text with backslashes stands in dollar quotes, which mean the same under every setting of the caller's session.

-- `evt_…` as the API writes it (domain/ids.py).
CREATE FUNCTION event_id_text(event_id uuid) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    bits bit(130) := B'00' || ('x' || replace(event_id::text, '-', ''))::bit(128);
    written text := 'evt_';
BEGIN
    FOR position IN 1..126 BY 5 LOOP
        written := written
            || substr('0123456789abcdefghjkmnpqrstvwxyz', substring(bits FROM position FOR 5)::integer + 1, 1);
    END LOOP;
    RETURN written;
END
$$;

-- A UUIDv7 of that moment; what is left of the millisecond is its next 12 bits (RFC 9562, section 6.2, method 3).
CREATE FUNCTION new_event_id(at timestamptz) RETURNS uuid LANGUAGE plpgsql VOLATILE STRICT AS $$
DECLARE
    microseconds bigint := (extract(epoch FROM at) * 1000000)::bigint;
BEGIN
    RETURN (
        lpad(to_hex(microseconds / 1000), 12, '0')
        || to_hex(28672 + (microseconds % 1000) * 4096 / 1000)  -- 0x7000: the version
        || right(replace(gen_random_uuid()::text, '-', ''), 16)  -- the variant, and 62 random bits
    )::uuid;
END
$$;

-- Every pattern that the event type matches (domain/matching.py).
CREATE FUNCTION event_patterns(event_type text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    segments text[] := string_to_array(event_type, '.');
    patterns text[] := ARRAY[event_type, '*'];
BEGIN
    FOR depth IN 1..cardinality(segments) - 1 LOOP
        patterns := patterns || (array_to_string(segments[1:depth], '.') || '.*');
    END LOOP;
    RETURN patterns;
END
$$;

-- What is wrong with text that is a `json`, but that the API would refuse (domain/envelope.py), or NULL.
CREATE FUNCTION event_data_problem(data text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $function$
DECLARE
    plain text;
BEGIN
    IF strpos(data, $$\u$$) > 0 THEN
        plain := replace(data, $$\\$$, '..');  -- an escaped backslash escapes nothing
        plain := regexp_replace(
            plain, $$\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}$$, '', 'g'
        );
        IF plain ~ $$\\u[dD][89a-fA-F]$$ THEN
            RETURN 'must not contain lone surrogates';
        END IF;
    END IF;
    IF length(data) - length(translate(data, '[{', '')) > 64 THEN  -- few brackets can't nest deep
        plain := replace(replace(data, $$\\$$, ''), $$\"$$, '');
        plain := regexp_replace(plain, '"[^"]*"', '', 'g');
        plain := translate(regexp_replace(plain, '[^][{}]', '', 'g'), '{}', '[]');
        FOR level IN 1..64 LOOP
            plain := replace(plain, '[]', '');  -- one level, the innermost
            EXIT WHEN plain = '';
        END LOOP;
        IF plain <> '' THEN
            RETURN 'must not be nested more than 64 levels deep';
        END IF;
    END IF;
    RETURN NULL;
END
$function$;

-- Refuses what is wrong in itself, as the API does with INVALID_ARGUMENT. SQLSTATE 22004 or 22023.
CREATE FUNCTION check_event(customer_id bigint, event_type text, data json, request_id text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    data_bytes integer := octet_length(convert_to(data::text, 'UTF8'));
    problem text;
BEGIN
    IF customer_id IS NULL OR event_type IS NULL OR data IS NULL THEN
        RAISE null_value_not_allowed USING
            MESSAGE = 'customer_id, event_type and data must not be NULL',
            HINT = 'An event with nothing to say has the data {}.';
    END IF;
    IF customer_id <= 0 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('customer_id must be positive, is %s', customer_id),
            HINT = 'Give the customer whose webhooks are to be called.';
    END IF;
    IF length(event_type) > 128 OR event_type !~ '^[a-z0-9][a-z0-9_-]*([.][a-z0-9][a-z0-9_-]*)*$' COLLATE "C" THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'event_type must be an event type like job.completed',
            HINT = 'Segments of lower-case letters, digits, _ and -, joined by dots: at most 128 characters.';
    END IF;
    IF request_id = '' OR length(request_id) > 128 OR request_id ~ '[^ -~]' COLLATE "C" THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'request_id must be 1 to 128 printable ASCII characters',
            HINT = 'Leave it out, or give a natural key like order-42-paid.';
    END IF;
    IF data_bytes > 262144 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('data must have at most 262144 bytes, has %s', data_bytes),
            HINT = 'Say in the event where receivers find the rest.';
    END IF;
    problem := event_data_problem(data::text);
    IF problem IS NOT NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'data ' || problem,
            HINT = 'Receivers must be able to parse what they get.';
    END IF;
END
$$;

-- Refuses what the state of the event type does not allow, as the API does with FAILED_PRECONDITION. SQLSTATE 55000.
CREATE FUNCTION check_event_type(event_type text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    known record;
BEGIN
    SELECT t.archived, t.json_schema IS NOT NULL AS has_schema INTO known
    FROM event_types t WHERE t.event_type = check_event_type.event_type;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('event type %s is not registered', event_type),
            HINT = 'Register it with CreateEventType first.';
    ELSIF known.archived THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('event type %s is archived', event_type),
            HINT = 'Publish another type, or bring this one back with UpdateEventType.';
    ELSIF known.has_schema THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('event type %s has a json_schema, which SQL can not check', event_type),
            HINT = 'Publish events of this type with PublishEvent.';
    END IF;
END
$$;

-- Takes the request id for this event: `event_id` if it was free, the id of the first event if that was the same one.
-- Otherwise unique_violation, as ALREADY_EXISTS. Waits for the end of another transaction that has taken it.
CREATE FUNCTION claim_request_id(customer_id bigint, request_id text, event_id uuid, content bytea, at timestamptz)
RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    -- No request_id of the API has a tab: PublishEvent must never wait for the end of an application's transaction.
    request_key text := E'sql\t' || request_id;
    fingerprint bigint := ('x' || left(encode(sha256(content), 'hex'), 16))::bit(64)::bigint;
    taken record;
BEGIN
    LOOP
        INSERT INTO idempotency_keys (customer_id, request_id, event_id, fingerprint, created_at)
        VALUES (customer_id, request_key, event_id, fingerprint, at)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN event_id;
        END IF;
        SELECT k.event_id, k.fingerprint INTO taken  -- a new statement sees what was committed while that one waited
        FROM idempotency_keys k
        WHERE k.customer_id = claim_request_id.customer_id AND k.request_id = request_key;
        EXIT WHEN FOUND;  -- otherwise it has just ceased to be kept
    END LOOP;
    IF taken.fingerprint <> fingerprint THEN
        RAISE unique_violation USING
            MESSAGE = format('request_id %s was used before for a different event', request_id),
            HINT = 'Give every event its own. The same event again gives the id of the first.';
    END IF;
    RETURN taken.event_id;
END
$$;

-- `json` and not `jsonb`: it keeps the bytes.
CREATE FUNCTION publish_event(customer_id bigint, event_type text, data json, request_id text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    at timestamptz := clock_timestamp();  -- not now(): the transaction may be old
    new_id uuid := new_event_id(at);
    first_id uuid;
    head bytea;
    content bytea;
BEGIN
    PERFORM check_event(customer_id, event_type, data, request_id);
    PERFORM check_event_type(event_type);
    content := convert_to(data::text, 'UTF8');
    IF request_id IS NOT NULL THEN
        first_id := claim_request_id(
            customer_id, request_id, new_id, convert_to(event_type || E'\n', 'UTF8') || content, at
        );
        IF first_id <> new_id THEN
            RETURN event_id_text(first_id);
        END IF;
    END IF;
    head := convert_to(
        format('{"event":"%s","timestamp":%s,"data":', event_type, floor(extract(epoch FROM at))), 'UTF8'
    );
    INSERT INTO events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start)
    VALUES (new_id, customer_id, event_type, at, at, head || content || '}'::bytea, octet_length(head));
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
    SELECT w.shard, w.id, at, new_id, w.customer_id, 0
    FROM webhooks w
    WHERE w.customer_id = publish_event.customer_id
        AND w.status IN ('active', 'paused')
        AND w.events && event_patterns(event_type);
    RETURN event_id_text(new_id);
END
$$;

COMMENT ON FUNCTION publish_event IS
    'Publishes an event when this transaction commits; returns its id. Errors: 22004, 22023, 55000, 23505.';

-- It writes tables that its callers can't even read, so only whom the operator allows may call it. Names lead to this
-- schema, whatever the caller's search_path and temporary tables are. Whoever replaces the function must do this again.
REVOKE EXECUTE ON FUNCTION publish_event FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION publish_event SET search_path = %I, pg_temp', current_schema);
END
$$;
