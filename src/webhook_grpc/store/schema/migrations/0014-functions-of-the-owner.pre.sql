-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- What has to be done to tables while the service runs, as functions of the role that owns them: the role of `serve` needs no
-- right to make, change or drop anything (docs/decisions/0060-tls-and-roles.md). Each takes what it can't be misused with: one of
-- two tables and a day, or one of six tables.

-- step
CREATE FUNCTION day_partition(parent text, day date) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF parent IS NULL OR day IS NULL OR parent NOT IN ('events', 'attempts') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%L has no partitions by day', parent);
    END IF;
    RETURN parent || '_' || to_char(day, 'YYYYMMDD');
END
$$;

-- `events` by the first UUIDv7 of the day: 48 bits of Unix milliseconds, then zeros.
CREATE FUNCTION day_bound(parent text, day date) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE parent
        WHEN 'events' THEN (lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid::text
        ELSE to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00'
    END
$$;

-- Made apart and attached: CREATE TABLE … PARTITION OF would lock the parent against everybody.
CREATE FUNCTION make_partition(parent text, day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    partition text := day_partition(parent, day);
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    IF day NOT BETWEEN today - 400 AND today + 15 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is too far from today for a partition', day);
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, partition, day_bound(parent, day), day_bound(parent, day + 1)
    );
END
$$;

CREATE FUNCTION detach_partition(parent text, day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    partition text := day_partition(parent, day);
BEGIN
    IF day >= (now() AT TIME ZONE 'UTC')::date THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not over yet', day);
    END IF;
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, partition);
END
$$;

CREATE FUNCTION drop_partition(parent text, day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    partition text := day_partition(parent, day);
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(quote_ident(partition)) AND c.relispartition) THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not detached', partition);
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', partition);
END
$$;

-- Reads at most 30,000 pages, because Postgres samples.
CREATE FUNCTION analyse_table(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF name IS NULL OR name NOT IN ('meta', 'shards', 'workers', 'event_types', 'webhooks', 'webhook_health') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%L is not a small table', name);
    END IF;
    EXECUTE format('ANALYZE %I', name);
END
$$;

-- Names lead to this schema, whatever the caller's search_path and temporary tables are. Whoever replaces one must do
-- this again.
REVOKE EXECUTE ON FUNCTION make_partition, detach_partition, drop_partition, analyse_table FROM PUBLIC;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['make_partition', 'detach_partition', 'drop_partition', 'analyse_table'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', name, current_schema);
    END LOOP;
END
$$;
