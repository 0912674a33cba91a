-- SPDX-License-Identifier: ISC
--
-- Removes members from their channels.
--
-- KEYS  1, 2 presence and presence expiry of the first member's channel,
--       3, 4 of the second's, ...
-- ARGV  1 client of the first member, 2 of the second, ...
-- Reply the number of members that were there

local removed = 0
for i = 1, #ARGV do
	removed = removed + redis.call('HDEL', KEYS[2 * i - 1], ARGV[i])
	redis.call('ZREM', KEYS[2 * i], ARGV[i])
end
return removed
