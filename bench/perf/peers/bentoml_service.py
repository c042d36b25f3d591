"""A BentoML service of a network: ``bentoml serve bentoml_service:Classifier``, with ``WORKERS`` processes."""

import os

import bentoml
from network import Network
from PIL import Image


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 120})
class Classifier:
    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api
    def predict(self, file: Image.Image) -> list:
        return self.network.classify(file)
