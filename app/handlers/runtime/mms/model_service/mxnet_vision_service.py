"""The 0.x service for image classifiers that came as a checkpoint."""

from __future__ import annotations

from typing import Any

from mms.model_service.mxnet_model_service import MXNetBaseService
from mms.utils.mxnet import image, ndarray


class MXNetVisionService(MXNetBaseService):
    """Stretches each picture to the signature's size, RGB, raw 0 to 255, NCHW; reports five classes."""

    def _preprocess(self, data: list[Any]) -> Any:
        arrays = []
        for buffer, described in zip(data, self.signature["inputs"], strict=False):
            height, width = described["data_shape"][2:]
            arrays.append(image.transform_shape(image.resize(image.read(buffer), width, height)))
        return arrays

    def _postprocess(self, data: Any) -> Any:
        if not hasattr(self, "labels"):
            raise AssertionError(
                "There are no labels: the archive needs a synset.txt, or the service sets self.labels."
            )
        return [ndarray.top_probability(output, self.labels, top=5) for output in data]
