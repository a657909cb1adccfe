"""HTTP/2 as the gRPC door needs it: frames, header blocks, windows, streams. Knows nothing of gRPC."""
