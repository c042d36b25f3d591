"""The settings from the environment and the settings file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from app.errors import SettingError, UnknownSetting
from app.utils.files import atomic_write

VERSION = "0.1.0"
PREFIX = "DIMPLE_"
FILE = "settings.env"
REMARK = "# tuned:"
ROOT = Path(__file__).resolve().parent.parent
TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def setting(
    default: Any,
    help: str,
    low: int | None = None,
    choices: tuple[str, ...] = (),
    empty: bool = False,
    kind: type | None = None,
) -> Any:
    """Declare a setting: its default, one sentence of help, and the limits of its value.

    :param kind: its type, if the default does not determine it.
    """
    kind = kind or (Path if isinstance(default, Path) else type(default))  # the class of a path depends on the system
    facts = {"help": help, "low": low, "choices": choices, "empty": empty, "kind": kind}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Settings:
    """All settings. A relative folder is relative to the checkout, wherever the program was started."""

    host: str = setting("0.0.0.0", "Address on which predictions and the page are served; unix:/path for a socket.")
    port: int = setting(8080, "Port of predictions and the page.", low=1)
    management_host: str = setting("127.0.0.1", "Address on which management is served; unix:/path for a socket.")
    management_port: int = setting(8081, "Port of management.", low=1)
    management_without_token: bool = setting(
        False, "Whether management may be reached from other machines although there is no token for it."
    )
    prediction_tokens: bool = setting(False, "Whether predictions and the page take a token, too.")
    tokens_file: Path | None = setting(
        None, "File of the tokens' names, roles and hashes; empty for instance/tokens.json.", empty=True, kind=Path
    )
    failed_tokens: int = setting(
        20,
        "Tokens that are not known, of one address in a minute; further ones are answered 429; 0 for any number.",
        low=0,
    )
    rate_limit: int = setting(
        0, "Requests of one token, or of one address without, in a second; 0 for any number.", low=0
    )
    rate_burst: int = setting(0, "How many of them may come at once; 0 for as many as in a second.", low=0)
    trusted_proxies: str = setting(
        "",
        "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: how many stand in a row before this server, "
        "or a list of their addresses and networks (unix for a socket); empty for none.",
        empty=True,
    )
    workers: int = setting(0, "Server processes; 0 takes one for every core this process may use.", low=0)
    threads: int = setting(
        0, "Threads in each server process: requests that it holds at once; 0 takes enough for the queue.", low=0
    )
    timeout: int = setting(120, "Seconds after which a server process that hangs is replaced.", low=1)
    client_timeout: int = setting(
        30,
        "Seconds that a client has to send a request, and one more for every 500 bytes of it; who is slower is "
        "answered 408. As long may nothing of its answer be taken.",
        low=1,
    )
    models_dir: Path = setting(Path("models"), "Folder of the models, one folder each.")
    uploads_dir: Path = setting(Path("uploads"), "Folder of the pictures sent through the page.")
    instance_dir: Path = setting(Path("instance"), "Folder of everything else that the program writes.")
    cache_dir: Path | None = setting(
        None, "Folder of the networks converted for OpenVINO; empty for instance/cache.", empty=True, kind=Path
    )
    mirror: str = setting(
        "", "URL or folder where models of the catalogue are looked for first; empty for none.", empty=True
    )
    default_model: str = setting("smile", "Model that /file/ asks when the form names none, unless there is only one.")
    engine: str = setting(
        "auto",
        "What computes: openvino, mxnet, keras, or auto: openvino where it was proven equal to the reference (mxnet of "
        "checkpoints, keras of .h5 files), else the reference; ray: the cluster, by auto there, at 127.0.0.1:8000 "
        "without DIMPLE_CLUSTER.",
        choices=("auto", "openvino", "mxnet", "keras", "ray"),
    )
    shared_engine: bool = setting(
        True, "Whether one process computes for all server processes what takes long; else each does so for itself."
    )
    cluster: str = setting(
        "",
        "HTTP proxies of the Ray cluster that computes, host:port with commas between; empty for none (see "
        "docs/scaling.md).",
        empty=True,
    )
    cluster_models: str = setting(
        "ALL", "Models that are computed there: ALL, NONE or their names with commas between.", empty=True
    )
    cluster_store: str = setting(
        "",
        "Where its nodes find model files: a folder that they share, http(s):// or s3://bucket/prefix; empty for "
        "instance/cluster/store.",
        empty=True,
    )
    max_request_bytes: int = setting(32 * 2**20, "Longest request body, in bytes; a longer one is answered 413.", low=1)
    max_model_bytes: int = setting(4 * 2**30, "Longest archive that is fetched from a URL or sent to /manage.", low=1)
    max_files: int = setting(32, "Most pictures in one request.", low=1)
    max_frames: int = setting(
        1000, "Most frames or pages of a picture file, of which the first is looked at; 0 for any number.", low=0
    )
    max_form_parts: int = setting(1000, "Most parts of a form.", low=1)
    max_form_memory_bytes: int = setting(
        8 * 2**20, "Longest text in a form, in bytes, all fields that are no files together.", low=2**17
    )
    max_json_depth: int = setting(100, "Most lists and objects within each other in JSON that is read.", low=1)
    max_request_line: int = setting(
        4094, "Longest first line of a request, with its URL, in bytes; up to 8190.", low=64
    )
    max_headers: int = setting(100, "Most header fields of a request.", low=8)
    max_header_bytes: int = setting(8190, "Longest header field of a request, in bytes.", low=64)
    gzip_requests: bool = setting(
        False, "Whether bodies may come packed with gzip; unpacked, they may be as long as others."
    )
    max_pixels: int = setting(64_000_000, "Most pixels of a picture; a larger one is refused unread.", low=1)
    scaled_decoding: bool = setting(
        True,
        "Whether a large JPEG is decoded at a half, a quarter or an eighth of its size, if at least twice what the "
        "model needs is left; models that resize without antialiasing, as MMS does, get all pixels.",
    )
    uploads_max_age: int = setting(24 * 3600, "Seconds for which an uploaded picture is kept; 0 keeps none.", low=0)
    uploads_max_bytes: int = setting(
        256 * 2**20, "Total bytes of uploaded pictures, the oldest going first; 0 keeps none.", low=0
    )
    uploads_max_files: int = setting(10_000, "Most uploaded pictures that are kept, the oldest going first.", low=1)
    load_models: str = setting(
        "ALL",
        "Models of the models folder that are loaded at start: ALL, NONE or a list [name=]file-or-folder-or-URL,…",
        empty=True,
    )
    shipped_models: bool = setting(True, "Whether the imagenet model is put into the models folder when it is missing.")
    default_workers_per_model: int = setting(
        0, "Worker processes of a model with its own code if the registration states none; 0: one for each core.", low=0
    )
    default_service_handler: str = setting(
        "", "Handler (module:function) of archives whose manifest names none.", empty=True
    )
    decode_input_request: bool = setting(True, "Whether handlers get JSON and text decoded, rather than as bytes.")
    blacklist_env_vars: str = setting(
        "", "Environment variables that handlers do not see: a regular expression for whole names.", empty=True
    )
    number_of_gpu: int = setting(
        0,
        "Most GPUs, of those that nvidia-smi lists, that the processes of handlers are given in turn, as gpu_id; 0 has "
        "them compute on the CPU.",
        low=0,
    )
    handler_env: str = setting(
        "",
        "Environment variables that handlers get beside the usual ones: names, or patterns as AWS_*, with commas "
        "between; * for all but Dimple's own.",
        empty=True,
    )
    handler_memory_bytes: int = setting(
        0, "Most memory of a handler's process, its heap and stacks, in bytes; 0 sets no limit.", low=0
    )
    handler_cpu_seconds: int = setting(
        0, "Most processor time of a handler's process for one batch, in seconds; 0 sets no limit.", low=0
    )
    handler_open_files: int = setting(
        4096, "Most files that a handler's process has open at once; 0 leaves it at the server's own limit.", low=0
    )
    handler_file_bytes: int = setting(
        4 * 2**30, "Longest file that a handler's process writes, in bytes; 0 sets no limit.", low=0
    )
    handler_nice: int = setting(
        0, "By how much handlers are nicer than the server: 1 to 19 leave it the processor.", low=0
    )
    install_requirements: bool = setting(
        False, "Whether the requirements.txt of an archive with code is installed, into an environment of its own."
    )
    install_timeout: int = setting(600, "Seconds that the installation of a requirements.txt may take.", low=1)
    pip_options: str = setting(
        "",
        "Options of pip install for it, as for a shell: --index-url URL, --no-index --find-links FOLDER.",
        empty=True,
    )
    model_url_schemes: str = setting(
        "http,https",
        "Schemes of URLs from which management fetches models.",
        choices=("http,https", "https", "http"),
    )
    model_url_hosts: str = setting(
        "", "Hosts from which it does: names or patterns as *.example.org, a list; empty for all.", empty=True
    )
    model_url_private: bool = setting(
        False, "Whether these hosts may have private addresses, this machine's among them, and a proxy be used."
    )
    ping_status: bool = setting(
        False, "Whether /ping is answered 503 where no model answers, as SageMaker asks; MMS's is always answered 200."
    )
    job_queue_size: int = setting(
        100, "Requests of one model that may wait, in all server processes together; one more is answered 503.", low=1
    )
    response_timeout: int = setting(
        120, "Seconds that a model has for an answer if its registration states none.", low=1
    )
    unregister_timeout: int = setting(120, "Seconds that a model which goes has for what it is answering.", low=0)
    max_response_bytes: int = setting(32 * 2**20, "Longest answer of a handler, in bytes.", low=1)
    cors_allowed_origin: str = setting("", "Access-Control-Allow-Origin of every answer; empty for none.", empty=True)
    cors_allowed_methods: str = setting("", "Access-Control-Allow-Methods of every answer; empty for none.", empty=True)
    cors_allowed_headers: str = setting("", "Access-Control-Allow-Headers of every answer; empty for none.", empty=True)
    certificate_file: Path | None = setting(
        None, "Certificate chain, PEM; with it and its key, HTTPS is spoken.", empty=True, kind=Path
    )
    private_key_file: Path | None = setting(None, "The certificate's private key, PEM.", empty=True, kind=Path)
    hsts_seconds: int = setting(
        365 * 24 * 3600,
        "Seconds for which browsers use HTTPS only (Strict-Transport-Security), if both ports speak it; 0 for none.",
        low=0,
    )
    https: str = setting(
        "both",
        "What speaks HTTPS where there is a certificate: both, inference or management.",
        choices=("both", "inference", "management"),
    )
    access_log: str = setting("-", "File of the requests that were answered; - for standard output.", empty=True)
    log_file: Path | None = setting(None, "File of the log; empty for standard error.", empty=True, kind=Path)
    log_console: bool = setting(True, "Whether the log goes to standard output, too, where it has a file.")
    log_style: str = setting(
        "auto",
        "How log lines look: gunicorn, json, mms, or auto: gunicorn on a terminal, json elsewhere.",
        choices=("auto", "gunicorn", "json", "mms"),
    )
    server_metrics_log: Path | None = setting(
        None, "File of the counts of answers, and of the system's metrics; empty for none.", empty=True, kind=Path
    )
    model_metrics_log: Path | None = setting(
        None, "File of the metrics of handlers; empty for the log.", empty=True, kind=Path
    )
    metric_interval: int = setting(60, "Seconds between the system's metrics.", low=1)
    metrics_at: str = setting(
        "management",
        "Where /metrics answers: management, or both for the port of predictions, too.",
        choices=("management", "both"),
    )
    trace_endpoint: str = setting(
        "",
        "Collector of traces (OTLP over HTTP), such as http://localhost:4318; empty for the one that the standard "
        "variables OTEL_EXPORTER_OTLP_… name, if any.",
        empty=True,
    )
    log_level: str = setting(
        "info", "What is logged: debug, info, warning or error.", choices=("debug", "info", "warning", "error")
    )

    @property
    def cache(self) -> Path:
        """Return the folder of converted networks."""
        return self.cache_dir or self.instance_dir / "cache"

    @property
    def picture_limits(self) -> PictureLimits:
        """Return the limits of pictures that are decoded."""
        return PictureLimits(self.max_pixels, self.max_frames)


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment, and the others from the settings file.

    :raises SettingError: if a value is out of range or of the wrong type, or a ``DIMPLE_…`` variable is not a setting
        (otherwise a misspelt one would silently have no effect). The error names the variable, its value, and the line
        if it is in the file.
    """
    known = _known()
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise UnknownSetting(unknown[0], environ[unknown[0]], similar=_similar(unknown[0], known))
    values = {f.name: _parse(name, environ[name], f) for name, f in known.items() if name in environ}
    file = with_absolute_paths(replace(Settings(), **values)).instance_dir / FILE
    return with_absolute_paths(replace(Settings(), **{**_read_file(file), **values}))


def write_settings(values: Mapping[str, Any], file: Path, remarks: Sequence[str]) -> None:
    """Write settings into the settings file, and keep its other lines.

    :param values: settings by their names in :class:`Settings`.
    :param remarks: comment lines with the reason; they replace earlier remarks.
    :raises OSError: if the file cannot be written; it is unchanged.
    """
    new = to_environment(values)
    old = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    remaining = [line for line in old if not line.startswith(REMARK) and line.partition("=")[0].strip() not in new]
    lines = [*remaining, *(f"{REMARK} {remark}".rstrip() for remark in remarks), *(f"{k}={v}" for k, v in new.items())]
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, "\n".join(lines) + "\n")


def with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings with relative files and folders made absolute, under the checkout."""
    paths = {field.name: getattr(settings, field.name) for field in fields(Settings) if field.metadata["kind"] is Path}
    return replace(settings, **{name: ROOT / path for name, path in paths.items() if path is not None})


def to_environment(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that :func:`read_settings` reads as these values.

    :param values: settings by their names in :class:`Settings`.
    """
    return {PREFIX + name.upper(): _text(value) for name, value in values.items()}


def _known() -> dict[str, Field[Any]]:
    return {PREFIX + f.name.upper(): f for f in fields(Settings)}


def _similar(name: str, known: Mapping[str, object]) -> list[str]:
    """Return the settings, two at most, whose names resemble one that no setting has."""
    like = difflib.get_close_matches(name.removeprefix(PREFIX), [item.removeprefix(PREFIX) for item in known], 2, 0.6)
    return [PREFIX + item for item in like]


def _read_file(file: Path) -> dict[str, Any]:
    """Read the lines ``DIMPLE_<NAME>=value``, except for empty lines and those that begin with ``#``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingError(f"file {file}", "", f"a text that can be read ({error})") from None
    known = _known()
    del known[PREFIX + "INSTANCE_DIR"]  # it determines the location of this file
    values: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"{file}, line {number}"
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals:
            raise SettingError(f"{place}: {name}", "", "a line NAME=value")
        if name not in known:
            raise UnknownSetting(name, text, place, _similar(name, known))
        values[known[name].name] = _parse(f"{place}: {name}", text, known[name])
    return values


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _parse(name: str, text: str, declared: Field[Any]) -> Any:
    kind, choices = declared.metadata["kind"], declared.metadata["choices"]
    if choices and text not in choices:
        raise SettingError(name, text, f"one of {', '.join(choices)}")
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise SettingError(name, text, "true or false")
        return TRUTHS[text.lower()]
    if kind is int:
        return _parse_int(name, text, declared.metadata["low"])
    if not text:
        if not declared.metadata["empty"]:
            raise SettingError(name, text, "not empty")
        return None if kind is Path else ""
    return kind(text)


def _parse_int(name: str, text: str, low: int) -> int:
    expected = f"a whole number of at least {low}"
    try:
        value = int(text)
    except ValueError:
        raise SettingError(name, text, expected) from None
    if value < low:
        raise SettingError(name, text, expected)
    return value


@dataclass(frozen=True)
class PictureLimits:
    """Limits of the pictures that are decoded.

    ``pixels`` is width x height in the picture's header. ``frames`` is the number of an animation's frames or a file's
    pages, 0 for no limit. This class is here rather than in ``app.types`` so that settings do not need NumPy.
    """

    pixels: int = 64_000_000
    frames: int = 1000
