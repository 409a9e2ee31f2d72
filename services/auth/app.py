"""The auth service: who are you? Accounts, passwords and bearer tokens over HTTP."""

import os
import sys
import time
from typing import NoReturn

import psycopg
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

import passwords
import telemetry
from accounts import Accounts, AlreadyRegistered

MAX_EMAIL = 254
MAX_PASSWORD = 1024
MAX_BODY = 64 * 1024


def create_app(accounts: Accounts) -> Flask:
    app = Flask("auth")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.get("/healthz")
    def healthz():
        try:
            accounts.check()
        except psycopg.Error as exc:
            return {"status": "unavailable", "reason": str(exc)}, 503
        return {"status": "ok"}

    @app.post("/auth/register")
    def register():
        email, password = credentials()
        try:
            account = accounts.register(email, passwords.hash_password(password))
        except AlreadyRegistered:
            return {"error": "this email is registered already"}, 409
        telemetry.log.info("account registered", extra={"account_id": str(account.id)})
        return {"id": account.id, "email": account.email}, 201

    @app.post("/auth/login")
    def login():
        email, password = credentials()
        account = accounts.find_by_email(email)
        # An unknown email takes as long as a wrong password: the time must not tell them apart.
        known = account.password_hash if account else passwords.NOBODY
        if not passwords.verify(password, known) or account is None:
            return {"error": "wrong email or password"}, 401
        return {"token": accounts.start_session(account)}

    @app.get("/auth/me")
    def me():
        authorization = request.authorization
        if authorization is None or authorization.type != "bearer" or not authorization.token:
            return unauthorized()
        account = accounts.find_by_token(authorization.token)
        if account is None:
            return unauthorized()
        return {"id": account.id, "email": account.email}

    @app.before_request
    def begin_trace() -> None:
        g.started = time.monotonic()
        telemetry.begin(request.headers.get("traceparent"))

    @app.after_request
    def log_request(response: Response) -> Response:
        if request.path != "/healthz":  # asked many times a second
            telemetry.log.info(
                "request",
                extra={
                    "method": request.method,
                    "path": request.path,
                    "status": response.status_code,
                    "duration_ms": round((time.monotonic() - g.started) * 1000),
                },
            )
        return response

    @app.errorhandler(HTTPException)
    def answer_in_json(error: HTTPException):
        return {"error": error.description}, error.code

    @app.errorhandler(psycopg.OperationalError)
    def database_away(error: psycopg.OperationalError):
        telemetry.log.warning("cannot reach the database", extra={"error": str(error)})
        return {"error": "cannot reach the database"}, 503

    return app


def credentials() -> tuple[str, str]:
    """The email and password of a request; ends it with 400 where they cannot be meant."""
    body = request.get_json(force=True, silent=True)
    email = body.get("email") if isinstance(body, dict) else None
    password = body.get("password") if isinstance(body, dict) else None
    if not isinstance(email, str) or not isinstance(password, str):
        bad_request('send {"email": "...", "password": "..."}')
    email = email.strip().lower()
    name, at, domain = email.rpartition("@")
    if not (name and at and domain) or len(email) > MAX_EMAIL or not email.isprintable():
        bad_request("this is not an email address")
    if not 1 <= len(password) <= MAX_PASSWORD:
        bad_request(f"a password has 1 to {MAX_PASSWORD} characters")
    if not passwords.is_text(password):
        bad_request("a password cannot have half a character")
    return email, password


def bad_request(message: str) -> NoReturn:
    response = jsonify(error=message)
    response.status_code = 400
    raise HTTPException(response=response)


def unauthorized():
    return {"error": "log in first"}, 401, {"WWW-Authenticate": "Bearer"}


telemetry.configure()
if not os.environ.get("DATABASE_URL"):
    sys.exit("cannot start auth: DATABASE_URL is not set")
app = create_app(Accounts(os.environ["DATABASE_URL"]))
