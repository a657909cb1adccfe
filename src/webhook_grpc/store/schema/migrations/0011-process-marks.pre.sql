-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.

-- step
-- By what others on the same machine see that a process is dead (store/ownership/neighbours.py). NULL: nobody can see that, and
-- its shards are taken when its lease runs out. `machine`: boot id and name. `namespaces`: of process ids, and of time.
-- `started_ticks`: when it started, in ticks since the boot, so that a process that has its number later is another one.
-- See docs/decisions/0049-leases-of-the-dead.md.
ALTER TABLE workers ADD COLUMN machine text, ADD COLUMN namespaces text, ADD COLUMN pid integer,
    ADD COLUMN started_ticks bigint;
