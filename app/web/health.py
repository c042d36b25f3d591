"""For whoever looks after the server: is it alive, has it loaded its models."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response

from app.web.request import services

bp = Blueprint("ops", __name__)


@bp.get("/healthz")
def alive() -> Response:
    """The process answers."""
    return jsonify({"status": "alive"})


@bp.get("/readyz")
def ready() -> Response:
    """The models are loaded. 503 while none answers, or the cluster that computes them is away; those that could not be
    loaded are named with the reason."""
    entries = services().registry.entries()
    problems = {entry.name: entry.problem for entry in entries}
    loaded = [name for name, problem in problems.items() if not problem]
    failed = {name: problem for name, problem in problems.items() if problem}
    away = services().registry.cluster_error()
    status = "ready" if loaded and not away else "not ready"
    document = {"status": status, "models": loaded, "failed": failed} | ({"cluster": away} if away else {})
    return make_response(jsonify(document), 200 if status == "ready" else 503)
