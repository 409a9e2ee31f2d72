"""What people write: the keys of a stack file, their values and defaults; also its JSON Schema.

Only what can be said of one value stands here. Whether names exist, what fits together and what is
the default of what is `lower`'s to say. A choice between shapes is made by looking at the shape, so
that a mistake gives one message and not one for each thing it might have been.
"""

from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from devstack.config.problems import Report
from devstack.config.source import Items, Scalar, Section
from devstack.config.words import (
    AnyText,
    Argument,
    BrokerWord,
    CommandText,
    ConditionWord,
    Count,
    DatabaseWord,
    Duration,
    ExposeWord,
    Flag,
    Identifier,
    KindWord,
    Name,
    NameText,
    NotYet,
    Pattern,
    Port,
    PositiveDuration,
    Replicas,
    RestartWord,
    RoutePath,
    RunWord,
    SchemeWord,
    Secret,
    Signal,
    Target,
    Text,
    UpdateWord,
    UrlPath,
    Value,
    Variable,
    Version,
    Word,
    read_port,
    warn_of_bare_arguments,
)
from devstack.core.model import Kind, RuntimeName, Scheme

NOT_IN_THIS_VERSION: Final = "Not in this version."
TEXT: Final = "\0text"
LIST: Final = "\0list"
MAP: Final = "\0map"
SHAPES: Final = frozenset({TEXT, LIST, MAP})
"""Tags of the choices, as they stand in the locations of errors; no key of a tree has a NUL."""


def _shape_of(value: object) -> str | None:
    match value:
        case Section():
            return MAP
        case Items():
            return LIST
        case Scalar():
            return TEXT
        case _:
            return None


def _by_shape(wanted: str) -> Discriminator:
    return Discriminator(
        _shape_of, custom_error_type="wrong_shape", custom_error_message=f"must be {wanted}"
    )


def _nothing_is_empty(value: object) -> object:
    """A key with nothing below it is an empty section."""
    if isinstance(value, Scalar) and value.is_null:
        return Section(value.place)
    return value


class Written(BaseModel):
    """A map of known keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"patternProperties": {"^x-": {}}}
    )

    @model_validator(mode="before")
    @classmethod
    def _remember_keys(cls, data: Any, info: ValidationInfo) -> Any:
        """Which keys are in force in this very map, for `did you mean`."""
        if isinstance(data, Section) and isinstance(info.context, Context):
            info.context.keys[id(data)] = tuple(
                name
                for name, about in cls.model_fields.items()
                if about.description != NOT_IN_THIS_VERSION
            )
        return data


class Context(Report):
    """What reading one tree collects besides values."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[int, tuple[str, ...]] = {}
        """Known keys by the identity of the map (the tree outlives the reading of it)."""


class FixedPort(Written):
    """A port that cannot be another one."""

    fixed: Annotated[Port, Field(description="The port, whatever else is running.")]


def _read_port_word(value: Any, report: Report) -> int | None:
    """`8080` or `none`."""
    if isinstance(value, Scalar) and value.text == "none":
        return None
    return read_port(value, report)


_PORT_WORD_JSON: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"const": "none"},
        {"type": "string", "pattern": r"\$\{"},
    ]
}
_PortWord = Annotated[int | None, Word(_read_port_word, _PORT_WORD_JSON)]

ServicePort = Annotated[
    Annotated[_PortWord, Tag(TEXT)] | Annotated[FixedPort, Tag(MAP)],
    _by_shape("a port, none, or {fixed: PORT}"),
]
GatewayPort = Annotated[
    Annotated[Port, Tag(TEXT)] | Annotated[FixedPort, Tag(MAP)],
    _by_shape("a port or {fixed: PORT}"),
]


class NamedPort(Written):
    """One of several ports, with more to say than its number."""

    port: Annotated[Port | None, Field(description="What callers dial.")] = None
    fixed: Annotated[
        Port | None, Field(description="The program cannot be told its port and listens on this.")
    ] = None
    scheme: Annotated[
        SchemeWord | None, Field(description="What is spoken; the service's own by default.")
    ] = None


OneOfPorts = Annotated[
    Annotated[Port, Tag(TEXT)] | Annotated[NamedPort, Tag(MAP)],
    _by_shape("a port, or a map with port or fixed, and scheme"),
]


def _check_arguments(value: Any, info: ValidationInfo) -> Any:
    if isinstance(info.context, Context):
        warn_of_bare_arguments(value, info.context)
    return value


Arguments = Annotated[list[Argument], Field(min_length=1), BeforeValidator(_check_arguments)]
CommandWord = Annotated[
    Annotated[CommandText, Tag(TEXT)] | Annotated[Arguments, Tag(LIST)],
    _by_shape("a text for the shell or a list of program and arguments"),
]

Paths = Annotated[
    Annotated[Text, Tag(TEXT)] | Annotated[list[Text], Tag(LIST)],
    _by_shape("a path or a list of paths"),
]

Dependencies = Annotated[
    Annotated[list[NameText], Tag(LIST)] | Annotated[dict[Name, ConditionWord], Tag(MAP)],
    _by_shape("a list of names, or a map of names to started, ready or completed"),
    BeforeValidator(_nothing_is_empty),
]

Environment = Annotated[dict[Variable, Value], BeforeValidator(_nothing_is_empty)]


class ProbeSection(Written):
    """One question and how often it is asked."""

    http: Annotated[
        UrlPath | None, Field(description="Path to GET; passes on a status below 400.")
    ] = None
    tcp: Annotated[
        Flag | None, Field(description="true: passes when a connection is accepted.")
    ] = None
    exec: Annotated[
        CommandWord | None, Field(description="Program that ends with 0; a text runs in a shell.")
    ] = None
    log: Annotated[
        Pattern | None,
        Field(description="Regular expression; passes once a line of the log matches."),
    ] = None
    query: Annotated[
        Flag | None,
        Field(description="true: passes when a database or broker answers a real query."),
    ] = None
    port: Annotated[
        Text | None,
        Field(description="Which of several ports http and tcp ask: its name or number."),
    ] = None
    interval: Annotated[PositiveDuration, Field(description="Time between questions.")] = 2.0
    timeout: Annotated[PositiveDuration, Field(description="How long an answer may take.")] = 1.0
    failures: Annotated[Count, Field(description="Failures in a row that count.")] = 3
    successes: Annotated[Count, Field(description="Successes in a row that count.")] = 1


class StopSection(Written):
    """How a replica is asked to end."""

    signal: Annotated[Signal | None, Field(description="First signal (TERM).")] = None
    grace: Annotated[
        Duration | None, Field(description="How long it may take before it is killed (10s).")
    ] = None


class LogsSection(Written):
    """How output is kept."""

    split: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None


class ServiceSection(Written):
    """A service or a job: code of yours that runs from a folder or by a command."""

    source: Annotated[
        Text | None,
        Field(description="Folder of the code; its language is read from its files."),
    ] = None
    command: Annotated[
        CommandWord | None,
        Field(description="How it is started: a text runs in a shell, a list does not."),
    ] = None
    main: Annotated[
        Text | None,
        Field(description="Which of several programs of the source is meant, as in ./cmd/api."),
    ] = None
    kind: Annotated[KindWord, Field(description="service, or job: runs once and ends with 0.")] = (
        Kind.SERVICE
    )
    run: Annotated[
        RunWord,
        Field(description="Who runs it: auto or process (fake and fake-workload are for tests)."),
    ] = RuntimeName.PROCESS
    script: Annotated[
        AnyText | None, Field(description="What a replica does with run: fake, for tests.")
    ] = None
    port: Annotated[
        ServicePort | None,
        Field(description="What callers dial (8080); none for a worker; {fixed: PORT}."),
    ] = None
    ports: Annotated[
        dict[Name, OneOfPorts],
        BeforeValidator(_nothing_is_empty),
        Field(description="Several ports by name, instead of port; the first is the main one."),
    ] = {}
    scheme: Annotated[SchemeWord, Field(description="What is spoken: http or tcp.")] = Scheme.HTTP
    replicas: Annotated[Replicas, Field(description="How many run.")] = 1
    depends_on: Annotated[
        Dependencies,
        Field(description="What must be ready (a job: completed) before it starts."),
    ] = []
    environment: Annotated[
        Environment, Field(description="Variables; may have references such as ${auth.url}.")
    ] = {}
    env_file: Annotated[Paths, Field(description="Files of variables, later ones win.")] = []
    restart: Annotated[
        RestartWord | None, Field(description="When an ended replica is replaced (on-failure).")
    ] = None
    update: Annotated[
        UpdateWord | None,
        Field(description="rolling: new before old goes; recreate: never two on a slot."),
    ] = None
    stop: Annotated[StopSection | None, Field(description="How it is asked to end.")] = None
    ready: Annotated[ProbeSection | None, Field(description="When it can do its work.")] = None
    alive: Annotated[ProbeSection | None, Field(description="When it must be replaced.")] = None
    startup: Annotated[
        ProbeSection | None, Field(description="Holds back ready and alive until it passes.")
    ] = None
    start_timeout: Annotated[
        PositiveDuration, Field(description="How long it may take to be ready first.")
    ] = 120.0
    watch: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    image: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    build: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    profiles: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    secrets: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    expose: Annotated[ExposeWord | None, Field(description=NOT_IN_THIS_VERSION)] = None
    logs: Annotated[LogsSection | None, Field(description=NOT_IN_THIS_VERSION)] = None


class ServerSection(Written):
    """What databases and brokers have in common."""

    version: Annotated[Version | None, Field(description='Wanted version, as in "18".')] = None
    port: Annotated[Port | None, Field(description="What callers dial; the engine's usual.")] = None
    flags: Annotated[list[Text], Field(description="More arguments for the server.")] = []
    ready: Annotated[ProbeSection | None, Field(description="Timing of its query probe.")] = None
    restart: Annotated[
        RestartWord | None, Field(description="When an ended server is replaced (always).")
    ] = None
    stop: Annotated[StopSection | None, Field(description="How it is asked to end.")] = None
    start_timeout: Annotated[
        PositiveDuration, Field(description="How long it may take to be ready first.")
    ] = 120.0
    image: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    run: Annotated[RunWord | None, Field(description="Who runs it: auto or process.")] = None
    profiles: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    expose: Annotated[ExposeWord | None, Field(description=NOT_IN_THIS_VERSION)] = None


class DatabaseSection(ServerSection):
    """A database server that devstack provisions and runs."""

    engine: Annotated[DatabaseWord, Field(description="postgres, mysql or mongodb.")]
    user: Annotated[Identifier | None, Field(description="Its user (devstack).")] = None
    password: Annotated[
        Secret | None, Field(description="Its password; generated for the checkout by default.")
    ] = None
    database: Annotated[
        Identifier | None, Field(description="Its database; the name with _ for - by default.")
    ] = None
    extensions: Annotated[
        list[Identifier], Field(description="PostgreSQL extensions to create.")
    ] = []
    seed: Annotated[
        Paths,
        Field(description="File, list of files or folder (.sql .sql.gz .js .sh), run once."),
    ] = []


class BrokerSection(ServerSection):
    """A message broker that devstack provisions and runs."""

    engine: Annotated[BrokerWord, Field(description="nats.")]
    user: Annotated[Identifier | None, Field(description="User clients must name; none.")] = None
    password: Annotated[Secret | None, Field(description="Its password, with user.")] = None
    jetstream: Annotated[Flag, Field(description="Streams that are kept on disk.")] = False


class RouteSection(Written):
    """A route with more to say than its target."""

    to: Annotated[
        Target | None, Field(description="Service, or SERVICE.PORT-NAME, that answers.")
    ] = None
    strip: Annotated[Flag, Field(description="Take the path of the route off the request.")] = False
    timeout: Annotated[
        PositiveDuration | None, Field(description="How long an answer may pause (1h).")
    ] = None
    stream: Annotated[
        Flag, Field(description="Pass request bodies as they come instead of buffering them.")
    ] = False
    static: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None


RouteWord = Annotated[
    Annotated[Target, Tag(TEXT)] | Annotated[RouteSection, Tag(MAP)],
    _by_shape("the name of a service, or a map with to, strip, timeout and stream"),
]


class GatewaySection(Written):
    """The public face of the stack: one NGINX."""

    port: Annotated[
        GatewayPort,
        Field(description="Wanted port (8080); {fixed: PORT} insists on it."),
    ] = 8080
    routes: Annotated[
        dict[RoutePath, RouteWord],
        BeforeValidator(_nothing_is_empty),
        Field(description="Paths and who answers them; the longest wins."),
    ] = {}
    expose: Annotated[ExposeWord | None, Field(description=NOT_IN_THIS_VERSION)] = None


class StackFile(Written):
    """A stack: services, databases, broker and gateway that run together."""

    name: Annotated[
        NameText | None, Field(description="Name of the stack; the folder's by default.")
    ] = None
    gateway: Annotated[
        GatewaySection | None,
        BeforeValidator(_nothing_is_empty),
        Field(description="The public face of the stack."),
    ] = None
    services: Annotated[
        dict[Name, ServiceSection],
        BeforeValidator(_nothing_is_empty),
        Field(description="Services and jobs by name."),
    ] = {}
    databases: Annotated[
        dict[Name, DatabaseSection],
        BeforeValidator(_nothing_is_empty),
        Field(description="Databases by name."),
    ] = {}
    broker: Annotated[
        dict[Name, BrokerSection],
        BeforeValidator(_nothing_is_empty),
        Field(description="Message brokers by name."),
    ] = {}
    secrets: Annotated[NotYet, Field(description=NOT_IN_THIS_VERSION)] = None
    expose: Annotated[ExposeWord | None, Field(description=NOT_IN_THIS_VERSION)] = None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a stack file, for editors (draft 2020-12)."""
    schema = StackFile.model_json_schema()
    _close_maps(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "devstack stack file",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _close_maps(part: Any) -> None:
    """Maps of names take such names and `x-` keys only; pydantic leaves them open."""
    if isinstance(part, list):
        for item in part:
            _close_maps(item)
    elif isinstance(part, dict):
        names = part.get("patternProperties")
        if isinstance(names, dict) and "additionalProperties" not in part:
            part["patternProperties"] = {
                "^x-": {},
                **{pattern.replace("^", "^(?!x-)", 1): about for pattern, about in names.items()},
            }
            part["additionalProperties"] = False
        for item in part.values():
            _close_maps(item)
