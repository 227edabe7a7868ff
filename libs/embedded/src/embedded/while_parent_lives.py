"""`python -m embedded.while_parent_lives WORDS`: the `factory` command, ended in order when its parent has died.

So a demo that is killed leaves no factory behind. Never used where a factory is meant to outlive its terminal.
"""

import os
import signal
import threading
import time

LOOK_EVERY_S = 0.5


def end_with(parent: int) -> None:
    """Asks this process to end once it has another parent than it started with."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True, name="while-parent-lives").start()
    from factory_client.cli import main as factory

    factory()


if __name__ == "__main__":
    main()
