"""What a single value may be: ports, durations, paths and names, read from the text that was typed.

Each type carries its reader and its JSON Schema. Messages are predicates ("must be …"); the place
and the key in front of them are added by `validate`.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from devstack.config.dotenv import ENV_NAME
from devstack.config.problems import Report, did_you_mean
from devstack.config.source import Items, Scalar, Section
from devstack.core import durations
from devstack.core.model import Kind, Restart, RuntimeName, Scheme, Update
from devstack.core.policy import MOST_REPLICAS
from devstack.core.template import Template

NAME_PATTERN: Final = r"[a-z][a-z0-9-]{0,39}"
ROUTE_PATTERN: Final = r"/[A-Za-z0-9._~/-]*"
SIGNALS: Final = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL", "WINCH", "ABRT", "ALRM")

_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
# What a reader of YAML 1.1 makes of a text without quotes. true and false are left out: nobody
# is surprised that a variable set to true reads "true".
_TRAPS: Final = (
    (re.compile(r"(?i)yes|no|on|off"), "a truth value"),
    (re.compile(r"[-+]?[1-9][0-9]*(?::[0-5]?[0-9])+"), "a number to the base of 60"),
    (re.compile(r"[-+]?0[0-7]+"), "an octal number"),
    (re.compile(r"[0-9]+\.[0-9]*0"), "a number without its last zeros"),
)


TOLD: Final = "told"
"""The type of errors that were reported where they were found."""


def refuse(message: str, hint: str = "") -> NoReturn:
    """Refuse a value; the message may contain braces."""
    raise PydanticCustomError("stack_file", "{message}", {"message": message, "hint": hint})


@dataclass(frozen=True, eq=False)
class Word:
    """How one kind of value is read, for pydantic, and what an editor may complete."""

    read: Callable[[Any, Report], Any]
    json: Mapping[str, Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.read(value, info.context)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.json)


def shape(value: object) -> str:
    """The words for what was written where something else is wanted."""
    match value:
        case Section():
            return "a map"
        case Items():
            return "a list"
        case Scalar(is_null=True):
            return "nothing"
        case _:
            return "a text"


def written(value: Any, wanted: str) -> Scalar:
    """The scalar that was typed where `wanted` belongs."""
    if not isinstance(value, Scalar):
        refuse(f"must be {wanted}, not {shape(value)}")
    if value.is_broken:
        raise PydanticCustomError(TOLD, "told already")
    if value.is_null:
        refuse("has no value", f'write {wanted}; "" is an empty text')
    return value


def plain_text(value: Any, wanted: str = "a text") -> str:
    """A text that is known before anything runs."""
    scalar = written(value, wanted)
    if scalar.template is not None and (references := scalar.template.references):
        refuse(
            f"cannot contain {references[0]}",
            "references are filled in when a replica starts: in environment, command and exec",
        )
    return scalar.text


def read_text(value: Any, report: Report) -> str:
    text = plain_text(value)
    _warn_of_traps(value, report)
    if not text:
        refuse("is empty")
    if not text.isprintable():
        refuse("must be printable text on one line")
    return text


def read_any_text(value: Any, _report: Report) -> str:
    return plain_text(value)


def read_template(value: Any, report: Report) -> Template:
    scalar = written(value, "a text")
    _warn_of_traps(scalar, report)
    return scalar.template if scalar.template is not None else Template((scalar.text,))


def read_value(value: Any, report: Report) -> Template:
    template = read_template(value, report)
    _warn_of_bare_variable(value, report)
    return template


def warn_of_bare_arguments(value: Any, report: Report) -> None:
    """A list is run without a shell, unless it names one: then `-c` stands before its script."""
    for item in value if isinstance(value, Items) else ():
        if isinstance(item, Scalar):
            if re.fullmatch(r"-[a-z]*c", item.text):
                return
            _warn_of_bare_variable(item, report)


def _warn_of_bare_variable(scalar: Scalar, report: Report) -> None:
    name = scalar.bare_variable
    if name:
        braces = "${self.port}" if name == "PORT" else f"${{{name}}}"
        report.warn(
            report.find(scalar.place, f"${name}"),
            f"${name} is passed on as it stands: there is no shell here to fill it in",
            f"write {braces}; $${name} is the text ${name}",
        )


def read_command_text(value: Any, report: Report) -> Template:
    template = read_template(value, report)
    if not str(template).strip():
        refuse("is empty")
    return template


def read_secret(value: Any, _report: Report) -> Template:
    text = plain_text(value)
    if not text:
        refuse("is empty", "leave the key out to have a password generated")
    return Template((text,))


def read_boolean(value: Any, _report: Report) -> bool:
    text = plain_text(value, "true or false")
    known = _BOOLEANS.get(text.lower())
    if known is None:
        refuse(f"must be true or false, not {_quoted(text)}")
    return known


def whole_number(low: int, high: int) -> Word:
    """A whole number, typed with digits only."""

    def read(value: Any, _report: Report) -> int:
        text = plain_text(value, "a number")
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", text, re.ASCII) or not low <= int(text) <= high:
            hint = "a leading zero means octal to YAML 1.1" if _is_octal(text) else ""
            refuse(f"must be a whole number from {low} to {high}, not {_quoted(text)}", hint)
        return int(text)

    number = {"type": "integer", "minimum": low, "maximum": high}
    return Word(read, {"anyOf": [number, _VARIABLE_JSON]})


def read_port(value: Any, _report: Report) -> int:
    text = plain_text(value, "a port")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text, re.ASCII) or int(text) > 65535:
        hint = ""
        if ":" in text:
            hint = "write the port that callers dial; nothing is mapped"
        elif _is_octal(text):
            hint = "a leading zero means octal to YAML 1.1; write the number without it"
        refuse(f"must be a port from 1 to 65535, not {_quoted(text)}", hint)
    return int(text)


def read_duration(value: Any, _report: Report) -> float:
    text = plain_text(value, "a duration")
    seconds = durations.seconds_of(text)
    if seconds is None:
        refuse(f"must be a duration such as 500ms, 10s or 1m30s, not {_quoted(text)}")
    if seconds > 7 * 86400:
        refuse(f"must be at most a week, not '{text}'")
    return seconds


def read_positive_duration(value: Any, report: Report) -> float:
    seconds = read_duration(value, report)
    if seconds <= 0:
        refuse("must be longer than 0")
    return seconds


def read_signal(value: Any, _report: Report) -> str:
    text = plain_text(value, "a signal")
    signal = text.upper().removeprefix("SIG")
    if signal not in SIGNALS:
        refuse(
            f"must be a signal such as TERM or INT, not {_quoted(text)}"
            + did_you_mean(signal, SIGNALS)
        )
    return signal


def read_name(value: Any, report: Report) -> str:
    """The name of a service where it is referred to; whether it exists is asked later."""
    return check_name(plain_text(value, "a name"), report)


def check_name(text: str, _report: Report) -> str:
    if not re.fullmatch(NAME_PATTERN, text, re.ASCII):
        refuse(
            f"must be a name, not {_quoted(text)}",
            "a name starts with a letter and has up to 40 of a-z, 0-9 and -",
        )
    return text


def read_target(value: Any, _report: Report) -> str:
    """`orders` or `orders.admin`."""
    text = plain_text(value, "the name of a service")
    if not re.fullmatch(rf"{NAME_PATTERN}(\.{NAME_PATTERN})?", text, re.ASCII):
        refuse(f"must name a service, not {_quoted(text)}", "write NAME or NAME.ENDPOINT")
    return text


def check_route(text: str, _report: Report) -> str:
    if not re.fullmatch(ROUTE_PATTERN, text, re.ASCII):
        refuse(
            f"must be a path such as /orders, not {_quoted(text)}",
            "a path starts with / and has letters, digits and . _ ~ / -",
        )
    if "//" in text or {".", ".."} & set(text.split("/")):
        refuse(f"must be a path as requests have it, not {_quoted(text)}", "without //, . and ..")
    return text


def check_variable(text: str, _report: Report) -> str:
    if not ENV_NAME.fullmatch(text):
        refuse(f"must be the name of a variable, not {_quoted(text)}")
    return text


def read_url_path(value: Any, _report: Report) -> str:
    text = plain_text(value, "a path")
    if not re.fullmatch(r"/[!-~]*", text, re.ASCII):
        refuse(f"must be a path such as /healthz, not {_quoted(text)}")
    return text


def read_pattern(value: Any, _report: Report) -> str:
    text = plain_text(value, "a regular expression")
    if not text or len(text) > 1000:
        refuse("must be a regular expression of 1 to 1000 characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of future changes to sets: the pattern is not ours
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        refuse(f"is not a regular expression: {exc}")
    return text


def read_identifier(value: Any, _report: Report) -> str:
    """A user or a database, which reach SQL and URLs."""
    text = plain_text(value, "a name")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", text, re.ASCII):
        refuse(
            f"must be a name, not {_quoted(text)}",
            "it starts with a letter or _ and has up to 63 letters, digits, _ and -",
        )
    return text


def read_version(value: Any, _report: Report) -> str:
    text = plain_text(value, "a version")
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}", text, re.ASCII):
        refuse(f'must be a version such as "18" or "10.11", not {_quoted(text)}')
    return text


def one_of(
    words: Mapping[str, Enum | str],
    later: tuple[str, ...] = (),
    foreign: Mapping[str, str] | None = None,
) -> Word:
    """One of a few words; `later` are known and not in force, `foreign` are said elsewhere."""

    def read(value: Any, _report: Report) -> Enum | str:
        text = plain_text(value, "one word")
        if text in words:
            return words[text]
        if text in later:
            refuse(f"cannot be '{text}' yet: not in this version")
        hint = f"write '{foreign[text]}'" if foreign and text in foreign else ""
        refuse(
            f"must be {_listed((*words, *later))}, not {_quoted(text)}"
            + ("" if hint else did_you_mean(text, words)),
            hint,
        )

    return Word(read, {"anyOf": [{"enum": [*words, *later]}, _VARIABLE_JSON]})


_COMPOSE_CONDITIONS: Final = {
    "service_started": "started",
    "service_healthy": "ready",
    "service_completed_successfully": "completed",
}


def _read_condition(value: Any, report: Report) -> Any:
    """One word; Compose has a map with it."""
    typed = value.get("condition") if isinstance(value, Section) else None
    if isinstance(typed, Scalar):
        word = _COMPOSE_CONDITIONS.get(typed.text, "ready")
        refuse("must be one word, not a map", f"write 'NAME: {word}'")
    return _CONDITION.read(value, report)


def _refuse_for_now(_value: Any, _report: Report) -> NoReturn:
    refuse("is not in this version")


def _warn_of_traps(scalar: Scalar, report: Report) -> None:
    if not scalar.is_plain:
        return
    for pattern, what in _TRAPS:
        if pattern.fullmatch(scalar.text):
            report.warn(
                scalar.place,
                f"{scalar.text} is read as a text; other YAML readers make {what} of it",
                f'write "{scalar.text}"',
            )


def _is_octal(text: str) -> bool:
    return bool(re.fullmatch(r"0[0-9]+", text))


def _quoted(text: str) -> str:
    """What was typed, short and without control characters."""
    shown = "".join(c if c.isprintable() else "·" for c in text)
    return f"'{shown}'" if len(shown) <= 60 else f"'{shown[:57]}…'"


def _listed(words: tuple[str, ...]) -> str:
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


_VARIABLE_JSON: Final = {"type": "string", "pattern": r"\$\{"}
_TEXT_JSON: Final = {"type": ["string", "number", "boolean"]}
_DURATION_JSON: Final = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": rf"^({durations.PATTERN})$|\$\{{"},
    ]
}
_PORT_NUMBER_JSON: Final = {"type": "integer", "minimum": 1, "maximum": 65535}

_CONDITION: Final = one_of(
    {word: word for word in ("started", "ready", "completed")}, foreign=_COMPOSE_CONDITIONS
)

Text = Annotated[str, Word(read_text, _TEXT_JSON)]
AnyText = Annotated[str, Word(read_any_text, _TEXT_JSON)]
Value = Annotated[Template, Word(read_value, _TEXT_JSON)]
Argument = Annotated[Template, Word(read_template, _TEXT_JSON)]
CommandText = Annotated[Template, Word(read_command_text, {"type": "string", "minLength": 1})]
Secret = Annotated[Template, Word(read_secret, _TEXT_JSON)]
Flag = Annotated[bool, Word(read_boolean, {"anyOf": [{"type": "boolean"}, _VARIABLE_JSON]})]
Port = Annotated[int, Word(read_port, {"anyOf": [_PORT_NUMBER_JSON, _VARIABLE_JSON]})]
Duration = Annotated[float, Word(read_duration, _DURATION_JSON)]
PositiveDuration = Annotated[float, Word(read_positive_duration, _DURATION_JSON)]
Count = Annotated[int, whole_number(1, 1000)]
Replicas = Annotated[int, whole_number(0, MOST_REPLICAS)]
Signal = Annotated[
    str, Word(read_signal, {"type": "string", "pattern": rf"^(SIG)?({'|'.join(SIGNALS)})$|\$\{{"})
]
Name = Annotated[str, Word(check_name, {"type": "string", "pattern": f"^{NAME_PATTERN}$"})]
NameText = Annotated[
    str, Word(read_name, {"type": "string", "pattern": rf"^{NAME_PATTERN}$|\$\{{"})
]
Target = Annotated[
    str,
    Word(
        read_target,
        {"type": "string", "pattern": rf"^{NAME_PATTERN}(\.{NAME_PATTERN})?$|\$\{{"},
    ),
]
RoutePath = Annotated[str, Word(check_route, {"type": "string", "pattern": f"^{ROUTE_PATTERN}$"})]
Variable = Annotated[
    str, Word(check_variable, {"type": "string", "pattern": f"^{ENV_NAME.pattern}$"})
]
UrlPath = Annotated[str, Word(read_url_path, {"type": "string", "pattern": r"^/[!-~]*$|\$\{"})]
Pattern = Annotated[str, Word(read_pattern, {"type": "string", "format": "regex", "minLength": 1})]
Identifier = Annotated[
    str,
    Word(read_identifier, {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$|\$\{"}),
]
Version = Annotated[str, Word(read_version, {"type": ["string", "number"]})]
NotYet = Annotated[None, Word(_refuse_for_now, {})]

KindWord = Annotated[Kind, one_of({"service": Kind.SERVICE, "job": Kind.JOB})]
RestartWord = Annotated[
    Restart,
    one_of(
        {word.value: word for word in Restart},
        foreign={"no": "never", "false": "never", "unless-stopped": "always"},
    ),
]
UpdateWord = Annotated[Update, one_of({word.value: word for word in Update})]
SchemeWord = Annotated[
    Scheme, one_of({"http": Scheme.HTTP, "tcp": Scheme.TCP}, ("grpc",), {"https": "http"})
]
RunWord = Annotated[
    RuntimeName,
    one_of(
        {
            "auto": RuntimeName.PROCESS,
            "process": RuntimeName.PROCESS,
            "fake": RuntimeName.FAKE,
            "fake-workload": RuntimeName.FAKE_WORKLOAD,
        },
        ("docker", "kubernetes"),
    ),
]
ConditionWord = Annotated[str, Word(_read_condition, _CONDITION.json)]
ExposeWord = Annotated[str, one_of({}, ("lan",))]
DatabaseWord = Annotated[
    str,
    one_of(
        {word: word for word in ("postgres", "mysql", "mongodb")},
        foreign={"mariadb": "mysql", "mongo": "mongodb", "postgresql": "postgres"},
    ),
]
BrokerWord = Annotated[str, one_of({"nats": "nats"})]
