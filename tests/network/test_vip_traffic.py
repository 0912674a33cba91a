# SPDX-License-Identifier: ISC
"""What a VIP's holder sends, and what one that lost it must not: announcements, connections, ACKs."""

import resource
import signal
import socket
import time

import pytest

from network import is_dead, wait_until

IPV4, IPV6 = "10.9.0.100", "fd09::100"
BOTH = pytest.mark.parametrize("address", [IPV4, IPV6])
RST, ACK = 4, 16
TCP_INFO_RETRANSMITS = 2  # tcpi_retransmits, a byte


def connected(holder, client, address, port=8000, listen_on=None):
    """A listener on the holder, and both ends of a connection to the VIP."""
    listener = holder.listen(listen_on or address, port)
    near = client.connect(address, port)
    return listener, near, listener.accept()[0]


def held_and_connected(start_vip, holder, client, address, **how):
    """The VIP that the holder has taken, and connected()."""
    vip = start_vip(holder, address)
    vip.take()
    vip.expect("taken")
    return vip, *connected(holder, client, address, **how)


def is_announcement(frame, address):
    return frame.kind in ("arp-request", "arp-reply", "advertisement") and frame.source == address


# ---- announcements ----

def test_it_is_announced_by_arp_both_ways(network, hosts, start_vip):
    sent = network.capture(hosts[0])
    vip = start_vip(hosts[0], IPV4)
    vip.take()
    vip.expect("taken")
    for kind in ("arp-request", "arp-reply"):
        frame = sent.wait(lambda f, k=kind: f.kind == k and f.source == IPV4, f"an {kind}")
        assert frame.target_mac == "ff:ff:ff:ff:ff:ff"
        assert frame.source_mac == hosts[0].mac
        assert frame.payload[8:14].hex(":") == hosts[0].mac
        assert frame.arp_target == IPV4


def test_it_is_announced_by_neighbour_advertisements(network, hosts, start_vip):
    sent = network.capture(hosts[0])
    vip = start_vip(hosts[0], IPV6)
    vip.take()
    vip.expect("taken")
    frame = sent.wait(lambda f: is_announcement(f, IPV6), "an advertisement")
    assert frame.target_mac == "33:33:00:00:00:01"
    assert frame.payload[7] == 255, "the hop limit that proves it was not forwarded"
    assert frame.inner[4] & 0x20, "override"
    assert socket.inet_ntop(socket.AF_INET6, frame.inner[8:24]) == IPV6
    assert frame.inner[24:26] == b"\x02\x01" and frame.inner[26:32].hex(":") == hosts[0].mac


@BOTH
def test_neighbours_follow_it_to_the_other_host(hosts, start_vip, address):
    first, second, client = hosts
    vip = start_vip(first, address)
    vip.take()
    vip.expect("taken")
    connected(first, client, address)
    assert client.neighbour(address) == first.mac
    vip.drop()
    other = start_vip(second, address)
    other.take()
    other.expect("taken")
    wait_until(lambda: client.neighbour(address) == second.mac, "the client's neighbour entry")


@BOTH
def test_announcements_are_repeated_and_end(network, hosts, start_vip, address):
    sent = network.capture(hosts[0])
    vip = start_vip(hosts[0], address, announce_ms=400, announce_every_ms=50)
    vip.take()
    vip.expect("taken")
    rounds = 8 * (2 if address == IPV4 else 1)

    def announcements():
        return [f for f in sent.read() if is_announcement(f, address)]

    wait_until(lambda: len(announcements()) >= rounds // 2, "repeated announcements")
    vip.drop()
    vip.expect("clean")
    before = len([f for f in sent.up_to_now() if is_announcement(f, address)])
    assert before <= rounds + 4, "8 rounds in 400 ms, and one at the beginning"
    vip.say("announce")
    assert vip.state() == "absent"
    assert len([f for f in sent.up_to_now() if is_announcement(f, address)]) == before


def test_it_can_be_announced_again(network, hosts, start_vip):
    sent = network.capture(hosts[0])
    vip = start_vip(hosts[0], IPV4, announce_ms=0)
    vip.take()
    vip.expect("taken")
    sent.wait(lambda f: f.kind == "arp-reply" and f.source == IPV4, "the first round")
    before = len(sent.up_to_now())
    vip.say("announce")
    wait_until(lambda: [f for f in sent.read()[before:] if f.kind == "arp-reply"], "another one")


# ---- the nft rule ----

def silenced(network, hosts, start_vip, address):
    """The holder is killed with a connection that wants to send; what it sends after the end."""
    holder, _, client = hosts
    vip = start_vip(holder, address)
    sent = network.capture(holder)
    vip.take(4500)
    vip.expect("taken")
    _, _, accepted = connected(holder, client, address)
    vip.kill()
    # Sent while the client is away: it waits for an acknowledgement and is sent again and again.
    network.cut(client)
    accepted.sendall(b"x")
    wait_until(lambda: holder.address(address) is None, "it runs out")
    before = len(sent.up_to_now())
    return vip, sent, before, accepted


def retransmits(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[TCP_INFO_RETRANSMITS]


@BOTH
def test_nothing_leaves_in_its_name_when_it_is_not_local(network, hosts, start_vip, address):
    """IPv6 connections and transparent sockets go on sending when their address has gone."""
    _, sent, before, accepted = silenced(network, hosts, start_vip, address)
    tries = retransmits(accepted)
    wait_until(lambda: retransmits(accepted) > tries or is_dead(accepted), "it sends again")
    assert not [f for f in sent.up_to_now()[before:] if f.source == address]


def test_without_the_rule_it_would(network, hosts, start_vip):
    """The test above can fail: the same, with the rule taken away."""
    _, sent, before, _ = silenced(network, hosts, start_vip, IPV6)
    hosts[0].nft("flush", "ruleset")
    wait_until(lambda: [f for f in sent.read()[before:] if f.source == IPV6], "a frame")


@BOTH
def test_transparent_sockets_are_silenced_too(network, hosts, start_vip, address):
    start_vip(hosts[0], address)
    sent = network.capture(hosts[0])
    family = socket.AF_INET if address == IPV4 else socket.AF_INET6
    sock = hosts[0].socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, 75, 1)
    sock.bind((address, 0))
    target = hosts[2].ipv4 if family == socket.AF_INET else hosts[2].ipv6
    with pytest.raises(PermissionError):
        sock.sendto(b"x", (target, 9))
    assert not [f for f in sent.up_to_now() if f.source == address]


def test_the_rule_stays_and_is_not_doubled(hosts, start_vip):
    for _ in range(2):
        vip = start_vip(hosts[0], IPV4)
        vip.take()
        vip.expect("taken")
        vip.drop()
        vip.kill()
    rules = hosts[0].nft("list", "table", "inet", "keepsock_vip_10_9_0_100")
    assert rules.count("drop") == 1, rules
    assert f"ip saddr {IPV4} fib saddr type != local drop" in rules


def test_a_flushed_ruleset_gets_the_rule_back(hosts, start_vip):
    start_vip(hosts[0], IPV4)
    hosts[0].nft("flush", "ruleset")
    wait_until(lambda: "drop" in hosts[0].nft("list", "ruleset"), "the rule is back")


def test_a_rule_of_somebody_else_is_left_alone(hosts, start_vip):
    hosts[0].nft("add", "table", "inet", "mine")
    vip = start_vip(hosts[0], IPV4)
    hosts[0].nft("delete", "table", "inet", "mine")
    hosts[0].nft("add", "table", "inet", "mine")
    vip.take()
    vip.expect("taken")
    assert "table inet mine" in hosts[0].nft("list", "ruleset")


# ---- stale connections ----

@pytest.mark.parametrize("address,listen_on", [(IPV4, "0.0.0.0"), (IPV4, "::"), (IPV6, "::")])
def test_connections_end_with_it_and_the_peer_hears_nothing(network, hosts, start_vip, address,
                                                            listen_on):
    holder, _, client = hosts
    vip, listener, near, accepted = held_and_connected(start_vip, holder, client, address,
                                                       listen_on=listen_on)
    own = client.connect(holder.ipv4, 8000)
    own_accepted = listener.accept()[0]
    sent = network.capture(holder)
    vip.drop()
    vip.expect("clean")
    assert is_dead(accepted) == "ECONNABORTED"
    assert not [f for f in sent.up_to_now() if f.source == address], "the reset is not sent"
    assert not is_dead(near)
    own.sendall(b"alive")
    assert own_accepted.recv(10) == b"alive", "a connection on another address is not touched"
    vip.take()
    vip.expect("taken")
    client.connect(address, 8000).close()
    listener.accept()


@BOTH
def test_leftovers_are_gone_before_it_is_taken_again(hosts, start_vip, address):
    """The holder was killed and the address ran out: nobody has destroyed its connections yet."""
    holder, _, client = hosts
    vip = start_vip(holder, address)
    vip.take(4500)
    vip.expect("taken")
    _, _, accepted = connected(holder, client, address)
    vip.kill()
    wait_until(lambda: holder.address(address) is None, "it runs out")
    assert not is_dead(accepted)
    vip = start_vip(holder, address)
    vip.take()
    vip.expect("taken")
    assert is_dead(accepted) == "ECONNABORTED"


def test_a_crowd_is_swept(hosts, start_vip):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    holder, _, client = hosts
    vip = start_vip(holder, IPV4)
    vip.take(60000)
    vip.expect("taken")
    listener = holder.listen("0.0.0.0", 8000)
    crowd = []
    for _ in range(1500):
        near = client.connect(IPV4, 8000)
        crowd.append((near, listener.accept()[0]))
    vip.drop()
    vip.expect("clean")
    alive = [accepted for _, accepted in crowd if is_dead(accepted) != "ECONNABORTED"]
    assert not alive
    for pair in crowd:
        for end in pair:
            end.close()


# ---- told before it goes ----

@BOTH
def test_clients_are_told_before_it_is_given_up(network, hosts, start_vip, address):
    holder, _, client = hosts
    vip = start_vip(holder, address)
    vip.take()
    vip.expect("taken")
    pairs = [connected(holder, client, address, port) for port in range(8000, 8010)]
    own = holder.ipv4 if address == IPV4 else holder.ipv6
    _, other, other_end = connected(holder, client, own, 9000)
    sent = network.capture(holder)
    vip.say("disconnect")
    vip.expect("disconnected")
    resets = {f.ports for f in sent.up_to_now()
              if f.kind == "tcp" and f.source == address and f.flags & RST}
    assert resets == {(port, near.getsockname()[1])
                      for port, (_, near, _) in zip(range(8000, 8010), pairs)}
    wait_until(lambda: all(is_dead(near) for _, near, _ in pairs), "every client knows")
    other.sendall(b"x")
    assert other_end.recv(1) == b"x", "a connection on another address lives on"
    again, accepted = client.connect(address, 8000), pairs[0][0].accept()[0]
    vip.drop()
    vip.expect("clean")
    assert is_dead(accepted) == "ECONNABORTED"
    assert is_dead(again) is False, "too late to be told"
    vip.say("disconnect")
    vip.expect("disconnected")


# ---- tickle ACKs ----

@BOTH
def test_a_lost_hosts_client_is_told_at_once(network, hosts, start_vip, address):
    """Idle, it would notice nothing: no packet of its own is under way."""
    lost, heir, client = hosts
    vip, _, near, _ = held_and_connected(start_vip, lost, client, address)
    network.cut(lost)
    assert not is_dead(near)
    sent = network.capture(heir)
    successor = start_vip(heir, address)
    successor.take()
    successor.expect("taken")
    wait_until(lambda: client.neighbour(address) == heir.mac, "the client knows the new holder")
    peer = client.ipv4 if address == IPV4 else client.ipv6
    successor.say(f"peer {near.getsockname()[1]} 8000 {peer}")
    successor.say("tickle")
    successor.expect("queued 1", "tickled 1 0")
    wait_until(lambda: is_dead(near) == "ECONNRESET", "the client's connection is reset")
    flags = [f.flags for f in sent.up_to_now() if f.kind == "tcp" and f.source == address]
    assert flags[0] == ACK and flags[1] & RST


def test_tickles_are_paced(network, hosts, start_vip):
    holder, _, client = hosts
    sent = network.capture(holder)
    vip = start_vip(holder, IPV4, tickles_per_second=100)
    vip.take(60000)
    vip.expect("taken")
    for port in range(10000, 10060):
        vip.say(f"peer {port} 8000 {client.ipv4}")
    started = time.monotonic()
    vip.say("tickle")
    vip.expect("queued 60")
    vip.expect("tickled 60 0")
    # It may make up for 50 ms at once, and be slower than it was told, but not faster.
    assert time.monotonic() - started >= (60 - 5 - 1) / 100
    ports = [f.ports[1] for f in sent.up_to_now()
             if f.kind == "tcp" and f.source == IPV4 and f.flags == ACK]
    assert ports == list(range(10000, 10060)), "each of them once, in order"


@BOTH
@pytest.mark.parametrize("listen_on", [None, "::"])
def test_who_is_connected_is_left_alone(network, hosts, start_vip, address, listen_on):
    holder, _, client = hosts
    vip, _, near, accepted = held_and_connected(start_vip, holder, client, address,
                                                listen_on=listen_on)
    sent = network.capture(holder)
    peer = client.ipv4 if address == IPV4 else client.ipv6
    for port in (near.getsockname()[1], 9):
        vip.say(f"peer {port} 8000 {peer}")
    vip.say("tickle")
    vip.expect("queued 1", "tickled 1 0")
    assert {f.ports[1] for f in sent.up_to_now()
            if f.kind == "tcp" and f.source == address and f.flags == ACK} == {9}
    near.sendall(b"x")
    assert accepted.recv(1) == b"x"


@BOTH
@pytest.mark.parametrize("listen_on", [None, "::"])
def test_who_was_silenced_is_woken_when_it_is_back(network, hosts, start_vip, address, listen_on):
    """Nobody has to say whom."""
    holder, _, client = hosts
    vip, _, near, accepted = held_and_connected(start_vip, holder, client, address,
                                                listen_on=listen_on)
    vip.drop()
    vip.expect("clean")
    assert is_dead(accepted) == "ECONNABORTED"
    assert not is_dead(near)
    vip.take()
    vip.expect("taken", "tickled 1 0")
    wait_until(lambda: is_dead(near) == "ECONNRESET", "the client knows")
    vip.drop()
    vip.expect("clean")
    vip.take()
    vip.expect("taken")
    assert vip.state() == "held", "and nobody a second time"


def test_tickles_end_with_the_address(hosts, start_vip):
    holder, _, client = hosts
    vip = start_vip(holder, IPV4, tickles_per_second=1)
    vip.say(f"peer 10000 8000 {client.ipv4}")
    vip.say("tickle")
    vip.expect("queued 0")
    vip.take()
    vip.expect("taken")
    for port in range(10000, 10050):
        vip.say(f"peer {port} 8000 {client.ipv4}")
    vip.say("tickle")
    vip.expect("queued 50")
    vip.drop()
    sent, failed = map(int, vip.expect("tickled").split()[1:])
    assert sent + failed == 50 and failed >= 40


def test_a_stopped_holder_tickles_nobody_when_it_goes_on(network, hosts, start_vip):
    holder, _, client = hosts
    vip = start_vip(holder, IPV4, tickles_per_second=5)
    vip.take(3000)
    vip.expect("taken")
    for port in range(10000, 10100):
        vip.say(f"peer {port} 8000 {client.ipv4}")
    vip.say("tickle")
    vip.expect("queued 100")
    vip.signal(signal.SIGSTOP)
    wait_until(lambda: holder.address(IPV4) is None, "it runs out")
    sent = network.capture(holder)
    vip.signal(signal.SIGCONT)
    first, second = sorted([vip.line().split()[0], vip.line().split()[0]])
    assert (first, second) == ("lost", "tickled")
    assert not [f for f in sent.up_to_now() if f.source == IPV4]
