"""The words behind a command: values behind letters, numbers and durations as people write them."""

import pytest

from devstack.cli.options import Options, read
from devstack.cli.talk import Failed


def words(*typed: str) -> Options:
    """As `devstack logs` reads them."""
    return read(
        "logs",
        typed,
        flags={"-f": "follow", "--follow": "follow", "--raw": "raw"},
        values={"-n": "--tail", "--tail": "--tail", "--timeout": "--timeout"},
        most=None,
    )


@pytest.mark.parametrize(
    "typed", [["-n", "5"], ["-n5"], ["-n=5"], ["--tail", "5"], ["--tail=5"], ["-fn5"], ["-fn", "5"]]
)
def test_the_value_of_a_letter_may_stand_right_behind_it(typed: list[str]) -> None:
    options = words(*typed, "orders")

    assert options.number("--tail") == 5
    assert ("follow" in options) is typed[0].startswith("-f")
    assert options.arguments == ["orders"]


@pytest.mark.parametrize("typed", ["-nf", "-fx", "-x5", "-5", "-f=5", "--raw=yes", "--tai=5"])
def test_what_is_no_option_is_refused(typed: str) -> None:
    with pytest.raises(Failed):
        words(typed).number("--tail")


def test_a_letter_without_its_value_is_told_by_its_name() -> None:
    with pytest.raises(Failed, match="-n needs a value"):
        words("-fn")


@pytest.mark.parametrize("typed", ["", "-1", "1.5", "five", "٣", "9" * 10, "9" * 5000])
def test_an_odd_number_is_a_mistake_of_the_user(typed: str) -> None:
    with pytest.raises(Failed, match=r"cannot read --tail") as failed:
        words("--tail", typed).number("--tail")

    assert len(str(failed.value)) < 200


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("300", 300.0), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("250ms", 0.25), ("2d", 172800.0)],
)  # fmt: skip
def test_a_timeout_is_written_as_in_the_stack_file(typed: str, seconds: float) -> None:
    assert words("--timeout", typed).seconds("--timeout", 1.0) == seconds


@pytest.mark.parametrize(
    "typed",
    ["", "0", "0s", "-5", "soon", "1e3", "nan", "inf", "1_0", " 5", "٣s", "5 m", "9" * 5000, "9999d9999d"],
)  # fmt: skip
def test_an_odd_timeout_is_a_mistake_of_the_user(typed: str) -> None:
    with pytest.raises(Failed, match=r"cannot read --timeout"):
        words("--timeout", typed).seconds("--timeout", 1.0)
