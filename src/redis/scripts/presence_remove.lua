-- SPDX-License-Identifier: ISC
--
-- Removes members from their channels.
--
-- KEYS  1 run   2 shard sequence   3 the worker's members; key 1 again: in no index
--       4, 5 presence and presence expiry of the first member's channel,
--       6, 7 of the second's, ...
-- ARGV  1 run id   2 prefix of pub/sub names
--       3, 4 client and channel of the first member, 5, 6 of the second, ...
-- Reply the number of members that were there

--include run.lua
--include members.lua

local removed = 0
for i = 3, #ARGV, 2 do
	local client, channel = ARGV[i], ARGV[i + 1]
	if KEYS[3] ~= KEYS[1] then
		redis.call('SREM', KEYS[3], client .. ' ' .. channel)
	end
	removed = removed + remove_members(KEYS[i + 1], KEYS[i + 2], {client}, KEYS[2],
		ARGV[2] .. channel)
end
return removed
