"""What the store must do, said once more in plain Python: no SQL, no asyncio, no database.

Each method of `StoreModel` is one statement of the store and returns what that must answer. Whatever else must be true
afterwards is in `state()`, which the state machine compares with the tables row by row. The engine's simulation runs on
the same model, by way of `database/`.
"""
