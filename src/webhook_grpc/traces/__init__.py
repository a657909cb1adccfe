"""Spans of attempts: recorded and exported by OpenTelemetry, which only this room imports, or producers' passed on."""
