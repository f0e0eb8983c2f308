"""Sources of an option's value: flag, environment, configuration file, preset, default.

Click does the work: `default_map` has the values of files, `envvar` the names of environment
variables. This module fills them in, and names the source of a value in errors and in the settings
of a run.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from anomaly_cli.config.presets import read_preset
from anomaly_cli.errors import AnomalyCliError, ConfigError
from anomaly_cli.files.address import refuse_address

if TYPE_CHECKING:
    from anomaly_cli.config.toml import ResolvedSettings

_PREFIX = "ANOMALY_CLI"
_SOURCES = "anomaly_cli.sources"  # key in ctx.meta: source of each parameter that a file sets
_CONFIG = "config_file"  # the parameter of --config, which no file can set
# Not settings of a run: they decide how one call treats existing files, and how it prints.
_OF_THE_CALL = {"preset", "resume", "shard", "overwrite", "json"}


class ConfigurableCommand(TyperCommand):
    """Command whose options the environment can set; its errors name the sources of values."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for parameter in self.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                _add_variable(parameter, self.name or "")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Click does, but name the source of a bad value that is not in `args`."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # from typer's own checks
            parameter: Any = error.param
            source = _source(ctx, parameter) if parameter else ""
            if not _is_elsewhere(source):
                raise
            value = _text(parameter.consume_value(ctx, {})[0])
            raise ConfigError(f"{source}: {_key(parameter)} = {value}: {error.message}") from error

    def invoke(self, ctx: Any) -> Any:
        """Invoke as Click does, but add the sources of the options that an error names."""
        try:
            for key, parameter in _keys(self).items():
                value = ctx.params.get(parameter.name)
                if isinstance(value, Path):
                    refuse_address(value, key)
            return super().invoke(ctx)
        except AnomalyCliError as error:
            named = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", str(error))}
            sources = {key: _source(ctx, p) for key, p in _keys(self).items() if key in named}
            told = [f"{k}: {source}" for k, source in sources.items() if _is_elsewhere(source)]
            if not told:
                raise
            raise type(error)(f"{error} ({', '.join(told)})") from error


def load_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Apply --config, as its callback: values of the file override those of a preset.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value has the wrong type.
    """
    if path is not None and not ctx.resilient_parsing:
        source = f"config {path}"
        from anomaly_cli.config.toml import read_toml

        values = _read_layer(ctx, read_toml(path), source)
        ctx.default_map = {**(ctx.default_map or {}), **values}
        ctx.meta.setdefault(_SOURCES, {}).update(dict.fromkeys(values, source))
    return path


def load_preset(ctx: typer.Context, name: str | None) -> str | None:
    """Apply --preset, as its callback: its values override only the defaults.

    Raises:
        ConfigError: there is no such preset.
    """
    if name is not None and not ctx.resilient_parsing:
        source = f"preset {name}"
        values = _read_layer(ctx, read_preset(name), source)
        ctx.default_map = {**values, **(ctx.default_map or {})}
        sources = ctx.meta.setdefault(_SOURCES, {})
        ctx.meta[_SOURCES] = {**dict.fromkeys(values, source), **sources}
    return name


def resolve_settings(
    ctx: typer.Context, derived: Mapping[str, Any] | None = None
) -> "ResolvedSettings":
    """List the value and the source of each setting of the running command.

    Args:
        ctx: context of the command.
        derived: values of options that follow from other options.
    """
    from anomaly_cli.config.toml import ResolvedSettings, Setting

    values = {**ctx.params, **(derived or {})}
    rows = [
        Setting(key, values[parameter.name], _source(ctx, parameter))
        for key, parameter in _keys(ctx.command).items()
        if key not in _OF_THE_CALL
    ]
    return ResolvedSettings(command=ctx.command.name or "", rows=tuple(rows))


def _read_layer(ctx: typer.Context, document: dict[str, Any], source: str) -> dict[str, Any]:
    """Convert a document to values by parameter name.

    The table of the command overrides the top level.

    Raises:
        ConfigError: a table or key is unknown, or a value has the wrong type.
    """
    commands = _configurable(ctx)
    document = _plain_keys(document, source)
    tables = {k: _plain_keys(v, source) for k, v in document.items() if isinstance(v, dict)}
    top = {key: value for key, value in document.items() if key not in tables}
    everywhere = {key for keys in commands.values() for key in keys}
    for name, table in tables.items():
        _require_known(name, commands, f"{source}: unknown table [{name}]")
        for key in table:
            _require_known(key, commands[name], f"{source}: [{name}] has no key {key}")
    for key in top:
        _require_known(key, everywhere, f"{source}: unknown key {key}")
    own = _plain(ctx.command.name or "")
    values = {k: v for k, v in {**top, **tables.get(own, {})}.items() if k in commands[own]}
    return {
        commands[own][key].name: _as_argument(value, commands[own][key], f"{source}: {key}")
        for key, value in values.items()
    }


def _configurable(ctx: typer.Context) -> dict[str, dict[str, Any]]:
    """List the keys of each command that reads configuration files."""
    group: Any = ctx.parent.command if ctx.parent else None
    return {
        _plain(name): _keys(command)
        for name, command in group.commands.items()
        if any(parameter.name == _CONFIG for parameter in command.params)
    }


def _keys(command: Any) -> dict[str, Any]:
    """List the parameters that a file can set, by key."""
    hidden = {_CONFIG, "help"}
    return {
        _key(parameter): parameter for parameter in command.params if parameter.name not in hidden
    }


def _key(parameter: Any) -> str:
    """Name an option without dashes; this may differ from the name of its parameter."""
    if parameter.param_type_name == "argument":
        return str(parameter.name)
    return _plain(next(name for name in parameter.opts if name.startswith("--"))[2:])


def _plain_keys(table: dict[str, Any], source: str) -> dict[str, Any]:
    plain = {_plain(key): value for key, value in table.items()}
    if len(plain) < len(table):
        twice = next(key for key in table if key != _plain(key) and _plain(key) in table)
        raise ConfigError(f"{source}: {twice} is given twice, also as {_plain(twice)}")
    return plain


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _require_known(key: str, known: Any, message: str) -> None:
    if key not in known:
        from difflib import get_close_matches

        close = get_close_matches(key, known, n=1)
        raise ConfigError(message + (f"; did you mean {close[0]}?" if close else ""))


def _as_argument(value: Any, parameter: Any, place: str) -> Any:
    """Convert a value to the form of the command line, so that both are parsed alike.

    Raises:
        ConfigError: the value has the wrong type.
    """
    from datetime import date, time

    is_flag = getattr(parameter, "is_flag", False)
    is_list = parameter.multiple or parameter.nargs != 1
    kind = bool if is_flag else list if is_list else str | int | float | date | time
    is_right = isinstance(value, kind) and is_flag == isinstance(value, bool)
    if not is_right:
        wanted = "true or false" if is_flag else "a list" if is_list else "one value"
        raise ConfigError(f"{place} must be {wanted}, got {_text(value)}")
    if is_flag:
        return value
    return [str(item) for item in value] if is_list else str(value)


def _add_variable(option: Any, command: str) -> None:
    """Let ANOMALY_CLI_<COMMAND>_<OPTION> set an option, before a variable that it already has."""
    # Click would use the name of the parameter, which differs for --map, --format and --lambda.
    variable = f"{_PREFIX}_{_plain(command)}_{_key(option)}".upper()
    option.show_envvar = option.envvar is not None  # else --help would be twice as long
    option.envvar = [variable, option.envvar] if option.envvar else [variable]


def _source(ctx: Any, parameter: Any) -> str:
    """Name the source of the value of a parameter."""
    source = ctx.get_parameter_source(parameter.name)
    match source.name if source else "":
        case "COMMANDLINE":
            return "argument" if parameter.param_type_name == "argument" else "flag"
        case "ENVIRONMENT":
            return f"environment {next(filter(os.environ.get, parameter.envvar))}"
        case "DEFAULT_MAP":
            return str(ctx.meta[_SOURCES][parameter.name])
        case _:
            return "default"


def _is_elsewhere(source: str) -> bool:
    """Return whether a value comes from a source outside the command line."""
    return source.startswith(("environment ", "config ", "preset "))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
