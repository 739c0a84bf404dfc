# dejaview's image; docs/deploying.md says how to build and run it.
#
#   docker build --target cpu --tag dejaview .       OpenVINO, no torch (the default)
#   docker build --target gpu --tag dejaview:gpu .   torch with its CUDA
#
# Python is Debian's own, so that Debian's security updates reach it. BASE: any Debian from 12 on.
ARG BASE=debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE} AS python
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# No versions of Debian's packages: a new build is to have the updates.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log

# What only builds: pip has an environment of its own, the image has none.
FROM python AS tools
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/tools \
 && python3 -m venv --without-pip /opt/dejaview
ENV PATH=/opt/tools/bin:$PATH \
    PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml ./
COPY container/requirements.py container/

# The program alone: the only part that a change of its code builds anew.
FROM tools AS wheel
COPY LICENSE README.md ./
COPY schemas schemas
COPY models models
COPY stream stream
COPY ops ops
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels .

# The packages it needs. A mirror: --secret id=pip,src=$HOME/.config/pip/pip.conf
FROM tools AS cpu-packages
ARG EXTRAS="s3"
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 container/requirements.py ${EXTRAS} > requirements.txt \
 && pip --python /opt/dejaview/bin/python install --requirement requirements.txt \
 && pip install "$(python3 container/requirements.py --only sbom)"

FROM cpu-packages AS gpu-packages
ARG GPU_EXTRAS="torch"
# Torch-TensorRT, once it computes what it should (docs/gpu.md): "torch-tensorrt-rtx==2.13.*".
ARG GPU_PACKAGES=""
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 container/requirements.py ${GPU_EXTRAS} > requirements.txt \
 && pip --python /opt/dejaview/bin/python install --requirement requirements.txt ${GPU_PACKAGES}

FROM cpu-packages AS cpu-build
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/dejaview/bin/python install --no-deps --no-index --no-cache-dir /wheels/*.whl \
 && cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file /opt/dejaview/sbom.cdx.json \
    /opt/dejaview/bin/python

FROM gpu-packages AS gpu-build
COPY --from=wheel /wheels /wheels
RUN pip --python /opt/dejaview/bin/python install --no-deps --no-index --no-cache-dir /wheels/*.whl \
 && cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file /opt/dejaview/sbom.cdx.json \
    /opt/dejaview/bin/python

# What runs. charts/dejaview counts on its user, port, command and on /tmp as the only place to write
# (tests/unit/test_container.py compares them).
FROM python AS runtime
ARG UID=10001
ARG GID=10001
RUN groupadd --gid "${GID}" dejaview \
 && useradd --uid "${UID}" --gid "${GID}" --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dejaview
# health.host: this wins over a settings file. Keep health.port, the health check asks there.
ENV PATH=/opt/dejaview/bin:$PATH \
    HOME=/tmp \
    DEJAVIEW_CACHE=/tmp/dejaview \
    DEJAVIEW_HEALTH__HOST=0.0.0.0
WORKDIR /tmp
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python3", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:9464/livez', timeout=4)"]
# No init is needed: dejaview heeds SIGTERM from its first line on (ops/cli/start.py) and leaves no orphans.
USER ${UID}:${GID}
ENTRYPOINT ["dejaview"]
CMD ["run"]

FROM runtime AS gpu
COPY --from=gpu-build /opt/dejaview /opt/dejaview
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dejaview" \
      org.opencontainers.image.description="Streaming near-duplicate detection for image uploads: Kafka in, verdicts out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS cpu
COPY --from=cpu-build /opt/dejaview /opt/dejaview
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dejaview" \
      org.opencontainers.image.description="Streaming near-duplicate detection for image uploads: Kafka in, verdicts out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
