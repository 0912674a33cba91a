-- SPDX-License-Identifier: ISC
--
-- Fences this server for a primary: from now on scripts of nodes with an older role
-- epoch are refused (include/fence.lua). Asks nobody whether the run is settled:
-- that is about positions, and an epoch is good on any data.
--
-- KEYS  1 run
-- ARGV  1 role epoch, 0: only look
-- Reply the epoch that is kept now, 0: none. {-3}: a higher one is.

local kept = redis.call('HGET', KEYS[1], 'role') or '0'
if ARGV[1] == '0' then
	return kept
end
if tonumber(kept) > tonumber(ARGV[1]) then
	return {-3}
end
redis.call('HSET', KEYS[1], 'role', ARGV[1])
return ARGV[1]
