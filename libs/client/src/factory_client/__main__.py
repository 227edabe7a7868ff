"""`python -m factory_client` is the `factory` command."""

from factory_client.cli import main

main()
