"""The HTTP door: REST, live events, metrics. The only place that imports aiohttp.web, once somebody connects."""
