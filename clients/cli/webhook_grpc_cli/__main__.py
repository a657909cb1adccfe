"""`python -m webhook_grpc_cli`: the same program as `webhook-grpc`."""

from webhook_grpc_cli.program import main

main()
