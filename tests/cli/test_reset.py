"""`devstack reset`: what it refuses before anybody is asked for a yes."""

from tests.support.stacks import StackUnderTest


def test_a_service_that_is_no_database_is_refused_before_anybody_is_asked(
    stack: StackUnderTest,
) -> None:
    stack.up()

    service = stack.devstack("reset", "api", code=2)
    unknown = stack.devstack("reset", "apj", code=2)
    both = stack.devstack("reset", "api", "worker", "--yes", code=2)

    assert service.err.splitlines() == [
        "cannot reset api: it is a service, not a database",
        "hint: devstack restart api replaces its replicas",
    ]
    assert unknown.err.splitlines()[0] == "there is no service 'apj' (did you mean 'api'?)"
    assert [line for line in both.err.splitlines() if line.startswith("cannot")] == [
        "cannot reset api: it is a service, not a database",
        "cannot reset worker: it is a service, not a database",
    ]
