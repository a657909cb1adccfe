# The service as an image, for a real Postgres: the embedded one is not in it.
#
#   docker build -t webhook-grpc .
#   docker run --rm webhook-grpc secret-key
#   docker compose up

FROM python:3.12-slim AS builder
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE ./
COPY generated/python generated/python
COPY src src
RUN pip wheel --no-deps --wheel-dir /wheels .
# An environment without pip, made where it will be used. Nothing is compiled: every dependency is a wheel.
RUN python -m venv --without-pip /opt/webhook-grpc \
    && pip --python /opt/webhook-grpc/bin/python install --only-binary=:all: /wheels/*.whl

FROM python:3.12-slim
RUN groupadd --gid 10001 webhook \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin webhook
COPY --from=builder /opt/webhook-grpc /opt/webhook-grpc
ENV PATH=/opt/webhook-grpc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WEBHOOK_GRPC_ADDRESS=0.0.0.0:50051
USER 10001:10001
WORKDIR /
EXPOSE 50051

# Asks the service itself, past any proxy in the environment. An error and every answer but SERVING are exit 1.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, sys, grpc; \
from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc as rpc; \
address = '127.0.0.1:' + os.environ['WEBHOOK_GRPC_ADDRESS'].rpartition(':')[2]; \
channel = grpc.insecure_channel(address, options=[('grpc.enable_http_proxy', 0)]); \
answer = rpc.HealthStub(channel).Check(pb.HealthCheckRequest(), timeout=3); \
sys.exit(answer.status != pb.HealthCheckResponse.SERVING)"]

# SIGTERM drains: attempts in flight end and are settled. Give it longer than WEBHOOK_DRAIN_SECONDS (20) before SIGKILL.
STOPSIGNAL SIGTERM
ENTRYPOINT ["webhook-grpc"]
CMD ["serve"]
