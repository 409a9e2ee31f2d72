"""B06: what counts as flapping, and what is only the echo of something else."""

from devstack.core import events as e
from devstack.core.view import service_word
from tests.support.history import History, needs, worker

PROBES_FAILED = 9.0
"""How long it may take a dependent to be found not ready: three probes in vain."""


def shop() -> History:
    """`web` needs `api`, which needs `db` and `cache`; all are ready for a good while."""
    core = History()
    core.up(
        worker("db"),
        worker("cache"),
        worker("api", depends_on=needs("db", "cache")),
        worker("web", replicas=4, depends_on=needs("api")),
    )
    for name in ("db", "cache", "api", "web"):
        core.prepared(name)
        for slot in range(1, core.state.wanted_count(name) + 1):
            core.start(f"{name}.{slot}#1")
    core.wait(120)
    return core


def stop_and_start(core: History, name: str) -> None:
    """Somebody stops a service and starts it again; whatever needs it is not ready meanwhile."""
    (running,) = core.running(name)
    dependents = [r for other in ("api", "web") for r in core.running(other)]
    core.tell(e.StopRequested(name))
    core.exited(running, 0)
    core.wait(PROBES_FAILED)
    for replica in dependents:
        core.unready(replica)
    core.tell(e.StartRequested(name))
    (started,) = core.running(name)
    core.start(started)
    core.wait(2)
    for replica in dependents:
        core.ready(replica)


def word(core: History, name: str) -> str:
    return service_word(core.state, name, core.now)


def test_b06_dependencies_that_somebody_stops_and_starts_make_nothing_flap() -> None:
    core = shop()

    stop_and_start(core, "db")
    stop_and_start(core, "cache")
    stop_and_start(core, "db")

    words = {name: word(core, name) for name in ("db", "cache", "api", "web")}
    assert set(words.values()) == {"ready"}, words


def test_b06_a_dependency_that_was_back_before_its_dependent_noticed_makes_nothing_flap() -> None:
    core = shop()

    for number in (1, 2, 3):
        core.tell(e.RestartRequested("api"))
        core.prepared("api")
        core.start(f"api.1#{number + 1}")
        core.exited(f"api.1#{number}", 0)
        core.wait(PROBES_FAILED)
        core.unready("web.1#1")
        core.wait(1)
        core.ready("web.1#1")

    assert word(core, "web") == "ready"


def test_b06_a_service_that_somebody_stops_and_starts_does_not_flap() -> None:
    core = shop()

    for number in (1, 2, 3):
        core.tell(e.StopRequested("db"))
        core.exited(f"db.1#{number}", 0)
        core.tell(e.StartRequested("db"))
        core.start(f"db.1#{number + 1}")
        core.wait(1)

    assert word(core, "db") == "ready"


def test_b06_a_service_flaps_by_itself_while_all_it_needs_stands_still() -> None:
    core = shop()
    stop_and_start(core, "db")
    core.wait(21)

    for _ in range(2):
        core.unready("web.1#1")
        core.wait(2)
        core.ready("web.1#1")
        core.wait(2)

    assert word(core, "web") == "flapping"


def test_b06_a_dependency_that_was_stopped_long_ago_excuses_nothing() -> None:
    core = shop()
    core.tell(e.StopRequested("cache"))
    core.exited("cache.1#1", 0)
    core.wait(21)

    for _ in range(2):
        core.unready("api.1#1")
        core.wait(2)
        core.ready("api.1#1")
        core.wait(2)

    assert word(core, "api") == "flapping"
