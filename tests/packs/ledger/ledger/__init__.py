"""A small ledger: entries in PostgreSQL, told in any currency that the exchange knows."""

import os

from flask import Flask

from ledger import views


def create_app(settings: dict[str, str] | None = None) -> Flask:
    app = Flask(__name__)
    app.config["LEDGER_DATABASE"] = os.environ.get(
        "LEDGER_DATABASE", "postgresql://ledger:counting-house@ledger-db:5432/ledger"
    )
    app.config["RATES_URL"] = os.environ.get("RATES_URL", "http://rates:8080")
    app.config.update(settings or {})
    app.register_blueprint(views.bp)
    return app
