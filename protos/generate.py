"""Generates `gen/factory` from the .proto files beside it, whenever this package is built; none of it is committed.

Each package directory gets an `__init__.py` that re-exports its messages, enums and service stubs, so that the rest
of the code says `from factory.task.v1 import TaskSubmitted` and never names a `_pb2` module.
"""

import re
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
OUT = HERE / "gen"


class Generate(BuildHookInterface):  # the name and shape hatchling asks for
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the signature is given
        generate()


def generate() -> None:
    from grpc_tools import protoc

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    protos = sorted(str(path.relative_to(HERE)) for path in (HERE / "factory").rglob("*.proto"))
    include = resources.files("grpc_tools") / "_proto"
    # protoc runs inside this process and finds its plugin by path
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    found = str(plugin) if plugin.exists() else shutil.which("protoc-gen-mypy_grpc")
    grpc_types = [f"--plugin=protoc-gen-mypy_grpc={found}", f"--mypy_grpc_out=quiet:{OUT}"] if found else []
    status = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{include}",
            f"--python_out={OUT}",
            f"--pyi_out={OUT}",
            f"--grpc_python_out={OUT}",
            *grpc_types,
            *protos,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    for proto in protos:
        grpc_module = OUT / (proto.removesuffix(".proto") + "_pb2_grpc.py")
        if "service " not in (HERE / proto).read_text():
            grpc_module.unlink(missing_ok=True)
            grpc_module.with_suffix(".pyi").unlink(missing_ok=True)
    (OUT / "factory" / "py.typed").touch()
    for directory in sorted({(OUT / proto).parent for proto in protos}):
        (directory / "__init__.py").write_text(_exports(directory))
        for parent in directory.relative_to(OUT).parents[:-1]:
            (OUT / parent / "__init__.py").touch()


def _exports(directory: Path) -> str:
    """Re-exports of everything public that the modules of one package define."""
    package = ".".join(directory.relative_to(OUT).parts)
    lines: list[str] = []
    for stub in sorted(directory.glob("*_pb2.pyi")):
        text = stub.read_text()
        names = re.findall(r"^class (\w+)\(", text, re.M) + re.findall(r"^([A-Z][A-Z0-9_]+): \w+", text, re.M)
        names += re.findall(r"^([a-z]\w+): _descriptor.FieldDescriptor", text, re.M)
        lines += [f"from {package}.{stub.stem} import {name} as {name}\n" for name in sorted(set(names))]
    lines = [line for line in lines if " DESCRIPTOR " not in line]
    for module in sorted(directory.glob("*_pb2_grpc.py")):
        names = re.findall(r"^class (\w+(?:Stub|Servicer))[(:]", module.read_text(), re.M)
        names += re.findall(r"^def (add_\w+_to_server)\(", module.read_text(), re.M)
        lines += [f"from {package}.{module.stem} import {name} as {name}\n" for name in names]
    if package == "factory.event.v1":
        lines += _any_fact()
    return "".join(lines)


def _any_fact() -> list[str]:
    """The union of every fact, from the arms of `Fact`: what `match` works on and `assert_never` exhausts."""
    envelope = (HERE / "factory/event/v1/event.proto").read_text()
    arms = re.findall(r"^    (factory\.[\w.]+)\.(\w+) \w+ = \d+;", envelope, re.M)
    imports = [f"from {package} import {name} as {name}\n" for package, name in arms]
    union = " | ".join(name for _, name in arms)
    return ["from typing import TypeAlias\n", *imports, f"AnyFact: TypeAlias = {union}\n"]


if __name__ == "__main__":
    generate()
