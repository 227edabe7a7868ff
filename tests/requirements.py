"""Says what the tests need from the system, before they fail for lack of it."""

import shutil
import sys

NEEDED = {
    "git": "apt-get install git, or brew install git",
    "ps": "apt-get install procps",
}

if absent := [name for name in NEEDED if not shutil.which(name)]:
    for name in absent:
        print(f"missing: {name}. Install it: {NEEDED[name]}", file=sys.stderr)
    sys.exit(1)
