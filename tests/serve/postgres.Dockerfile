# Postgres as compose.yaml uses it, for hosts that reach Debian but no image registry: the official image's variables, one by one.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
COPY postgres-entrypoint.sh /
# With a locale of ASCII, initdb makes databases that cannot hold what Prefect's server writes, and events are lost.
ENV LANG=C.UTF-8 PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
RUN install -d -o postgres -g postgres "$PGDATA" && install -d -o postgres -g postgres -m 3777 /run/postgresql
USER postgres
ENTRYPOINT ["sh", "/postgres-entrypoint.sh"]
