# SPDX-License-Identifier: ISC
"""Going over to another program without a closed connection, or not at all.

The other program is a copy of the one under test with another version number in it, so nothing has
to be built for it.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from keepsock import keepsockd, wait_until
from test_keeper import (assert_all_hear, crowd_of, fill,
                         start_small_node)    # noqa: F401, a fixture
from test_masters import replace_master
from test_reload import arm, crowd, takeovers  # noqa: F401


def version_of(program):
    run = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=20, check=True)
    return re.fullmatch(r"keepsockd (\S+)\n", run.stdout).group(1)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """(path, version) of the other program."""
    version = version_of(keepsockd())
    changed = re.sub(r"^\d", lambda digit: str((int(digit.group()) + 1) % 10), version)
    directory = tmp_path_factory.mktemp("other")
    path = directory / "keepsockd"
    text = pathlib.Path(keepsockd()).read_bytes()
    assert version.encode() + b"\0" in text
    path.write_bytes(text.replace(version.encode() + b"\0", changed.encode() + b"\0"))
    path.chmod(0o755)
    assert version_of(path) == changed
    yield path, changed
    shutil.rmtree(directory)


def running_version(node):
    return node.ctl_json("status")["version"]


def pids_of(node):
    return node.process.pid, node.workers(), node.keepers(), node.redis_pid()


def refused(node, path, *words):
    """An upgrade that must fail and leave master and keepers as they are."""
    before = pids_of(node)
    version = running_version(node)
    run = node.ctl("upgrade", str(path))
    assert run.returncode == 1, run.stdout
    for word in words:
        assert word in run.stderr, run.stderr
    after = pids_of(node)
    assert after[0] == before[0] and after[2:] == before[2:]
    assert running_version(node) == version
    return run.stderr


def test_to_another_program(crowd, other, make_client):
    node, everyone = crowd
    path, version = other
    before = pids_of(node)
    answer = node.ctl_json("upgrade", str(path))
    assert answer == {"upgraded": str(path), "version": version}
    assert running_version(node) == version
    assert_all_hear(node, everyone, "upgraded")
    everyone.append(make_client(node))
    everyone[-1].result("subscribe", channel="c")
    after = pids_of(node)
    assert after[0] == before[0] and after[3] == before[3]
    for old, new in zip(before[1:3], after[1:3]):
        assert set(old) == set(new) and not set(old.values()) & set(new.values())
    assert [(r["worker"], r["reason"], r["outcome"]) for r in takeovers(node)] == \
        [(0, "upgrade", "done"), (1, "upgrade", "done")]
    wait_until(node.all_protected, "protected")
    metrics = node.metrics()
    assert metrics["keepsock_takeover_done_total"] == 2
    assert metrics["keepsock_keeper_restarts_total"] == 0
    # And what it is now does all that it did before.
    os.kill(node.workers()[0], signal.SIGKILL)
    assert_all_hear(node, everyone, "a worker of the new program died")
    wait_until(node.all_protected, "protected")
    answer = node.ctl_json("upgrade", keepsockd())
    assert answer["version"] == running_version(node) != version
    assert_all_hear(node, everyone, "and back")


def test_upgrades_in_a_row(crowd, other):
    node, everyone = crowd
    for number in range(4):
        path = (other[0], keepsockd())[number % 2]
        run = node.ctl("upgrade", str(path))
        assert run.returncode == 0, run.stderr
        assert_all_hear(node, everyone, f"upgrade {number}")


def test_by_signal_to_what_is_installed_by_now(make_node, make_client, other, monkeypatch, tmp_path):
    installed = tmp_path / "keepsockd"
    shutil.copy(keepsockd(), installed)
    shutil.copy(os.path.join(os.path.dirname(keepsockd()), "keepsockctl"), tmp_path)
    monkeypatch.setenv("KEEPSOCKD", str(installed))
    node = make_node().start()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    shutil.copy(other[0], tmp_path / "new")
    (tmp_path / "new").rename(installed)
    node.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "event=upgraded" in node.log(), "upgraded")
    assert running_version(node) == other[1]
    assert_all_hear(node, everyone, "upgraded")


def test_a_master_that_dies_is_followed_by_one_of_another_program(crowd, other, monkeypatch):
    """It brings what it adopts to its own program."""
    node, everyone = crowd
    workers, keepers = node.workers(), node.keepers()
    ctl = os.path.join(os.path.dirname(keepsockd()), "keepsockctl")
    if not (other[0].parent / "keepsockctl").exists():
        os.symlink(ctl, other[0].parent / "keepsockctl")
    monkeypatch.setenv("KEEPSOCKD", str(other[0]))
    replace_master(node)
    wait_until(lambda: "event=change_done" in node.log(), "all have changed")
    assert not set(workers.values()) & set(node.workers().values())
    assert not set(keepers.values()) & set(node.keepers().values())
    assert_all_hear(node, everyone, "another program")


# Programs that are none

@pytest.fixture
def compiled(tmp_path):
    """A function that makes a program from C."""
    def compile_c(text, *options):
        path = tmp_path / "program"
        subprocess.run([os.environ.get("CC", "cc").split()[-1], "-x", "c", "-", "-o", str(path),
                        *options], input=text, text=True, check=True)
        return path
    return compile_c


def test_one_that_crashes(crowd, compiled):
    node, everyone = crowd
    program = compiled("#include <stdlib.h>\nint main(void) { abort(); }")
    refused(node, program, "signal 6")
    assert_all_hear(node, everyone, "as before")
    assert not takeovers(node)


def test_one_that_hangs(crowd, compiled):
    node, everyone = crowd
    program = compiled("#include <unistd.h>\nint main(void) { for (;;) pause(); }")
    refused(node, program, "did not answer within")
    assert_all_hear(node, everyone, "as before")


def test_one_that_lacks_a_library(crowd, compiled, tmp_path):
    node, everyone = crowd
    library = tmp_path / "libmissing.so"
    subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-x", "c", "-",
                    "-o", str(library)], input="int missing(void) { return 1; }", text=True,
                   check=True)
    program = compiled("int missing(void); int main(void) { return missing(); }",
                       "-Wl,-rpath," + str(tmp_path), "-L" + str(tmp_path), "-lmissing")
    library.unlink()
    refused(node, program, "status 127", "libmissing.so")
    assert_all_hear(node, everyone, "as before")


def test_one_that_is_something_else(crowd, compiled):
    node, _ = crowd
    refused(node, compiled("int main(void) { return 0; }"), "exit status 0")
    refused(node, "/no/such/program", "No such file")
    refused(node, "/etc", "is no regular file")
    refused(node, "/etc/passwd", "is not executable")


def test_whose_it_is(crowd, other, tmp_path):
    """Nobody but root and the service user may have had a hand in it."""
    node, _ = crowd
    program = tmp_path / "keepsockd"
    shutil.copy(other[0], program)
    program.chmod(0o777)
    refused(node, program, "writable by others")
    program.chmod(0o755)
    tmp_path.chmod(0o777)
    refused(node, program, str(tmp_path), "writable by others")
    tmp_path.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(program, 65534, 65534)
        refused(node, program, "belongs to another user")


def test_only_administrators_may(start_node, other):
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    node = start_node(node={"workers": 1}, admin={"mode": "0666"})
    node.directory.chmod(0o755)
    run = node.ctl("upgrade", str(other[0]), user=65534)
    assert run.returncode == 1 and "privilege" in run.stderr


def test_a_secret_that_is_gone(crowd, other):
    """The new program would not start with this configuration."""
    node, everyone = crowd
    node.key_path.unlink()
    refused(node, other[0], "the new program refuses", str(node.key_path))
    assert_all_hear(node, everyone, "as before")


@pytest.mark.parametrize("slot", [0, 1])
def test_a_worker_that_can_not_take_over_undoes_it_all(crowd, other, slot):
    node, everyone = crowd
    arm(node, slot, "takeover-ready")
    refused(node, other[0], f"worker {slot}: ")
    assert_all_hear(node, everyone, "as before")
    assert node.ctl("upgrade", str(other[0])).returncode == 0
    assert_all_hear(node, everyone, "now it worked")


def test_a_program_that_can_not_be_the_master(crowd, other, tmp_path):
    """It goes back by itself, and so do the workers."""
    node, everyone = crowd
    version, master = running_version(node), node.process.pid
    program = tmp_path / "keepsockd"
    text = other[0].read_bytes()
    assert b"%s/keepsockd.pid\0" in text
    program.write_bytes(text.replace(b"%s/keepsockd.pid\0", b"%s/no/such/k.pid\0"))
    program.chmod(0o755)
    run = node.ctl("upgrade", str(program))
    assert run.returncode == 1 and "could not start as a master" in run.stderr, run.stderr
    assert running_version(node) == version and node.process.pid == master
    assert_all_hear(node, everyone, "as before")
    outcomes = [(r["worker"], r["outcome"]) for r in takeovers(node)]
    assert outcomes == [(0, "done"), (1, "done")] * 2
    assert node.ctl("upgrade", str(other[0])).returncode == 0
    assert_all_hear(node, everyone, "now it worked")


def test_an_unfit_master(crowd):
    """What only keepsockd itself may say is not taken from others."""
    run = subprocess.run([keepsockd(), "--resume=0"], stdin=subprocess.DEVNULL, text=True,
                         capture_output=True, timeout=20)
    assert run.returncode == 1 and "own use" in run.stderr


def test_as_an_ordinary_user_with_few_descriptors(start_small_node, other):
    """Full workers are reloaded, upgraded, and adopted by another master all the same."""
    node = start_small_node()
    crowd = fill(node)

    def all_kept():
        return [row["kept"] for row in node.worker_rows().values() if row["protected"]] == [193, 193]
    try:
        wait_until(all_kept, "what fits is kept")
        # pytest's directories are root's alone.
        program = node.directory / "keepsockd"
        shutil.copy(other[0], program)
        for change in ("reload", "upgrade " + str(program)):
            run = node.ctl(*change.split())
            assert run.returncode == 0, run.stderr
            wait_until(all_kept, f"kept after {change}")
        replace_master(node)
        wait_until(all_kept, "kept by another master")
        assert sum(row["lost"] for row in takeovers(node)) == 0
    finally:
        for connection in crowd:
            connection.close()
    wait_until(node.all_protected, "the counts agree")
