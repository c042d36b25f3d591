"""Checkpoints that an old MXNet saves: ``python make_mxnet.py``, once for each version.

The module interface writes a checkpoint; Gluon exports one, where its version knows how.
"""

from pathlib import Path

import numpy as np

for name, kind in {"bool": bool, "int": int, "float": float, "object": object}.items():
    if name not in np.__dict__:  # NumPy has dropped what old MXNets use
        setattr(np, name, kind)

import mxnet as mx  # noqa: E402
from common import CLASSES, PICTURES, SIDE, raw, record, softmax  # noqa: E402

FOLDER = Path(__file__).parent
VERSION = mx.__version__
SHAPE = (len(PICTURES), 3, SIDE, SIDE)


def network():
    net = mx.sym.Variable("data")
    net = mx.sym.Convolution(net, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=6, no_bias=True, name="conv1")
    net = mx.sym.BatchNorm(net, fix_gamma=False, eps=2e-5, name="bn1")
    net = mx.sym.Activation(net, act_type="relu", name="relu1")
    net = mx.sym.Pooling(net, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool1")
    net = mx.sym.Flatten(net, name="flatten")
    net = mx.sym.FullyConnected(net, num_hidden=CLASSES, name="fc1")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def module(name):
    mx.random.seed(3)
    net = mx.mod.Module(network(), context=mx.cpu())
    net.bind([("data", SHAPE)], [("softmax_label", SHAPE[:1])], for_training=True)
    net.init_params(mx.init.Normal(0.05))
    net.init_optimizer(optimizer_params={"learning_rate": 0.002})
    batch = mx.io.DataBatch([mx.nd.array(raw())], [mx.nd.array([0, 1, 2, 0])])
    for _ in range(30):
        net.forward(batch, is_train=True)
        net.backward()
        net.update()
    net.forward(batch, is_train=False)
    answers = net.get_outputs()[0].asnumpy()
    net.save_checkpoint(str(FOLDER / name), 7)
    record(FOLDER, name, "MXNet: a checkpoint of " + VERSION, "MXNet " + VERSION, answers)


def gluon(name):
    from mxnet.gluon import nn

    mx.random.seed(3)
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Conv2D(6, 3, 2, 1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D())
        net.add(nn.Flatten(), nn.Dense(CLASSES))
    net.initialize(mx.init.Normal(0.1))
    net.hybridize()
    batch = mx.nd.array(pictures())
    with mx.autograd.record():
        net(batch)
    answers = softmax(net(batch).asnumpy())
    net.export(str(FOLDER / name))
    record(FOLDER, name, "MXNet: exported by Gluon of " + VERSION, "MXNet " + VERSION, answers)


def pictures():
    """CIFAR's mean and deviation, which Gluon's small networks take."""
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    return ((PICTURES / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)


if __name__ == "__main__":
    short = VERSION.replace(".", "")[:3]
    module("mxnet" + short)
    if hasattr(mx, "gluon") and hasattr(mx.gluon.HybridBlock, "export"):
        gluon("gluon" + short)
