"""The HTTP client: one request, one typed result, and the guards around it. The only place that imports httptools."""
