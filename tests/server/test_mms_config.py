from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import LaunchError, SettingError
from app.server.addresses import Address, parse_address
from app.server.mms_config import (
    KNOWN,
    meaningless,
    parse_properties,
    read_configuration,
    read_log4j,
    read_properties,
    settings_of,
    unknown,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_of_the_environment_precedes_that_of_the_flag_and_of_the_folder(here: Path) -> None:
    for name in ("environment", "flag", "config"):
        (here / f"{name}.properties").write_text(f"load_models={name}")
    environ = {"MMS_CONFIG_FILE": "environment.properties"}
    assert read_configuration("flag.properties", environ) == {"load_models": "environment"}
    assert read_configuration("flag.properties", {}) == {"load_models": "flag"}
    assert read_configuration(None, {}) == {"load_models": "config"}
    (here / "config.properties").unlink()
    assert read_configuration(None, {}) == {}


def test_a_file_that_is_missing_is_refused_by_name() -> None:
    with pytest.raises(LaunchError, match=r"--mms-config file not found: nowhere\.properties"):
        read_configuration("nowhere.properties", {})


def test_variables_are_substituted_and_missing_ones_refused_as_by_mms(here: Path) -> None:
    (here / "config.properties").write_text("inference_address=http://$$HOST$$:$$PORT$$")
    assert read_configuration(None, {"HOST": "10.0.0.1", "PORT": "80"}) == {"inference_address": "http://10.0.0.1:80"}
    with pytest.raises(LaunchError, match=r"^Invalid configuration: Invalid Environment Variable PORT$"):
        read_configuration(None, {"HOST": "10.0.0.1"})


def test_the_environment_overrides_keys_only_if_the_file_allows_it(here: Path) -> None:
    # the figures of MMS's own ConfigManagerTest
    environ = {"MMS_DEFAULT_RESPONSE_TIMEOUT": "130"}
    assert settings_of(read_configuration(None, environ))["response_timeout"] == 7200
    (here / "config.properties").write_text("enable_envvars_config=true\n")
    assert settings_of(read_configuration(None, environ))["response_timeout"] == 7800
    environ |= {"MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS": "130", "MMS_JOB_QUEUE_SIZE": "7", "MMS_IO_RATIO": "9"}
    found = read_configuration(None, environ)
    assert (settings_of(found)["response_timeout"], settings_of(found)["job_queue_size"]) == (130, 7)
    assert "io_ratio" not in found


def test_the_built_in_file_of_sagemaker_is_used() -> None:
    environ = {
        "SAGEMAKER_BIND_TO_PORT": "8090",
        "SAGEMAKER_MODEL_STORE": "/opt/ml/models",
        "SAGEMAKER_NUM_MODEL_WORKERS": "3",
        "SAGEMAKER_MAX_REQUEST_SIZE": "1000",
    }
    found = read_configuration("sagemaker", environ)
    assert found["inference_address"] == found["management_address"] == "http://0.0.0.0:8090"
    assert found["model_store"] == "/opt/ml/models"
    settings = settings_of(found)
    assert (settings["default_workers_per_model"], settings["max_request_bytes"]) == (3, 1000)
    assert settings["decode_input_request"] is False


def test_the_defaults_without_a_configuration_are_those_of_mms() -> None:
    settings = settings_of({})
    assert settings["max_request_bytes"] == settings["max_response_bytes"] == 6553500
    assert settings["response_timeout"] == 2 * 3600
    assert settings["decode_input_request"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [("job_queue_size", "many"), ("job_queue_size", "0"), ("default_response_timeout", "-1"), ("number_of_gpu", "1.5")],
)
def test_an_invalid_number_is_refused_with_its_key(key: str, value: str) -> None:
    with pytest.raises(SettingError, match=key) as caught:
        settings_of({key: value})
    assert repr(value) in str(caught.value)


def test_unknown_keys_are_distinguished_from_keys_for_java() -> None:
    found = {"vmargs": "-Xmx1g", "io_ratio": "50", "job_queue_size": "1", "job_que_size": "2", "allowed_urls": "x"}
    assert unknown(found) == ["allowed_urls", "job_que_size"]
    assert meaningless(found) == ["io_ratio", "vmargs"]


def test_every_key_of_mms_is_known() -> None:
    keys = """inference_address management_address model_store load_models default_workers_per_model job_queue_size
    default_response_timeout default_response_timeout_seconds unregister_model_timeout max_request_size
    max_response_size decode_input_request preload_model default_service_handler number_of_gpu blacklist_env_vars
    cors_allowed_origin cors_allowed_methods cors_allowed_headers private_key_file certificate_file keystore
    keystore_pass keystore_type async_logging debug number_of_netty_threads netty_client_threads prefer_direct_buffer
    use_native_io io_ratio vmargs plugins_path model_server_home metric_time_interval enable_envvars_config"""
    assert set(keys.split()) == KNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("https://0.0.0.0:8443/", Address("0.0.0.0", 8443, https=True)),
        ("http://localhost", Address("localhost", 8081)),
        ("https://localhost", Address("localhost", 8444, https=True)),
        ("http://[::1]:9000", Address("::1", 9000)),
        ("unix:/tmp/mms.sock", Address("unix:/tmp/mms.sock", 0)),
        ("unix:///tmp/mms.sock", Address("unix:/tmp/mms.sock", 0)),
    ],
)
def test_addresses_are_parsed(text: str, expected: Address) -> None:
    assert parse_address("management_address", text, 8081, 8444) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8080",
        "ftp://x",
        "http://:80",
        "http://x:99999",
        "http://x:0",
        "http://x:y",
        "unix:",
        "http://x/y",
    ],
)
def test_an_invalid_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingError, match=r"inference_address.*http://host:port"):
        parse_address("inference_address", text, 80, 443)


@pytest.mark.parametrize(
    "line", ["Truth = Beauty", "  Truth:Beauty", "Truth\t\t\t:Beauty", "Truth Beauty", "Truth\fBeauty"]
)
def test_key_and_value_are_separated_by_equals_colon_or_blanks(line: str) -> None:
    assert parse_properties(line) == {"Truth": "Beauty"}


def test_a_trailing_backslash_joins_lines_and_strips_leading_blanks() -> None:
    text = "fruits                           apple, banana, pear, \\\n    cantaloupe, watermelon, \\\n    kiwi, mango"
    assert parse_properties(text) == {"fruits": "apple, banana, pear, cantaloupe, watermelon, kiwi, mango"}


def test_a_key_without_a_separator_has_an_empty_value() -> None:
    assert parse_properties("cheeses") == {"cheeses": ""}


def test_escaped_separators_belong_to_the_key() -> None:
    assert parse_properties(r"\:\= = x") == {":=": "x"}
    assert parse_properties(r"a\ b=c") == {"a b": "c"}


def test_only_the_first_separator_counts() -> None:
    assert parse_properties("a = = b:c") == {"a": "= b:c"}
    assert parse_properties("inference_address=http://0.0.0.0:8080") == {"inference_address": "http://0.0.0.0:8080"}


def test_escapes_in_values_are_decoded() -> None:
    assert parse_properties(r"a=\t|\n|\r|\f|\u00e9|\\|\z|\"") == {"a": '\t|\n|\r|\f|é|\\|z|"'}


def test_an_even_number_of_backslashes_joins_nothing() -> None:
    assert parse_properties("a=b\\\\\nc=d") == {"a": "b\\", "c": "d"}


def test_comments_and_blank_lines_are_skipped_and_comments_are_never_continued() -> None:
    assert parse_properties("# a=1\\\nb=2\n   ! c=3\n \t\n\r\nd=4\re=5") == {"b": "2", "d": "4", "e": "5"}


def test_a_continuation_line_may_begin_like_a_comment() -> None:
    assert parse_properties("a=1,\\\n  #2") == {"a": "1,#2"}


def test_trailing_blanks_are_kept_and_the_last_of_duplicate_keys_is_used() -> None:
    assert parse_properties("a=1\na=2  ") == {"a": "2  "}


def test_a_broken_escape_is_refused() -> None:
    with pytest.raises(LaunchError, match="four hexadecimal digits"):
        parse_properties(r"a=\u12g4")


def test_latin_1_and_utf_8_files_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    for encoding in ("latin-1", "utf-8"):
        path.write_bytes("model_store=modèles".encode(encoding))
        assert read_properties(path) == {"model_store": "modèles"}


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


def test_level_and_files_are_used_and_other_settings_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_file_that_is_not_xml_is_refused_and_the_older_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "log4j2.xml").write_text("<Configuration>")
    with pytest.raises(LaunchError, match=r"log4j2\.xml cannot be read"):
        read_log4j(tmp_path / "log4j2.xml", {})
    assert "log4j.properties" in read_log4j(Path("log4j.properties"), {})[1][0]
