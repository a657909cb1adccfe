"""The addresses of HTTP, taken at the start: who connects waits here until the door is loaded. Without aiohttp."""
