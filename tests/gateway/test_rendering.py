"""The configuration text: nothing but the directives that were meant ever reaches it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.core.routes import GatewayConfig, Listen, Route, RoutingTable, Slots, Target, Upstream
from devstack.gateway.directive import Expression, Rendered, UnsafeValue, Value, block, line, write
from devstack.gateway.features import Features
from devstack.gateway.parse import Node, NotAsMeant, ParseError, parse, verify
from devstack.gateway.render import CannotRender, render
from devstack.gateway.settings import GatewaySettings
from devstack.gateway.web import DuplicateRoute

TABLE = Features(
    (1, 31, 3), shared_table=True, table_state=True, keepalive_min_timeout=True, tcp=True
)
PLAIN = Features((1, 22, 1), shared_table=False, tcp=True)
PAYLOADS = (
    "x { server 127.0.0.1:1; } server { listen 127.0.0.1:81; } upstream y",
    "/ { return 200 ok; } location /etc/ { alias /etc/; } location /z",
    "/q # \n { root /; } location /r",
    "include /etc/passwd;",
    "/a$host",
    "/a b",
    '/"',
    "/'",
    "/\\",
    "/a\x00b",
    "/ä",
    "a\n",
    "",
)


def settings_with(features: Features) -> GatewaySettings:
    return GatewaySettings(Path("/opt/nginx"), features, Path("/run/gateway"), as_root=False)


def shop(**changes: object) -> GatewayConfig:
    config = GatewayConfig(
        "shop",
        (Listen("127.0.0.1", 8080), Listen("::1", 8080)),
        (
            Route("/orders", "orders", strip=True, timeout_seconds=30),
            Route("/", "users", stream=True),
        ),
        (
            Slots(
                "orders",
                "orders",
                Upstream.HTTP,
                (Listen("127.65.1.2", 8080),),
                ((21000, 21001), (21002,)),
            ),
            Slots("users", "users", Upstream.HTTP, (Listen("127.65.1.3", 80),), ((21010,),)),
            Slots("lines", "lines", Upstream.TCP, (Listen("127.65.1.4", 7000),), ((21020,),)),
        ),
        (("old", "127.0.0.1:8000"),),
    )
    return replace(config, **changes)  # type: ignore[arg-type] # fields by name


def names(nodes: tuple[Node, ...]) -> Iterator[str]:
    """The directives of a configuration; inside `map`, the keys are none."""
    for node in nodes:
        yield node.words[0]
        if node.block is not None and node.words[0] != "map":
            yield from names(node.block)


EXPECTED = {
    kind: set(
        names(
            parse(
                render(
                    shop(),
                    settings_with(features),
                    RoutingTable(
                        {
                            "orders": (Target(1, "127.0.0.1:21000", "orders.1#1"),),
                            "lines": (Target(1, "127.0.0.1:21020"),),
                        },
                        {"users": "users is starting"},
                    ),
                ).text
            )
        )
    )
    for kind, features in (("table", TABLE), ("plain", PLAIN))
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("features", [TABLE, PLAIN], ids=["table", "plain"])
def test_k06_an_injected_name_or_path_is_refused_wherever_it_stands(
    payload: str, features: Features
) -> None:
    slots = shop().services[0]
    configs = [
        shop(stack=payload),
        shop(routes=(Route(payload, "orders"),)),
        shop(routes=(Route("/orders", payload),)),
        shop(services=(replace(slots, key=payload),)),
        shop(public=(Listen(payload, 8080),)),
        shop(services=(replace(slots, listens=(Listen(payload, 80),)),)),
        shop(direct=((payload, "127.0.0.1:80"),)),
    ]
    for config in configs:
        with pytest.raises(UnsafeValue):
            render(config, settings_with(features))
    if features is TABLE:
        with pytest.raises(UnsafeValue):
            render(shop(direct=(("old", payload),)), settings_with(features))
    else:
        with pytest.raises(UnsafeValue):
            render(shop(), settings_with(features), RoutingTable({"orders": (Target(1, payload),)}))


text = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"/[a-z0-9._~/-]{0,12}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    st.sampled_from(PAYLOADS),
    st.text("{};#$\"'\\ \n/ab", max_size=12),
)


@settings(max_examples=300)
@given(
    stack=text,
    path=text,
    to=text,
    key=text,
    waiting=text,
    replica=text,
    features=st.sampled_from(["table", "plain"]),
    strip=st.booleans(),
)
def test_k06_whatever_is_written_only_expected_directives_come_out(
    stack: str,
    path: str,
    to: str,
    key: str,
    waiting: str,
    replica: str,
    features: str,
    *,
    strip: bool,
) -> None:
    config = GatewayConfig(
        stack,
        (Listen("127.0.0.1", 8080),),
        (Route(path, to, strip),),
        (Slots(key, key, Upstream.HTTP, (Listen("127.65.1.2", 8080),), ((21000,),)),),
    )
    table = RoutingTable({key: (Target(1, "127.0.0.1:21000", replica),)}, {key: waiting})
    try:
        rendered = render(config, settings_with({"table": TABLE, "plain": PLAIN}[features]), table)
    except UnsafeValue:
        return
    tree = parse(rendered.text)
    assert set(names(tree)) <= EXPECTED[features]
    assert len([each for each in tree if each.words[0] == "http"]) == 1
    listens = [n.words[1] for n in _all(tree) if n.words[0] == "listen"]
    assert all(each.startswith(("127.", "[::1]", "unix:")) for each in listens)


def _all(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if node.words[0] != "map":
            yield from _all(node.block or ())


@settings(max_examples=300)
@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_any_expression_is_read_back_as_it_was_written(words: list[str]) -> None:
    tree = (block("outer", inside=[line(*map(Expression, words))]),)

    verify(write(tree).text, tree)


def test_a_text_that_says_something_else_is_found() -> None:
    meant = (block("server", inside=[line("listen", "127.0.0.1:80")]),)

    for said in (
        "server { listen 127.0.0.1:80; listen 8081; }",
        "server { listen 127.0.0.1:80; } include x;",
        "server { listen 127.0.0.1:80 ; # }",
        "server { 'listen' \"127.0.0.1:81\"; }",
    ):
        with pytest.raises(NotAsMeant):
            verify(said, meant)
    verify("server{listen '127.0.0.1:80';} # comment", meant)


@pytest.mark.parametrize("broken", ["a", "a {", "}", ";", "{", '"a', "a { b }", '"a"b;'])
def test_broken_configuration_is_no_configuration(broken: str) -> None:
    with pytest.raises(ParseError):
        parse(broken)


def test_forgetting_to_say_what_a_word_is_means_it_is_checked() -> None:
    with pytest.raises(UnsafeValue):
        line("server", "a; b")
    for char in "{};#$\"'\\ \t\n\x00\x7fä":
        with pytest.raises(UnsafeValue):
            Value(f"a{char}b")


def test_nothing_listens_beyond_loopback_unless_it_is_allowed() -> None:
    for address in ("0.0.0.0", "::", "192.168.1.5", "172.17.0.1"):
        with pytest.raises(UnsafeValue, match="not a loopback address"):
            render(shop(public=(Listen(address, 80),)), settings_with(TABLE))
    bridge = replace(settings_with(TABLE), beyond_loopback=frozenset({"172.17.0.1"}))
    assert "listen 172.17.0.1:80" in render(shop(public=(Listen("172.17.0.1", 80),)), bridge).text


def test_contradictions_are_told() -> None:
    with pytest.raises(DuplicateRoute):
        render(shop(routes=(Route("/a", "orders"), Route("/a/", "users"))), settings_with(TABLE))
    with pytest.raises(CannotRender, match=r"127\.65\.1\.2:8080 to two parts"):
        render(shop(public=(Listen("127.65.1.2", 8080),)), settings_with(TABLE))
    with pytest.raises(CannotRender, match="no stream module"):
        render(shop(), settings_with(replace(TABLE, tcp=False)))
    with pytest.raises(UnsafeValue, match="cannot wait"):
        render(shop(routes=(Route("/a", "orders", timeout_seconds=-1),)), settings_with(TABLE))


def test_a_line_tells_the_part_of_the_stack_it_comes_from() -> None:
    rendered: Rendered = render(shop(), settings_with(TABLE))
    lines = rendered.text.splitlines()

    def origin(start: str) -> str:
        return rendered.origin_of(
            1 + next(n for n, each in enumerate(lines) if each.strip().startswith(start))
        )

    assert origin("location = /orders") == "gateway.routes./orders"
    assert origin("listen 127.65.1.3:80") == "services.users"
    assert origin("upstream orders.2.21002") == "services.orders"
    assert origin("daemon off") == ""
    assert rendered.origin_of(100_000) == ""


def test_services_named_like_words_of_nginx_mean_nothing_to_it() -> None:
    services = tuple(
        Slots(name, name, Upstream.HTTP, (Listen("127.65.1.2", 8000 + n),), ((21000 + n,),))
        for n, name in enumerate(("default", "include", "hostnames", "volatile", "none", "server"))
    )
    table = RoutingTable(
        {each.key: (Target(1, f"127.0.0.1:{each.ports[0][0]}"),) for each in services[:3]},
        {each.key: "waits" for each in services},
    )
    for features in (TABLE, PLAIN):
        tree = parse(
            render(GatewayConfig("include", services=services), settings_with(features), table).text
        )
        maps = [n for n in _all(tree) if n.words[0] == "map"]
        for each in maps:
            keys = [entry.words[0] for entry in each.block or ()]
            assert not {"include", "hostnames", "volatile"} & set(keys)
            assert keys.count("default") <= 1
