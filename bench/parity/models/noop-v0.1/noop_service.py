"""A service of MXNet Model Server 0.x that computes nothing."""

from mms.model_service.model_service import SingleNodeService


class NoopService(SingleNodeService):
    def _inference(self, data):
        return "OK"

    def ping(self):
        return None
