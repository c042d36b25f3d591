"""A handler that answers OK; its name and entry point are given only at registration."""


class Noop:
    def initialize(self, context):
        self.rows = context.system_properties["batch_size"]

    def handle(self, data, context):
        return ["OK"] * len(data)
