"""The played database: the statements of the store, run on the model that is compared with the SQL (`../model`)."""
