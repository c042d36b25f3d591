"""Classifiers that PyTorch writes as ONNX with both of its exporters: ``python make_torch.py``."""

from __future__ import annotations

from pathlib import Path

import torch
from common import CLASSES, SIDE, imagenet, record, softmax

FOLDER = Path(__file__).parent


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.second = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.drop = torch.nn.Dropout(0.2)
        self.classes = torch.nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.nn.functional.hardswish(self.norm(self.first(x)))
        maps = torch.nn.functional.silu(self.second(maps)) + maps
        return self.classes(self.drop(torch.flatten(self.pool(maps), 1)))


def main() -> None:
    torch.manual_seed(3)
    net = Network().train()
    pictures = torch.from_numpy(imagenet())
    for _ in range(20):
        net(pictures)  # the normalization learns its statistics
    net.eval()
    with torch.no_grad():
        net.classes.weight.mul_(6)
        answers = softmax(net(pictures).numpy())
    example = torch.zeros(1, 3, SIDE, SIDE)
    version = torch.__version__.partition("+")[0]
    names = {"input_names": ["input"], "output_names": ["output"]}
    torch.onnx.export(
        net, (example,), str(FOLDER / "torch_script.onnx"), dynamo=False, opset_version=11,
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}}, **names,
    )  # fmt: skip
    record(FOLDER, "torch_script", "ONNX: of PyTorch, traced, opset 11", f"PyTorch {version}", answers)
    program = torch.onnx.export(net, (example,), dynamo=True, **names)
    made = program.model_proto
    for node in made.graph.node:  # lines of source with the paths of this machine
        del node.metadata_props[:]
    (FOLDER / "torch_dynamo.onnx").write_bytes(made.SerializeToString())
    record(FOLDER, "torch_dynamo", "ONNX: of PyTorch, torch.export", f"PyTorch {version}", answers)


if __name__ == "__main__":
    main()
