# SPDX-License-Identifier: ISC
"""What `make install` lays down: that nothing is missing, that systemd understands it, that the examples
are accepted by the programs they are for and name metrics that exist."""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from keepsock import ROOT, keepsockd

UNITS = ("keepsockd.service", "keepsock-supervisor.service")
EXAMPLES = ROOT / "etc/examples"
# As `systemd-analyze security` counts: 10 is all, 0 nothing.
EXPOSURE = 3.0


def command(*words, **options):
    return subprocess.run([str(word) for word in words], text=True, capture_output=True, timeout=300,
                          stdin=subprocess.DEVNULL, **options)


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The tree below DESTDIR/usr/local."""
    destination = tmp_path_factory.mktemp("installed")
    build = pathlib.Path(keepsockd()).parent
    run = command("make", "-C", build, "install", f"DESTDIR={destination}")
    assert run.returncode == 0, run.stdout + run.stderr
    return destination


def test_all_is_there(installed):
    top = installed / "usr/local"
    for name in ("keepsockd", "keepsock-supervisor", "keepsockctl", "keepsock-bench"):
        assert os.access(top / "bin" / name, os.X_OK)
    for name in ("lib/sysusers.d/keepsock.conf", "lib/tmpfiles.d/keepsock.conf",
                 "etc/keepsock/keepsock.conf", *(f"lib/systemd/system/{unit}" for unit in UNITS)):
        assert (top / name).is_file(), name
    manual = {path.name for path in (top / "share/doc/keepsock").glob("*.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= manual
    examples = {path.name for path in (top / "share/doc/keepsock/examples").iterdir()}
    assert examples == {path.name for path in EXAMPLES.iterdir()}
    for unit in UNITS:
        text = (top / "lib/systemd/system" / unit).read_text()
        assert "@" not in text.replace("@system-service", "") and "/usr/local/bin/" in text


def test_an_operators_configuration_stays(installed):
    config = installed / "usr/local/etc/keepsock/keepsock.conf"
    before = config.read_text()
    config.write_text("node: { name = \"mine\"; };\n")
    build = pathlib.Path(keepsockd()).parent
    assert command("make", "-C", build, "install-data", f"DESTDIR={installed}").returncode == 0
    assert "mine" in config.read_text()
    config.write_text(before)


def test_systemd_verifies_the_units(installed, tmp_path):
    need("systemd-analyze")
    # Where the programs are, not where they will be.
    for unit in UNITS:
        text = (installed / "usr/local/lib/systemd/system" / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/usr/local/", f"{installed}/usr/local/"))
    run = command("systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in UNITS))
    assert run.returncode == 0 and "keepsock" not in run.stderr, run.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_little_exposure(installed, unit):
    need("systemd-analyze")
    run = command("systemd-analyze", "security", "--offline=true", "--json=short",
                  f"--threshold={int(EXPOSURE * 10)}",
                  installed / "usr/local/lib/systemd/system" / unit)
    assert run.returncode == 0, run.stdout + run.stderr


def test_user_and_directories(installed, tmp_path):
    need("systemd-sysusers", "systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    shutil.copytree(installed / "usr", tmp_path / "usr")
    (tmp_path / "etc").mkdir()
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        words = ["--create"] if program == "systemd-tmpfiles" else []
        run = command(program, f"--root={tmp_path}", *words)
        assert run.returncode == 0, run.stderr
    user = re.search(r"^keepsock:[^:]*:(\d+):(\d+):", (tmp_path / "etc/passwd").read_text(), re.M)
    directory = (tmp_path / "usr/local/etc/keepsock").stat()
    assert stat.S_IMODE(directory.st_mode) == 0o750
    assert (directory.st_uid, directory.st_gid) == (0, int(user[2]))


# Examples

def secrets_for(directory):
    for name in ("api-key", "redis-password", "cluster-secret"):
        (directory / name).write_text("a-secret\n")
        (directory / name).chmod(0o600)


@pytest.mark.parametrize("name", ["keepsock-pair-a.conf", "keepsock-pair-b.conf"])
def test_the_pairs_configuration_is_accepted(tmp_path, name):
    shutil.copy(EXAMPLES / name, tmp_path / "keepsock.conf")
    secrets_for(tmp_path)
    for program in (keepsockd(), pathlib.Path(keepsockd()).parent / "keepsock-supervisor"):
        run = command(program, "-t", "-c", tmp_path / "keepsock.conf")
        assert run.returncode == 0 and "valid" in run.stdout, run.stderr


def test_the_pairs_configurations_fit():
    """Between the two hosts only what the first lines say differs."""
    a, b = ((EXAMPLES / f"keepsock-pair-{name}.conf").read_text().splitlines() for name in "ab")
    assert len(a) == len(b)
    differ = [(x, y) for x, y in zip(a, b) if x != y]
    assert len(differ) == 4
    assert differ[1:] == [('node: { name = "a"; };', 'node: { name = "b"; };'),
                          ('\tpeers = [ "b=10.0.0.12:8500" ];', '\tpeers = [ "a=10.0.0.11:8500" ];'),
                          ('\tpeer_listen = "10.0.0.11:8500";', '\tpeer_listen = "10.0.0.12:8500";')]


def test_nginx_accepts_its_example(tmp_path):
    need("nginx")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{ access_log off; "
        f"include {EXAMPLES}/nginx.conf; }}\n")
    run = command("/usr/sbin/nginx", "-t", "-c", tmp_path / "nginx.conf", "-p", tmp_path)
    assert run.returncode == 0, run.stderr


def test_haproxy_accepts_its_example():
    need("haproxy")
    run = command("/usr/sbin/haproxy", "-c", "-V", "-f", EXAMPLES / "haproxy.cfg")
    assert run.returncode == 0 and "[WARNING]" not in run.stderr, run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="nft asks the kernel, which needs root")
def test_nft_accepts_the_manuals_rules():
    need("nft")
    manual = (ROOT / "docs/deploy-pair.md").read_text()
    rules = re.search(r"^    table inet .*?^    }$", manual, re.M | re.S)[0]
    run = subprocess.run(["unshare", "--net", "nft", "-c", "-f", "-"], input=rules, text=True,
                         capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr


def metrics():
    table = (ROOT / "include/keepsock/metrics_table.h").read_text()
    return {f"keepsock_{name}" for name in re.findall(r"\bMETRIC\((\w+),", table)}


def named_metrics(text):
    return set(re.findall(r"\bkeepsock_\w+", text))


def test_the_board_names_metrics_that_exist():
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 20
    for expression in expressions:
        assert named_metrics(expression) and named_metrics(expression) <= metrics(), expression
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_rules_name_metrics_that_exist():
    text = (EXAMPLES / "prometheus-rules.yml").read_text()
    rules = re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text)
    assert len(rules) == text.count("- alert:") > 10
    assert len({name for name, _ in rules}) == len(rules)
    for name, expression in rules:
        assert named_metrics(expression) <= metrics(), name
        assert named_metrics(expression) or expression.startswith("up{"), name


def test_prometheus_accepts_the_rules():
    need("promtool")
    run = command("promtool", "check", "rules", EXAMPLES / "prometheus-rules.yml")
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_notify_program_runs(tmp_path):
    """With a logger that writes down what it is given."""
    (tmp_path / "logger").write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    (tmp_path / "logger").chmod(0o755)
    run = command("sh", EXAMPLES / "notify", "a", "standby", "primary", "7", "it was free",
                  env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert run.returncode == 0
    assert run.stdout == ("-t keepsock -p daemon.notice node a: standby -> primary, epoch 7: "
                          "it was free\n")
