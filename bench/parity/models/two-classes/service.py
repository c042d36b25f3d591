"""Leaves it open which class serves."""


class One:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return ["one"] * len(data)


class Other:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return ["other"] * len(data)
