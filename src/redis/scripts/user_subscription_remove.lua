-- SPDX-License-Identifier: ISC
--
-- Forgets one of a user's subscriptions, or all of them.
--
-- KEYS  1 run   2 the user's subscriptions
-- ARGV  1 run id   2 role epoch (fence.lua)   3 channel, empty: all
-- Reply how many were forgotten

--include fence.lua

if ARGV[3] ~= '' then
	return redis.call('HDEL', KEYS[2], ARGV[3])
end
local n = redis.call('HLEN', KEYS[2])
redis.call('DEL', KEYS[2])
return n
