"""The errors that reach a person: one line that says what was found, what was expected, and what to do."""

from __future__ import annotations


class MirrorError(Exception):
    """Anything the command line reports in one line instead of a traceback."""

    exit_code = 1


class DataError(MirrorError):
    """An input file or row cannot be used. Names the file, the line or value, and what was expected."""


class HubError(MirrorError):
    """A Hub repo, revision or server refused, or is not what was expected."""


class ConfigError(MirrorError):
    """A setting, flag or YAML key is wrong. Names it and the nearest known one."""

    exit_code = 2


def cause(error: BaseException) -> str:
    """An error in one line, with its kind where its text was not written for people."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MirrorError) else f"{type(error).__name__}: {text}"
