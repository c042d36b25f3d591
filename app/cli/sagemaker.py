"""``serve``, the program by which SageMaker starts a container, for the script in ``bin/``."""

from __future__ import annotations

import argparse
import os
import sys

from app.errors import DimpleError
from app.formats.folder import is_model_folder
from app.launch import process, sagemaker
from app.settings import read_settings


def serve() -> None:
    """Become the server, in the foreground."""
    argparse.ArgumentParser(
        prog="serve",
        description="Serves models as SageMaker's containers do: the environment says which.",
    ).parse_args()
    try:
        is_model = not sagemaker.is_multi_model(os.environ) and is_model_folder(sagemaker.model_place(os.environ))
        process.run(sagemaker.launch(os.environ, read_settings().instance_dir, is_model))
    except DimpleError as error:
        sys.exit(str(error))
