# Two images, neither with a compiler nor run as root:
#   docker build --target serve -t dimple .    serves models that have a folder converted/ (docs/install.md)
#   docker build -t dimple .                   converts, proves and trains, too
FROM python:3.12-slim AS base
WORKDIR /srv/dimple
ENV PATH="/opt/venv/bin:/srv/dimple/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
RUN useradd --system dimple
# SageMaker starts the image with `serve`, and reads here what it can do
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true
EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
CMD ["gunicorn"]

FROM base AS serve-packages
COPY requirements-serve.lock ./
# OpenVINO's plugins for other processors and its readers of other formats are a third of the packages, and never loaded
RUN python -m venv /opt/venv \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements-serve.lock \
 && find /opt/venv/lib -path '*/openvino/libs/*' \( -name cache.json -o -name 'libopenvino_intel_[gn]pu_plugin.so' \
    -o -name 'libopenvino_*_frontend.so*' ! -name '*_ir_*' ! -name '*_onnx_*' \) -delete \
 && python -m pip uninstall --yes pip

FROM base AS full-packages
# some packages have wheels for some systems only
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY requirements.lock ./
RUN python -m venv /opt/venv && pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock

FROM base AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY . .
RUN python -m compileall -q app && mkdir -p instance uploads && chown -R dimple instance uploads models
USER dimple
# models/imagenet is written once, here, and not at every start
RUN python -c "from pathlib import Path; from app.zoo.imagenet import ensure_imagenet; ensure_imagenet(Path('models'))"

FROM base AS full
# MXNet is linked with these
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 libquadmath0 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=full-packages /opt/venv /opt/venv
COPY . .
RUN python -m compileall -q app && mkdir -p instance uploads && chown -R dimple instance uploads models
USER dimple
RUN python -c "from pathlib import Path; from app.zoo.imagenet import ensure_imagenet; ensure_imagenet(Path('models'))"
