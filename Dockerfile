# Serves a model repository that `protoclip repository` wrote, on the vendor's Triton.
#   docker build -t protoclip-serve .
#   docker run --rm --gpus all --shm-size=1g -p 8000:8000 -p 8001:8001 -v "$PWD/model_repository:/models:ro" protoclip-serve
# Build argument TRITON_TAG chooses Triton's release; its ONNX Runtime has to load ir_version 10. Not built yet by us.
# Build argument PICTURES reads telephones' HEIC and JPEG XL, in packages under the GPL, which binds whoever passes the
# image on (NOTICE):  --build-arg PICTURES="pillow-heif>=1.8 pillow-jxl-plugin>=1.3.7"
# Build argument OPENVINO serves OpenVINO engines, in the version that verified them:
#   --build-arg OPENVINO="openvino==2026.4.1"
ARG TRITON_TAG=26.03-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}

# What the two preprocessing models import, and nothing else of ours.
ARG PICTURES=""
RUN pip install --no-cache-dir "numpy>=1.26.4" "pillow>=11.3" "tokenizers>=0.21" "ftfy>=6.2"
RUN if [ -n "${PICTURES}" ]; then pip install --no-cache-dir ${PICTURES}; fi
ARG OPENVINO=""
RUN if [ -n "${OPENVINO}" ]; then pip install --no-cache-dir "${OPENVINO}"; fi

EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --start-period=120s CMD curl --fail --silent localhost:8000/v2/health/ready
CMD ["tritonserver", "--model-repository=/models", "--disable-auto-complete-config", "--exit-timeout-secs=5"]
