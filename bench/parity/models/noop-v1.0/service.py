"""A handler that answers OK to any input: a class, which the server instantiates."""


class Noop:
    def initialize(self, context):
        self.rows = context.system_properties["batch_size"]

    def handle(self, data, context):
        return ["OK"] * len(data)
