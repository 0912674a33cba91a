-- SPDX-License-Identifier: ISC
--
-- What a subscribe needs, as of one moment: the shard sequence, the channel's
-- epoch and top offset, the publications missed, and the member's presence.
--
-- KEYS  1 shard sequence   2 meta   3 stream   4 presence   5 presence expiry
-- ARGV  1 "1" with history, "0" without
--       2 epoch for a channel that has none   3 meta TTL ms (0: never expires)
--       4 publications to read at most, "0" none   5 the lowest id to read
--       6 epoch the reader knows, empty: any
--       7 client, empty: no presence   8 presence entry   9 presence TTL ms
--       10 wall clock ms
-- Reply {sequence, epoch, top, stream entries, joined}: joined 1 when the
--       member was not there; epoch "" and top "0" without history.

local epoch, top, entries, joined = '', '0', {}, 0

if ARGV[1] == '1' then
	local meta = redis.call('HMGET', KEYS[2], 'e', 's')
	epoch, top = meta[1], meta[2] or '0'
	if not epoch then
		epoch, top = ARGV[2], '0'
		redis.call('DEL', KEYS[2], KEYS[3])
		redis.call('HSET', KEYS[2], 'e', epoch)
	end
	if ARGV[3] == '0' then
		redis.call('PERSIST', KEYS[2])
	else
		redis.call('PEXPIRE', KEYS[2], ARGV[3])
	end
	-- Of another epoch nothing can be recovered, so nothing is read.
	if ARGV[4] ~= '0' and (ARGV[6] == '' or ARGV[6] == epoch) then
		entries = redis.call('XRANGE', KEYS[3], ARGV[5], '+', 'COUNT', ARGV[4])
	end
end

if ARGV[7] ~= '' then
	local now, ttl = tonumber(ARGV[10]), tonumber(ARGV[9])
	local expiry = redis.call('ZSCORE', KEYS[5], ARGV[7])
	if not expiry or tonumber(expiry) <= now then
		joined = 1
	end
	redis.call('HSET', KEYS[4], ARGV[7], ARGV[8])
	redis.call('ZADD', KEYS[5], string.format('%.0f', now + ttl), ARGV[7])
	redis.call('PEXPIRE', KEYS[4], ARGV[9])
	redis.call('PEXPIRE', KEYS[5], ARGV[9])
end

return {redis.call('GET', KEYS[1]) or '0', epoch, top, entries, joined}
