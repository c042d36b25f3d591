"""Finds the faces of a photograph with OpenCV's cascade, and classifies each as the service of grey pictures does."""

import os

import cv2
import mxnet as mx
import numpy as np
from grey_service import GreyService

SIDE, HITS = 1000, 6
FRAME = (0.108, 0.205, 0.771)  # the SMILEs crop in the cascade's box: left, top and side


class PhotoService(GreyService):
    def initialize(self, context):
        super().initialize(context)
        cv2.setNumThreads(1)
        folder = os.path.join(os.path.dirname(cv2.__file__), "data")
        self.cascade = cv2.CascadeClassifier(os.path.join(folder, "haarcascade_frontalface_alt.xml"))

    def classify(self, sent):
        grey = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_GRAYSCALE)
        scale = min(1.0, SIDE / max(grey.shape))
        small = cv2.resize(grey, None, fx=scale, fy=scale) if scale < 1 else grey
        boxes, hits = self.cascade.detectMultiScale2(small, 1.1, 1, minSize=(24, 24))
        found = [box for box, count in zip(boxes, hits, strict=True) if count >= HITS]
        return self.look(grey, max(found, key=lambda box: box[2]) / scale if found else None)

    def look(self, grey, box):
        if box is not None:
            left, top, side = (int(box[0] + FRAME[0] * box[2]), int(box[1] + FRAME[1] * box[2]), int(FRAME[2] * box[2]))
            grey = grey[top : top + side, left : left + side]
        pixels = cv2.resize(grey, (self.shape[3], self.shape[2]))
        return self.compute(mx.nd.array(pixels[:, :, np.newaxis]))


_service = PhotoService()


def handle(data, context):
    if data is None:
        _service.initialize(context)
        return None
    return _service.handle(data, context)
