-- SPDX-License-Identifier: ISC
--
-- Forgets one of a user's subscriptions, or all of them.
--
-- KEYS  1 the user's subscriptions
-- ARGV  1 channel, empty: all
-- Reply how many were forgotten

if ARGV[1] ~= '' then
	return redis.call('HDEL', KEYS[1], ARGV[1])
end
local n = redis.call('HLEN', KEYS[1])
redis.call('DEL', KEYS[1])
return n
