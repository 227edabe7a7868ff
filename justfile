# `just` lists these, in the order in which one needs them. Every recipe passes its arguments on.

_list:
    @just --list --unsorted

# the main job: one task becomes a reviewed pull request, with pretend models (--yes, --json, --data DIR)
demo *ARGS:
    uv run factory demo {{ARGS}}

# every test; what was skipped, and why, stands at the end
test *ARGS:
    uv run python tests/requirements.py
    uv run pytest -n 2 --dist worksteal {{ARGS}}

# what CI asks first: format, lint, types, import rules, contracts, tables in the docs, fast tests
check *ARGS:
    uv run ruff format --check .
    uv run ruff check .
    uv run basedpyright
    uv run lint-imports
    uv run buf lint
    uv run buf format --diff --exit-code protos
    uv run buf breaking --against tests/contracts/released.binpb
    uv run cog --check -P README.md
    uv run pytest -q -n 2 -m "not slow and not docker and not local_llm" libs services tests/contracts {{ARGS}}

# the whole factory in this process (--models real|simulated|local, --data DIR)
up *ARGS:
    uv run factory up {{ARGS}}

# overhead per phase and tasks per second, beside the floor of raw JetStream in the same run (--json)
bench *ARGS:
    uv run python tests/bench/overhead.py {{ARGS}}

# five phases through the real conductor and executors, instant provider, beside raw nats-py (--json, --quick)
bench-pipeline *ARGS:
    uv run python tests/bench/pipeline.py {{ARGS}}

# a model call through an executor, beside the bare SDK in the same run (--models, --phases, --calls, --in-flight, --json)
bench-executor *ARGS:
    uv run python tests/bench/model_calls.py {{ARGS}}

# kill -9 of every service at every kind of fact, under 50 tasks; the matrix of what came of it (--short, --json, --seed N)
chaos *ARGS:
    uv run python tests/chaos/run.py {{ARGS}}

# whole worlds under a seeded scheduler, every fault there is (--seeds N, --seed K plays one again, --json)
simulate *ARGS:
    uv run python tests/simulation/simulate.py {{ARGS}}

# what it costs when a model is down, beside an untroubled run (--json, --tasks N, --in-flight N, --quick)
bench-failover *ARGS:
    uv run python tests/bench/failover.py {{ARGS}}

# make right what a tool can make right: format, sorted imports, tables in the docs
fix *ARGS:
    uv run ruff format .
    uv run ruff check --fix {{ARGS}} .
    uv run buf format -w protos
    uv run cog -r -P README.md

# add a stored example of every new kind of fact; what is there is never rewritten
corpus *ARGS:
    uv run python tests/contracts/corpus.py {{ARGS}}

# a release: renew the descriptor set that `buf breaking` compares with, in a commit of its own that says why
release-contracts *ARGS:
    uv run buf build -o tests/contracts/released.binpb {{ARGS}}
