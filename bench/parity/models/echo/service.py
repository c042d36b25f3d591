"""Shows what the server hands over, as Python writes it."""


def handle(data, context):
    if data is None:
        return None
    return [str(row) for row in data]
