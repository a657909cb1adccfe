"""`python -m webhook_grpc` is `webhook-grpc`."""

from .cli import main

main(prog_name="webhook-grpc")
