"""``dimple models``: all commands for models."""

from __future__ import annotations

from app.cli.lazy import LazyGroup

COMMANDS = {
    "list": ("app.cli.manage:list_models", "List the models"),
    "info": ("app.cli.manage:info", "Show one model"),
    "available": ("app.cli.zoo:available", "List models that can be downloaded"),
    "pull": ("app.cli.zoo:pull", "Download a model by name"),
    "import": ("app.cli.import_model:import_command", "Import model files"),
    "train": ("app.cli.train:train", "Train a classifier on your images"),
    "evaluate": ("app.cli.evaluate:evaluate", "Measure accuracy on labelled images"),
    "convert": ("app.cli.convert:convert", "Convert models for installs that only serve"),
    "quantize": ("app.cli.quantize:quantize", "Convert a model to 8-bit integers (INT8)"),
    "export": ("app.cli.export:export", "Export to ONNX, OpenVINO, MXNet or MMS"),
    "register": ("app.cli.manage:register", "Register a model with the running server"),
    "remove": ("app.cli.manage:remove", "Remove a model"),
    "archive": ("app.cli.archive:archive", "Package a model folder as an MMS archive"),
    "unpack": ("app.cli.archive:unpack_command", "Unpack an MMS archive"),
    "inspect": ("app.cli.archive:inspect", "Show the contents of an archive or folder"),
    "verify": ("app.cli.archive:verify", "Check that an archive or folder can be served"),
}
"""Module and one-line help of each command."""

models_cli = LazyGroup("models", targets=COMMANDS, help="Manage, train and convert models.")
