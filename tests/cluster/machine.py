# SPDX-License-Identifier: ISC
"""A machine that boots a real systemd: namespaces of its own, and this machine's files under an overlay
that is thrown away, with an installed keepsock (a DESTDIR) on top. Machines are plugged into a bridge
of the network namespace that they are made in."""

import os
import pathlib
import signal
import subprocess

from keepsock import processes, wait_until

BRIDGE = "switch"
NETWORK = "10.0.0"
TARGET = "machine.target"

# Arguments: an empty directory, an installed tree. What systemd wants of a container, see
# systemd.io/CONTAINER_INTERFACE. Nothing of this machine is started but what the test starts.
BOOT = f"""
set -e
mount --make-rprivate /
mount -t tmpfs none $1
mkdir $1/upper $1/work $1/root
mount -t overlay none -o lowerdir=/,upperdir=$1/upper,workdir=$1/work $1/root
cp -a $2/* $1/root
cd $1/root
mount -t proc none proc
mount -t sysfs none sys -o ro
mount -t cgroup2 none sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs none $place; done
chmod 1777 tmp
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts none dev/pts -o newinstance,ptmxmode=0666,mode=620
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: >etc/machine-id
: >etc/fstab
mkdir -p etc/systemd/system
printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\n' >etc/systemd/system/{TARGET}
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
	/lib/systemd/systemd --unit={TARGET} --log-target=journal
"""


def make_switch():
    for words in (["link", "add", BRIDGE, "type", "bridge"], ["link", "set", BRIDGE, "up"],
                  ["link", "set", "lo", "up"], ["addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE]):
        subprocess.run(["ip", *words], check=True)


class Machine:
    def __init__(self, name, number, installed, directory):
        self.name, self.address = name, f"{NETWORK}.{number}"
        root = pathlib.Path(directory) / name
        root.mkdir()
        self.outside = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--fork",
             "--kill-child", "sh", "-c", BOOT, "sh", str(root), str(installed)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = wait_until(self.find_init, f"{name} begins to boot")

    def find_init(self):
        assert self.outside.poll() is None, f"{self.name} did not boot"
        return next((process.pid for process in processes()
                     if process.parent == self.outside.pid and process.name == "systemd"), None)

    def connect(self):
        wire = f"to-{self.name}"
        for words in (["link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns",
                       str(self.pid)], ["link", "set", wire, "master", BRIDGE, "up"]):
            subprocess.run(["ip", *words], check=True)
        for words in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                      ["addr", "add", f"{self.address}/24", "dev", "eth0"]):
            self.run("ip", *words)

    def wait_booted(self):
        wait_until(lambda: self.try_run("systemctl", "is-active", TARGET).returncode == 0,
                   f"{self.name} has booted", 60, 0.1)
        self.connect()
        return self

    def try_run(self, *words, **options):
        return subprocess.run(["nsenter", "-t", str(self.pid), "-a", "-r", "--wd=/", *words], text=True,
                              stdin=subprocess.DEVNULL if "input" not in options else None,
                              capture_output=True, timeout=100, **options)

    def run(self, *words, **options):
        done = self.try_run(*words, **options)
        assert done.returncode == 0, f"{self.name}: {words}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    def shell(self, script):
        return self.run("sh", "-ec", script)

    def journal(self):
        return self.try_run("journalctl", "--no-pager", "-n", "60", "-o", "cat").stdout

    def main_pid(self, unit):
        return int(self.run("systemctl", "show", "-P", "MainPID", unit))

    def has_address(self, address):
        return f" {address}/" in self.run("ip", "-o", "addr", "show", "dev", "eth0")

    def cut_power(self):
        if self.outside.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.outside.wait()
