"""GluonCV's residual networks that MXNet's own model zoo lacks, built from Gluon's layers.

The variants of ResNet are those of He et al. 2018 (arXiv:1812.01187, section 4): *b* strides in the 3x3 convolution of
a bottleneck, *c* replaces the first 7x7 convolution with three 3x3 convolutions, *d* averages before the 1x1
convolution of a shortcut that strides; *s* is *c* with a stem twice as wide. ResNeXt is Xie et al. 2016
(arXiv:1611.05431), SE is Hu et al. 2017 (arXiv:1709.01507). The CIFAR networks are He et al. 2015 (arXiv:1512.03385,
section 4.2) and 2016 (arXiv:1603.05027).

The published files determine the names and the order of child blocks: their arrays are named ``layer1.0.conv1.weight``,
``features.4.0.body.0.weight`` and so on.

This module imports MXNet: import it only after :func:`app.engines.mxnet.compat.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)


def _chain(*layers: Any) -> Any:
    chain = nn.HybridSequential(prefix="")
    chain.add(*layers)
    return chain


def _conv(channels: int, kernel: int, stride: int = 1, **options: Any) -> Any:
    return nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, **options)


def _relu() -> Any:
    return nn.Activation("relu")


def _halved(stride: int) -> Any:
    return nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False)


class _Stacked(HybridBlock):  # type: ignore[misc]
    """A residual unit whose convolutions are ``conv1``, ``conv2`` …, each with its normalisation ``bn1`` …"""

    def __init__(self, convolutions: list[tuple[int, int, int]], downsample: Any) -> None:
        super().__init__()
        self.count = len(convolutions)
        for number, (channels, kernel, stride) in enumerate(convolutions, 1):
            setattr(self, f"conv{number}", _conv(channels, kernel, stride))
            setattr(self, f"bn{number}", nn.BatchNorm())
        self.downsample = downsample

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = x
        for number in range(1, self.count + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            out = F.relu(out) if number < self.count else out
        return F.relu(out + (self.downsample(x) if self.downsample else x))


class _ResNetV1b(HybridBlock):  # type: ignore[misc]
    """ResNet in the variants *b*, *c*, *d* and *s*. ``stem`` is the width of a deep stem, 0 for one convolution."""

    def __init__(self, depth: int, classes: int, stem: int = 0, average: bool = False) -> None:
        super().__init__()
        self.wide = 4 if depth >= 50 else 1
        self.average = average
        self.conv1 = _deep_stem(stem) if stem else _conv(64, 7, 2)
        self.bn1 = nn.BatchNorm()
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        inputs = 2 * stem or 64
        for stage, (count, width) in enumerate(zip(STAGES[depth], WIDTHS, strict=True), 1):
            units = [self._unit(width, 1 if stage == 1 else 2, inputs)]
            units += [self._unit(width, 1, width * self.wide) for _ in range(count - 1)]
            setattr(self, f"layer{stage}", _chain(*units))
            inputs = width * self.wide
        self.fc = nn.Dense(classes)

    def _unit(self, width: int, stride: int, inputs: int) -> Any:
        bottleneck = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        basic = [(width, 3, stride), (width, 3, 1)]
        convolutions = bottleneck if self.wide == 4 else basic
        shortcut = None
        if stride != 1 or inputs != width * self.wide:
            through = _conv(width * self.wide, 1, 1 if self.average else stride)
            shortcut = _chain(*([_halved(stride)] if self.average else []), through, nn.BatchNorm())
        return _Stacked(convolutions, shortcut)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))


def _deep_stem(width: int) -> Any:
    return _chain(
        *(_conv(width, 3, 2), nn.BatchNorm(), _relu()),
        *(_conv(width, 3), nn.BatchNorm(), _relu()),
        _conv(2 * width, 3),
    )


class _Unit(HybridBlock):  # type: ignore[misc]
    """A residual unit with a ``body``, an optional ``downsample``, and an optional ``se`` that weights its channels."""

    def __init__(self, body: Any, downsample: Any, se: Any = None) -> None:
        super().__init__()
        self.body = body
        self.se = se
        self.downsample = downsample

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.body(x)
        if self.se:
            whole = F.Pooling(out, global_pool=True, pool_type="avg", kernel=(1, 1))
            out = F.broadcast_mul(out, self.se(whole))
        return F.relu(out + (self.downsample(x) if self.downsample else x))


class _BeforeUnit(HybridBlock):  # type: ignore[misc]
    """A residual unit that normalises before its convolutions (ResNet version 2)."""

    def __init__(self, channels: int, stride: int, inputs: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm(), _conv(channels, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm(), _conv(channels, 3)
        self.downsample = _conv(channels, 1, stride) if channels != inputs else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return out + (self.downsample(x) if self.downsample else x)


class _Classifier(HybridBlock):  # type: ignore[misc]
    """A network of ``features`` and a fully connected ``output``, the form of most networks in Gluon's model zoo."""

    def __init__(self, features: list[Any], classes: int) -> None:
        super().__init__()
        self.features = _chain(*features)
        self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _resnext(depth: int, groups: int, width: int, classes: int, weighs: bool = False) -> Any:
    features = [_conv(64, 7, 2), nn.BatchNorm(), _relu(), nn.MaxPool2D(3, 2, 1)]
    for stage, (count, channels) in enumerate(zip(STAGES[depth], WIDTHS, strict=True)):
        strides = [1 if stage == 0 else 2] + [1] * (count - 1)
        units = [
            _grouped(channels, groups, width, stride, first=index == 0, weighs=weighs)
            for index, stride in enumerate(strides)
        ]
        features.append(_chain(*units))
    return _Classifier([*features, nn.GlobalAvgPool2D()], classes)


def _grouped(channels: int, groups: int, width: int, stride: int, first: bool, weighs: bool) -> Any:
    inner = groups * (channels * width // 64)
    body = _chain(
        *(_conv(inner, 1), nn.BatchNorm(), _relu()),
        *(_conv(inner, 3, stride, groups=groups), nn.BatchNorm(), _relu()),
        *(_conv(4 * channels, 1), nn.BatchNorm()),
    )
    shortcut = _chain(_conv(4 * channels, 1, stride), nn.BatchNorm()) if first else None
    squeeze = None
    if weighs:
        less, more = nn.Conv2D(channels // 4, 1), nn.Conv2D(4 * channels, 1)
        squeeze = _chain(less, _relu(), more, nn.Activation("sigmoid"))
    return _Unit(body, shortcut, squeeze)


def _cifar(version: int, depth: int, classes: int) -> Any:
    count, inputs = (depth - 2) // 6, 16
    before, after = [_conv(16, 3), nn.BatchNorm()], [nn.GlobalAvgPool2D()]
    if version == 2:
        before = [nn.BatchNorm(scale=False, center=False), _conv(16, 3)]
        after = [nn.BatchNorm(), _relu(), nn.GlobalAvgPool2D()]
    stages = []
    for channels in (16, 32, 64):
        units = []
        for index in range(count):
            stride = 2 if index == 0 and channels > 16 else 1
            units.append(_BeforeUnit(channels, stride, inputs) if version == 2 else _plain(channels, stride, inputs))
            inputs = channels
        stages.append(_chain(*units))
    return _Classifier([*before, *stages, *after], classes)


def _plain(channels: int, stride: int, inputs: int) -> Any:
    body = _chain(_conv(channels, 3, stride), nn.BatchNorm(), _relu(), _conv(channels, 3), nn.BatchNorm())
    return _Unit(body, _chain(_conv(channels, 1, stride), nn.BatchNorm()) if channels != inputs else None)


def _networks() -> dict[str, Callable[[int], Any]]:
    made: dict[str, Callable[[int], Any]] = {}
    for depth in STAGES:
        made[f"resnet{depth}_v1b"] = partial(_ResNetV1b, depth)
    for depth in (50, 101, 152):
        made[f"resnet{depth}_v1c"] = partial(_ResNetV1b, depth, stem=32)
        made[f"resnet{depth}_v1d"] = partial(_ResNetV1b, depth, stem=32, average=True)
        made[f"resnet{depth}_v1s"] = partial(_ResNetV1b, depth, stem=64)
    for depth, groups in ((50, 32), (101, 32), (101, 64)):
        made[f"resnext{depth}_{groups}x4d"] = partial(_resnext, depth, groups, 4)
        made[f"se_resnext{depth}_{groups}x4d"] = partial(_resnext, depth, groups, 4, weighs=True)
    for depth in (20, 56, 110):
        for version in (1, 2):
            made[f"cifar_resnet{depth}_v{version}"] = partial(_cifar, version, depth)
    return made


NETWORKS = _networks()
"""Functions that build a network with a given number of classes, by GluonCV's name for it."""
