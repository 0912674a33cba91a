# SPDX-License-Identifier: ISC
"""Faults in a row happen to two hosts with a supervised node each, to the network between them and to
their Redis, with SDK clients subscribed and publications all the time; a judge looks at everything.
20 of them with one Redis server, and the others with Sentinels; 200 with --long. tools/check runs both
sites at the same time, with one seed, so that each fault is seen."""

import pytest

from ha_faults import HostFaults, RedisFaults, SentinelFaults, names
from site_pair import Site

CHAIN, LONG_CHAIN = 20, 200
LONGEST, LONG_LONGEST = 1, 6


@pytest.fixture
def make_site(rng, request):
    sites = []

    def make(**options):
        longest = LONG_LONGEST if request.config.getoption("--long") else LONGEST
        sites.append(Site(rng, longest=longest, **options))
        return sites[-1].start()

    yield make
    for site in sites:
        site.end()


def share_out(rng, request):
    """(faults for the site with one Redis server, for the one with Sentinels): each fault at least
    once in one of them."""
    wanted = request.config.getoption("--faults")
    if wanted:
        return wanted.split(","), wanted.split(",")
    of_hosts, of_redis = names(HostFaults), names(RedisFaults)
    rng.shuffle(of_hosts)
    count = CHAIN - len(of_redis)
    one, other = of_redis + of_hosts[:count], names(SentinelFaults) + of_hosts[count:]
    if request.config.getoption("--long"):
        one += rng.choices(of_redis + of_hosts, k=LONG_CHAIN - len(one))
        other += rng.choices(names(SentinelFaults) + of_hosts, k=CHAIN)
    rng.shuffle(one)
    rng.shuffle(other)
    return one, other


def suffer_all(site, kind, wanted):
    faults = kind(site)
    for name in wanted:
        getattr(faults, name)()
        print(tell(site.history.faults[-1], site.history.standings[-1]), flush=True)
        assert len(site.history.standings) == len(site.history.faults)


def tell(fault, standing):
    return (f"{fault.kind}: healed after {fault.healed - fault.begin:.1f} s, all back after "
            f"{fault.end - fault.begin:.1f} s: {standing.states}")


def assert_nothing_is_wrong(site):
    complaints = site.judge()
    history = site.history
    print(f"{len(history.publications)} publications, "
          f"{sum(p.acknowledged for p in history.publications)} acknowledged, "
          f"{sum(len(s.publications()) for s in history.subscriptions.values())} received, "
          f"{len(history.frames)} frames, {len(history.faults)} faults, "
          f"{len(history.stalls)} stalls, {len(history.failovers)} failovers of Redis")
    rules = sorted({rule for rule, _ in complaints})
    told = "\n".join(f"{rule}: {text}" for rule, text in complaints[:40])
    assert not complaints, f"{len(complaints)} complaints {rules}\n{told}\n{site.logs()}"


def test_faults_in_a_row(make_site, rng, request):
    site = make_site()
    suffer_all(site, RedisFaults, share_out(rng, request)[0])
    assert_nothing_is_wrong(site)


def test_sentinels(make_site, rng, request):
    """What a publisher was told is at a replica, too, so a failover loses nothing of it."""
    site = make_site(sentinels=True, redis={"min_replicas": 1})
    suffer_all(site, SentinelFaults, share_out(rng, request)[1])
    assert_nothing_is_wrong(site)
