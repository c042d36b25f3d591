"""A class whose initialize fails; Multi Model Server logs that and goes on."""


class Service:
    def initialize(self, context):
        raise RuntimeError("not today")

    def handle(self, data, context):
        return ["went on"] * len(data)
