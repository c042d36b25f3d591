"""Classifies a picture as MMS's vision template does: stretched to the input, pixels as they are, top five."""

import json

import mxnet as mx
from mms.utils.mxnet import image, ndarray


class VisionService:
    def initialize(self, context):
        folder = context.system_properties["model_dir"]
        prefix = context.manifest["model"]["modelName"]
        with open(f"{folder}/signature.json") as file:
            (self.input,) = json.load(file)["inputs"]
        with open(f"{folder}/synset.txt") as file:
            self.labels = [line.strip() for line in file]
        symbol, arguments, states = mx.model.load_checkpoint(f"{folder}/{prefix}", 0)
        self.shape = [side or 1 for side in self.input["data_shape"]]
        self.module = mx.mod.Module(symbol, data_names=[self.input["data_name"]], label_names=None, context=mx.cpu())
        self.module.bind([(self.input["data_name"], tuple(self.shape))], for_training=False)
        self.module.set_params(arguments, states, allow_missing=True, allow_extra=True)

    def handle(self, data, context):
        return [self.classify(row) for row in data]

    def classify(self, row):
        sent = row.get(self.input["data_name"]) or row.get("body") or row.get("data")
        pixels = image.resize(image.read(sent), self.shape[3], self.shape[2])
        self.module.forward(mx.io.DataBatch([image.transform_shape(pixels).astype("float32")]))
        return ndarray.top_probability(self.module.get_outputs()[0], self.labels, top=5)
