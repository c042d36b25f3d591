"""What the documents of Multi Model Server are made of: OpenAPI 3.0.1, every schema written out where it is used."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

NAME_OF_MODEL = "The name under which the model is registered."


def document(title: str, paths: Json, description: str = "") -> Json:
    """A whole document."""
    about = {"title": title} | ({"description": description} if description else {}) | {"version": "1.0.0"}
    return {"openapi": "3.0.1", "info": about, "paths": paths}


def operation(
    name: str,
    responses: Json,
    parameters: tuple[Json, ...] = (),
    description: str = "",
    body: Json | None = None,
    deprecated: bool = False,
) -> Json:
    """What one method does at one path, its parts in MMS's order.

    :param name: the ``operationId``, after which generated clients name their functions.
    """
    made: Json = {"description": description} if description else {}
    made |= {"operationId": name, "parameters": list(parameters)}
    if body is not None:
        made["requestBody"] = body
    made["responses"] = responses
    return made | ({"deprecated": True} if deprecated else {})


def in_path(name: str, description: str) -> Json:
    """A text that stands in the path."""
    return {"in": "path", "name": name, "description": description, "required": True, "schema": {"type": "string"}}


def in_query(name: str, schema: Json, description: str, required: bool = False) -> Json:
    """A parameter of the query."""
    return {"in": "query", "name": name, "description": description, "required": required, "schema": schema}


def typed(kind: str, **more: Any) -> Json:
    """A schema: ``string``, ``integer``, ``boolean`` … with what else is said of it."""
    return {"type": kind, **more}


def of_object(properties: Json, required: tuple[str, ...] = ()) -> Json:
    """The schema of an object."""
    return {"type": "object"} | ({"required": list(required)} if required else {}) | {"properties": properties}


def reply(description: str, schema: Json, media_type: str = "application/json") -> Json:
    """A response with a body."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def refusal(description: str) -> Json:
    """A response that is an error."""
    parts = {
        "code": typed("integer", description="The status again."),
        "type": typed("string", description="The kind of error, for programs."),
        "message": typed("string", description="What went wrong, for people."),
    }
    return reply(description, of_object(parts, ("code", "type", "message")))


def status_reply(description: str) -> Json:
    """A response that says in one sentence what was done."""
    return reply(description, of_object({"status": typed("string", description="What was done.")}, ("status",)))


BINARY = typed("string", format="binary")
ANY_BODY = {"content": {"*/*": {"schema": BINARY}}, "required": True}
FAILED = {"500": refusal("The server failed")}
NOT_FOUND = {"404": refusal("No model of that name")}
NO_WORKER = {"503": refusal("No worker takes the request: there is none, or too many requests wait")}

API_DESCRIPTION = operation(
    "apiDescription",
    {
        "200": reply(
            "This document",
            of_object(
                {"openapi": typed("string"), "info": typed("object"), "paths": typed("object")},
                ("openapi", "info", "paths"),
            ),
        ),
        **FAILED,
    },
)
