"""Every method and every error, over real gRPC channels."""
