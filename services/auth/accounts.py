"""What is kept about people: their accounts and the sessions they opened. All SQL is here."""

import hashlib
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

SCHEMA = Path(__file__).with_name("schema.sql").read_text()
SCHEMA_LOCK = 0x61757468  # any number that all replicas agree on: "auth"
CHECK_SECONDS = 0.8  # who asks for health gives up after a second
SESSION_LIFETIME = "12 hours"


@dataclass(frozen=True, slots=True)
class Account:
    id: UUID
    email: str
    password_hash: str


class AlreadyRegistered(Exception):
    """There is an account with this email."""


class Accounts:
    """Accounts in PostgreSQL. Needs no database to be made; finds it when it comes or comes back."""

    def __init__(self, database_url: str) -> None:
        self._pool = ConnectionPool(
            database_url,
            kwargs={"connect_timeout": 2, "application_name": "auth"},
            min_size=1,
            max_size=4,
            timeout=2,  # a caller would rather be told than wait
            reconnect_timeout=2,  # after that the next caller tries again
            check=ConnectionPool.check_connection,  # drops what a restarted server left behind
            open=False,
        )
        self._schema_lock = Lock()
        self._has_schema = False

    def check(self) -> None:
        """Ask the database a real question, and make the schema again should it be gone."""
        try:
            with self._connection(timeout=CHECK_SECONDS) as connection:
                connection.execute("SELECT 1 FROM accounts, sessions LIMIT 1")
        except Exception:
            self._has_schema = False
            raise

    def register(self, email: str, password_hash: str) -> Account:
        try:
            with self._connection() as connection, connection.cursor(row_factory=class_row(Account)) as cursor:
                return cursor.execute(
                    "INSERT INTO accounts (email, password_hash) VALUES (%s, %s)"
                    " RETURNING id, email, password_hash",
                    (email, password_hash),
                ).fetchone()
        except UniqueViolation as exc:
            raise AlreadyRegistered(email) from exc

    def find_by_email(self, email: str) -> Account | None:
        with self._connection() as connection, connection.cursor(row_factory=class_row(Account)) as cursor:
            return cursor.execute(
                "SELECT id, email, password_hash FROM accounts WHERE email = %s", (email,)
            ).fetchone()

    def start_session(self, account: Account) -> str:
        """A new token for this account; it is shown once and kept only as a hash."""
        token = secrets.token_urlsafe(32)
        with self._connection() as connection:
            connection.execute("DELETE FROM sessions WHERE expires_at < now()")
            connection.execute(
                "INSERT INTO sessions (token_hash, account_id, expires_at)"
                " VALUES (%s, %s, now() + %s::interval)",
                (_token_hash(token), account.id, SESSION_LIFETIME),
            )
        return token

    def find_by_token(self, token: str) -> Account | None:
        with self._connection() as connection, connection.cursor(row_factory=class_row(Account)) as cursor:
            return cursor.execute(
                "SELECT accounts.id, email, password_hash FROM accounts"
                " JOIN sessions ON sessions.account_id = accounts.id"
                " WHERE token_hash = %s AND expires_at > now()",
                (_token_hash(token),),
            ).fetchone()

    @contextmanager
    def _connection(self, timeout: float | None = None):
        self._pool.open()  # on first use, in the process that serves; later calls do nothing
        with self._pool.connection(timeout) as connection:
            self._ensure_schema(connection)
            yield connection

    def _ensure_schema(self, connection) -> None:
        with self._schema_lock:
            if self._has_schema:
                return
            # CREATE ... IF NOT EXISTS alone may fail when several replicas start at once.
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
                connection.execute(SCHEMA)
            connection.commit()
            self._has_schema = True


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
