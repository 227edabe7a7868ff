"""Runs one executor: `EXECUTOR_MODEL=claude python -m executor`."""

from runtime import main

if __name__ == "__main__":
    main("executor")
