# The HTTP server with the model of this repository, without torch: BERT and DistilBERT models run in numpy.
#
#     docker build -t emotion .
#     docker run --rm -p 127.0.0.1:8000:8000 emotion
#     docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/NAME/model:/model:ro" emotion --model /model
#
# Nothing but packages is downloaded, and the container needs no network and no writable folder: `--network` and `--read-only` may forbid them.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.txt requirements-serve.txt ./
# transformers brings tokenizers otherwise; of requirements.txt only what runs without torch
RUN grep -E '^(safetensors|numpy|filelock|tqdm|pyyaml)[<>=]' requirements.txt > requirements-torch-free.txt \
    && python -m pip install -r requirements-torch-free.txt -r requirements-serve.txt 'tokenizers>=0.22,<1'

COPY LICENSE serve.py ./
COPY emotion/ emotion/
COPY models/goemotions-minilm/ models/goemotions-minilm/

# a number, so that Kubernetes can check that it is not root
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
# beyond the container nobody reaches it until a port is published; set EMOTION_SERVE_TOKEN before publishing one to a network
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0"]
