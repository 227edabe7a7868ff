"""Commands that are imported only when somebody runs them, so that `factory --help` answers at once.

The line a command has in the list is read from its source, never by running it.
"""

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

# Other packages of the factory add commands here: name = "package.commands:function".
ENTRY_POINTS = "factory.commands"

START, TASKS, REVIEW, ROUTING, MONEY, MORE = "Start", "Tasks", "Review", "Routing", "Tokens and money", "More"

BUILT_IN = {
    "submit": "factory_client.commands.submit:submit",
    "watch": "factory_client.commands.tasks:watch",
    "tasks": "factory_client.commands.tasks:tasks",
    "why": "factory_client.commands.why:why",
    "report": "factory_client.commands.tasks:report",
    "release": "factory_client.commands.tasks:release",
    "cancel": "factory_client.commands.tasks:cancel",
    "erase": "factory_client.commands.tasks:erase",
    "review": "factory_client.commands.review:review",
    "models": "factory_client.commands.models:models",
    "settings": "factory_client.commands.settings:settings",
    "override": "factory_client.commands.override:override",
    "budget": "factory_client.commands.budget:budget",
    "usage": "factory_client.commands.money:usage",
    "ledger": "factory_client.commands.money:ledger",
    "project": "factory_client.commands.project:project",
}
# Order and place in `factory --help`; what is not installed is not shown.
PANELS = {
    START: ("demo", "up", "doctor", "run", "bootstrap"),
    TASKS: ("submit", "watch", "tasks", "why", "report", "release", "cancel", "erase", "classify", "project"),
    REVIEW: ("review",),
    ROUTING: ("models", "settings", "override"),
    MONEY: ("budget", "usage", "ledger", "reconcile"),
}


class LazyCommand(TyperCommand):
    """Stands for a command until it is run; then the real one takes its place."""

    def __init__(self, name: str, target: str, panel: str) -> None:
        self._target = target
        super().__init__(name, rich_help_panel=panel)

    @property
    def help(self) -> str:
        return first_paragraph(self._target)

    @help.setter
    def help(self, _: str | None) -> None:
        """Ignored: the source is what the help is read from."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return loaded(self._target, self.name or "").make_context(info_name, args, parent, **extra)


class FactoryGroup(TyperGroup):
    """The root command: everything built in, and everything that installed packages contribute."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, target, panel in _known():
            self.add_command(LazyCommand(name, target, panel))


def loaded(target: str, name: str) -> Any:
    """The real command behind "module:attribute", which is a plain function or a group of them."""
    module, _, attribute = target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name)(found)
    return get_command(app)


def first_paragraph(target: str) -> str:
    """What a command says about itself in one sentence; empty when its source cannot be found."""
    module, _, attribute = target.partition(":")
    try:
        spec = find_spec(module)
    except ImportError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    text = next((_said_by(node) for node in tree.body if attribute in _names(node)), "")
    return " ".join(text.strip().partition("\n\n")[0].split())


def _known() -> Iterator[tuple[str, str, str]]:
    targets = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | BUILT_IN
    for panel, names in PANELS.items():
        for name in names:
            if name in targets:
                yield name, targets.pop(name), panel
    for name in sorted(targets):
        yield name, targets[name], MORE


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]):
            return [name]
        case _:
            return []


def _said_by(node: ast.stmt) -> str:
    """A function's docstring, or the `help` of `name = typer.Typer(help=...)`."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return ast.get_docstring(node) or ""
        case ast.Assign(value=ast.Call(keywords=keywords)):
            helps = [
                word.value.value for word in keywords if word.arg == "help" and isinstance(word.value, ast.Constant)
            ]
            return str(helps[0]) if helps else ""
        case _:
            return ""
