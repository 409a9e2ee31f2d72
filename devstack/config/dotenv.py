r"""Reads `.env` and `env_file`s: one grammar, that of python-dotenv, without its interpolation.

    NAME=value            spaces around the value go; ` #` starts a comment, `#` inside a word does not
    export NAME=value     the same
    NAME='as it is'       may span lines; only \' and \\ are escapes
    NAME="with \n"        may span lines; \n \t \r \\ \" \' \a \b \f \v are escapes
    NAME=                 an empty value
    NAME                  is passed over: the shell's own value is there anyway

`$` means nothing here. Line ends may be \n or \r\n (inside quotes too, where they become \n); a
byte order mark is ignored; the last of equal names wins. The file is UTF-8.
"""

import io
import re
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from devstack.config.problems import Place, Report
from devstack.config.source import Unreadable, read_text

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def read_env_file(
    path: Path, name: str, report: Report, *, named_at: Place | None = None
) -> dict[str, str]:
    """Names and values of a file, in its order; what is wrong is reported and left out."""
    try:
        text = read_text(path, name, report, named_at=named_at)
    except Unreadable:
        return {}
    return parse_env(text, name, report)


def parse_env(text: str, name: str, report: Report) -> dict[str, str]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    # Whatever the name, the value may be a secret: only names are shown.
    report.add_text(name, re.sub(r"=.*", lambda match: "=" + "*" * (len(match[0]) - 1), text))
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text, newline="")):
        written = binding.original.string
        blank = written[: len(written) - len(written.lstrip())]
        place = Place(name, binding.original.line + blank.count("\n"), 1)
        if binding.error:
            report.error(
                place,
                "cannot read this line",
                "write NAME=value; quotes are closed at the end of the value",
            )
            break  # what follows may be the inside of an open quote
        if binding.key is None:
            continue
        if not ENV_NAME.fullmatch(binding.key):
            report.error(place, f"'{binding.key}' cannot be the name of a variable")
        elif binding.value is None:
            continue
        elif "\0" in binding.value:
            report.error(place, "a value cannot contain a NUL character")
        else:
            values.pop(binding.key, None)
            values[binding.key] = binding.value
    return values
