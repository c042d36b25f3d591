"""Tells how many requests came together; fails for all of them if one asks for it."""


def handle(data, context):
    if data is None:
        return None
    if any(b"fail" in bytes(row.get("body", b"")) for row in data):
        raise RuntimeError("one of them is bad")
    if any(b"one less" in bytes(row.get("body", b"")) for row in data):
        return ["OK"] * (len(data) - 1)
    for index, row in enumerate(data):
        if b"teapot" in bytes(row.get("body", b"")):
            context.set_response_status(418, "teapot", index)
    return [{"together": len(data), "declared": context.system_properties["batch_size"]} for row in data]
