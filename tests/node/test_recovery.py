# SPDX-License-Identifier: ISC
"""The client protocol: history, recovery from it, and what a client is told where Redis lost some."""

import pytest

from keepsock import wait_until
from redis_proxy import RedisProxy


# History

@pytest.fixture
def published(node, channel):
    """A channel with ten publications, 0 to 9; (channel, epoch)."""
    for i in range(10):
        position = node.publish(channel, i)
    return channel, position["epoch"]


def history(client, channel, **more):
    result = client.result("history", channel=channel, **more)
    assert result["offset"] == 10
    return [p["data"] for p in result["publications"]]


def test_history(client, published):
    channel, epoch = published
    assert client.result("history", channel=channel) == {
        "publications": [], "epoch": epoch, "offset": 10}
    assert history(client, channel, limit=-1) == list(range(10))
    assert history(client, channel, limit=3) == [0, 1, 2]
    assert history(client, channel, limit=3, reverse=True) == [9, 8, 7]
    offsets = client.result("history", channel=channel, limit=-1)["publications"]
    assert [p["offset"] for p in offsets] == list(range(1, 11))


def test_history_since(client, published):
    channel, epoch = published
    since = {"offset": 4, "epoch": epoch}
    assert history(client, channel, limit=-1, since=since) == [4, 5, 6, 7, 8, 9]
    assert history(client, channel, limit=2, since=since) == [4, 5]
    assert history(client, channel, limit=-1, since={"offset": 10, "epoch": epoch}) == []
    assert history(client, channel, limit=-1, since=since, reverse=True) == [2, 1, 0]
    assert history(client, channel, limit=1, since=since, reverse=True) == [2]


def test_history_since_another_epoch_is_112(client, published):
    channel, _ = published
    assert client.error("history", channel=channel, limit=-1,
                        since={"offset": 4, "epoch": "elsewhere"}) == 112


def test_history_reverse_since_0_is_107(client, published):
    channel, epoch = published
    assert client.error("history", channel=channel, limit=1, reverse=True,
                        since={"offset": 0, "epoch": epoch}) == 107


def test_history_of_an_empty_channel(client, channel):
    result = client.result("history", channel=channel, limit=-1)
    assert result["publications"] == [] and result["offset"] == 0 and result["epoch"]


def test_history_limit_of_clients(start_node, make_client):
    node = start_node(channel={"history_max_publication_limit": 3})
    for i in range(5):
        node.publish("c", i)
    client = make_client(node)
    for limit in (-1, 5, 3):
        assert len(client.result("history", channel="c", limit=limit)["publications"]) == 3


def test_history_keeps_its_size(start_node, make_client):
    node = start_node(channel={"history_size": 4})
    for i in range(10):
        node.publish("c", i)
    result = make_client(node).result("history", channel="c", limit=-1)
    assert [p["data"] for p in result["publications"]] == [6, 7, 8, 9] and result["offset"] == 10


def test_history_ends_after_its_time(start_node, make_client):
    node = start_node(channel={"history_ttl": "1s"})
    epoch = node.publish("c", 1)["epoch"]
    client = make_client(node)
    wait_until(lambda: not client.result("history", channel="c", limit=-1)["publications"],
               "the publication is gone")
    assert client.result("history", channel="c") == {
        "publications": [], "epoch": epoch, "offset": 1}
    assert node.publish("c", 2) == {"offset": 2, "epoch": epoch}


# Recovery

def test_recovery(node, make_client, channel):
    client = make_client(node)
    epoch = client.result("subscribe", channel=channel)["epoch"]
    node.publish(channel, 1)
    assert client.publication(channel)["offset"] == 1
    client.cut()
    for i in range(2, 7):
        node.publish(channel, i)
    back = make_client(node)
    result = back.result("subscribe", channel=channel, recover=True, offset=1, epoch=epoch)
    assert result["recovered"] is True and result["was_recovering"] is True
    assert result["offset"] == 1 and result["epoch"] == epoch
    assert [(p["offset"], p["data"]) for p in result["publications"]] == [
        (i, i) for i in range(2, 7)]
    node.publish(channel, 7)
    assert back.publication(channel)["offset"] == 7


def test_recovery_of_nothing_missed(node, client, published):
    channel, epoch = published
    result = client.result("subscribe", channel=channel, recover=True, offset=10, epoch=epoch)
    assert result["recovered"] is True and result["was_recovering"] is True
    assert not result.get("publications") and result["offset"] == 10


def test_recovery_from_the_start(client, published):
    channel, epoch = published
    result = client.result("subscribe", channel=channel, recover=True, offset=0, epoch=epoch)
    assert result["recovered"] is True and "offset" not in result
    assert len(result["publications"]) == 10


def test_recovery_with_an_empty_epoch_matches(client, published):
    channel, epoch = published
    result = client.result("subscribe", channel=channel, recover=True, offset=8, epoch="")
    assert result["recovered"] is True and result["epoch"] == epoch
    assert [p["data"] for p in result["publications"]] == [8, 9]


def assert_not_recovered(result, epoch, top):
    assert result["was_recovering"] is True and "recovered" not in result
    assert not result.get("publications")
    assert result["epoch"] == epoch and result["offset"] == top


@pytest.mark.parametrize("position", [{"offset": 5, "epoch": "elsewhere"}, {"offset": 11},
                                      {"offset": 5, "epoch": "_"}])
def test_no_recovery_from_an_unknown_position(client, published, position):
    channel, epoch = published
    result = client.result("subscribe", channel=channel, recover=True,
                           **({"epoch": epoch} | position))
    assert_not_recovered(result, epoch, 10)


def test_unrecovered_can_be_rejected(client, published):
    channel, epoch = published
    assert client.error("subscribe", channel=channel, recover=True, offset=5, epoch="elsewhere",
                        flag=3) == 112
    result = client.result("subscribe", channel=channel, recover=True, offset=5, epoch=epoch,
                           flag=3)
    assert result["recovered"] is True


@pytest.mark.parametrize("setting,most", [("history_size", 4),
                                          ("recovery_max_publication_limit", 5)])
def test_no_recovery_of_more_than_history_holds_or_the_limit(start_node, make_client, setting, most):
    node = start_node(channel={setting: most})
    for i in range(10):
        position = node.publish("c", i)
    epoch = position["epoch"]
    result = make_client(node).result("subscribe", channel="c", recover=True, offset=10 - most - 1,
                                      epoch=epoch)
    assert_not_recovered(result, epoch, 10)
    result = make_client(node).result("subscribe", channel="c", recover=True, offset=10 - most,
                                      epoch=epoch)
    assert result["recovered"] is True
    assert [p["data"] for p in result["publications"]] == [*range(10 - most, 10)]


def test_subscribing_into_a_stream_of_publications(node, make_client, channel):
    """Whatever the moment of the subscribe, what follows its offset comes once and in order."""
    publisher = make_client(node)
    epoch = publisher.result("history", channel=channel)["epoch"]
    total = 60
    for i in range(total):
        publisher.send(publisher.command("publish", channel=channel, data=i))
    subscribers = [make_client(node) for _ in range(6)]
    for subscriber in subscribers:
        reply = subscriber.result("subscribe", channel=channel, recover=True, offset=0,
                                  epoch=epoch)
        assert reply["recovered"] is True
        seen = [p["offset"] for p in reply.get("publications", [])]
        while len(seen) < total:
            seen.append(subscriber.publication(channel)["offset"])
        assert seen == list(range(1, total + 1))


def test_a_gap_in_offsets_unsubscribes_with_2500(start_node, make_client, redis):
    node = start_node(redis={"server": redis.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    node.publish("c", 1)
    assert client.publication("c")["offset"] == 1
    redis.command("HINCRBY", "keepsock.meta.c", "s", 1)
    node.publish("c", 3)
    assert_insufficient_state(client)


def assert_insufficient_state(client):
    push = client.push()
    assert push["channel"] == "c" and push["unsubscribe"]["code"] == 2500, push
    assert push["unsubscribe"]["reason"]
    # Each worker settles for itself: until the client's has, it is asked to come again (100).
    wait_until(lambda: subscribes_again(client), "subscribed again")


def subscribes_again(client):
    reply = client.call("subscribe", channel="c")
    assert "error" not in reply or reply["error"]["code"] == 100, reply
    return "subscribe" in reply


def test_another_epoch_unsubscribes_with_2500(start_node, make_client, redis):
    node = start_node(redis={"server": redis.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    node.publish("c", 1)
    assert client.publication("c")["offset"] == 1
    redis.command("DEL", "keepsock.meta.c", "keepsock.stream.c")
    node.publish("c", 2)
    assert_insufficient_state(client)


def test_emptied_redis_is_announced(start_node, make_client, redis):
    """The shard sequence begins anew as well: nothing may pass for a duplicate of the past."""
    node = start_node(redis={"server": redis.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    for number in range(5):
        node.publish("c", number)
        assert client.publication("c")["offset"] == number + 1
    redis.command("FLUSHALL")
    # Error 100 until the workers have agreed that everything is lost.
    wait_until(lambda: "result" in node.api("publish", channel="c", data="anew"), "it is settled")
    assert_insufficient_state(client)
    node.publish("c", "after")
    assert client.publication("c")["data"] == "after"


def test_position_check_finds_what_pub_sub_lost(start_node, make_client, redis):
    node = start_node(client={"presence_update_interval": "1s", "position_check_delay": "1s"},
                      redis={"server": redis.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    node.publish("c", 1)
    assert client.publication("c")["offset"] == 1
    redis.command("HINCRBY", "keepsock.meta.c", "s", 1)
    assert_insufficient_state(client)


def test_position_check_waits_for_what_is_on_its_way(start_node, make_client, redis):
    """However late the subscription connection is: what it has not brought yet is not lost."""
    proxy = RedisProxy(redis.port)
    try:
        node = start_node(node={"workers": 1}, client={"position_check_delay": "1s"},
                          redis={"server": f"redis://127.0.0.1:{proxy.port}",
                                 "probe_timeout": "60s"})
        client = make_client(node)
        client.result("subscribe", channel="c")
        link = wait_until(lambda: proxy.link_that_asked(b"\nSUBSCRIBE\r\n"), "it listens")
        proxy.hold_answers(link)
        node.publish("c", 1)
        asked = node.ctl_json("show", "redis")["rows"][0]["sent"]
        # Heartbeats and looks, one of each a second.
        wait_until(lambda: node.ctl_json("show", "redis")["rows"][0]["sent"] >= asked + 10,
                   "it has looked some times")
        proxy.release(link)
        assert client.publication("c")["offset"] == 1
    finally:
        proxy.close()
