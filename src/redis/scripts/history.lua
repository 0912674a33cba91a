-- SPDX-License-Identifier: ISC
--
-- A channel's epoch, top offset and publications.
--
-- KEYS  1 meta   2 stream
-- ARGV  1 epoch for a channel that has none   2 meta TTL ms (0: never expires)
--       3 XRANGE or XREVRANGE   4, 5 its two bounds
--       6 publications to read at most, "0" none, "-1" all
--       7 epoch the reader knows, empty: any
-- Reply {epoch, top, stream entries}

local meta = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, top, entries = meta[1], meta[2] or '0', {}
if not epoch then
	epoch, top = ARGV[1], '0'
	redis.call('DEL', KEYS[1], KEYS[2])
	redis.call('HSET', KEYS[1], 'e', epoch)
end
if ARGV[2] == '0' then
	redis.call('PERSIST', KEYS[1])
else
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
end

if ARGV[6] ~= '0' and (ARGV[7] == '' or ARGV[7] == epoch) then
	if ARGV[6] == '-1' then
		entries = redis.call(ARGV[3], KEYS[2], ARGV[4], ARGV[5])
	else
		entries = redis.call(ARGV[3], KEYS[2], ARGV[4], ARGV[5], 'COUNT', ARGV[6])
	end
end
return {epoch, top, entries}
