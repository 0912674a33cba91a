-- SPDX-License-Identifier: ISC
--
-- Adds members or prolongs them, in any number of channels.
--
-- KEYS  1, 2 presence and presence expiry of the first member's channel,
--       3, 4 of the second's, ...
-- ARGV  1 wall clock ms   2 TTL ms
--       3, 4 client and entry of the first member, 5, 6 of the second, ...
-- Reply the number of members that were not there

local now = tonumber(ARGV[1])
local expiry = string.format('%.0f', now + tonumber(ARGV[2]))
local joined = 0
for i = 1, #KEYS, 2 do
	local presence, expire = KEYS[i], KEYS[i + 1]
	local client, entry = ARGV[i + 2], ARGV[i + 3]
	local before = redis.call('ZSCORE', expire, client)
	if not before or tonumber(before) <= now then
		joined = joined + 1
	end
	redis.call('HSET', presence, client, entry)
	redis.call('ZADD', expire, expiry, client)
	redis.call('PEXPIRE', presence, ARGV[2])
	redis.call('PEXPIRE', expire, ARGV[2])
end
return joined
