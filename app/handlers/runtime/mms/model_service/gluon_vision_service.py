"""The 0.x service for image classifiers that came as a Gluon network."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from mms.model_service.mxnet_model_service import GluonImperativeBaseService
from mms.utils.mxnet import image, ndarray

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GluonVisionService(GluonImperativeBaseService):
    """Stretches each picture to the signature's size, RGB, normalised as ImageNet is, NCHW; reports five classes."""

    def _preprocess(self, data: list[Any]) -> Any:
        arrays = []
        for buffer, described in zip(data, self.signature["inputs"], strict=False):
            height, width = described["data_shape"][2:]
            scaled = image.resize(image.read(buffer), width, height).astype("float32") / 255
            arrays.append(image.transform_shape(image.color_normalize(scaled, mx.nd.array(MEAN), mx.nd.array(STD))))
        return arrays

    def _inference(self, data: Any) -> Any:
        super()._inference(data)
        return self.net(data[0]).softmax()

    def _postprocess(self, data: Any) -> Any:
        if not hasattr(self, "labels"):
            raise AssertionError(
                "There are no labels: the archive needs a synset.txt, or the service sets self.labels."
            )
        return [ndarray.top_probability(output, self.labels, top=5) for output in data]
