"""
One table of settings for the command line and the configuration file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from twisted.python import usage


@dataclass(frozen=True, slots=True)
class Setting:
    """
    A thing that may be set, by ``--name VALUE`` or ``name = value``.

    :ivar kind: ``str``, ``int`` or ``bool``; of each value, where it may be given repeatedly.
    :ivar is_repeatable: a list in the file, or a single value; an option given several times on
        the command line.
    :ivar choices: what a string may be.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    is_repeatable: bool = False
    choices: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        """
        What the file must hold, in words.
        """
        one = {str: "a string", int: "a number", bool: "true or false"}[self.kind]
        if self.choices:
            one = "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        return f"a list, each item {one}" if self.is_repeatable else one

    def accepts(self, value: object) -> bool:
        """
        Whether a value from a file has the right type.
        """
        if self.is_repeatable and isinstance(value, list):
            return all(self._accepts_one(item) for item in value)
        return self._accepts_one(value)

    def _accepts_one(self, value: object) -> bool:
        if self.kind is int:
            return isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, self.kind) and (not self.choices or value in self.choices)


CONFIG = Setting("config", "TOML file with any of these settings; options win over it")


class SettingsOptions(usage.Options):
    """
    Options made of :attr:`settings`, merged with a configuration file.

    After parsing, ``self[name]`` holds the value: of the option, else of the file, else the
    default.
    """

    settings: ClassVar[Sequence[Setting]] = ()

    def __init_subclass__(cls) -> None:
        # usage.Options finds options by the names of its class's methods.
        for setting in (CONFIG, *cls.settings):
            setattr(cls, f"opt_{setting.name.replace('-', '_')}", _make_option(setting))

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}
        super().__init__()  # type: ignore[no-untyped-call]
        for setting in self.settings:
            is_list = setting.is_repeatable
            self[setting.name] = list(setting.default or ()) if is_list else setting.default

    def postOptions(self) -> None:
        """
        Merge the file below the options; Twisted calls this after parsing.

        :raises UsageError: naming file, key and what is allowed.
        """
        config = self._given.pop("config", None)
        if config is not None:
            self.update(read_settings(Path(config), self.settings))
        self.update(self._given)

    def take(self, setting: Setting, text: str) -> None:
        """
        An option was given on the command line.

        :raises UsageError: when its value is not what the setting takes.
        """
        value: Any = text
        if setting.kind is int:
            if not text.isascii() or not text.isdigit():
                raise usage.UsageError(f"--{setting.name} takes a number, not {text!r}")
            value = int(text)
        if setting.choices and text not in setting.choices:
            allowed = ", ".join(setting.choices)
            raise usage.UsageError(f"--{setting.name} takes one of {allowed}, not {text!r}")
        if setting.is_repeatable:
            self._given.setdefault(setting.name, []).append(value)
        else:
            self._given[setting.name] = value

    def take_flag(self, setting: Setting) -> None:
        """
        An option without value was given on the command line.
        """
        self._given[setting.name] = True


def _make_option(setting: Setting) -> Callable[..., None]:
    def set_flag(options: SettingsOptions) -> None:
        options.take_flag(setting)

    def set_value(options: SettingsOptions, value: str) -> None:
        options.take(setting, value)

    option: Callable[..., None] = set_flag if setting.kind is bool else set_value
    option.__doc__ = setting.help
    return option


def read_settings(path: Path, settings: Sequence[Setting]) -> Mapping[str, Any]:
    """
    The settings in a TOML file.

    :raises UsageError: when the file cannot be read, is not TOML, or has a key or a type that
        is not allowed.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise usage.UsageError(f"cannot read {path}: {error.strerror}; correct --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise usage.UsageError(f"{path} is not TOML: {error}") from None
    by_name = {setting.name: setting for setting in settings}
    for key, value in found.items():
        setting = by_name.get(key)
        if setting is None:
            allowed = ", ".join(sorted(by_name))
            raise usage.UsageError(f"{path}: unknown key {key!r}; allowed are {allowed}")
        if not setting.accepts(value):
            raise usage.UsageError(f"{path}: {key} must be {setting.type_name}")
        if setting.is_repeatable and not isinstance(value, list):
            found[key] = [value]
    return found
