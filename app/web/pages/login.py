"""Login for browsers: a form accepts the token, and a cookie that scripts cannot read stores it."""

from __future__ import annotations

import re

from flask import Blueprint, Response, make_response, redirect, render_template, request

from app.errors import InsufficientRole, InvalidToken, TokenRequired, TooManyRequests
from app.security.authorization import Credentials
from app.security.tokens import MANAGEMENT, PREDICTION
from app.web.auth import COOKIES, answer_headers, authorizer
from app.web.csrf import check_same_origin
from app.web.errors import ErrorBody, error_body, error_response
from app.web.ports import port_scope
from app.web.request import wants_html

bp = Blueprint("login", __name__)

LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20]*")
"""Path on this server. Browsers take // and /\\ for another host."""
LONGEST = 2000


@bp.app_context_processor
def _login_state() -> dict[str, bool]:
    return {"logged_in": any(name in request.cookies for name in COOKIES.values())}


@bp.app_errorhandler(TokenRequired)
def ask_for_token(error: TokenRequired) -> Response:
    """Show the login form to a browser without a valid token; return the error to a program."""
    return login_page(error) if wants_html() else error_response(error)


@bp.get("/login")
def form() -> Response:
    """Show the login form to users who log in before a page requires it."""
    return login_page(None, _next(request.args.get("next", "")))


@bp.post("/login")
def login() -> Response:
    """Store the token of the form in a cookie if it is valid."""
    check_same_origin()
    place = _next(request.form.get("next", ""))
    token = request.form.get("token", "").strip()
    try:
        known = authorizer().check(_role(), Credentials((token,) if token else (), request.remote_addr or ""))
    except (TokenRequired, InsufficientRole, TooManyRequests) as error:
        return login_page(error, place)
    response = make_response(redirect(place, 303))
    response.set_cookie(
        COOKIES[known.role], token, httponly=True, samesite="Strict", secure=request.is_secure, path="/"
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/logout")
def logout() -> Response:
    """Delete the tokens of this browser. They stay valid until ``dimple token revoke``."""
    check_same_origin()
    response = make_response(redirect("/login", 303))
    for name in COOKIES.values():
        response.delete_cookie(name, httponly=True, samesite="Strict", secure=request.is_secure, path="/")
    return response


def login_page(error: Exception | None, place: str = "") -> Response:
    """Return the login form, with the reason if a token was rejected.

    :param place: path to open after the login; the path of the current request if empty.
    """
    problem: ErrorBody | None = error_body(error) if error else None
    reason = problem if isinstance(error, InvalidToken | InsufficientRole | TooManyRequests) else None
    if not place:
        place = _next(request.full_path.rstrip("?") if request.method == "GET" else "")
    here = port_scope()
    page = render_template(
        "login.html", problem=reason, next=place, role=_role(), managing=here.management and not here.inference
    )
    headers = {"Cache-Control": "no-store", **(answer_headers(error) if error else {})}
    return make_response(page, problem.code if problem else 200, headers)


def _role() -> str:
    """Return the role that a token needs at this port."""
    return PREDICTION if port_scope().inference else MANAGEMENT


def _next(target: str) -> str:
    """Return the target if it is a path on this server, else the start page of this port."""
    usual = "/" if port_scope().inference else "/manage/"
    return target if len(target) <= LONGEST and LOCAL.fullmatch(target) else usual
