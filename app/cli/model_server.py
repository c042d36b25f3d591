"""Programs for the scripts in ``bin/``: Multi Model Server's, and SageMaker's ``serve``.

The first two accept the flags of Multi Model Server 1.1; the second also those of MXNet Model Server 0.4.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from app.errors import DimpleError
from app.formats.folder import is_model_folder
from app.server import daemon, mms_cli, sagemaker
from app.server.mms_cli import split_models
from app.settings import read_settings

NAME = "multi-model-server"
OLD_NAME = "mxnet-model-server"
RUNNING = f"Model server is already running, please use {NAME} --stop to stop MMS."
OLD_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warning", "WARN": "warning", "ERROR": "error"}
NOT_FOLLOWED = {
    "service": "pack the archive with its own service, or name it when you register the model",
    "log_rotation_time": "a log file is rotated when it reaches 100 MB",
    "metrics_write_to": "metrics are written to logs/",
    "gen_api": "no client code is made; OPTIONS / describes the API",
}
OLD_FLAGS = ("host", "port", "gpu", "log_level", "log_file", *NOT_FOLLOWED)


def multi_model_server() -> None:
    """Run ``multi-model-server``."""
    _ends_with_status(_parser(NAME), old=False)


def mxnet_model_server() -> None:
    """Run ``mxnet-model-server``, the former name of ``multi-model-server``."""
    _warn(f"{OLD_NAME} is the former name of {NAME}; both start Dimple. Call {NAME} in scripts.")
    _ends_with_status(_parser(OLD_NAME), old=True)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name, description="Starts or stops a model server: Dimple, as Multi Model Server is started and stopped."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--start", action="store_true", help="start it; so does a command without flags")
    what.add_argument("--stop", action="store_true", help="stop the running server after it has answered its requests")
    parser.add_argument("--model-store", metavar="FOLDER", help="folder of models and archives")
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="[NAME=]PLACE", help="models to load at start: archives, URLs, ALL"
    )
    parser.add_argument("--mms-config", metavar="FILE", help="instead of ./config.properties; sagemaker is built in")
    parser.add_argument("--log-config", metavar="FILE", help="a log4j2 XML file, for the level and the files' places")
    parser.add_argument("--foreground", action="store_true", help="do not return before the server ends")
    if name == OLD_NAME:
        _add_old_flags(
            parser.add_argument_group("MXNet Model Server 0.4", "Without --start it runs in the foreground.")
        )
    return parser


def _add_old_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", help="address of predictions (127.0.0.1)")
    group.add_argument("--port", type=int, help="port of predictions (8080)")
    group.add_argument("--gpu", type=int, metavar="ID", help="GPU for the services of archives")
    group.add_argument("--log-level", choices=list(OLD_LEVELS), type=str.upper)
    group.add_argument("--log-file", metavar="FILE", help="instead of logs/mms_log.log")
    for flag in NOT_FOLLOWED:
        group.add_argument(f"--{flag.replace('_', '-')}", help="accepted, not followed")


def _ends_with_status(parser: argparse.ArgumentParser, old: bool) -> None:
    arguments = parser.parse_args()
    try:
        if arguments.stop:
            _stop()
        else:
            _start(arguments, old)
    except DimpleError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("interrupted")


def _start(arguments: argparse.Namespace, old: bool) -> None:
    pid_file = mms_cli.pid_file()
    if daemon.find(pid_file):
        _fail(RUNNING)
    if pid_file.exists():
        _warn(f"Removing a stale pid file of a server that has gone: {pid_file}")
    flags = _flags(arguments, old)
    plan = mms_cli.plan_launch(flags, os.environ, read_settings().instance_dir)
    for warning in plan.warnings:
        _warn(warning)
    if flags.foreground:
        daemon.run(plan.launch)
    daemon.start(plan.launch)
    print("Model server started.")


def _flags(arguments: argparse.Namespace, old: bool) -> mms_cli.Flags:
    old_flags = {name: value for name in OLD_FLAGS if (value := getattr(arguments, name, None)) is not None}
    for name in sorted(set(old_flags) & set(NOT_FOLLOWED)):
        _warn(f"--{name.replace('_', '-')} is not followed: {NOT_FOLLOWED[name]}")
    # 0.4 had neither --start nor a model store, and ran in the foreground
    as_in_04 = (
        old and not arguments.start and (bool(old_flags) or (bool(arguments.models) and not arguments.model_store))
    )
    return mms_cli.Flags(
        model_store=arguments.model_store,
        models=[model for text in arguments.models for model in split_models(text)],
        mms_config=arguments.mms_config,
        log_config=arguments.log_config,
        foreground=arguments.foreground or as_in_04,
        host=old_flags.get("host"),
        port=old_flags.get("port"),
        gpu=old_flags.get("gpu"),
        log_level=OLD_LEVELS[old_flags["log_level"]] if "log_level" in old_flags else None,
        log_file=old_flags.get("log_file"),
    )


def _stop() -> None:
    pid_file = mms_cli.pid_file()
    if not pid_file.exists():
        print("Model server is not currently running.")
    elif daemon.stop(pid_file):
        print("Model server stopped.")
    else:
        print("Model server already stopped.")


def _warn(text: str) -> None:
    print(f"WARNING - {text}", file=sys.stderr)


def _fail(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    raise SystemExit(1)


def serve() -> None:
    """Replace this process with the server, in the foreground."""
    argparse.ArgumentParser(
        prog="serve", description="Serves models as SageMaker's containers do: the environment says which."
    ).parse_args()
    try:
        is_model = not sagemaker.is_multi_model(os.environ) and is_model_folder(sagemaker.model_path(os.environ))
        daemon.run(sagemaker.launch(os.environ, read_settings().instance_dir, is_model))
    except DimpleError as error:
        sys.exit(str(error))
