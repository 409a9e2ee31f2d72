"""K05: what is covered in the words of a program, and what is left as it is."""

import pytest

from devstack.core.env import Variable
from devstack.engine.covers import covered, secrets_among


def among(**variables: str) -> tuple[str, ...]:
    return secrets_among(Variable(name, value, "environment") for name, value in variables.items())


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("token is s3cr3t/+x!", "token is ‹secret›"),
        ("GET /?t=s3cr3t%2F%2Bx%21&n=1", "GET /?t=‹secret›&n=1"),
        ("Basic czNjcjN0Lyt4IQ==", "Basic ‹secret›"),
        ('{"token": "s3cr3t/+x!"}', '{"token": "‹secret›"}'),
        ("dsn postgresql://shop:p%40ss-w0rd@db:5432/x", "dsn postgresql://shop:‹secret›@db:5432/x"),
        ("cannot use p@ss-w0rd", "cannot use ‹secret›"),
        ("nor p%40ss-w0rd as it stands", "nor ‹secret› as it stands"),
        ("amqp://who:unknown@queue:5672", "amqp://who:‹secret›@queue:5672"),
        ("line two of it: q9q9q9q9", "line two of it: ‹secret›"),
        ("nothing to hide: visible", "nothing to hide: visible"),
    ],
)
def test_a_secret_is_covered_in_every_form(said: str, shown: str) -> None:
    secrets = among(
        API_TOKEN="s3cr3t/+x!",
        DATABASE_URL="postgresql://shop:p%40ss-w0rd@db:5432/x",
        PRIVATE_KEY="begin\nq9q9q9q9\n",
        OTHER_KEY="not-utf-8-\udcff",
        LEVEL="visible",
    )

    assert covered(said, secrets) == shown


def test_the_longer_of_two_secrets_is_covered_first() -> None:
    secrets = among(A_TOKEN="abc-1", B_TOKEN="abc-1-def-2")

    assert covered("it is abc-1-def-2", secrets) == "it is ‹secret›"


@pytest.mark.parametrize(
    "value", ["", "x1", "postgres", "30000", "127.0.0.1", "order_id", "us-east"]
)
def test_what_could_be_in_any_text_is_no_secret_to_be_found_there(value: str) -> None:
    assert among(DB_PASSWORD=value) == ()


def test_a_variable_that_says_where_a_secret_is_has_none() -> None:
    assert among(PASSWORD_FILE="/run/secrets/db-1", TOKEN_URL="https://sso.test/t1") == ()
    assert "s3cr3t" in among(TOKEN_URL="https://me:s3cr3t@sso.test/t1")
