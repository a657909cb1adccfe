"""Tests. tests/README.md says how to run them and what each folder needs."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # tests only fork to exec; read when grpc is imported
