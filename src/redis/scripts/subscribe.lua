-- SPDX-License-Identifier: ISC
--
-- What a subscribe needs, as of one moment: the shard sequence, the channel's
-- epoch and top offset, the publications missed, and the membership.
--
-- KEYS  1 run   2 shard sequence   3 meta   4 stream   5 presence   6 presence expiry
--       7 the worker's members; key 1 again: in no index
-- ARGV  1 run id   2 role epoch (fence.lua)   3 "1" with history, "0" without
--       4 epoch for a channel that has none   5 meta TTL ms (0: never expires)
--       6 publications to read at most, "0" none   7 the lowest id to read; empty: the newest
--       8 epoch the reader knows, empty: any
--       9 client, empty: no member   10 presence entry   11 presence TTL ms
--       12 wall clock ms   13 channel   14 its pub/sub name
-- Reply {sequence, epoch, top, stream entries, joined}: joined 1 when the
--       member was not there; epoch "" and top "0" without history.

--include fence.lua
--include meta.lua
--include members.lua

local sequence = redis.call('GET', KEYS[2]) or '0'
local epoch, top, entries, joined = '', '0', {}, 0

if ARGV[3] == '1' then
	epoch, top = read_meta(KEYS[3], KEYS[4], ARGV[4], ARGV[5])
	if ARGV[6] == '0' then
		entries = {}
	elseif ARGV[7] == '' then
		entries = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', ARGV[6])
	elseif ARGV[8] == '' or ARGV[8] == epoch then
		-- Of another epoch nothing can be recovered, so nothing is read.
		entries = redis.call('XRANGE', KEYS[4], ARGV[7], '+', 'COUNT', ARGV[6])
	end
end

if ARGV[9] ~= '' then
	local index = KEYS[7] ~= KEYS[1] and KEYS[7]
	if add_member(KEYS[5], KEYS[6], index, ARGV[13], ARGV[9], ARGV[10], ARGV[11], tonumber(ARGV[12])) then
		joined = 1
		announce('j', KEYS[2], ARGV[14], {ARGV[10]})
	end
end

return {sequence, epoch, top, entries, joined}
