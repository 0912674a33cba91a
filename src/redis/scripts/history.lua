-- SPDX-License-Identifier: ISC
--
-- A channel's epoch, top offset and publications.
--
-- KEYS  1 run   2 meta   3 stream
-- ARGV  1 run id   2 epoch for a channel that has none
--       3 meta TTL ms (0: never expires)   4 XRANGE or XREVRANGE   5, 6 its two bounds
--       7 publications to read at most, "0" none, "-1" all
--       8 epoch the reader knows, empty: any
-- Reply {epoch, top, stream entries}

--include run.lua
--include meta.lua

local epoch, top = read_meta(KEYS[2], KEYS[3], ARGV[2], ARGV[3])
local entries = {}
if ARGV[7] ~= '0' and (ARGV[8] == '' or ARGV[8] == epoch) then
	if ARGV[7] == '-1' then
		entries = redis.call(ARGV[4], KEYS[3], ARGV[5], ARGV[6])
	else
		entries = redis.call(ARGV[4], KEYS[3], ARGV[5], ARGV[6], 'COUNT', ARGV[7])
	end
end
return {epoch, top, entries}
