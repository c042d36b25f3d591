"""Lines in the format of Multi Model Server's logs. The patterns are written from its lines, not from our formats."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.server.gunicorn_logger import access_line
from app.server.logging import (
    HOST_METRICS,
    METRICS,
    MMS_STYLE,
    JsonFormatter,
    MetricFormatter,
    MmsFormatter,
    PlainFormatter,
    SharedFile,
    host_metric,
    install,
    style_name,
)
from app.settings import Settings

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"


@pytest.fixture
def untouched() -> Iterator[None]:
    """Restore the process's loggers."""
    names = (None, "gunicorn.error", "gunicorn.access", HOST_METRICS.name, METRICS.name)
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for item, handlers, propagate, level in before:
        for handler in set(item.handlers) - set(handlers):
            handler.close()
        item.handlers, item.propagate = handlers, propagate
        item.setLevel(level)


def test_a_message_cannot_forge_a_log_line() -> None:
    log_record = record("x", logging.INFO, "a\r\n2026-01-01 [1] [INFO] forged\x1b[2J\u2028b")
    (line, more) = PlainFormatter("%(levelname)s %(message)s").format(log_record).split("\n")
    assert line == "INFO a\\x0d"
    assert more == "    2026-01-01 [1] [INFO] forged\\x1b[2J\\x2028b"
    assert MmsFormatter(MMS_STYLE).format(log_record).count("\n") == 1


def test_an_error_is_one_object_with_its_trace() -> None:
    try:
        raise ValueError('bad\n"thing"')
    except ValueError:
        log_record = logging.LogRecord("x", logging.ERROR, "", 0, "it broke: %s", ("\u2028",), sys.exc_info())
    log_record.created = 1713870183.657  # 2024-04-23T11:03:03.657Z by date -u -d @1713870183
    line = JsonFormatter().format(log_record)
    assert line.isascii()
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["time"], fields["level"], fields["message"]) == (
        "2024-04-23T11:03:03.657Z",
        "error",
        "it broke: \u2028",
    )
    assert fields["exception"].endswith('ValueError: bad\n"thing"')
    assert "request_id" not in fields


def record(name: str, level: int, message: str, thread: str = "MainThread") -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, message, None, None)
    made.threadName = thread
    return made


def test_an_access_line_has_the_format_of_mms() -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "RAW_URI": "/predictions/resnet-18?a=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "64003",
    }
    line = access_line(environ, 200, timedelta(milliseconds=118))
    assert line == '/127.0.0.1:64003 "POST /predictions/resnet-18?a=1 HTTP/1.1" 200 118'


def test_a_client_cannot_forge_a_line_of_the_access_log() -> None:
    environ = {"REQUEST_METHOD": "GET", "RAW_URI": '/\r\n"x', "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": ""}
    assert access_line(environ, 404, timedelta()) == '/unix:0 "GET /\\x0d\\x0a\\x22x HTTP/1.1" 404 0'


def test_a_log_line_has_the_level_the_thread_and_the_logger_of_mms() -> None:
    log_record = record("app.handlers.log_relay", logging.WARNING, "careful", "W-9000-squeezenet-stderr")
    line = MmsFormatter(MMS_STYLE).format(log_record)
    assert re.fullmatch(
        rf"{TIME} \[WARN \] W-9000-squeezenet-stderr com\.amazonaws\.ml\.mms\.wlm\.WorkerLifeCycle - careful", line
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (
            "PredictionTime.Milliseconds:4.05|#ModelName:noop,Level:Model|#hostname:vm,1542157988,a-b",
            "PredictionTime.Milliseconds:4.05|#ModelName:noop,Level:Model|#hostname:vm,requestID:a-b,timestamp:1542157988",
        ),
        (
            "Errors.Count:1|#Level:Error|#hostname:vm,1542157988",
            "Errors.Count:1|#Level:Error|#hostname:vm,timestamp:1542157988",
        ),
    ],
)
def test_a_metric_of_a_handler_gets_its_request_id_and_time(text: str, written: str) -> None:
    line = MetricFormatter().format(record("dimple.metrics", logging.INFO, text))
    assert re.fullmatch(rf"{TIME} - {re.escape(written)}", line)


@pytest.mark.usefixtures("untouched")
def test_every_kind_of_line_goes_to_its_own_file(tmp_path: Path) -> None:
    names = ("log_file", "access_log", "server_metrics_log", "model_metrics_log")
    files = {name: tmp_path / "logs" / name for name in names}
    install(Settings(**{**files, "access_log": str(files["access_log"])}, log_style="mms", log_console=False))  # type: ignore[arg-type]
    logging.getLogger("app.somewhere").info("said")
    logging.getLogger("gunicorn.error").info("booted")
    logging.getLogger("gunicorn.access").info("asked")
    host_metric("Requests2XX", "Count", 1, "null")
    METRICS.info("PredictionTime.Milliseconds:4|#Level:Model|#hostname:vm,1")
    lines = {name: path.read_text().splitlines() for name, path in files.items()}
    assert [line.rpartition(" - ")[2] for line in lines["log_file"]] == ["said", "booted"]
    assert [line.rpartition(" - ")[2] for line in lines["access_log"]] == ["asked"]
    (metric,) = lines["server_metrics_log"]
    assert re.fullmatch(rf"{TIME} - Requests2XX\.Count:1\|#Level:Host\|#hostname:[^,]+,timestamp:null", metric)
    assert len(lines["model_metrics_log"]) == 1


def test_concurrent_writes_and_rotations_lose_no_line(tmp_path: Path) -> None:
    path, count, writers = tmp_path / "x.log", 400, 4
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_lines, args=(path, writer, count)) for writer in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * writers
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    found = sorted(line for file in files for line in file.read_text().splitlines())
    assert found == sorted(f"{writer} {number:05}" for writer in range(writers) for number in range(count))
    # each process may write a hundredth of it, and the rest of a line of 8 bytes, before it looks whether it is full
    assert all(file.stat().st_size <= 2000 + (20 + 8) * writers for file in files)


def write_lines(path: Path, writer: int, count: int) -> None:
    handler = SharedFile(path, max_bytes=2000, backups=20)
    for number in range(count):
        handler.handle(record("x", logging.INFO, f"{writer} {number:05}"))


def test_the_oldest_file_is_removed(tmp_path: Path) -> None:
    handler = SharedFile(tmp_path / "x.log", max_bytes=4, backups=2)
    for number in range(5):
        handler.handle(record("x", logging.INFO, f"line{number}"))
    handler.close()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "x.log": "line4\n",
        "x.log.1": "line3\n",
        "x.log.2": "line2\n",
    }


@pytest.mark.parametrize(
    ("setting", "terminal", "style"), [("auto", True, "gunicorn"), ("auto", False, "json"), ("mms", True, "mms")]
)
def test_a_terminal_gets_text_and_any_other_output_gets_json(
    monkeypatch: pytest.MonkeyPatch, setting: str, terminal: bool, style: str
) -> None:
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: terminal))
    assert style_name(Settings(log_style=setting)) == style
