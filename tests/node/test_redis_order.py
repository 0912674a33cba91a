# SPDX-License-Identifier: ISC
"""What the node makes of answers and messages of Redis that overtake each other: it has several
connections, and only each of them keeps an order."""

import pytest

from keepsock import wait_until
from redis_proxy import RedisProxy


@pytest.fixture
def proxy(redis):
    proxy = RedisProxy(redis.port)
    yield proxy
    proxy.close()


def clients_of_both_connections(node, proxy, make_client):
    """Two clients of the node's one worker whose commands go over different connections."""
    first, link = None, None
    while True:
        client = make_client(node)
        probe = f"probe-{client.id}"
        client.result("presence", channel=probe)
        asked = proxy.link_that_asked(probe.encode())
        if first is None:
            first, link = client, asked
        elif asked is not link:
            return (first, link), (client, asked)


def test_overtaken_subscriber_misses_nothing(start_node, make_client, redis, proxy):
    """The first subscriber's answer comes late: the second one's, read after a publication that is
    still on its way, has given the channel its position by then."""
    node = start_node(node={"workers": 1},
                      redis={"server": f"redis://127.0.0.1:{proxy.port}", "command_timeout": "20s"})
    other = start_node(node={"name": "b"}, redis={"server": redis.url})
    (early, early_link), (late, late_link) = clients_of_both_connections(node, proxy, make_client)
    messages = proxy.link_that_asked(b"keepsock.control")

    proxy.hold_answers(early_link)
    proxy.hold_requests(late_link)
    early_id = send_subscribe(early)
    wait_until(lambda: proxy.held_answers(early_link), "Redis answered the early one")
    late_id = send_subscribe(late)
    proxy.hold_answers(messages)
    other.publish("c", "between")
    wait_until(lambda: b"between" in proxy.held_answers(messages), "the publication is on its way")

    proxy.release(late_link)
    assert late.reply(late_id)["subscribe"]["offset"] == 1
    proxy.release(early_link)
    # Whether its answer says so or a push: it must not believe that nothing was published.
    result = early.reply(early_id)["subscribe"]
    proxy.release(messages)
    offset = result.get("offset", 0)
    other.publish("c", "after")
    while offset < 2:
        publication = early.publication("c")
        assert publication["offset"] == offset + 1, publication
        offset += 1
    assert late.publication("c")["data"] == "after"


def send_subscribe(client):
    client.send(client.command("subscribe", channel="c"))
    return client.last_id
