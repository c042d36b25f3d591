"""Which routes answer at which port: management never answers where everybody may ask.

Programs get the words of Multi Model Server also where nothing answers. Browsers get ours, but at the management port,
and under the names that are MMS's.
"""

from __future__ import annotations

from typing import cast

from flask import Response, abort, current_app, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app.web.accept import wants_html
from app.web.around.asked import MANAGEMENT, Asked
from app.web.around.visitors import check_addressed_here
from app.web.errors import mms_error_response, oip_error_response

OF_MANAGEMENT = ("api-description", "models")
OF_INFERENCE = ("api-description", "invocations", "ping", "predictions")
"""First segments of the paths that are MMS's."""
OIP = "v2"
"""That of the paths of the Open Inference Protocol, which has errors of its own."""


def refuse_at_port(here: Asked) -> Response | None:
    """Answer 404 at the management port to everything that is not management's, and the other way round.

    :param here: what answers at the port of the present request.
    """
    problem = request.routing_exception
    allowed = here.answers(request.blueprint or "")
    if here.management and (
        request.blueprint in MANAGEMENT or (not here.inference and (allowed or request.path == "/"))
    ):
        check_addressed_here()
    if request.path == "/" and (request.method == "OPTIONS" or not here.inference):
        # OPTIONS would otherwise be answered by Flask, for the page
        return cast(Response, current_app.view_functions["openapi.root"]())
    if allowed and not isinstance(problem, NotFound | MethodNotAllowed):
        return None
    segment = request.path.strip("/").partition("/")[0]
    if here.inference and segment == OIP and problem:
        return oip_error_response(problem)
    of_a_program = not wants_html() and (isinstance(problem, NotFound) or not segment)
    if not here.inference or of_a_program or segment in (*OF_MANAGEMENT, *OF_INFERENCE):
        return mms_error_response(_in_mms_eyes(problem, segment, here))
    return None if allowed else abort(404)


def _in_mms_eyes(problem: Exception | None, segment: str, here: Asked) -> Exception:
    """A wrong method counts as one only where the port has the path at all."""
    known = (
        not segment or (here.management and segment in OF_MANAGEMENT) or (here.inference and segment in OF_INFERENCE)
    )
    return problem if known and isinstance(problem, MethodNotAllowed) else NotFound()
