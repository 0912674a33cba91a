# SPDX-License-Identifier: ISC
"""HTTP/1.1 as RFC 9112 has it: what is refused, with which status, and that nothing gets past."""

import json
import os
import re

import pytest

from keepsock import API_KEY
from wire import Http, http

AUTHORIZED = {"X-API-Key": API_KEY, "Content-Type": "application/json"}


def exchange(port, data):
    """Sends raw bytes; returns the one answer, after which the server must have closed."""
    with Http(port) as connection:
        connection.send(data)
        response = connection.read_response()
        connection.expect_end()
        return response


def post(body_headers, body=b""):
    return (b"POST /api/info HTTP/1.1\r\nHost: x\r\nX-API-Key: " + API_KEY.encode() + b"\r\n"
            + body_headers + b"\r\n" + body)


MALFORMED = {
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "bare line feeds": b"GET /health HTTP/1.1\nHost: x\n\n",
    "bare line feed in headers": b"GET /health HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare carriage return": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "space before colon": b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
    "space in header name": b"GET /health HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
    "empty header name": b"GET /health HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n",
    "header without colon": b"GET /health HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n",
    "folded header": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "space before the first header": b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in header value": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "control character in header value": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n",
    "two spaces in request line": b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "space after version": b"GET /health HTTP/1.1 \r\nHost: x\r\n\r\n",
    "no version": b"GET /health\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "wrong protocol name": b"GET /health HTTQ/1.1\r\nHost: x\r\n\r\n",
    "lower-case protocol name": b"GET /health http/1.1\r\nHost: x\r\n\r\n",
    "version with two digits": b"GET /health HTTP/1.10\r\nHost: x\r\n\r\n",
    "control character in target": b"GET /hea\x01lth HTTP/1.1\r\nHost: x\r\n\r\n",
    "target without slash": b"GET health HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS on the plain port": bytes.fromhex("160301") + b"\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "length and chunked": post(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"{}"),
    "two different lengths": post(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
    "list of different lengths": post(b"Content-Length: 2, 3\r\n", b"{}"),
    "negative length": post(b"Content-Length: -2\r\n", b"{}"),
    "signed length": post(b"Content-Length: +2\r\n", b"{}"),
    "hexadecimal length": post(b"Content-Length: 0x2\r\n", b"{}"),
    "length with a unit": post(b"Content-Length: 2b\r\n", b"{}"),
    "empty length": post(b"Content-Length: \r\n", b"{}"),
    "chunk size is no number": post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n"),
    "negative chunk size": post(b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than its size": post(b"Transfer-Encoding: chunked\r\n", b"1\r\n{}\r\n0\r\n\r\n"),
    "chunk ended by a line feed": post(b"Transfer-Encoding: chunked\r\n", b"2\n{}\r\n0\r\n\r\n"),
    "chunked in HTTP/1.0": (b"POST /api/info HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                            b"\r\n2\r\n{}\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_is_400_and_close(node, data):
    response = exchange(node.port, data)
    assert response.status == 400, response
    assert response.header("Connection") == "close"


@pytest.mark.parametrize("coding", [b"gzip", b"xchunked", b"gzip, chunked", b"chunked, gzip",
                                    b"chunked, chunked",
                                    b"\x0bchunked", b"identity"])
def test_unknown_transfer_coding_is_refused(node, coding):
    assert exchange(node.port, post(b"Transfer-Encoding: " + coding + b"\r\n", b"2\r\n{}\r\n"
                                    )).status in (400, 501)


@pytest.mark.parametrize("data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                  b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
                                  b"GET /health HTTP/0.9\r\nHost: x\r\n\r\n"])
def test_other_versions_are_505(node, data):
    assert exchange(node.port, data).status == 505


def test_unknown_method_is_501(node):
    assert http(node.port, "BREW", "/health").status == 501


def test_long_head_is_431(node):
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20000 + b"\r\n\r\n"
    assert exchange(node.port, head).status == 431


def test_endless_head_is_431(node):
    """The limit works before the head is complete."""
    with Http(node.port) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 3000)
        assert connection.read_response().status == 431
        connection.expect_end()


def test_too_many_headers_is_431(node):
    head = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n"
    assert exchange(node.port, head).status == 431


def test_long_target_is_refused(node):
    head = b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange(node.port, head).status in (414, 431)


def test_large_body_is_413_before_it_is_sent(node):
    assert exchange(node.port, post(b"Content-Length: 1048577\r\n")).status == 413


def test_absurd_length_is_refused(node):
    assert exchange(node.port, post(b"Content-Length: 99999999999999999999999\r\n")
                    ).status in (400, 413)


@pytest.mark.parametrize("size", [b"100001", b"7fffffffffffffff", b"ffffffffffffffff",
                                  b"10000000000000002"])
def test_large_chunk_is_refused_before_it_is_sent(node, size):
    assert exchange(node.port, post(b"Transfer-Encoding: chunked\r\n", size + b"\r\n{}")
                    ).status in (400, 413)


def test_many_chunks_together_are_413(node):
    with Http(node.port) as connection:
        connection.send(post(b"Transfer-Encoding: chunked\r\n"))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(17):
                connection.send(chunk)
        except OSError:
            pass
        assert connection.read_response().status == 413


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("outer", [
    post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    post(b"Content-Length: 2\r\nContent-Length: 40\r\n", b"{}"),
    post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    post(b"Content-Length\r\n: 2\r\n", b"{}"),
    b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n\tTransfer-Encoding: chunked\r\n\r\n",
], ids=["CL+TE", "TE+CL", "TE with space", "two CL", "two TE", "split CL", "folded TE"])
def test_nothing_smuggled_is_answered(node, outer):
    """What two parsers could read differently is refused whole, and what follows is not read."""
    with Http(node.port) as connection:
        connection.send(outer + SMUGGLED)
        assert connection.read_response().status in (400, 501)
        connection.expect_end()


def test_body_of_a_get_is_not_taken_for_a_request(node):
    with Http(node.port) as connection:
        connection.send_request("GET", "/health", body=SMUGGLED)
        assert connection.read_response().status == 200
        connection.send_request("GET", "/nowhere")
        assert connection.read_response().status == 404


def test_health_and_ready(node):
    assert http(node.port, "GET", "/health").status == 200
    assert http(node.port, "GET", "/ready").status == 200


def test_head_has_no_body(node):
    with Http(node.port) as connection:
        connection.send_request("HEAD", "/health")
        response = connection.read_response(head_only=True)
        assert response.status == 200
        assert connection.request("GET", "/health").status == 200


def test_unknown_path_is_404(node):
    assert http(node.port, "GET", "/no/such/thing").status == 404
    assert http(node.port, "GET", "/healthy").status == 404


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/connection/websocket"])
def test_wrong_method_is_405(node, path):
    response = http(node.port, "POST", path, body=b"")
    assert response.status == 405
    assert "GET" in response.header("Allow")


def test_metrics_are_valid_prometheus_text(node):
    response = http(node.port, "GET", "/metrics")
    assert response.status == 200
    assert response.header("Content-Type").startswith("text/plain")
    types, samples = {}, []
    for line in response.body.decode().splitlines():
        if kind := re.match(r"# TYPE (\S+) (counter|gauge|histogram|summary)$", line):
            assert kind.group(1) not in types, line
            types[kind.group(1)] = kind.group(2)
        elif not line.startswith("#"):
            sample = re.match(r'([a-z_:][a-z0-9_:]*)(\{.*\})? [-+0-9.eEinfNa]+$', line)
            assert sample, line
            samples.append(sample.group(1) + (sample.group(2) or ""))
            assert sample.group(1) in types, line
    assert samples and len(samples) == len(set(samples))


def test_metrics_count_connections(start_node, make_client):
    node = start_node()
    before = sum(node.metrics().values())
    make_client(node)
    assert sum(node.metrics().values()) != before


# Framing of several requests on one connection

def test_keep_alive(node):
    with Http(node.port) as connection:
        for _ in range(3):
            assert connection.request("GET", "/health").status == 200


def test_connection_close_is_obeyed(node):
    with Http(node.port) as connection:
        response = connection.request("GET", "/health", {"Connection": "keep-alive, Close"})
        assert response.status == 200 and response.header("Connection") == "close"
        connection.expect_end()


def test_http_1_0_closes_unless_asked(node):
    with Http(node.port) as connection:
        assert connection.request("GET", "/health", version="1.0").status == 200
        connection.expect_end()


def test_pipelined_requests_are_answered_in_order(node):
    with Http(node.port) as connection:
        for path in ("/health", "/nowhere", "/health"):
            connection.send_request("GET", path)
        assert [connection.read_response().status for _ in range(3)] == [200, 404, 200]


def test_pipelined_api_calls_are_answered_in_order(node, channel):
    """Calls that wait for Redis do not overtake each other, nor does a quick one behind them."""
    with Http(node.port) as connection:
        for number in range(20):
            body = json.dumps({"channel": channel, "data": number}).encode()
            connection.send_request("POST", "/api/publish", AUTHORIZED, body)
        connection.send_request("GET", "/health")
        offsets = [connection.read_response().json()["result"]["offset"] for _ in range(20)]
        assert offsets == list(range(1, 21))
        assert connection.read_response().status == 200
    history = node.api("history", channel=channel, limit=-1)["result"]
    assert [p["data"] for p in history["publications"]] == list(range(20))


def test_head_in_single_bytes(node):
    with Http(node.port) as connection:
        connection.send_bytewise(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.read_response().status == 200


def test_empty_lines_before_a_request_are_ignored(node):
    """RFC 9112 2.2: a server should ignore at least one."""
    with Http(node.port) as connection:
        connection.send(b"\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.read_response().status == 200


def test_absolute_target(node):
    with Http(node.port) as connection:
        assert connection.request("GET", "http://keepsock.test/health").status == 200


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_chunked_body_cut_anywhere(node, channel, step):
    body = json.dumps({"channel": channel, "data": "x" * 40}).encode()
    chunks = b"".join(b"%x;ext=\"v\"\r\n%s\r\n" % (len(body[i:i + 9]), body[i:i + 9])
                      for i in range(0, len(body), 9))
    data = chunks + b"0\r\nTrailer: ignored\r\n\r\n"
    with Http(node.port) as connection:
        connection.send_request("POST", "/api/publish",
                                AUTHORIZED | {"Transfer-Encoding": "chunked"}, body=b"")
        for i in range(0, len(data), step):
            connection.send(data[i:i + step])
        assert connection.read_response().json()["result"]["offset"] == 1
        assert connection.request("GET", "/health").status == 200


def test_expect_continue(node, channel):
    body = json.dumps({"channel": channel, "data": 1}).encode()
    with Http(node.port) as connection:
        connection.send_request("POST", "/api/publish", AUTHORIZED | {
            "Expect": "100-continue", "Content-Length": str(len(body))}, body=b"")
        connection.send(body)
        assert connection.read_response().json()["result"]["offset"] == 1


# Time limits

def test_slow_head_is_cut(start_node):
    node = start_node(http={"header_timeout": "1s"})
    with Http(node.port) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost:")
        answer = connection.read_to_end()
        assert not answer or answer.startswith(b"HTTP/1.1 408 ")


def test_silent_connection_is_cut(start_node):
    node = start_node(http={"idle_timeout": "1s", "header_timeout": "1s"})
    with Http(node.port) as connection:
        connection.expect_end()


def test_idle_keep_alive_connection_is_cut(start_node):
    node = start_node(http={"idle_timeout": "1s"})
    with Http(node.port) as connection:
        assert connection.request("GET", "/health").status == 200
        connection.expect_end()


# Static files

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    (root / "www").mkdir()
    (root / "www" / "index.html").write_text("<!doctype html>page")
    (root / "www" / "app.js").write_text("// script")
    (root / "www" / "style.css").write_text("/* style */")
    (root / "www" / "sub").mkdir()
    (root / "www" / "sub" / "data.json").write_text("{}")
    (root / "secret").write_text("secret")
    os.symlink(root / "secret", root / "www" / "link")
    return root / "www"


@pytest.fixture
def site_node(start_node, site):
    return start_node(http={"static_root": str(site)})


def test_static_files(site_node):
    for path, body, kind in (("/", b"<!doctype html>page", "text/html"),
                             ("/index.html", b"<!doctype html>page", "text/html"),
                             ("/app.js", b"// script", "javascript"),
                             ("/style.css", b"/* style */", "text/css"),
                             ("/style.css?v=1", b"/* style */", "text/css"),
                             ("/sub/data.json", b"{}", "application/json")):
        response = http(site_node.port, "GET", path)
        assert response.status == 200 and response.body == body, (path, response)
        assert kind in response.header("Content-Type"), (path, response)
    assert http(site_node.port, "GET", "/missing.js").status == 404
    assert http(site_node.port, "POST", "/index.html", body=b"").status in (404, 405)


@pytest.mark.parametrize("path", ["/../secret", "/sub/../../secret", "/%2e%2e/secret",
                                  "/%2E%2E%2Fsecret", "/..%2fsecret", "/sub/%2e%2e/%2e%2e/secret",
                                  "//../secret", "/\\..\\secret", "/link", "/index.html%00.js",
                                  "/.", "/sub", "/sub/"])
def test_static_files_stay_inside_the_root(site_node, path):
    response = http(site_node.port, "GET", path)
    assert response.status in (400, 403, 404), (path, response)
    assert b"secret" not in response.body


def test_api_is_not_shadowed_by_static_files(site_node):
    assert http(site_node.port, "GET", "/health").status == 200
    assert site_node.api("info")["result"]["nodes"]
