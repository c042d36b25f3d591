"""A classifier that PaddlePaddle writes as ONNX: ``python make_paddle.py``."""

from __future__ import annotations

from pathlib import Path

import paddle
import paddle2onnx
from common import CLASSES, SIDE, imagenet, record, softmax

FOLDER = Path(__file__).parent


def main() -> None:
    paddle.seed(3)
    nn = paddle.nn
    net = nn.Sequential(
        nn.Conv2D(3, 6, 3, stride=2, padding=1, bias_attr=False),
        nn.BatchNorm2D(6),
        nn.Hardswish(),
        nn.Conv2D(6, 6, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )
    net.eval()
    net[-1].weight.set_value(net[-1].weight * 12)
    answers = softmax(net(paddle.to_tensor(imagenet())).numpy())
    shape = [paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "x")]
    paddle.onnx.export(net, str(FOLDER / "paddle"), input_spec=shape, opset_version=14)
    made_by = f"paddle2onnx {paddle2onnx.__version__}, PaddlePaddle {paddle.__version__}"
    record(FOLDER, "paddle", "ONNX: of PaddlePaddle", made_by, answers)


if __name__ == "__main__":
    main()
