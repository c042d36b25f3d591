"""Sets headers of its own."""


class Service:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        for index in range(len(data)):
            context.set_response_header(index, "dummy", "1")
            context.set_response_content_type(index, "text/plain")
        return ["OK"] * len(data)
