"""Authentication, and the messages of refusals: RFC 6750, RFC 6585, the Fetch standard's preflights."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app, load_models
from app.errors import SettingError
from app.security import tokens as known
from app.security.tokens import add_token, revoke_token
from app.settings import Settings
from tests.conftest import CACHE
from tests.pictures import animation, encode, face_crop, plain

FACE = encode(face_crop())
PUBLIC, MANAGEMENT = "http://localhost:8080", "http://localhost:8081"
BROWSER = {"Accept": "text/html"}
SAME = {**BROWSER, "Sec-Fetch-Site": "same-origin"}

Make = Callable[..., FlaskClient]


@pytest.fixture
def make(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make an application that knows every change of the tokens at once, with models only on request."""
    monkeypatch.setattr(known, "LOOK_SECONDS", 0.0)
    started: list[Flask] = []
    base = Settings(
        models_dir=models_dir,
        cache_dir=CACHE,
        uploads_dir=tmp_path / "uploads",
        instance_dir=tmp_path / "instance",
        shipped_models=False,
    )

    def made(models: bool = False, **settings: object) -> FlaskClient:
        app = create_app(replace(base, **settings))
        if models:
            load_models(app)
        started.append(app)
        return app.test_client()

    yield made
    for app in started:
        app.extensions["dimple"].registry.close()


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "instance" / "tokens.json"
    return {role: add_token(path, role, role) for role in ("management", "prediction")}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_all_routes_are_open_without_a_token_in_the_file(make: Make) -> None:
    client = make()
    assert client.get("/models", base_url=MANAGEMENT).status_code == 200
    assert client.get("/predict/", base_url=PUBLIC).status_code == 200


def test_authentication_errors_follow_rfc_6750(make: Make, tokens: dict[str, str]) -> None:
    client = make()

    def ask(**headers: str) -> TestResponse:
        return client.get("/models", base_url=MANAGEMENT, headers=headers)

    nothing = ask()
    assert (nothing.status_code, nothing.headers["WWW-Authenticate"]) == (401, 'Bearer realm="Dimple"')
    assert nothing.json["code"] == 401
    assert nothing.json["type"] == "UnauthorizedException"  # in the form of Multi Model Server
    assert nothing.headers["Cache-Control"].startswith("no-cache")
    assert ask(Authorization="Basic eDp5").headers["WWW-Authenticate"] == 'Bearer realm="Dimple"'
    unknown = ask(Authorization="Bearer mF_9.B5f-4.1JqM")  # RFC 6750's own example
    assert unknown.status_code == 401
    assert 'error="invalid_token"' in unknown.headers["WWW-Authenticate"]
    small = ask(**bearer(tokens["prediction"]))
    assert small.status_code == 403
    assert small.headers["WWW-Authenticate"] == 'Bearer realm="Dimple", error="insufficient_scope", scope="management"'
    assert small.json["type"] == "ForbiddenException"
    for scheme in ("Bearer", "bearer", "BEARER"):  # RFC 9110, section 11.1: in any case
        assert ask(Authorization=f"{scheme} {tokens['management']}").status_code == 200
    assert ask(**bearer(tokens["management"] + "x")).status_code == 401


def test_a_token_in_a_url_is_neither_accepted_nor_echoed(make: Make, tokens: dict[str, str]) -> None:
    token = tokens["management"]
    answer = make().get(f"/models?access_token={token}&token={token}", base_url=MANAGEMENT)
    assert answer.status_code == 401
    assert token not in answer.text


def test_revoked_and_expired_tokens_are_refused(make: Make, tokens: dict[str, str], tmp_path: Path) -> None:
    client, path = make(), tmp_path / "instance" / "tokens.json"

    def ask(token: str) -> TestResponse:
        return client.get("/models", base_url=MANAGEMENT, headers=bearer(token))

    short = add_token(path, "short", "management", 1)
    assert ask(short).status_code == 200
    document = json.loads(path.read_text())
    document["tokens"][-1]["expires"] = int(time.time())
    path.write_text(json.dumps(document))
    assert "The token is expired" in ask(short).headers["WWW-Authenticate"]
    revoke_token(path, "management")
    assert ask(tokens["management"]).status_code == 401
    revoke_token(path, "short")  # the last: management on this machine is open again
    assert client.get("/models", base_url=MANAGEMENT).status_code == 200


def test_public_management_stays_closed_if_its_last_token_is_revoked(
    make: Make, tokens: dict[str, str], tmp_path: Path
) -> None:
    client = make(management_host="0.0.0.0")
    revoke_token(tmp_path / "instance" / "tokens.json", "management")
    assert client.get("/models", base_url=MANAGEMENT).status_code == 401
    meant = make(management_host="0.0.0.0", management_without_token=True)
    assert meant.get("/models", base_url=MANAGEMENT).status_code == 200


def test_every_route_requires_its_role_except_health_routes(make: Make, tokens: dict[str, str]) -> None:
    client = make(prediction_tokens=True)
    open_to_all = {
        "/healthz", "/readyz", "/ping", "/ping/<path:ignored>", "/v2/health/live", "/v2/health/ready",
        "/", "/api-description", "/api-description/<path:ignored>", "/openapi.json", "/docs", "/docs/<name>",
        "/docs/own/<path:filename>", "/static/<path:filename>", "/manage/static/<path:filename>", "/login", "/logout",
        "/favicon.ico",
    }  # fmt: skip
    checked = 0
    for rule in client.application.url_map.iter_rules():
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<path:{argument}>", "x").replace(f"<{argument}>", "x")
        for base in (PUBLIC, MANAGEMENT):
            for method in sorted((rule.methods or set()) - {"HEAD"}):
                answer = client.open(path, method=method, base_url=base, buffered=True)
                if rule.rule not in open_to_all:
                    assert answer.status_code in (401, 404, 405), (method, base, rule.rule)
                    checked += answer.status_code == 401
    assert checked > 40
    for path in ("/healthz", "/ping", "/v2/health/live", "/static/page.css"):
        assert client.get(path, base_url=PUBLIC, buffered=True).status_code == 200, path


def test_metrics_at_the_management_port_require_a_management_token(make: Make, tokens: dict[str, str]) -> None:
    client = make()
    if "/metrics" not in {rule.rule for rule in client.application.url_map.iter_rules()}:
        pytest.skip("there are none")
    assert client.get("/metrics", base_url=MANAGEMENT).status_code == 401
    assert client.get("/metrics", base_url=MANAGEMENT, headers=bearer(tokens["prediction"])).status_code == 403
    assert client.get("/metrics", base_url=MANAGEMENT, headers=bearer(tokens["management"])).status_code == 200


def test_predictions_require_a_token_if_the_setting_says_so(make: Make, tokens: dict[str, str]) -> None:
    client = make(models=True, prediction_tokens=True)
    for path in ("/predict/smile", "/predictions/smile", "/smile/predict", "/invocations?model_name=smile"):
        assert client.post(path, data=FACE, base_url=PUBLIC).status_code == 401, path
        for token in tokens.values():  # management includes prediction
            assert client.post(path, data=FACE, base_url=PUBLIC, headers=bearer(token)).status_code == 200, path
    refused = client.post("/predict/smile", data=FACE, base_url=PUBLIC)
    assert (refused.json["code"], refused.json["type"]) == (401, "TokenWanted")


def test_a_browser_logs_in_by_a_form_and_logs_out(make: Make, tokens: dict[str, str]) -> None:
    client = make(models=True, prediction_tokens=True)
    response = client.get("/recent?x=1", base_url=PUBLIC, headers=BROWSER)
    assert response.status_code == 401
    assert 'name="token"' in response.text
    assert 'value="/recent?x=1"' in response.text
    form = {"token": tokens["prediction"], "next": "/recent"}
    entered = client.post("/login", data=form, base_url=PUBLIC, headers=SAME)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/recent")
    cookie = entered.headers["Set-Cookie"]
    assert cookie.startswith("dimple-token=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie  # over plain HTTP the browser would not send it back
    page = client.get("/", base_url=PUBLIC, headers=BROWSER)
    assert page.status_code == 200
    assert "Log out" in page.text
    assert client.post("/predict/smile", data=FACE, base_url=PUBLIC, headers=SAME).status_code == 200
    assert client.post("/logout", base_url=PUBLIC, headers=SAME).status_code == 303
    assert client.get("/", base_url=PUBLIC, headers=BROWSER).status_code == 401


def test_a_cookie_is_ignored_in_requests_from_other_sites(make: Make, tokens: dict[str, str]) -> None:
    client = make(models=True, prediction_tokens=True)
    client.set_cookie("dimple-token", tokens["prediction"])
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:3000"},
    ):
        assert client.post("/predict/smile", data=FACE, base_url=PUBLIC, headers=headers).status_code == 403
    entering = {"token": tokens["prediction"]}
    assert (
        client.post("/login", data=entering, base_url=PUBLIC, headers={"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )


def test_a_login_for_prediction_does_not_allow_management(make: Make, tokens: dict[str, str]) -> None:
    client = make()
    page = client.get("/manage/", base_url=MANAGEMENT, headers=BROWSER)
    assert page.status_code == 401
    assert "/manage/static/page.css" in page.text
    small = client.post("/login", data={"token": tokens["prediction"]}, base_url=MANAGEMENT, headers=SAME)
    assert small.status_code == 403
    assert "is for prediction" in small.text
    client.set_cookie("dimple-token", tokens["prediction"])
    assert client.get("/manage/", base_url=MANAGEMENT, headers=BROWSER).status_code == 401
    entered = client.post("/login", data={"token": tokens["management"]}, base_url=MANAGEMENT, headers=SAME)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/manage/")
    assert client.get("/manage/", base_url=MANAGEMENT, headers=BROWSER).status_code == 200


@pytest.mark.parametrize(
    "place", ["//evil.example", "/\\evil.example", "https://evil.example", "\\\\evil", "/x\r\nSet-Cookie: a=b", "", "x"]
)
def test_a_login_never_redirects_to_another_site(make: Make, tokens: dict[str, str], place: str) -> None:
    form = {"token": tokens["prediction"], "next": place}
    assert make().post("/login", data=form, base_url=PUBLIC, headers=SAME).headers["Location"] == "/"


def test_failed_logins_are_limited_and_a_valid_token_still_works(make: Make, tokens: dict[str, str]) -> None:
    client = make(failed_tokens=3)

    def ask(token: str, address: str = "192.0.2.7") -> TestResponse:
        environ = {"REMOTE_ADDR": address}
        return client.get("/models", base_url=MANAGEMENT, headers=bearer(token), environ_overrides=environ)

    assert [ask("wrong").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert 1 <= int(ask("wrong").headers["Retry-After"]) <= 21  # one in twenty seconds
    assert ask(tokens["management"]).status_code == 200
    assert ask("wrong", "192.0.2.8").status_code == 401
    assert client.post("/login", data={"token": "x"}, base_url=PUBLIC).status_code == 401


def test_requests_are_limited_per_address_and_token(make: Make, tokens: dict[str, str]) -> None:
    client = make(rate_limit=1, rate_burst=3)

    def ask(path: str = "/predict/", address: str = "192.0.2.1", **headers: str) -> TestResponse:
        return client.get(path, base_url=PUBLIC, headers=headers, environ_overrides={"REMOTE_ADDR": address})

    assert [ask().status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = ask("/predict/")
    assert (refused.json["type"], refused.headers["Retry-After"]) == ("TooManyRequests", "1")
    assert ask("/predictions/x").json["type"] == "TooManyRequestsException"
    assert ask(address="192.0.2.2").status_code == 200
    assert ask(**bearer(tokens["prediction"])).status_code == 200  # counted by itself
    assert [ask("/healthz").status_code for _ in range(9)] == [200] * 9


def test_clients_behind_a_trusted_proxy_are_limited_separately(make: Make) -> None:
    def codes(client: FlaskClient, *hops: str, peer: str = "10.0.0.1") -> list[int]:
        return [
            client.get(
                "/predict/", base_url=PUBLIC, headers={"X-Forwarded-For": hop}, environ_overrides={"REMOTE_ADDR": peer}
            ).status_code
            for hop in hops
        ]

    assert codes(make(rate_limit=1), "203.0.113.1", "203.0.113.2") == [200, 429]  # no proxy is trusted
    assert codes(make(rate_limit=1, trusted_proxies="1"), "203.0.113.3", "x, 203.0.113.3") == [200, 429]
    listed = make(rate_limit=1, trusted_proxies="10.0.0.0/8, 2001:db8::1")
    assert codes(listed, "203.0.113.4", "1.2.3.4, 203.0.113.4, 10.9.9.9", "203.0.113.5") == [200, 429, 200]
    assert codes(listed, "203.0.113.6", "203.0.113.7", peer="192.0.2.99") == [200, 429]  # that address is no proxy
    with pytest.raises(SettingError, match="DIMPLE_TRUSTED_PROXIES"):
        make(trusted_proxies="nginx")


def test_a_proxy_cannot_turn_prediction_into_management(make: Make) -> None:
    headers = {"X-Forwarded-Port": "8081", "X-Forwarded-Host": "localhost:8081", "X-Forwarded-Proto": "https"}
    for trusted in ("", "1", "127.0.0.1"):
        assert make(trusted_proxies=trusted).get("/models", base_url=PUBLIC, headers=headers).status_code == 404


def test_preflight_requests_are_answered_without_a_token(make: Make, tokens: dict[str, str]) -> None:
    cors = {"cors_allowed_origin": "https://a.example", "cors_allowed_headers": "Authorization, Content-Type"}
    client = make(prediction_tokens=True, cors_allowed_methods="GET, POST, PUT, DELETE", **cors)
    asking = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    for path, base in (("/predict/smile", PUBLIC), ("/predictions/smile", PUBLIC), ("/models/smile", MANAGEMENT)):
        answer = client.options(path, base_url=base, headers=asking)
        assert (answer.status_code, answer.data) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE"
        assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
        assert "Access-Control-Allow-Credentials" not in answer.headers  # cookies are for our own pages
    refused = client.post("/predict/smile", base_url=PUBLIC, headers={"Origin": "https://a.example"})
    assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"  # so that the page can read why
    open_to_all = make(models=True, **cors).options("/predictions/smile", base_url=PUBLIC, headers=asking)
    assert open_to_all.status_code == 200  # the model's description, as from Multi Model Server
    assert open_to_all.headers["Access-Control-Allow-Origin"] == "https://a.example"
    without = make(prediction_tokens=False).options("/predict/", base_url=PUBLIC, headers=asking)
    assert "Access-Control-Allow-Origin" not in without.headers


def test_options_requests_that_are_no_preflights_return_the_description(make: Make) -> None:
    client = make(models=True, cors_allowed_origin="*")
    described = client.options("/predictions/smile", base_url=PUBLIC, headers={"Origin": "https://a.example"})
    assert described.status_code == 200
    assert "paths" in described.json


def test_management_refuses_foreign_host_names(make: Make) -> None:
    client = make()
    evil = "http://evil.example:8081"
    assert client.delete("/models/smile", base_url=evil, headers={"Origin": evil}).status_code == 403
    assert client.get("/models", base_url=evil, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 403
    for path in ("/models", "/models/smile", "/metrics", "/manage/", "/manage/state", "/healthz", "/", "/docs"):
        assert (
            client.get(path, base_url=evil).status_code == 403
        )  # its page reads what a browser requests without Origin
    for name in ("localhost", "LOCALHOST:8081", "127.0.0.1:8081", "[::1]:8081"):
        assert client.get("/models", base_url=MANAGEMENT, headers={"Host": name}).status_code == 200
    assert client.get("/models", base_url=MANAGEMENT, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_each_kind_of_response_has_its_security_headers(make: Make) -> None:
    client = make(models=True)
    page = client.get("/live", base_url=PUBLIC, headers=BROWSER).headers
    assert page["Permissions-Policy"].startswith("camera=(self)")
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
    for answer in (client.get("/predict/", base_url=PUBLIC), client.get("/nowhere", base_url=PUBLIC)):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "Permissions-Policy" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers
    shared = make(cors_allowed_origin="*").get("/predict/", base_url=PUBLIC)
    assert shared.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize(("https", "expected"), [("both", "max-age=60"), ("inference", None), ("management", None)])
def test_hsts_is_sent_only_if_every_port_uses_https(make: Make, https: str, expected: str | None) -> None:
    client = make(
        certificate_file=Path("/x/cert.pem"), private_key_file=Path("/x/key.pem"), https=https, hsts_seconds=60
    )
    assert (
        client.get("/healthz", base_url="https://localhost:8080").headers.get("Strict-Transport-Security") == expected
    )


def test_uploads_are_served_only_as_pictures(make: Make) -> None:
    client = make(models=True)
    script = b"<script>alert(1)</script>"
    polyglot = FACE + script
    response = client.post("/file/", data=polyglot, base_url=PUBLIC, headers=SAME | {"Content-Type": "text/html"})
    assert response.status_code == 200
    address = response.text.partition('src="/result/')[2].partition('"')[0]
    picture = client.get(f"/result/{address}", base_url=PUBLIC)
    assert picture.mimetype in ("image/jpeg", "image/png")
    assert picture.headers["X-Content-Type-Options"] == "nosniff"
    assert picture.headers["Content-Security-Policy"].startswith("default-src 'none'; sandbox")
    assert picture.headers["Content-Disposition"] == "inline"
    assert script not in picture.data  # drawn anew
    for evil in (
        b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        b"<!doctype html>" + script,
        b"GIF89a=1;" + script,
    ):
        refused = client.post("/file/", data=evil, base_url=PUBLIC)
        assert refused.status_code == 415
        assert refused.mimetype == "application/json"


def test_compressed_bodies_are_refused_or_unpacked_within_limits(make: Make) -> None:
    packed = gzip.compress(FACE)

    def post(client: FlaskClient, data: bytes, encoding: str = "gzip") -> TestResponse:
        return client.post("/predict/smile", data=data, base_url=PUBLIC, headers={"Content-Encoding": encoding})

    closed = post(make(models=True), packed)
    assert (closed.status_code, closed.headers["Accept-Encoding"]) == (415, "identity")  # RFC 9110, section 15.5.16
    client = make(models=True, gzip_requests=True, max_request_bytes=2**20)
    assert post(client, packed).json["predictions"] == post(client, FACE, "identity").json["predictions"]
    assert post(client, packed, "br").headers["Accept-Encoding"] == "gzip"
    assert post(client, gzip.compress(bytes(2**20 + 1))).status_code == 413  # of 1 KB
    assert post(client, gzip.compress(gzip.compress(bytes(2**27), 1), 9)).status_code in (413, 415)
    assert post(client, b"no gzip").status_code == 400
    assert post(client, packed[:-9]).status_code == 400
    assert post(client, packed + b"more").status_code == 400


@pytest.mark.parametrize("text", ["[" * 90_000, '{"a":' * 30_000, '{"url": ' + "[" * 101 + "]" * 101 + "}"])
def test_json_that_is_nested_too_deeply_is_refused(make: Make, text: str) -> None:
    answer = make().post("/models", data=text, base_url=MANAGEMENT, content_type="application/json")
    assert answer.status_code == 400
    assert "100 lists and objects" in answer.json["message"]


def test_brackets_in_strings_and_in_sequence_do_not_count_as_depth(make: Make) -> None:
    text = json.dumps({"url": "absent", "x": "[{" * 500, "y": [[]] * 500, "z": '"[['})
    answer = make().post("/models", data=text, base_url=MANAGEMENT, content_type="application/json")
    assert answer.status_code == 404  # it was read: nothing lies there


def test_frames_and_parts_of_forms_are_limited(make: Make) -> None:
    client = make(models=True, max_frames=5, max_form_parts=8, max_form_memory_bytes=2**17)
    long = client.post("/predict/smile", data=animation(6), base_url=PUBLIC)
    assert (long.status_code, long.json["type"]) == (413, "TooManyFrames")
    assert client.post("/predictions/smile", data=animation(6), base_url=PUBLIC).status_code == 413
    assert client.post("/predict/smile", data=animation(5), base_url=PUBLIC).status_code == 200
    both = {"file": [(io.BytesIO(data), "a.gif") for data in (animation(6), encode(plain()))]}
    listed = client.post("/predict/smile", data=both, base_url=PUBLIC).json
    assert listed[0]["error"]["code"] == 413
    assert listed[1]["predictions"]
    many = client.post(
        "/predict/smile", data={f"f{n}": "x" for n in range(9)}, base_url=PUBLIC, content_type="multipart/form-data"
    )
    assert many.status_code == 413
    assert "8 parts" in many.json["message"]
    text = client.post(
        "/predict/smile", data={"x": "y" * (2**17 + 1)}, base_url=PUBLIC, content_type="multipart/form-data"
    )
    assert text.status_code == 413


def test_models_are_fetched_from_private_addresses_only_if_allowed(make: Make) -> None:
    def register(url: str, **settings: object) -> TestResponse:
        return make(**settings).post("/models", query_string={"url": url}, base_url=MANAGEMENT)

    for url in ("http://127.0.0.1:9/m.mar", "http://localhost:9/m.mar", "http://169.254.169.254/latest/meta-data/"):
        refused = register(url)
        assert (refused.status_code, refused.json["type"]) == (403, "ForbiddenException"), url
    assert register("http://169.254.169.254/x", model_url_private=True).status_code == 403
    assert register("http://127.0.0.1:9/m.mar", model_url_private=True).json["type"] == "DownloadModelException"
    elsewhere = register("https://evil.example/m.mar", model_url_hosts="models.example.org, *.amazonaws.com")
    assert (elsewhere.status_code, "evil.example" in elsewhere.json["message"]) == (403, True)
    assert register("http://8.8.8.8/m.mar", model_url_schemes="https").status_code == 403
    for url in ("file:///etc/passwd", "ftp://a.example/x", "gopher://127.0.0.1/", "../../etc", "/etc/passwd"):
        assert register(url).status_code == 404, url  # as Multi Model Server: no such thing in the model store
