"""Keeps passwords of `broker.settings` out of everything that is written down. Pure but for the files it is pointed to.

A setting is given as it is, or as a reference, {"env": "VARIABLE"} or {"file": "PATH"}, which each process looks up for
itself when it connects. Invariant: what `shown` returns, and so every copy of a configuration, holds no password.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stream.errors import UserError

NOT_SHOWN = "(not shown)"
KINDS = ("env", "file")
"""Keys of a reference."""


def is_secret(key: str) -> bool:
    """Whether a setting of kafka-python's clients with this name is a password: sasl_plain_password, ssl_password."""
    return "password" in key.lower()


def is_reference(value: object) -> bool:
    """Whether a setting says where its value is, instead of being it."""
    return isinstance(value, Mapping) and set(value) <= set(KINDS) and len(value) == 1


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for people and files: references as they are, passwords in plain text left out."""
    return {key: NOT_SHOWN if is_secret(key) and not is_reference(value) else value for key, value in settings.items()}


def resolved(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings with every reference replaced by what it refers to.

    Raises:
        UserError: the variable is not set, or the file cannot be read.

    """
    return {key: _look_up(key, value, environment) if is_reference(value) else value for key, value in settings.items()}


def _look_up(key: str, reference: Mapping[str, str], environment: Mapping[str, str]) -> str:
    ((kind, name),) = reference.items()
    if kind == "env":
        if not environment.get(name):
            raise UserError(
                f"broker.settings takes {key} from the environment variable {name}, which is not set; set it"
            )
        return environment[name]
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(
            f"broker.settings takes {key} from the file {name}, which cannot be read ({reason}); write it, or let this "
            "user read it"
        ) from None
