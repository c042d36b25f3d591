"""A function that fails when it is called at load."""


def handle(data, context):
    raise RuntimeError("not today")
