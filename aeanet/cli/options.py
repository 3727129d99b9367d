"""Options of a command that are the fields of a dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

Command = TypeVar("Command", bound=Callable[..., None])


def options_of(settings: type, panel: str) -> Callable[[Command], Command]:
    """Give a command an option for each field of a dataclass that is `Annotated` with its help.

    The command is given them as keyword arguments, None where the user leaves an option out. The
    help names the default of the field.

    Args:
        settings: the dataclass.
        panel: the heading above the options in the help.
    """
    hints = get_type_hints(settings, include_extras=True)
    options = []
    for field in fields(settings):
        if get_origin(hints[field.name]) is Annotated:
            kind, text = get_args(hints[field.name])
            option = typer.Option(
                help=f"{text} ({_shown(field.default)}).",
                show_default=False,
                rich_help_panel=panel,
                # Choices stand in the text: beside the name they take the width of its column.
                metavar=field.name.upper() if get_origin(kind) is Literal else None,
            )
            parameter = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None)
            options.append(parameter.replace(annotation=Annotated[kind | None, option]))

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        extended = signature.replace(parameters=[*named, *options])
        command.__signature__ = extended  # type: ignore[attr-defined]
        return command

    return decorate


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    if isinstance(default, int):
        return f"{default:,}"
    return f"{default:g}" if isinstance(default, float) else default
