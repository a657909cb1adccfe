# The service as an image, for a real Postgres: the embedded one is not in it.
#
#   docker build -t webhook-grpc .
#   docker run --rm webhook-grpc secret-key
#   docker compose up

FROM python:3.12-slim AS builder
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What builds and what runs is exactly what `make lock` wrote: a file with another hash is refused.
COPY deploy/image deploy/image
RUN pip install --require-hashes --only-binary=:all: -r deploy/image/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY generated/python generated/python
COPY clients clients
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
# An environment without pip, made where it will be used. Nothing is compiled: every dependency is a wheel.
RUN python -m venv --without-pip /opt/webhook-grpc \
    && pip --python /opt/webhook-grpc/bin/python install --require-hashes --only-binary=:all: -r deploy/image/requirements.txt \
    && pip --python /opt/webhook-grpc/bin/python install --no-deps --no-index /wheels/*.whl \
    && pip --python /opt/webhook-grpc/bin/python check

FROM python:3.12-slim
RUN groupadd --gid 10001 webhook \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin webhook
COPY --from=builder /opt/webhook-grpc /opt/webhook-grpc
ENV PATH=/opt/webhook-grpc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WEBHOOK_GRPC_ADDRESS=0.0.0.0:50051 \
    WEBHOOK_HTTP_ADDRESS=0.0.0.0:8080 \
    WEBHOOK_HTTP_PLAINTEXT=true
USER 10001:10001
WORKDIR /
# Both speak plain text without WEBHOOK_TLS_CERTIFICATE_FILE: publish them where a proxy with TLS, or nobody else, can
# reach them.
EXPOSE 50051 8080

# Asks the service itself whether it can take calls. Without HTTP (WEBHOOK_HTTP_ADDRESS= ), and
# with WEBHOOK_HTTP_CLIENT_CA_FILE, set another check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, ssl, sys, http.client; \
port = int(os.environ['WEBHOOK_HTTP_ADDRESS'].rpartition(':')[2]); \
is_tls = bool(os.environ.get('WEBHOOK_TLS_CERTIFICATE_FILE')); \
of_tls = {'context': ssl._create_unverified_context()} if is_tls else {}; \
connect = http.client.HTTPSConnection if is_tls else http.client.HTTPConnection; \
connection = connect('127.0.0.1', port, timeout=3, **of_tls); \
connection.request('GET', '/readyz'); \
sys.exit(connection.getresponse().status != 200)"]

# SIGTERM drains: attempts in flight end and are settled. Give it longer than WEBHOOK_DRAIN_SECONDS (20) before SIGKILL.
STOPSIGNAL SIGTERM
# One process: set WEBHOOK_PROCESSES where a container may use more cores than that (docs/operations.md#processes).
ENTRYPOINT ["webhook-grpc"]
CMD ["serve"]
