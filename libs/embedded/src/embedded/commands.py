"""`factory up`, `run`, `credentials`, `bootstrap` and `doctor`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from embedded.house import Address

DATA_HELP = "Where everything is kept. Default: FACTORY_DATA, else the platform's state directory."


def up(
    data: Annotated[Path | None, typer.Option(help=DATA_HELP)] = None,
    models: Annotated[
        str,
        typer.Option(help="real, simulated, local, or auto: real where a key is set, else simulated."),
    ] = "auto",
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(help="Local repositories may lie below these directories. Default: home and here."),
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Log every step, not only warnings.")] = False,
) -> None:
    """Run the whole factory in this process, until Ctrl-C.

    Examples:

      factory up                          real models where keys are set

      factory up --models simulated       pretend models, no key needed

      factory up --models local           a small real model on this machine (extra `local`)

      factory up --data ./state           keep everything in ./state
    """
    from factory_client.discovery import data_directory
    from runtime import logs
    from runtime.run import run_loop

    directory = (data or data_directory()).expanduser().resolve()
    roots = [root.expanduser().resolve() for root in allow_root or _default_roots()]
    logs.configure("console", "info" if verbose else "warning")
    try:
        run_loop(_until_stopped(directory, _chosen(models), [*roots, directory]))
    except _startup_errors() as error:
        typer.echo(f"factory up: {error}", err=True)
        raise SystemExit(1) from error


async def _until_stopped(data: Path, models: str, roots: list[Path]) -> None:
    import time

    from runtime.run import until_stopped

    from embedded.house import factory

    started = time.monotonic()
    async with factory(data, models=models, env=dict(os.environ), roots=roots) as (house, address):
        for line in _welcome(data, models, address, time.monotonic() - started):
            typer.echo(line)
        sys.stdout.flush()
        await until_stopped(house)
        typer.echo("stopping: work in hand is finished or handed back; nothing is lost")


def _welcome(data: Path, models: str, address: "Address", took_s: float) -> list[str]:
    lines = [
        f"AI Factory is ready ({took_s:.1f} s)",
        f"  gRPC     {address.url}",
        f"  health   {address.http_url}/ready",
    ]
    lines += [f"  NATS     {address.nats_url} (user {address.nats_user}; password in {data}/factory.json)"]
    lines += [f"  data     {data}", f"  models   {', '.join(address.models) or 'none'} ({models})"]
    if address.pretend:
        lines.append("  These models are pretend: a simulator answers, and nothing is billed. Set ANTHROPIC_API_KEY,")
        lines.append(
            "  OPENAI_API_KEY, GEMINI_API_KEY or DEEPSEEK_API_KEY (one is enough) and start again for real ones."
        )
    if models == "local":
        lines.append(
            "  SmolLM2 answers on this machine: a real model with a real ledger, and a very small one. Its edits may"
        )
        lines.append("  well not apply; the task is then held, and says why.")
    return [*lines, '  next     factory submit "Add a GET /health endpoint" --repo PATH --watch']


def run(service: Annotated[str, typer.Argument(help="conductor, classifier, context, executor, …")]) -> None:
    """Run one service from environment variables, as `python -m SERVICE` does.

    Examples:

      FACTORY_NATS_URL=nats://127.0.0.1:4222 factory run audit

      EXECUTOR_MODEL=claude ANTHROPIC_API_KEY=… factory run executor
    """
    from runtime import main

    main(service)


def credentials(
    directory: Annotated[Path, typer.Argument(help="Where to write; made if it is not there, for its owner only.")],
    org: Annotated[str, typer.Option(help="The organisation that the services work for: FACTORY_ORG.")] = "main",
) -> None:
    """Write who may say what on NATS, and each service's own password, for services that run apart.

    Safe to repeat: what is there is kept, and what a new service or model needs is added. To change a password, take
    its line out of nats-passwords.json and repeat; then reload nats-server and start the service again.

      authorization.conf        for nats-server.conf: include "authorization.conf"

      SERVICE.env               the service's own settings: EnvironmentFile= of systemd, env_file: of compose

      operator.env              for `factory bootstrap`; platform.env for who submits over NATS

      token, tokens.json        the owner's gRPC token, and its hash: FACTORY_TOKENS_FILE

    Examples:

      factory credentials /etc/factory
    """
    from embedded.credentials import write_credentials

    users = write_credentials(directory, dict(os.environ), org)
    typer.echo(f"{directory}: authorization.conf, tokens and settings for {', '.join(users)}")


def bootstrap(
    replicas: Annotated[int, typer.Option(help="Copies of every stream: 3 in production, on 3 nodes.")] = 1,
    ack_wait_s: Annotated[
        float, typer.Option(help="Silence after which work is offered again; FACTORY_ACK_WAIT_S of every service.")
    ] = 60,
) -> None:
    """Create or update streams and consumers, with operator rights. Safe to repeat.

    Reads FACTORY_NATS_URL, FACTORY_NATS_PASSWORD (user operator) and FACTORY_NATS_MONITOR_URL. Waits a minute for the
    server, and refuses one that acknowledges before it syncs.

    Examples:

      env $(cat /etc/factory/operator.env) FACTORY_NATS_MONITOR_URL=http://127.0.0.1:8222 factory bootstrap
    """
    from eventlog.jetstream import ApiError
    from eventlog.preflight import Unsafe
    from policy.models import ModelsInvalid

    from embedded.apart import Unreachable, bootstrap_apart

    try:
        asyncio.run(bootstrap_apart(dict(os.environ), replicas=replicas, ack_wait_s=ack_wait_s))
    except (Unreachable, Unsafe, ApiError, ModelsInvalid, OSError, ValueError) as error:
        typer.echo(f"factory bootstrap: {error}", err=True)
        raise SystemExit(1) from error
    typer.echo("streams and consumers are as they should be")


def doctor(
    json_: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what this machine has and lacks: keys, sandbox, git, disk, ports.

    Examples:

      factory doctor

      factory doctor --json
    """
    import json

    from embedded.doctor import examine

    found = examine(dict(os.environ))
    if json_:
        typer.echo(
            json.dumps({"checks": [{"name": f.name, "ok": f.ok, "says": f.says, "needed": f.needed} for f in found]})
        )
    else:
        for one in found:
            mark = "ok  " if one.ok else ("MISSING" if one.needed else "note")
            typer.echo(f"{mark:8}{one.name:20}{one.says}")
    if any(one.needed and not one.ok for one in found):
        raise SystemExit(1)


def _chosen(models: str) -> str:
    from embedded.house import configured_models

    if models not in ("auto", "real", "simulated", "local"):
        raise typer.BadParameter(f"expected real, simulated, local or auto, found {models!r}")
    if models != "auto":
        return models
    return "real" if configured_models(dict(os.environ)) else "simulated"


def _default_roots() -> list[Path]:
    return [Path.home(), Path.cwd()]


def _startup_errors() -> tuple[type[Exception], ...]:
    from eventlog.preflight import Unsafe
    from policy.models import ModelsInvalid
    from runtime.settings import SettingsInvalid

    from embedded.house import InUse
    from embedded.local_llm import LocalLLMFailed
    from embedded.nats import NatsFailed

    return (OSError, InUse, LocalLLMFailed, NatsFailed, Unsafe, SettingsInvalid, ModelsInvalid)
