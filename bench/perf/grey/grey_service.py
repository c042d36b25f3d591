"""Classifies a grey picture, values 0-1, as MMS's vision template does one of three channels."""

import json

import mxnet as mx
from mms.utils.mxnet import image, ndarray


class GreyService:
    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        prefix = context.manifest["model"]["modelName"]
        with open(f"{folder}/signature.json") as file:
            (described,) = json.load(file)["inputs"]
        with open(f"{folder}/synset.txt") as file:
            self.labels = [line.strip() for line in file]
        symbol, arguments, states = mx.model.load_checkpoint(f"{folder}/{prefix}", 0)
        self.shape = tuple(side or 1 for side in described["data_shape"])
        self.module = mx.mod.Module(symbol, data_names=[described["data_name"]], label_names=None, context=mx.cpu())
        self.module.bind([(described["data_name"], self.shape)], for_training=False)
        self.module.set_params(arguments, states, allow_missing=True, allow_extra=True)

    def handle(self, data, context):
        return [self.classify(row.get("body") or row.get("data")) for row in data]

    def classify(self, sent):
        return self.compute(image.resize(image.read(sent, flag=0), self.shape[3], self.shape[2]))

    def compute(self, pixels):
        self.module.forward(mx.io.DataBatch([image.transform_shape(pixels).astype("float32") / 255]))
        return ndarray.top_probability(self.module.get_outputs()[0], self.labels, top=len(self.labels))


_service = GreyService()


def handle(data, context):
    if data is None:
        _service.initialize(context)
        return None
    return _service.handle(data, context)
