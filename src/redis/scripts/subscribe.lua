-- SPDX-License-Identifier: ISC
--
-- What a subscribe needs, as of one moment: the shard sequence, the channel's
-- epoch and top offset, the publications missed, and the membership.
--
-- KEYS  1 run   2 shard sequence   3 meta   4 stream   5 presence   6 presence expiry
--       7 the worker's members; key 1 again: in no index
-- ARGV  1 run id   2 "1" with history, "0" without
--       3 epoch for a channel that has none   4 meta TTL ms (0: never expires)
--       5 publications to read at most, "0" none   6 the lowest id to read; empty: the newest
--       7 epoch the reader knows, empty: any
--       8 client, empty: no member   9 presence entry   10 presence TTL ms
--       11 wall clock ms   12 channel   13 its pub/sub name
-- Reply {sequence, epoch, top, stream entries, joined}: joined 1 when the
--       member was not there; epoch "" and top "0" without history.

--include run.lua
--include meta.lua
--include members.lua

local sequence = redis.call('GET', KEYS[2]) or '0'
local epoch, top, entries, joined = '', '0', {}, 0

if ARGV[2] == '1' then
	epoch, top = read_meta(KEYS[3], KEYS[4], ARGV[3], ARGV[4])
	if ARGV[5] == '0' then
		entries = {}
	elseif ARGV[6] == '' then
		entries = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', ARGV[5])
	elseif ARGV[7] == '' or ARGV[7] == epoch then
		-- Of another epoch nothing can be recovered, so nothing is read.
		entries = redis.call('XRANGE', KEYS[4], ARGV[6], '+', 'COUNT', ARGV[5])
	end
end

if ARGV[8] ~= '' then
	local index = KEYS[7] ~= KEYS[1] and KEYS[7]
	if add_member(KEYS[5], KEYS[6], index, ARGV[12], ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11])) then
		joined = 1
		announce('j', KEYS[2], ARGV[13], {ARGV[9]})
	end
end

return {sequence, epoch, top, entries, joined}
