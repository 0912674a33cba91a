# SPDX-License-Identifier: ISC
"""A VIP's life: taken, renewed, given up, lost; and that it ends whatever happens to its holder."""

import signal
import subprocess

import pytest

from conftest import driver_path
from network import PATH, boottime_ms, wait_until

IPV4, IPV6 = "10.9.0.100", "fd09::100"
BOTH = pytest.mark.parametrize("address", [IPV4, IPV6])


def wait_until_gone(host, address, until):
    """The kernel removes it, and nobody could see it at or after `until`."""
    seen = 0

    def gone():
        nonlocal seen
        looked = boottime_ms()
        if host.address(address) is None:
            return True
        seen = looked
        return False

    wait_until(gone, f"{address} runs out")
    assert seen < until, f"still there {seen - until} ms after its end"


@BOTH
def test_an_address_is_set_with_a_lifetime_and_given_up(hosts, start_vip, address):
    vip = start_vip(hosts[0], address)
    assert hosts[0].address(address) is None
    vip.take(4000)
    vip.expect("taken")
    info = hosts[0].address(address)
    assert info["prefixlen"] == (32 if address == IPV4 else 128)
    assert info["valid_life_time"] <= 2, "4 s, less what has passed, less the guard, rounded down"
    if address == IPV6:
        assert info["nodad"], "the predecessor would be found by duplicate address detection"
        assert info["deprecated"], "the host's own connections are not made from it"
        assert not info.get("tentative")
    assert vip.state() == "held"
    vip.drop()
    assert hosts[0].address(address) is None
    vip.expect("clean")
    assert vip.state() == "absent"


def test_the_prefix_is_as_given(hosts, start_vip):
    vip = start_vip(hosts[0], f"{IPV4}/24")
    vip.take()
    vip.expect("taken")
    assert hosts[0].address(IPV4)["prefixlen"] == 24
    vip.drop()
    assert hosts[0].address(IPV4) is None
    assert hosts[0].address(hosts[0].ipv4), "the host's own address of the same network stays"


@BOTH
def test_renewals_keep_it_beyond_its_first_lifetime(hosts, start_vip, address):
    vip = start_vip(hosts[0], address)
    first = vip.take(5000)
    vip.expect("taken")

    def renewed():
        vip.renew(5000)
        vip.expect("renewed")
        return boottime_ms() > first + 500

    wait_until(renewed, "the time of the first grant is over")
    assert hosts[0].address(address)
    assert vip.state() == "held"


@BOTH
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_kernel_removes_it_when_its_holder_does_not_run(hosts, start_vip, address, how):
    vip = start_vip(hosts[0], address)
    until = vip.take(4000)
    vip.expect("taken")
    vip.signal(how)
    assert hosts[0].address(address), "it does not end with its holder"
    wait_until_gone(hosts[0], address, until)


@BOTH
def test_nobody_renews(hosts, start_vip, address):
    vip = start_vip(hosts[0], address)
    until = vip.take(3000)
    vip.expect("taken", "lost it was not renewed in time", "clean")
    assert boottime_ms() < until
    assert hosts[0].address(address) is None


@BOTH
def test_a_late_renewal_does_not_bring_it_back(network, hosts, start_vip, address):
    """Stopped, the holder's renewal waits; when it goes on, the renewal is good, and too late."""
    vip = start_vip(hosts[0], address, announce_ms=60000, announce_every_ms=20)
    sent = network.capture(hosts[0])
    until = vip.take(3000)
    vip.expect("taken")
    sent.wait(lambda f: f.source == address, "an announcement")
    vip.signal(signal.SIGSTOP)
    vip.renew(60000)
    wait_until_gone(hosts[0], address, until)
    before = len(sent.up_to_now())
    vip.signal(signal.SIGCONT)
    words = {vip.line().split()[0] for _ in range(3)}
    assert words == {"not", "lost", "clean"}, "in the order in which it notices"
    assert hosts[0].address(address) is None
    assert vip.state() == "absent"
    after = sent.up_to_now()[before:]
    assert not [f for f in after if f.source == address], "a late holder spoke for the address"


def test_a_renewal_with_too_little_left_ends_it(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    vip.take(10000)
    vip.expect("taken")
    vip.renew(1900)
    vip.expect("not renewed", "lost less than a second", "clean")
    assert hosts[0].address(IPV4) is None


def test_a_shorter_grant_shortens_it(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    vip.take(60000)
    vip.expect("taken")
    until = vip.renew(4000)
    vip.expect("renewed")
    vip.signal(signal.SIGSTOP)
    wait_until_gone(hosts[0], IPV4, until)


def test_a_grant_that_is_over_takes_nothing(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    vip.take(1900)
    vip.expect("refused", "clean")
    vip.say("take 0")
    vip.expect("refused", "clean")
    assert hosts[0].address(IPV4) is None


@BOTH
def test_removed_by_hand_it_is_lost_and_can_be_taken_again(hosts, start_vip, address):
    vip = start_vip(hosts[0], address)
    vip.take()
    vip.expect("taken")
    length = 32 if address == IPV4 else 128
    hosts[0].ip("addr", "del", f"{address}/{length}", "dev", "eth0")
    vip.expect("lost it was removed from the interface", "clean")
    vip.take()
    vip.expect("taken")
    assert hosts[0].address(address)


@BOTH
def test_it_is_lost_with_its_interface(hosts, start_vip, address):
    vip = start_vip(hosts[0], address)
    vip.take()
    vip.expect("taken")
    hosts[0].ip("link", "del", "eth0")
    vip.expect("lost it was removed from the interface", "clean")
    vip.take()
    vip.expect("refused there is no such interface")


def test_another_address_on_the_interface_means_nothing(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    vip.take()
    vip.expect("taken")
    hosts[0].ip("addr", "add", "10.9.0.101/32", "dev", "eth0")
    hosts[0].ip("addr", "del", "10.9.0.101/32", "dev", "eth0")
    vip.renew()
    vip.expect("renewed")


@pytest.mark.parametrize("removed", [False, True])
def test_more_events_than_the_kernel_keeps(hosts, start_vip, removed):
    """While the holder is stopped, so many addresses come and go that their events are dropped."""
    vip = start_vip(hosts[0], IPV4)
    vip.take(120000)
    vip.expect("taken")
    vip.signal(signal.SIGSTOP)
    batch = "addr add 10.9.1.1/32 dev eth0\naddr del 10.9.1.1/32 dev eth0\n" * 15000
    subprocess.run(["ip", "-n", hosts[0].name, "-batch", "-"], input=batch, text=True, check=True,
                   env={"PATH": PATH}, timeout=60)
    drops = hosts[0].read("/proc/net/netlink")
    assert any(int(line.split()[8]) > 0 for line in drops.splitlines()[1:]), "events were dropped"
    if removed:
        hosts[0].ip("addr", "del", f"{IPV4}/32", "dev", "eth0")
    vip.signal(signal.SIGCONT)
    if removed:
        vip.expect("lost it was removed", "clean")
    else:
        vip.renew(120000)
        vip.expect("renewed")
        assert vip.state() == "held"


def test_what_an_operator_configured_is_refused(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    hosts[0].ip("addr", "add", f"{IPV4}/32", "dev", "eth0")
    vip.take()
    vip.expect("refused somebody has set it without a lifetime")
    assert hosts[0].address(IPV4), "a refusal leaves it alone"
    hosts[0].ip("addr", "del", f"{IPV4}/32", "dev", "eth0")
    hosts[0].ip("addr", "add", f"{IPV4}/32", "dev", "lo")
    vip.take()
    vip.expect("refused it is on another interface")
    vip.drop()
    assert hosts[0].address(IPV4) is None, "to give it up means that it is not there"


@BOTH
def test_a_successor_takes_over_what_has_not_run_out(hosts, start_vip, address):
    """The supervisor was killed and is back: the connections on the address live on."""
    vip = start_vip(hosts[0], address)
    vip.take(60000)
    vip.expect("taken")
    listener = hosts[0].listen(address, 8000)
    client = hosts[2].connect(address, 8000)
    accepted = listener.accept()[0]
    vip.kill()
    successor = start_vip(hosts[0], address)
    until = successor.take(4000)
    successor.expect("taken")
    client.sendall(b"still here")
    assert accepted.recv(100) == b"still here"
    successor.signal(signal.SIGSTOP)
    wait_until_gone(hosts[0], address, until)


def test_while_taking_or_held_a_second_take_is_a_renewal(hosts, start_vip):
    vip = start_vip(hosts[0], IPV4)
    vip.take(4000)
    vip.expect("taken")
    vip.take(30000)
    assert vip.state() == "held"
    assert hosts[0].address(IPV4)["valid_life_time"] > 10


def test_two_capabilities_are_enough(hosts, start_vip, network):
    """CAP_NET_ADMIN and CAP_NET_RAW, nothing else, and not root."""
    sent = network.capture(hosts[0])
    before = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--inh-caps", "-all,+net_admin,+net_raw",
              "--ambient-caps", "-all,+net_admin,+net_raw",
              "--bounding-set", "-all,+net_admin,+net_raw")
    vip = start_vip(hosts[0], IPV4, before=before)
    with open(f"/proc/{vip.process.pid}/status", encoding="utf-8") as status:
        lines = dict(line.split(":", 1) for line in status)
    assert int(lines["CapEff"], 16) == 1 << 12 | 1 << 13
    assert lines["Uid"].split()[0] == "65534"
    listener = hosts[0].listen("0.0.0.0", 8000)
    vip.take()
    vip.expect("taken")
    sent.wait(lambda f: f.source == IPV4, "an announcement")
    client = hosts[2].connect(IPV4, 8000)
    vip.say(f"peer 9 8000 {hosts[2].ipv4}")
    vip.say("tickle")
    vip.expect("queued 1", "tickled 1 0")
    accepted = listener.accept()[0]
    vip.drop()
    vip.expect("clean")
    with pytest.raises(ConnectionAbortedError):
        accepted.recv(1)


def test_without_capabilities_it_is_not_opened(hosts):
    done = subprocess.run(["ip", "netns", "exec", hosts[0].name, "setpriv", "--reuid", "65534",
                           "--regid", "65534", "--clear-groups", str(driver_path()), "eth0", f"{IPV4}/32",
                           "1000", "50", "100"], env={"PATH": PATH}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr
