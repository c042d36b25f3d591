"""How the protocol says what went wrong: ``{"error": …}``, with the status that the same has elsewhere."""

from __future__ import annotations

from flask import Response, jsonify
from werkzeug.exceptions import MethodNotAllowed

from app.web.problems import RETRY_CODE, RETRY_SECONDS, problem_of


def explain(error: Exception) -> Response:
    """An error in the protocol's form."""
    problem = problem_of(error)
    response = told(problem.code, problem.message)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response


def told(status: int, message: str) -> Response:
    """The same for what has its words already."""
    response = jsonify({"error": message})
    response.status_code = status
    if status == RETRY_CODE:
        response.headers["Retry-After"] = RETRY_SECONDS
    return response
