"""Tests. tests/README.md says how to run them and what each folder needs."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # tests only fork to exec; read when grpc is imported
# No test meets a certificate of a public authority. OpenSSL takes 22 ms of CPU time to read those of the system, each
# time that a context is made: half of what a start of the service took in the process of the test. Children inherit it.
os.environ.setdefault("WEBHOOK_TEST_CERTIFICATES", os.environ.get("SSL_CERT_FILE", ""))  # for what downloads packages
os.environ["SSL_CERT_FILE"] = os.devnull
