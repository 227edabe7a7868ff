# One image for every service. What a container becomes is its first argument: see deploy/as-service.
FROM python:3.12-slim AS build

# Where the package index is reached by another way than by default; proxies are known to docker itself.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
RUN pip install --no-cache-dir uv

WORKDIR /app
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1

# Dependencies change seldom: a layer of their own.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-install-workspace --no-cache

COPY protos protos
COPY libs libs
COPY services services
RUN uv sync --frozen --no-dev --no-editable --no-cache


FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/*

# Volumes begin with the owner that these directories have.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/factory factory \
    && install -d -o factory -g factory /var/lib/factory/artifacts /var/lib/factory/data /repositories \
    && install -d /credentials

COPY --from=build /app/.venv /app/.venv
COPY deploy/as-service /usr/local/bin/as-service

ENV PATH=/app/.venv/bin:$PATH HOME=/var/lib/factory PYTHONUNBUFFERED=1
WORKDIR /var/lib/factory
EXPOSE 7070 8080
ENTRYPOINT ["as-service"]
