# One image for every role: docker build -t rucksack:cpu . or docker build --build-arg EXTRA=gpu -t rucksack:gpu .
# Packages come from the pins in requirements/, hashes checked. GPU images run under NVIDIA's container runtime, which brings
# the driver; CUDA's libraries are wheels. A run's own broker (no bootstrap_servers) fetches its jars when it first starts.
FROM python:3.11-slim-bookworm
ARG EXTRA=cpu
# Triton compiles its launchers with gcc when a kernel first runs.
RUN if [ "$EXTRA" = gpu ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*; fi
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
WORKDIR /opt/rucksack
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && uv pip install --system --compile-bytecode --no-deps --require-hashes -r requirements/$EXTRA.txt
COPY . .
RUN uv pip install --system --no-deps --no-build-isolation --editable . \
    && useradd --uid 1000 --create-home rucksack && mkdir /runs && chown rucksack /runs
USER rucksack
VOLUME /runs
ENTRYPOINT ["rucksack"]
CMD ["--help"]
