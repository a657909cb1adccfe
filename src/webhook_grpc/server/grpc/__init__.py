"""The gRPC door. The only place that imports grpc."""
