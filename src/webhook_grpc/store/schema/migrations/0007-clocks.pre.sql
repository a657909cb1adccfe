-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.
--
-- The database's clock may step. See docs/decisions/0017-clocks.md.

-- step
-- How long a lease is: it says how far ahead of now it can end. A process of the version before does not say, and is
-- taken to have the longest that there is.
ALTER TABLE workers ADD COLUMN lease_seconds double precision NOT NULL DEFAULT 60;

-- step
-- The time that was last believed, by whatever deletes by age. One row.
CREATE TABLE believed_time (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    at timestamptz NOT NULL,
    doubted_seconds double precision NOT NULL DEFAULT 0  -- for how long processes have run at a time that is not
);
INSERT INTO believed_time (at) VALUES (now());
