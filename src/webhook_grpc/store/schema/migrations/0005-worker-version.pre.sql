-- works with: 4
-- Runs before the code that needs it is deployed; processes of the version before run on with it, and may be restarted.

-- step
-- The version of the program that the process runs: the number of its newest migration. NULL: it is older than this column.
-- What such a process would do wrong is refused while it lives, see store/versions.py.
ALTER TABLE workers ADD COLUMN version integer;
