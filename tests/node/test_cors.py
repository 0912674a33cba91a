# SPDX-License-Identifier: ISC
"""Cross-origin requests of browsers to the HTTP endpoints: preflights, and who may read answers."""

import json

import pytest

from keepsock import API_KEY
from wire import Http, http

PAGE = "https://app.example"
ENDPOINTS = [("POST", "/api/info", b"{}"), ("POST", "/api", b'{"method":"info"}'),
             ("POST", "/api/batch", b"{}"), ("GET", "/health", None), ("GET", "/ready", None),
             ("GET", "/metrics", None)]
CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
        "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Max-Age")


@pytest.fixture(scope="module")
def node():
    from keepsock import Keepsock
    shared = Keepsock(websocket={"allowed_origins": [PAGE, "http://*.test"]})
    try:
        yield shared.start()
    finally:
        shared.stop()
        shared.remove()


def call(node, method, path, body=None, **headers):
    head = {"X-API-Key": API_KEY} | {k.replace("_", "-"): v for k, v in headers.items()}
    return http(node.port, method, path, head, body)


def preflight(node, path, origin=PAGE, **more):
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"} | more
    return http(node.port, "OPTIONS", path, headers)


@pytest.mark.parametrize("method, path, body", ENDPOINTS)
def test_an_allowed_page_may_read_the_answer(node, method, path, body):
    for origin in (PAGE, PAGE.upper(), "http://a.test"):
        response = call(node, method, path, body, Origin=origin)
        assert response.status == 200, response
        assert response.header("Access-Control-Allow-Origin") == origin
        assert response.header("Access-Control-Allow-Credentials") == "true"
        assert "Origin" in response.header("Vary")


@pytest.mark.parametrize("method, path, body", ENDPOINTS)
def test_a_foreign_page_may_not(node, method, path, body):
    for origin in ("https://evil.example", "https://app.example.evil", "null", ""):
        response = call(node, method, path, body, Origin=origin)
        assert response.status == 200, response
        assert not any(response.header(name) for name in CORS), response
        assert "Origin" in response.header("Vary")


@pytest.mark.parametrize("method, path, body", ENDPOINTS)
def test_without_an_origin_nothing_is_said(node, method, path, body):
    response = call(node, method, path, body)
    assert response.status == 200
    assert not any(response.header(name) for name in CORS) and not response.header("Vary")


def test_answers_that_waited_and_errors_carry_it_too(node, channel):
    body = json.dumps({"channel": channel, "data": 1}).encode()
    response = call(node, "POST", "/api/publish", body, Origin=PAGE)
    assert response.json()["result"]["offset"] == 1
    assert response.header("Access-Control-Allow-Origin") == PAGE
    for headers, body, status in (({"X-API-Key": "x"}, b"{}", 401),
                                  ({"X-API-Key": API_KEY}, b"{", 400)):
        response = http(node.port, "POST", "/api/info", headers | {"Origin": PAGE}, body)
        assert response.status == status
        assert response.header("Access-Control-Allow-Origin") == PAGE


def test_one_requests_headers_are_not_the_next_ones(node):
    with Http(node.port) as connection:
        with_origin = connection.request("GET", "/health", {"Origin": PAGE})
        without = connection.request("GET", "/health")
        assert with_origin.header("Access-Control-Allow-Origin") == PAGE
        assert not without.header("Access-Control-Allow-Origin")


@pytest.mark.parametrize("path, methods", [("/api/publish", {"POST"}), ("/api", {"POST"}),
                                           ("/api/no_such_method", {"POST"}),
                                           ("/health", {"GET", "HEAD"}), ("/ready", {"GET", "HEAD"}),
                                           ("/metrics", {"GET", "HEAD"})])
def test_preflight(node, path, methods):
    """A preflight carries no key: it is answered before that is asked for."""
    wanted = "X-API-Key, content-type"
    response = preflight(node, path, **{"Access-Control-Request-Headers": wanted})
    assert response.status == 204 and response.header("Content-Length") is None, response
    assert response.header("Access-Control-Allow-Origin") == PAGE
    assert response.header("Access-Control-Allow-Credentials") == "true"
    assert response.header("Access-Control-Allow-Headers") == wanted
    assert set(response.header("Access-Control-Allow-Methods").split(", ")) == methods
    assert int(response.header("Access-Control-Max-Age")) == 300


def test_preflight_without_wishes_for_headers(node):
    assert preflight(node, "/api/info").header("Access-Control-Allow-Headers") is None


@pytest.mark.parametrize("wanted", ["x" * 2000, "a(b)", 'a"b', "a;b", "a:b"])
def test_odd_wishes_are_not_echoed(node, wanted):
    response = preflight(node, "/api/info", **{"Access-Control-Request-Headers": wanted})
    assert response.status == 204 and response.header("Access-Control-Allow-Headers") is None


def test_preflight_of_a_foreign_page_is_refused(node):
    response = preflight(node, "/api/info", origin="https://evil.example")
    assert response.status == 403 and not any(response.header(name) for name in CORS), response


def test_options_without_preflight_is_no_way_around_the_key(node):
    assert http(node.port, "OPTIONS", "/api/info", {"Origin": PAGE}).status == 401
    response = http(node.port, "OPTIONS", "/api/info", {"Origin": PAGE, "X-API-Key": API_KEY})
    assert response.status == 405 and response.header("Allow") == "POST"


def test_a_preflight_leaves_the_connection_usable(node):
    with Http(node.port) as connection:
        headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        assert connection.request("OPTIONS", "/api/info", headers).status == 204
        response = connection.request("POST", "/api/info",
                                      {"Origin": PAGE, "X-API-Key": API_KEY}, b"{}")
        assert response.status == 200


def test_the_nodes_own_pages_are_allowed(node):
    origin = "http://keepsock.test"
    response = call(node, "GET", "/health", Origin=origin)
    assert response.header("Access-Control-Allow-Origin") == origin
