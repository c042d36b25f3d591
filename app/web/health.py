"""Health checks for operators: liveness of the process, and readiness of its models."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, make_response

from app.web.request import services

bp = Blueprint("ops", __name__)


@bp.get("/healthz")
def alive() -> Response:
    """Return 200 while the process answers."""
    return jsonify({"status": "alive"})


@bp.get("/readyz")
def ready() -> Response:
    """Return 200 if the models are loaded; 503 if no model answers, or the cluster that computes them is unreachable.

    Models that could not be loaded are listed with the reason.
    """
    entries = services().registry.entries()
    problems = {entry.name: entry.problem for entry in entries}
    loaded = [name for name, problem in problems.items() if not problem]
    failed = {name: problem for name, problem in problems.items() if problem}
    away = services().registry.cluster_error()
    status = "ready" if loaded and not away else "not ready"
    document = {"status": status, "models": loaded, "failed": failed} | ({"cluster": away} if away else {})
    return make_response(jsonify(document), 200 if status == "ready" else 503)
