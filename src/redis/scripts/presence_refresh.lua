-- SPDX-License-Identifier: ISC
--
-- Adds members or prolongs them, in any number of channels.
--
-- KEYS  1 run   2 shard sequence   3 the worker's members; key 1 again: in no index
--       4, 5 presence and presence expiry of the first member's channel,
--       6, 7 of the second's, ...
-- ARGV  1 run id   2 wall clock ms   3 TTL ms   4 prefix of pub/sub names
--       5, 6, 7 client, entry and channel of the first member, 8, 9, 10 of the second, ...
-- Reply the number of members that were not there

--include run.lua
--include members.lua

local now, index = tonumber(ARGV[2]), KEYS[3] ~= KEYS[1] and KEYS[3]
local joined = 0
for i = 4, #KEYS, 2 do
	local a = 5 + 3 * (i - 4) / 2
	local client, entry, channel = ARGV[a], ARGV[a + 1], ARGV[a + 2]
	if add_member(KEYS[i], KEYS[i + 1], index, channel, client, entry, ARGV[3], now) then
		joined = joined + 1
		announce('j', KEYS[2], ARGV[4] .. channel, {entry})
	end
end
return joined
