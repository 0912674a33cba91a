-- SPDX-License-Identifier: ISC
--
-- Keeps a subscription that a user's future connections begin with.
--
-- KEYS  1 the user's subscriptions
-- ARGV  1 channel   2 subscription   3 TTL ms   4 subscriptions the user may have
-- Reply how many the user has, or {0} when there would be too many

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
	return {0}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('HLEN', KEYS[1])
