from typing import Any

import psycopg
from flask import Blueprint, current_app, jsonify, request

from ledger.exchange import rate

bp = Blueprint("ledger", __name__)


@bp.get("/about")
def about() -> Any:
    return jsonify(service="ledger", python=True)


@bp.get("/healthz")
def healthz() -> Any:
    with _database() as database:
        database.execute("SELECT 1")
    return jsonify(ok=True)


@bp.get("/convert")
def convert() -> Any:
    currency = request.args.get("to", "EUR")
    cents = int(request.args.get("cents", "100"))
    return jsonify(currency=currency, cents=round(cents * _rate(currency)))


@bp.post("/entries")
def add_entry() -> Any:
    entry = request.get_json()
    with _database() as database:
        database.execute(
            "INSERT INTO entries (account, cents) VALUES (%s, %s)",
            (entry["account"], entry["cents"]),
        )
    return jsonify(entry), 201


@bp.get("/balance/<account>")
def balance(account: str) -> Any:
    currency = request.args.get("to", "EUR")
    with _database() as database:
        row = database.execute(
            "SELECT coalesce(sum(cents), 0)::bigint FROM entries WHERE account = %s", (account,)
        ).fetchone()
    cents = int(row[0]) if row else 0
    return jsonify(account=account, currency=currency, cents=round(cents * _rate(currency)))


def _rate(currency: str) -> float:
    return rate(current_app.config["RATES_URL"], currency)


def _database() -> psycopg.Connection[Any]:
    return psycopg.connect(current_app.config["LEDGER_DATABASE"], connect_timeout=5)
