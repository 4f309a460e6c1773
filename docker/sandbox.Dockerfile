# The sandbox that a model's programs run in: Python, numpy, sympy and the service, nothing else. `make sandbox` builds it.
# It is meant to run without a network, read-only, without capabilities: see data/programs/container.py for the whole command.
# Build arguments choose other sources: BASE_IMAGE (docker/bases has the one that is pinned) and PACKAGE_INDEX.

ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS system
RUN apt-get update \
    && apt-get install -y --no-install-recommends libseccomp2 python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS packages
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-pip
COPY docker/certificates/ /usr/local/share/ca-certificates/
RUN update-ca-certificates 2>/dev/null
ARG PACKAGE_INDEX=https://pypi.org/simple
COPY docker/requirements/sandbox.txt /tmp/requirements.txt
RUN PIP_CERT=/etc/ssl/certs/ca-certificates.crt pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: --index-url "$PACKAGE_INDEX" \
    --target /opt/mathquarry -r /tmp/requirements.txt

FROM system
COPY --from=packages /opt/mathquarry /opt/mathquarry
COPY data/programs/service /opt/mathquarry/service
RUN python3 -m compileall -q /opt/mathquarry && install -d -o 65532 -g 65532 /run/mathquarry
# One thread, since programs may not start any; one hash seed, since a dialogue should give the same output whenever it is run.
ENV PYTHONPATH=/opt/mathquarry OPENBLAS_NUM_THREADS=1 PYTHONHASHSEED=0 LANG=C.UTF-8
WORKDIR /
USER 65532:65532
ENTRYPOINT ["python3", "-BPsS", "-m", "service"]
