"""The routing table follows readiness; the configuration follows names, routes and slots."""

from devstack.core import events as e
from devstack.core.model import Endpoint, Gateway, Restart, Scheme
from devstack.core.outcome import scale_failure
from devstack.core.reduce import reduce
from devstack.core.routes import Route, Target
from devstack.core.shape import wanted_shape
from devstack.core.tell import tell
from devstack.core.view import service_view
from tests.support.history import History, database, needs, nginx, web, worker


def gate(*services_: object, **changes: object) -> History:
    core = History()
    core.up(nginx(), web(**changes))
    core.prepared("gateway")
    core.prepared("web")
    core.start("gateway.1#1")
    core.loaded()
    core.routed()
    return core


def test_slots_are_rendered_ahead() -> None:
    core = gate(replicas=3)

    assert core.state.gateway.loaded is not None
    assert core.state.gateway.loaded.slots == (("web", 14),)


def test_scaling_within_the_rendered_slots_changes_the_table_and_loads_nothing() -> None:
    core = gate()
    core.start("web.1#1")
    core.routed()
    core.tell(e.ScaleRequested("web", 2))

    assert core.start("web.2#1") == ["routes web=web.1#1,web.2#1"]


def test_scaling_beyond_the_rendered_slots_loads_once_and_routes_when_it_is_loaded() -> None:
    core = gate()
    core.start("web.1#1")
    core.routed()
    planned = core.tell(e.ScaleRequested("web", 11))
    assert [line for line in planned if line.startswith("load")] == ["load web*30"]

    assert core.start("web.11#1") == []
    assert core.loaded() == ["routes web=web.1#1,web.11#1"]


def test_the_configuration_has_routes_endpoints_and_fixed_ports() -> None:
    core = History()
    core.up(
        nginx(),
        database(),
        web(endpoints=(Endpoint("main", 80), Endpoint("admin", 81, Scheme.TCP))),
        worker("old", endpoints=(Endpoint("main", 9000, fixed=True),)),
        worker(
            "mixed",
            endpoints=(Endpoint("main", 82), Endpoint("own", 9001, fixed=True)),
        ),
        worker(),
        gateway=Gateway(8080, routes=(Route("/shop", "web", strip=True, timeout_seconds=30.0),)),
    )

    shape = wanted_shape(core.state)
    assert shape == e.GatewayShape(
        public=True,
        port=8080,
        routes=(("/shop", "web", True, 30.0, False),),
        slots=(("mixed", 10), ("web", 10)),
        endpoints=(
            ("mixed", (("main", 82, "http"),)),
            ("web", (("main", 80, "http"), ("admin", 81, "tcp"))),
        ),
        fixed=(("mixed.own", 9001), ("old", 9000)),
    )


def test_only_ready_wanted_replicas_are_in_the_table() -> None:
    core = gate(replicas=3)
    core.start("web.1#1")
    core.routed()
    core.spawned("web.2#1")
    core.start("web.3#1")
    core.routed()
    assert core.state.gateway.table is not None
    assert core.state.gateway.table.ready == {
        "web": (Target(1, "127.0.0.1:20011", "web.1#1"), Target(3, "127.0.0.1:20031", "web.3#1"))
    }

    assert core.unready("web.1#1") == ["routes web=web.3#1"]
    core.routed()
    assert core.tell(e.ScaleRequested("web", 2)) == ["routes"]
    assert core.state.gateway.setting is not None
    assert core.state.gateway.setting.waiting == {"web": "web is starting"}


def test_what_has_no_replica_says_what_it_waits_for_and_since_when() -> None:
    core = gate()
    assert core.state.gateway.table is not None
    assert core.state.gateway.table.waiting == {"web": "web is starting"}
    assert core.state.gateway.table.since == {"web": 1000.0}

    core.tell(e.StopRequested("web"))
    assert core.state.gateway.setting is not None
    assert core.state.gateway.setting.waiting == {"web": "web is stopped"}


def page(core: History, name: str = "web") -> str:
    """What the gateway says of a service, once what is being set is in force."""
    while core.state.gateway.setting is not None:
        core.routed()
    assert core.state.gateway.table is not None
    return core.state.gateway.table.waiting[name]


def crashed(core: History, replica: str, *tail: str) -> list[str]:
    return core.tell(e.ReplicaExited(replica, e.Exit(3, tail=tail)))


def test_f10_the_page_says_what_a_service_waits_for() -> None:
    core = History()
    core.up(nginx(), web("api", depends_on=needs("db")), worker("db"))
    core.prepared("gateway")
    core.start("gateway.1#1")
    core.loaded()
    assert page(core, "api") == "api is preparing"

    core.prepared("api")
    assert page(core, "api") == "api is waiting for db (ready)"
    core.prepared("db")
    core.start("db.1#1")
    assert page(core, "api") == "api is starting"
    core.exited("db.1#1", 1)
    crashed(core, "api.1#1", "Error: no database")
    assert page(core, "api") == "api is waiting for db (ready)"


def test_f10_the_page_says_why_a_service_failed_in_one_line_without_passwords() -> None:
    core = gate(restart=Restart.NEVER)
    core.spawned("web.1#1")
    crashed(core, "web.1#1", "Error: no answer from postgres://shop:s3cret@db:5432/x " + "x" * 900)

    text = page(core)
    assert text.startswith(
        "web failed: web exited with code 3: Error: no answer from postgres://sh"
    )
    assert "s3cret" not in text
    assert len(text) < 250

    core.tell(e.SourceChanged("web", "source-2"))
    core.not_prepared("web", "cannot build web: main.go:3: undefined: x\n  func main() {\nhint: y")
    assert page(core) == "web failed: cannot build web: main.go:3: undefined: x"


def test_f10_the_page_says_that_what_should_serve_has_ended() -> None:
    core = gate()
    core.start("web.1#1")
    core.exited("web.1#1", 0)

    assert page(core) == (
        "web failed: ended with code 0 and is not started again;"
        " if that is all it does: `kind: job` or `port: none`"
    )


def test_f10_a_crash_loop_changes_the_page_when_the_words_change_and_not_with_each_try() -> None:
    core = gate()
    said: list[str] = []
    for number in range(1, 9):
        replica = f"web.1#{number}"
        core.spawned(replica)
        core.unready(replica, "nothing listens on 127.0.0.1:20011")
        planned = crashed(core, replica, "KeyError: 'DSN'")
        if any(line.startswith("routes") for line in planned):
            said.append(page(core))
        assert not [line for line in core.wait(60) if line.startswith("routes")]

    assert said == [
        "web is starting: the last replica exited with code 3: KeyError: 'DSN'",
        "web is in a crash loop: exited with code 3: KeyError: 'DSN'",
    ]


def test_one_table_at_a_time_and_then_the_newest() -> None:
    core = gate(replicas=3)

    assert core.start("web.1#1") == ["routes web=web.1#1"]
    assert core.start("web.2#1") == []
    assert core.start("web.3#1") == []
    assert core.routed() == ["routes web=web.1#1,web.2#1,web.3#1"]


def test_a_table_that_could_not_be_set_is_tried_again_soon() -> None:
    core = gate()
    core.start("web.1#1")

    assert core.tell(e.RoutesFailed("no answer")) == []
    assert core.plan.wake_at == 1000.2
    assert core.wait(0.2) == ["routes web=web.1#1"]


def refuse_routes(core: History, times: int) -> list[str]:
    """NGINX takes no table, so often; what else is set in motion meanwhile."""
    planned: list[str] = []
    for _ in range(times):
        assert core.state.gateway.setting is not None
        planned += core.tell(e.RoutesFailed("cannot set routes: no answer")) + core.wait(0.2)
    return [line for line in planned if not line.startswith("routes")]


def test_what_makes_way_waits_for_ten_tables_in_vain_and_says_so() -> None:
    core = gate(replicas=2)
    core.start("web.1#1")
    core.routed()
    core.start("web.2#1")
    core.routed()
    core.tell(e.ScaleRequested("web", 1))
    assert core.holds("web") == ["web.2#1 leaves the routing table first"]

    assert refuse_routes(core, 9) == []
    assert core.holds("web") == [
        "web.2#1 leaves the routing table first: cannot set routes: no answer"
    ]
    gateway = service_view(core.state, core.plan, "gateway", core.now)
    assert gateway.warnings == ("cannot set routes: no answer",)
    assert scale_failure(core.state, "web", core.now) == ""

    assert refuse_routes(core, 1) == ["drain web.2#1"]
    assert scale_failure(core.state, "web", core.now) == "cannot set routes: no answer"
    core.routed()
    assert scale_failure(core.state, "web", core.now) == ""
    assert service_view(core.state, core.plan, "gateway", core.now).warnings == ()


def test_a_table_that_is_not_wanted_any_more_is_no_warning() -> None:
    core = gate()
    core.start("web.1#1")
    core.routed()
    core.unready("web.1#1")
    assert tell_of(core, e.RoutesFailed("no answer")) == "no answer"
    core.tell(e.RoutesFailed("no answer"))
    core.ready("web.1#1")

    assert core.wait(60) == []
    assert service_view(core.state, core.plan, "gateway", core.now).warnings == ()


def tell_of(core: History, event: e.Event) -> str | None:
    """What people are told of an event."""
    line = tell(core.state, event, reduce(core.state, event))
    return line.text if line is not None else None


def test_a_configuration_that_was_refused_keeps_the_old_one_and_is_tried_later() -> None:
    core = gate()
    core.tell(e.ScaleRequested("web", 11))
    loading = core.state.gateway.loading
    assert loading is not None

    assert core.tell(e.GatewayLoadFailed(loading, "port 8080 is in use")) == []
    assert core.holds("gateway") == ["port 8080 is in use"]
    assert core.state.gateway.loaded is not None
    assert core.state.gateway.loaded.slots == (("web", 10),)
    assert core.wait(4.9) == []
    assert core.wait(0.1) == ["load web*30"]


def test_another_configuration_is_tried_at_once() -> None:
    core = gate()
    core.tell(e.ScaleRequested("web", 11))
    loading = core.state.gateway.loading
    assert loading is not None
    core.tell(e.GatewayLoadFailed(loading, "port 8080 is in use"))

    core.up(nginx(), web(replicas=20))
    assert core.state.gateway.loading is not None
    assert core.state.gateway.loading.slots == (("web", 30),)


def test_a_gateway_that_ended_knows_nothing_and_is_told_everything_again() -> None:
    core = gate()
    core.start("web.1#1")
    core.routed()
    core.exited("gateway.1#1", 1)
    assert core.state.gateway.loaded is None
    assert core.wait(0.5) == ["start gateway.1#2"]

    shape = wanted_shape(core.state)
    core.spawned("gateway.1#2")
    assert core.tell(e.GatewayLoaded(shape)) == ["routes web=web.1#1"]
    assert core.ready("gateway.1#2") == []


def test_a_replica_that_listens_elsewhere_is_routed_to_where_it_listens() -> None:
    core = gate()
    core.start("web.1#1")
    core.routed()
    core.tell(e.ReplicaListens("web.1#1", (("main", "[::1]:5000"),)))

    assert core.state.gateway.setting is not None
    assert core.state.gateway.setting.ready == {"web": (Target(1, "[::1]:5000", "web.1#1"),)}
