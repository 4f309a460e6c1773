# The image of the stages with a model on NVIDIA GPUs: CUDA torch, vLLM, FlashAttention. The driver comes from the host through the NVIDIA
# Container Toolkit. Layers go from what seldom changes to what often does. Build arguments: CUDA_DEVEL_IMAGE
# and CUDA_IMAGE (docker/images takes them from docker/bases), PACKAGE_INDEX.

ARG CUDA_DEVEL_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04

# FlashAttention is compiled against the torch that it runs with; the compiler stays behind in this stage.
FROM ${CUDA_DEVEL_IMAGE} AS flash-attention
ARG PACKAGE_INDEX=https://pypi.org/simple
COPY docker/certificates/ /usr/local/share/ca-certificates/
COPY docker/requirements/ /tmp/
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && update-ca-certificates \
    && python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --index-url "$PACKAGE_INDEX" -r /tmp/build.txt
# torch and what it needs: a package's line and, below it, its hashes.
RUN awk '/^[^ ]/ { wanted = \
    /^(torch|nvidia-|cuda-|triton|filelock|fsspec|jinja2|markupsafe|mpmath|networkx|numpy|setuptools|sympy|typing-extensions)/ } wanted' \
    /tmp/gpu.txt >/tmp/needed.txt \
    && /opt/venv/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps --require-hashes --index-url "$PACKAGE_INDEX" \
    -r /tmp/needed.txt \
    && /opt/venv/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps --require-hashes --index-url "$PACKAGE_INDEX" \
    -r /tmp/flash-build.txt
ENV TORCH_CUDA_ARCH_LIST="8.0;9.0;10.0" MAX_JOBS=8 FLASH_ATTENTION_FORCE_BUILD=TRUE
RUN /opt/venv/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --require-hashes --index-url "$PACKAGE_INDEX" \
    --wheel-dir /wheels -r /tmp/flash.txt

FROM ${CUDA_IMAGE} AS system
# A C compiler and Python's headers: Triton compiles its launchers when a kernel is first used.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3 python3-dev python3-venv tini \
    && rm -rf /var/lib/apt/lists/*
COPY docker/certificates/ /usr/local/share/ca-certificates/
RUN update-ca-certificates \
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
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MATHQUARRY_STORE=/store

FROM system
ARG PACKAGE_INDEX=https://pypi.org/simple
COPY docker/requirements/build.txt /tmp/build.txt
RUN pip install --no-cache-dir --require-hashes --index-url "$PACKAGE_INDEX" -r /tmp/build.txt && rm /tmp/build.txt
COPY docker/requirements/gpu.txt /tmp/requirements.txt
RUN uv pip install --python /opt/venv/bin/python --no-cache --no-deps --require-hashes --index-url "$PACKAGE_INDEX" \
    -r /tmp/requirements.txt && rm /tmp/requirements.txt
COPY --from=flash-attention /wheels /tmp/wheels
RUN uv pip install --python /opt/venv/bin/python --no-cache --no-deps /tmp/wheels/*.whl && rm -rf /tmp/wheels
COPY pyproject.toml README.md /src/
COPY data /src/data
COPY models /src/models
COPY tasks /src/tasks
COPY flows /src/flows
RUN uv pip install --python /opt/venv/bin/python --no-cache --no-deps --no-build-isolation /src && rm -rf /src
ARG REVISION=installed
ENV MATHQUARRY_REVISION=$REVISION
WORKDIR /home/mathquarry
USER mathquarry
ENTRYPOINT ["tini", "-g", "--"]
CMD ["mathquarry", "--help"]
