"""Answers OK whatever it is given: a class, of which the server makes one."""


class Noop:
    def initialize(self, context):
        self.rows = context.system_properties["batch_size"]

    def handle(self, data, context):
        return ["OK"] * len(data)
