import asyncio
import os
import sys

from runtime import main

match sys.argv[1:]:
    case []:
        main("audit")
    case ["verify" | "rebuild" as what]:
        from audit.app import remade

        equal = asyncio.run(remade(os.environ, repair=what == "rebuild"))
        sys.exit(0 if equal else "audit: the ledger differed from the log")
    case unknown:
        sys.exit(f"audit: expected nothing, verify or rebuild; found {' '.join(unknown)!r}")
