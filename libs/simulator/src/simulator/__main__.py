"""`python -m simulator`: the pretend providers as a process of their own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from simulator.bill import BillFile
from simulator.misbehaviour import Misbehaviour, Misbehaviours, Mode
from simulator.pace import INSTANT, WATCHABLE, Pace
from simulator.serving import LOOPBACK, listen, server_for, url_of


def main() -> None:
    args = _arguments().parse_args()
    try:
        wishes = Misbehaviours(tuple(_wish(text) for text in args.misbehave))
    except ValueError as error:
        sys.exit(f"--misbehave: {error}")
    pace = INSTANT if args.instant else Pace(args.tokens_per_second, args.first_token_delay)
    try:
        listening = listen(args.host, args.port)
    except OSError as error:
        sys.exit(f"cannot listen on {args.host}:{args.port}: {error}")
    url = url_of(listening)
    if args.ready_file is not None:
        _announce(args.ready_file, url)
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    bill = BillFile(args.bill)

    async def run() -> None:
        await server_for(bill, pace, wishes).serve(sockets=[listening])
        await bill.close()

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulator", description="Pretend model providers that keep their own bill.")
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=0, help="0: a free one, told on stdout and in the ready file")
    parser.add_argument("--bill", type=Path, default=Path("bill.jsonl"), help="appended to if it exists")
    parser.add_argument("--ready-file", type=Path, help="written with url and pid once callers can connect")
    parser.add_argument("--tokens-per-second", type=float, default=WATCHABLE.tokens_per_second)
    parser.add_argument("--first-token-delay", type=float, default=WATCHABLE.first_token_delay_s, help="seconds")
    parser.add_argument("--instant", action="store_true", help="no delays at all")
    parser.add_argument(
        "--misbehave",
        action="append",
        default=[],
        metavar="MODEL=MODE[:TIMES]",
        help=f"e.g. 'gpt*=429:2' or a JSON object; modes: {', '.join(mode.value for mode in Mode)}",
    )
    return parser


def _wish(text: str) -> Misbehaviour:
    if text.lstrip().startswith("{"):
        return Misbehaviour.model_validate_json(text)
    model, equals, rest = text.partition("=")
    mode, _, times = rest.partition(":")
    if not equals:
        raise ValueError(f"expected MODEL=MODE[:TIMES], found {text!r}")
    return Misbehaviour.model_validate({"model": model, "mode": mode, "times": int(times or 1)})


def _announce(path: Path, url: str) -> None:
    """Whole or not at all: who waits for this file never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    unfinished.replace(path)


if __name__ == "__main__":
    main()
