"""Any valid stack file loads to what it says, and any breakage is told where it was made."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.config.load import Loaded, load
from devstack.config.problems import ConfigError
from devstack.core.model import (
    ArgvCommand,
    Condition,
    EngineProgram,
    Kind,
    Restart,
    Scheme,
    Service,
    ShellCommand,
    SourceProgram,
)
from devstack.core.template import literal

NAMES = st.from_regex(r"[a-wyz][a-z0-9-]{0,12}", fullmatch=True).filter(
    lambda name: name not in {"gateway", "self", "secrets", "localhost"}
)
# Everything YAML and the environment can carry; "$" has a meaning of its own and its own tests.
TEXTS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="$\ufeff\ufffe\uffff"),
    min_size=1,
    max_size=20,
).filter(lambda text: text.strip() != "")
VARIABLES = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
PORTS = st.integers(1, 65535)

SERVICES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"command": st.one_of(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))},
    optional={
        "port": st.one_of(PORTS, st.just("none")),
        "replicas": st.integers(0, 20),
        "environment": st.dictionaries(VARIABLES, TEXTS, max_size=4),
        "restart": st.sampled_from(["always", "on-failure", "never"]),
        "scheme": st.sampled_from(["http", "tcp"]),
        "stop": st.fixed_dictionaries(
            {}, optional={"signal": st.sampled_from(["INT", "QUIT"]), "grace": st.integers(0, 60)}
        ),
        "ready": st.fixed_dictionaries(
            {"log": st.just("up")}, optional={"failures": st.integers(1, 9)}
        ),
        "x-note": st.one_of(TEXTS, st.none()),
    },
)
DATABASES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"engine": st.sampled_from(["postgres", "mysql", "mongodb"])},
    optional={"port": PORTS, "version": st.sampled_from(["18", "1.10", "10.11"])},
)


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    cut = draw(st.integers(1, len(names)))
    services = {name: draw(SERVICES) for name in names[:cut]}
    for index, name in enumerate(services):
        # Only on what stands further down, so that there is no cycle.
        later = [other for other in names[index + 1 :] if draw(st.booleans())]
        if later:
            services[name]["depends_on"] = later
    stack: dict[str, Any] = {"services": services}
    if names[cut:]:
        stack["databases"] = {name: draw(DATABASES) for name in names[cut:]}
    return stack


@dataclass(frozen=True)
class Style:
    """How the same values are written down."""

    flow: bool
    quotes: str | None
    indent: int


STYLES = st.builds(
    Style,
    flow=st.booleans(),
    quotes=st.sampled_from([None, "'", '"']),
    indent=st.integers(2, 6),
)


def render(stack: dict[str, Any], style: Style) -> str:
    return yaml.dump(
        stack,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=style.flow,
        default_style=style.quotes,
        indent=style.indent,
        Dumper=_Untagged,
        width=1000,
    )


class _Untagged(yaml.SafeDumper):
    """Quoted numbers without a tag, as people write them; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def serialize_node(self, node: Any, parent: Any, index: Any) -> None:
        if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
            node.tag = "tag:yaml.org,2002:str"
        super().serialize_node(node, parent, index)


def load_string(text: str) -> Loaded:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stack.yaml")
        path.write_text(text)
        return load(path, {})


@settings(max_examples=60)
@given(stacks(), STYLES)
def test_a_random_stack_loads_to_what_was_written(stack: dict[str, Any], style: Style) -> None:
    loaded = load_string(render(stack, style)).stack

    for name, written in stack["services"].items():
        check_service(loaded.service(name), written)
    for name, written in stack.get("databases", {}).items():
        service = loaded.service(name)
        assert service.kind is Kind.DATABASE
        assert isinstance(service.program, EngineProgram)
        assert service.program.engine == written["engine"]
        assert service.program.version == written.get("version")
        if "port" in written:
            assert service.endpoints[0].port == written["port"]
    assert set(loaded.services) - {"gateway"} == {*stack["services"], *stack.get("databases", {})}


def check_service(service: Service, written: dict[str, Any]) -> None:
    command = written["command"]
    if isinstance(command, list):
        expected: Any = ArgvCommand(tuple(literal(text) for text in command))
    else:
        expected = ShellCommand(literal(command))
    assert service.program == SourceProgram(None, expected)
    port = written.get("port", 8080)
    scheme = Scheme(written.get("scheme", "http"))
    assert [(e.port, e.scheme) for e in service.endpoints] == (
        [] if port == "none" else [(port, scheme)]
    )
    assert service.replicas == written.get("replicas", 1)
    assert service.environment == tuple(
        (name, literal(value)) for name, value in written.get("environment", {}).items()
    )
    assert service.restart is Restart(written.get("restart", "on-failure"))
    assert service.stop.signal == written.get("stop", {}).get("signal", "TERM")
    assert service.stop.grace_seconds == written.get("stop", {}).get("grace", 10)
    if "ready" in written:
        assert service.ready.failures == written["ready"].get("failures", 3)
    assert [(d.service, d.condition) for d in service.depends_on] == [
        (name, Condition.READY) for name in written.get("depends_on", [])
    ]


BREAKAGES: list[tuple[str, Any, str]] = [
    ("comand", "x", "unknown key 'comand' (did you mean 'command'?)"),
    ("port", 99999, "'port' must be a port from 1 to 65535, not '99999'"),
    ("replicas", "lots", "'replicas' must be a whole number from 0 to 200, not 'lots'"),
    ("restart", "maybe", "'restart' must be 'always', 'on-failure' or 'never', not 'maybe'"),
    ("depends_on", ["no-such-thing"], "there is no service 'no-such-thing' to depend on"),
    ("image", "nginx", "'image' is not in this version"),
    ("environment", ["A=1"], "'environment' must be a map, not a list"),
]


@settings(max_examples=60)
@given(stacks(), STYLES, st.lists(st.sampled_from(BREAKAGES), min_size=1, max_size=3), st.data())
def test_random_breakages_are_all_told_on_their_own_lines(
    stack: dict[str, Any], style: Style, breakages: list[tuple[str, Any, str]], data: st.DataObject
) -> None:
    expected: dict[tuple[str, str], str] = {}
    for key, value, message in breakages:
        name = data.draw(st.sampled_from(sorted(stack["services"])))
        stack["services"][name][key] = value
        expected[name, key] = message
    text = render(stack, Style(flow=False, quotes=style.quotes, indent=style.indent))

    try:
        load_string(text)
    except ConfigError as error:
        found = {(p.line, p.message.split(" (did", 1)[0]) for p in error.problems}
    else:
        raise AssertionError("the broken file was loaded")

    lines = {
        (line_of(text, name, key), message.split(" (did", 1)[0])
        for (name, key), message in expected.items()
    }
    assert found == lines


def line_of(text: str, name: str, key: str) -> int:
    """Where a key of a service stands, found by PyYAML's own marks; of a list, its first item."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    [services] = [value for k, value in root.value if k.value == "services"]
    [service] = [value for k, value in services.value if k.value == name]
    [(found, value)] = [(k, v) for k, v in service.value if k.value == key]
    node = value if isinstance(value, yaml.SequenceNode) else found
    return int(node.start_mark.line) + 1
