from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import LaunchError
from app.launch.log4j import read_log4j

LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <RollingFile name="access_log" fileName="${env:LOG_LOCATION:-logs}/requests.log" filePattern="x.%i.gz"/>
    <RollingFile name="mms_log" fileName="/var/log/mms.log"/>
    <RollingFile name="audit" fileName="audit.log"/>
    <Console name="STDOUT"/>
  </Appenders>
  <Loggers>
    <Logger name="com.amazonaws.ml.mms" level="debug"/>
    <Logger name="com.example" level="debug"/>
    <Root level="WARN"/>
  </Loggers>
</Configuration>
"""


def test_level_and_places_are_followed_and_the_rest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log4j2.xml").write_text(LOG4J)
    values, (warning,) = read_log4j(tmp_path / "log4j2.xml", {"LOG_LOCATION": "/tmp/logs"})
    assert values == {
        "access_log": Path("/tmp/logs/requests.log"),
        "log_file": Path("/var/log/mms.log"),
        "log_level": "warning",
    }
    assert "audit.log" in warning
    assert "com.example" in warning
    values, _ = read_log4j(tmp_path / "log4j2.xml", {})
    assert values["access_log"] == tmp_path / "logs" / "requests.log"


def test_a_file_that_is_no_xml_is_refused_and_the_older_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "log4j2.xml").write_text("<Configuration>")
    with pytest.raises(LaunchError, match=r"log4j2\.xml cannot be read"):
        read_log4j(tmp_path / "log4j2.xml", {})
    assert "log4j.properties" in read_log4j(Path("log4j.properties"), {})[1][0]
