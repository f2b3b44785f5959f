# Three images from the sources. Not built by us: their stages were linted, and their pip commands resolved, no more.
#   docker build --target serve  -t protoclip-serve .    Triton of the vendor, for a repository of `protoclip repository`
#   docker build --target client -t protoclip-client .   the command line, the client and the search, without torch
#   docker build --target train  -t protoclip-train .    training on GPUs; deploy/kubernetes/trainjob.yaml runs it
#   docker run --rm --gpus all --shm-size=1g --read-only --tmpfs /tmp --cap-drop=ALL --security-opt=no-new-privileges \
#       -p 8080:8080 -v "$PWD/model_repository:/models:ro" protoclip-serve
# None runs as root or writes anywhere but to /tmp, /dev/shm and what is mounted. All other ways: docs/operations.md.
# Build arguments:
#   TRITON_TAG  Triton's release; its ONNX Runtime has to load ir_version 10.
#   PICTURES    reads telephones' HEIC and JPEG XL, in packages under the GPL, which binds whoever passes the image on
#               (NOTICE): --build-arg PICTURES="pillow-heif pillow-jxl-plugin"
#   OPENVINO    serves OpenVINO engines, in the version that verified them: --build-arg OPENVINO="openvino==2026.4.1"
ARG TRITON_TAG=26.03-py3
ARG PYTHON_TAG=3.11.14-slim-bookworm

FROM python:${PYTHON_TAG} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_TAG} AS python
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /work

FROM python AS client
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --constraint /constraints.txt "$(echo /wheels/protoclip-*.whl)[search]" faiss-cpu
USER 1000:1000
HEALTHCHECK NONE
ENTRYPOINT ["protoclip"]
CMD ["--help"]

FROM python AS train
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --constraint /constraints.txt "$(echo /wheels/protoclip-*.whl)[train]" faiss-cpu
USER 1000:1000
HEALTHCHECK NONE
CMD ["protoclip", "train", "--help"]

FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG} AS serve
# The base is Python 3.12 of a distribution whose pip refuses to install beside its own packages.
ENV PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# The command that starts Triton, with its guard, gateway and supervision, and what the two preprocessing models import, in the
# versions that the tests run on.
ARG PICTURES=""
ARG OPENVINO=""
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --constraint /constraints.txt "$(echo /wheels/protoclip-*.whl)[gateway,search,serve]" \
    numpy pillow tokenizers ftfy ${PICTURES} ${OPENVINO}
COPY deploy/serve/probe.py /opt/protoclip/probe.py
# The user that the vendor's image has for this; its folders are its own.
USER 1000:1000
# The gateway's; gRPC and metrics are for what stands beside it. Nothing needs 8000, which /v2 of the gateway passes on to.
EXPOSE 8080 8001 8002
# Asks every public model for an embedding: Triton's own readiness does not notice that a Python model is dead.
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s CMD ["python3", "/opt/protoclip/probe.py"]
# Not tritonserver itself: it would take model_repository/sources for a model, and leave clients what the launcher closes.
CMD ["protoclip", "serve", "/models", "--host", "0.0.0.0", "--latency-summaries", "--log-json", "--gateway", "--gateway-host", "0.0.0.0"]
