"""What a platform imports to hand tasks to the factory, and the `factory` command.

Names are imported on first use, so that `factory --help` does not wait for gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory_client.discovery import Address as Address
    from factory_client.discovery import find_address as find_address
    from factory_client.errors import FactoryError as FactoryError
    from factory_client.errors import FieldViolation as FieldViolation
    from factory_client.factory import Factory as Factory
    from factory_client.factory import Submitted as Submitted
    from factory_client.factory import has_ended as has_ended

__all__ = ["Address", "Factory", "FactoryError", "FieldViolation", "Submitted", "find_address", "has_ended"]

_HOMES = {
    "Address": "discovery",
    "Factory": "factory",
    "FactoryError": "errors",
    "FieldViolation": "errors",
    "Submitted": "factory",
    "find_address": "discovery",
    "has_ended": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
