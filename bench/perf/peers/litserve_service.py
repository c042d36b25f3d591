"""A LitServe service of a network: ``litserve_service.py PORT WORKERS``."""

import sys

import litserve
from fastapi import Request
from network import Network
from PIL import Image


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.network = Network()

    # LitServe looks at the annotation: a Request's multipart form is what comes
    def decode_request(self, request: Request) -> Image.Image:
        return Image.open(request["file"].file)

    def predict(self, picture: Image.Image) -> list[dict[str, float | str]]:
        return self.network.classify(picture)

    def encode_response(self, output: list[dict[str, float | str]]) -> dict[str, list[dict[str, float | str]]]:
        return {"predictions": output}


if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, num_api_servers=workers, generate_client_file=False, log_level="error")
