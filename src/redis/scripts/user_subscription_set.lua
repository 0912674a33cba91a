-- SPDX-License-Identifier: ISC
--
-- Keeps a subscription that a user's future connections begin with.
--
-- KEYS  1 run   2 the user's subscriptions
-- ARGV  1 run id   2 role epoch (fence.lua)
--       3 channel   4 subscription   5 TTL ms   6 subscriptions the user may have
-- Reply how many the user has, or {0} when there would be too many

--include fence.lua

if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 0 and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[6]) then
	return {0}
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return redis.call('HLEN', KEYS[2])
