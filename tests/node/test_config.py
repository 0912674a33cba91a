# SPDX-License-Identifier: ISC
"""Configuration: `-t`, errors that name file and line, and documents made from the settings table."""

import os
import re
import signal
import socket
import subprocess

import pytest

from keepsock import ROOT, free_port, keepsockd, wait_until
from wire import http


def run(*arguments):
    return subprocess.run([keepsockd(), *arguments], capture_output=True, text=True, timeout=20)


def check(tmp_path, text):
    """`keepsockd -t` on this configuration."""
    path = tmp_path / "keepsock.conf"
    path.write_text(text)
    return run("-t", "-c", str(path))


GOOD = """# A comment.
node = { name = "a"; run_dir = "run"; state_dir = "state"; workers = 1; };
listeners = ( { address = "127.0.0.1"; port = 8000; }, { address = "::1"; port = 8001; } );
client : { ping_interval = "30s"; pong_timeout = 5000; stale_close_delay = "500ms"; };
channel : { history_size = 10; history_ttl = "2h"; force_recovery = true; };
websocket : { allowed_origins = [ "https://a.example", "https://*.b.example" ]; };
"""


def test_good_file(tmp_path):
    result = check(tmp_path, GOOD)
    assert result.returncode == 0, result.stderr


def test_empty_file_means_defaults(tmp_path):
    assert check(tmp_path, "").returncode == 0


BAD = {
    "unknown group": ('nodes = { name = "a"; };', "nodes"),
    "unknown key": ('node = { nam = "a"; };', "nam"),
    "unknown key on top": ('workers = 3;', "workers"),
    "string for a number": ('node = { workers = "two"; };', "workers"),
    "number for a string": ('node = { name = 5; };', "name"),
    "number for a boolean": ('client = { insecure = 1; };', "insecure"),
    "float for a number": ('node = { workers = 1.5; };', "workers"),
    "value for a group": ('node = "a";', "node"),
    "string for a list": ('websocket = { allowed_origins = "*"; };', "allowed_origins"),
    "list with a number": ('websocket = { allowed_origins = [ 1 ]; };', "allowed_origins"),
    "too large": ('node = { workers = 65; };', "workers"),
    "negative": ('node = { workers = -1; };', "workers"),
    "empty name": ('node = { name = ""; };', "name"),
    "name with a space": ('node = { name = "a b"; };', "name"),
    "name too long": ('node = { name = "' + "a" * 33 + '"; };', "name"),
    "duration with an unknown unit": ('client = { ping_interval = "25 parsecs"; };',
                                      "ping_interval"),
    "negative duration": ('client = { ping_interval = "-5s"; };', "ping_interval"),
    "port 0": ('listeners = ( { address = "127.0.0.1"; port = 0; } );', "port"),
    "port too large": ('listeners = ( { address = "127.0.0.1"; port = 65536; } );', "port"),
    "listener is no group": ('listeners = ( "127.0.0.1:8000" );', "listeners"),
    "unknown key of a listener": ('listeners = ( { addres = "127.0.0.1"; } );', "addres"),
    "address is none": ('listeners = ( { address = "nowhere"; port = 8000; } );', "address"),
    "unknown log level": ('log = { level = "loud"; };', "level"),
    "unknown log target": ('log = { target = "printer"; };', "target"),
    "history without time": ('channel = { history_size = 10; };', "history_ttl"),
    "history without size": ('channel = { history_ttl = "1m"; };', "history_size"),
    "recovery without history": ('channel = { force_recovery = true; };', "force_recovery"),
    "pong not shorter than ping": ('client = { ping_interval = "5s"; pong_timeout = "5s"; };',
                                   "pong_timeout"),
    "history outlives its position": ('channel = { history_size = 1; history_ttl = "2h"; '
                                      'history_meta_ttl = "1h"; };', "history_meta_ttl"),
    "cache recovery of nothing": ('channel = { auto_cache_recover = true; };',
                                  "auto_cache_recover"),
    "joins pushed but not kept": ('channel = { force_push_join_leave = true; };', "join_leave"),
    "unknown recovery mode": ('channel = { force_recovery_mode = "all"; };',
                              "force_recovery_mode"),
    "expression without end": ('channel = { channel_regex = "["; };', "channel_regex"),
    "namespaces are no list": ('namespaces = { name = "chat"; };', "namespaces"),
    "namespace is no group": ('namespaces = ( "chat" );', "namespaces"),
    "namespace without a name": ('namespaces = ( { presence = true; } );', "name"),
    "namespace with a colon": ('namespaces = ( { name = "a:b"; } );', "namespaces.name"),
    "namespace of one letter": ('namespaces = ( { name = "a"; } );', "namespaces.name"),
    "namespace twice": ('namespaces = ( { name = "chat"; }, { name = "chat"; } );', "twice"),
    "unknown option of a namespace": ('namespaces = ( { name = "chat"; presents = true; } );',
                                      "presents"),
    "contradiction in a namespace": ('namespaces = ( { name = "chat"; history_size = 1; } );',
                                     "namespaces.chat"),
    "too many namespaces": ("namespaces = ( "
                            + ", ".join(f'{{ name = "n{n}"; }}' for n in range(257)) + " );",
                            "256"),
    "personal channels of no namespace": ('personal_channel = { namespace = "me"; };',
                                          "personal_channel.namespace"),
    "one shard": ('redis = { shards = [ "redis://127.0.0.1" ]; };', "shards"),
    "a shard twice": ('redis = { shards = [ "redis://127.0.0.1/1", "redis://127.0.0.1/2" ]; };',
                      "shards"),
    "embedded shard": ('redis = { shards = [ "embedded", "redis://127.0.0.1" ]; };', "shards"),
    "Sentinel without a master": ('redis = { server = "sentinel://127.0.0.1"; };', "master"),
    "replicas of the embedded Redis": ('redis = { min_replicas = 1; };', "min_replicas"),
    "probe slower than its deadline": ('redis = { probe_interval = "5s"; };', "probe_interval"),
    "two ways to say the audience": ('token = { audience = "a"; audience_regex = "b"; };',
                                     "audience_regex"),
    "previous secret alone": ('token = { hmac_previous_secret_file = "f"; };',
                              "hmac_secret_file"),
    "unknown error mode": ('http_api = { error_mode = "http"; };', "error_mode"),
    "redis is no URL": ('redis = { server = "localhost"; };', "server"),
    "admin mode is not octal": ('admin = { mode = "0999"; };', "mode"),
    "syntax": ('node = { name = "a" ', ""),
    "twice": ('node = { workers = 1; workers = 2; };', "duplicate"),
}


@pytest.mark.parametrize("text, word", BAD.values(), ids=BAD.keys())
def test_mistakes_are_told_with_file_and_line(tmp_path, text, word):
    """The mistake sits on line 3; a syntax error may show itself only at the end."""
    result = check(tmp_path, "# first\n\n" + text + "\n")
    assert result.returncode == 1, result
    place = re.search(r"keepsock\.conf:(\d+): (.+)", result.stderr)
    assert place, result.stderr
    assert place.group(1) == "3" or not word
    assert word in place.group(2), result.stderr


def test_each_mistake_is_found_on_its_own_line(tmp_path):
    lines = GOOD.splitlines()
    lines[3] = 'client : { ping_interval = "30s"; pong_timeout = "40s"; };'
    assert "keepsock.conf:4:" in check(tmp_path, "\n".join(lines)).stderr


def test_namespaces_report_their_own_lines(tmp_path):
    text = """namespaces = (
  { name = "chat"; presence = true; },
  { name = "news";
    history_size = 10;
    history_ttl = "1m";
    history_meta_ttl = "30s"; }
);
"""
    assert "keepsock.conf:6: namespaces.news: history_meta_ttl" in check(tmp_path, text).stderr
    assert "keepsock.conf:2: unknown setting joins" in check(
        tmp_path, text.replace("presence", "joins")).stderr
    assert check(tmp_path, text.replace('"30s"', '"1h"')).returncode == 0


def test_a_password_in_a_url_is_never_repeated(tmp_path):
    text = 'redis: { shards = ["redis://:geheim@127.0.0.1:0", "redis://b"]; };\n'
    result = check(tmp_path, text)
    assert result.returncode == 1 and "geheim" not in result.stderr + result.stdout


def test_missing_file(tmp_path):
    result = run("-t", "-c", str(tmp_path / "none.conf"))
    assert result.returncode == 1 and "none.conf" in result.stderr


def test_unknown_option_and_version():
    assert run("--no-such-option").returncode != 0
    version = run("-V")
    assert version.returncode == 0 and re.search(r"keepsock\S* \d", version.stdout)


def test_bad_file_is_refused_at_start_too(tmp_path):
    path = tmp_path / "keepsock.conf"
    path.write_text("node = { nam = 1; };\n")
    result = run("-c", str(path))
    assert result.returncode == 1 and "keepsock.conf:1:" in result.stderr


@pytest.mark.parametrize("option, path", [("--print-config-man", "docs/keepsock.conf.5.md"),
                                          ("--print-default-config", "etc/keepsock.conf")])
def test_documents_are_those_of_the_table(option, path):
    assert run(option).stdout == (ROOT / path).read_text(), f"regenerate {path}"


def test_the_guide_to_channels_is_that_of_the_table(tmp_path):
    """Its examples are accepted, and it names every option."""
    guide = (ROOT / "docs/channels.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", guide, flags=re.MULTILINE)
    examples = [block for block in blocks if re.match(r"    \w+: \{", block)]
    assert len(examples) == 3
    keys = re.findall(r'(\w+_file) = "([^"]+)"', "".join(examples))
    settings = re.sub(r' \w+_file = "[^"]+";', "", "".join(examples))
    assert keys and check(tmp_path, settings).returncode == 0
    options = re.findall(r"^\*\*channel\.(\w+)\*\*", run("--print-config-man").stdout,
                         flags=re.MULTILINE)
    rights = re.compile(r"allow_\w+_for_(client|subscriber|anonymous)")
    missing = [name for name in options if f"`{name}`" not in guide and not rights.fullmatch(name)]
    assert len(options) > 20 and not missing


def test_documented_defaults_are_accepted(tmp_path):
    assert check(tmp_path, run("--print-default-config").stdout).returncode == 0


def test_default_file_with_every_line_active(tmp_path):
    """Every commented default is itself a valid setting."""
    text = re.sub(r"^(\s*)#(\w+ = .*;)$", r"\1\2", run("--print-default-config").stdout,
                  flags=re.MULTILINE)
    result = check(tmp_path, text)
    assert result.returncode == 0, result.stderr


# What only a start can find

def test_address_in_use_is_told(make_node):
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        node = make_node(listeners=[{"address": "127.0.0.1", "port": port}]).launch()
        assert node.wait() == 1
        assert str(port) in node.log() and "in use" in node.log().lower()


def test_key_file_that_is_missing_or_open_to_others(make_node):
    node = make_node(http_api={"key_file": "no-such-file"}).launch()
    assert node.wait() == 1 and "no-such-file" in node.log()
    node = make_node()
    node.key_path.chmod(0o644)
    node.launch()
    assert node.wait() == 1 and "api-key" in node.log()


def test_token_keys_are_read_at_start(make_node):
    """A key that cannot be read, that others may know or that others may change stops the start."""
    node = make_node(token={"hmac_secret_file": "no-such-file"}).launch()
    assert node.wait() == 1 and "no-such-file" in node.log()
    node = make_node(token={"hmac_secret_file": "hmac"})
    (node.directory / "hmac").write_text("geheim\n")
    (node.directory / "hmac").chmod(0o640)
    node.launch()
    assert node.wait() == 1 and "hmac" in node.log() and "chmod 600" in node.log()
    assert "geheim" not in node.log()
    node = make_node(token={"rsa_public_key_file": "rsa.pem"})
    (node.directory / "rsa.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    (node.directory / "rsa.pem").chmod(0o666)
    node.launch()
    assert node.wait() == 1 and "rsa.pem" in node.log() and "chmod go-w" in node.log()


@pytest.mark.parametrize("name, text, mode", [
    ("rsa_public_key_file", "-----BEGIN PUBLIC KEY-----\n", 0o644),
    ("rsa_public_key_file", "no key\n", 0o644),
    ("ecdsa_public_key_file", "", 0o644),
    ("hmac_secret_file", "-----BEGIN PUBLIC KEY-----\n", 0o600),
    ("hmac_secret_file", "two words\n", 0o600),
])
def test_an_unusable_token_key_is_told_by_the_check_too(tmp_path, name, text, mode):
    key = tmp_path / "key"
    key.write_text(text)
    key.chmod(mode)
    result = check(tmp_path, f'token: {{ {name} = "key"; }};\n')
    assert result.returncode == 1
    assert name in result.stderr or str(key) in result.stderr
    assert "two words" not in result.stderr


def test_a_disabled_group_of_keys_is_not_read(make_node):
    make_node(subscription_token={"hmac_secret_file": "no-such-file"}).start()
    node = make_node(subscription_token={"enabled": True, "hmac_secret_file": "no-such-file"})
    node.launch()
    assert node.wait() == 1 and "no-such-file" in node.log()


def test_a_replaced_worker_gets_changed_keys(make_node):
    """Keys that cannot be read any more are those that were read before."""
    node = make_node(token={"hmac_secret_file": "hmac"})
    secret = node.directory / "hmac"
    secret.write_text("one\n")
    secret.chmod(0o600)
    node.start()
    assert "token_keys" not in node.log()
    secret.write_text("two\n")
    os.kill(node.workers()[0], signal.SIGKILL)
    wait_until(lambda: "token_keys_changed" in node.log(), "the change is told")
    wait_until(lambda: len(node.workers()) == 2, "the worker is replaced")
    secret.unlink()
    os.kill(node.workers()[1], signal.SIGKILL)
    wait_until(lambda: "token_keys_unreadable" in node.log(), "the loss is told")
    wait_until(lambda: len(node.workers()) == 2 and node.are_all_ready(), "the worker is replaced")


def test_several_listeners(start_node):
    second = free_port()
    start_node(listeners=[{"address": "127.0.0.1", "port": free_port()},
                          {"address": "127.0.0.1", "port": second}])
    assert http(second, "GET", "/health").status == 200
