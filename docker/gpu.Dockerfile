# The image of every stage on NVIDIA GPUs: CUDA torch and vLLM. It begins with the same base as the others, because the wheels of torch, vLLM
# and NVIDIA carry all of CUDA but the driver, which comes from the host through the NVIDIA Container Toolkit. Nothing is compiled here.
# Layers go from what seldom changes to what often does. Build arguments: BASE_IMAGE (docker/images takes it from docker/bases), PACKAGE_INDEX.

ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE}
# Compilers and Python's headers: torch.compile and Triton build a kernel's launcher when it is first used, FlashInfer some of its kernels.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-dev python3-venv tini \
    && rm -rf /var/lib/apt/lists/*
COPY docker/certificates/ /usr/local/share/ca-certificates/
RUN update-ca-certificates 2>/dev/null \
    && python3 -m venv /opt/venv \
    && useradd --uid 10001 --create-home mathquarry \
    && install -d -o mathquarry -g mathquarry /store /data
ENV PATH=/opt/venv/bin:$PATH \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_COMPILE_BYTECODE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    VLLM_NO_USAGE_STATS=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    CUDA_HOME=/opt/venv/lib/python3.11/site-packages/nvidia/cu13 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MATHQUARRY_STORE=/store
ARG PACKAGE_INDEX=https://pypi.org/simple
COPY docker/requirements/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --index-url "$PACKAGE_INDEX" -r /tmp/build.txt && rm /tmp/build.txt
COPY docker/requirements/gpu.txt /tmp/requirements.txt
RUN uv pip install --python /opt/venv/bin/python --no-cache --no-deps --no-build --require-hashes --index-url "$PACKAGE_INDEX" \
    -r /tmp/requirements.txt && rm /tmp/requirements.txt
COPY pyproject.toml README.md /src/
COPY data /src/data
COPY models /src/models
COPY tasks /src/tasks
COPY flows /src/flows
COPY mathquarry /src/mathquarry
RUN uv pip install --python /opt/venv/bin/python --no-cache --no-deps --no-build-isolation /src && rm -rf /src
ARG REVISION=installed
ENV MATHQUARRY_REVISION=$REVISION
WORKDIR /home/mathquarry
USER mathquarry
ENTRYPOINT ["tini", "-g", "--"]
CMD ["mathquarry", "--help"]
