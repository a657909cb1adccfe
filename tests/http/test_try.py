
import aiohttp, json
from tests.support.service import ServiceFactory
from tests.support.receiver import Receiver

async def test_it(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    base = f"http://127.0.0.1:{service.app.http_port}"
    async with aiohttp.ClientSession(base) as s:
        async def call(method, path, **k):
            if isinstance(k.get('data'), str): k.setdefault('headers', {}).setdefault('Content-Type','application/json')
            async with s.request(method, path, **k) as r:
                text = await r.text()
                print(method, path, r.status, dict(r.headers), text[:600])
                return json.loads(text) if text.startswith("{") else text
        w = await call("POST", "/api/webhooks", data=json.dumps({"customer_id":1,"name": "任务完成通知", "url": receiver.url(), "secret": "your_secret_key", "events": ["job.completed","job.failed"]}))
        i = w["webhook_id"]
        await call("GET", f"/api/webhooks/{i}?customer_id=1")
        await call("GET", f"/v1/webhooks/{i}")
        await call("GET", "/api/webhooks/abc?x=1")
        await call("PATCH", f"/api/webhooks/{i}", json={"customer_id":1,"name":"new","description":""})
        await call("PATCH", f"/api/webhooks/{i}", json={"customer_id":1,"name":"new"}, headers={"If-Match":'"99"'})
        await call("POST", f"/api/webhooks/{i}:pause", json={"customer_id":1})
        await call("POST", f"/api/webhooks/{i}:pause", json={"customer_id":1})
        await call("POST", f"/api/webhooks/{i}:resume", json={"customer_id":1})
        for _ in range(2):
            await call("POST", "/api/events", data='{"event":{"customer_id":1,"event_type":"job.completed","data":{"a":1.10}}}', headers={"Idempotency-Key":"k1","Content-Type":"application/json"})
        await call("GET", "/api/events?customer_id=1&event_types=job.*")
        await call("POST", "/api/events", data='{"event":{"customer_id":1,"event_type":"job.x","data":{"a":1.10}}}')
        await call("POST", "/api/events", data='{bad')
        await call("POST", "/api/events", data='x=1', headers={"Content-Type":"application/x-www-form-urlencoded"})
        await call("POST", "/api/events", data=__import__("io").BytesIO(b"x"*6_000_000), headers={"Content-Type":"application/json"})
        await call("GET", "/nothing")
        await call("PUT", "/api/events")
        await call("GET", "/")
        async with s.get("/api/deliveries:watch?customer_id=1&start_time=2026-01-01T00:00:00Z&heartbeat_interval=1s") as r:
            print(r.status, r.headers)
            for _ in range(12): print(await r.content.readline())
        async with s.get("/api/deliveries:watch?customer_id=1&start_time=2026-01-01T00:00:00Z", headers={"Accept":"application/x-ndjson"}) as r:
            for _ in range(2): print(await r.content.readline())
        await call("DELETE", f"/api/webhooks/{i}?customer_id=1")
        from webhook_grpc.server.http.openapi import document
        d = json.loads(document([]))
        print(len(json.dumps(d)), list(d["paths"])[:5], json.dumps(d["components"]["schemas"]["Event"])[:500])
