-- SPDX-License-Identifier: ISC
--
-- Publishes one message on 1..n channels: shard sequence, offset, stream,
-- pub/sub and the memory of the client's command, all in one step, so that the
-- order on pub/sub is the order of sequences and of offsets.
--
-- KEYS  1 shard sequence
--       2 the slot's done hash; not touched when ARGV[1] is empty
--       3, 4 meta and stream of the first channel, 5, 6 of the second, ...
-- ARGV  1 client, empty: do not remember the command
--       2 number of the command, decimal without leading zeros
--       3 kind letter   4 epoch for channels that have none   5 body
--       6.. for each channel: pub/sub name, history size (0: no history),
--           history TTL ms, meta TTL ms (0: never expires)
-- Reply {0, result} done now, {1, result} done before, {2} number too low.
--       result = "<number>" and for each channel " <sequence> <offset> <epoch or ->",
--       also what the done hash keeps of the client's last command.

local DONE_TTL_MS = 86400000

-- Decimals are compared as text: a Lua number is exact only up to 2^53.
local function is_lower(a, b)
	if #a ~= #b then
		return #a < #b
	end
	return a < b
end

local function decimal(n)
	return string.format('%.0f', n)
end

-- The next offset and the epoch of a channel with history, its stream extended by the body.
local function append(meta, stream, size, ttl, meta_ttl)
	local epoch = redis.call('HGET', meta, 'e')
	if not epoch then
		-- Without its meta key a stream left over is of an older, unknown epoch.
		epoch = ARGV[4]
		redis.call('DEL', meta, stream)
		redis.call('HSET', meta, 'e', epoch)
	end
	local offset = decimal(redis.call('HINCRBY', meta, 's', 1))
	redis.call('XADD', stream, 'MAXLEN', size, offset .. '-0', 'd', ARGV[5])
	redis.call('PEXPIRE', stream, ttl)
	if meta_ttl == '0' then
		redis.call('PERSIST', meta)
	else
		redis.call('PEXPIRE', meta, meta_ttl)
	end
	return offset, epoch
end

local client, number = ARGV[1], ARGV[2]
if client ~= '' then
	local stored = redis.call('HGET', KEYS[2], client)
	if stored then
		local last = string.match(stored, '^%d+')
		if last == number then
			return {1, stored}
		end
		if is_lower(number, last) then
			return {2}
		end
	end
end

local n = (#KEYS - 2) / 2
-- The first write: Redis refuses it when full, read-only or short of replicas,
-- and then nothing has happened yet.
local sequence = redis.call('INCRBY', KEYS[1], n) - n
local result = {number}
for i = 1, n do
	local a = 2 + 4 * i
	local offset, epoch = '0', '-'
	if ARGV[a + 1] ~= '0' then
		offset, epoch = append(KEYS[1 + 2 * i], KEYS[2 + 2 * i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
	end
	local position = decimal(sequence + i) .. ' ' .. offset .. ' ' .. epoch
	redis.call('PUBLISH', ARGV[a], ARGV[3] .. ' ' .. position .. ' ' .. ARGV[5])
	result[i + 1] = position
end

local text = table.concat(result, ' ')
if client ~= '' then
	redis.call('HSET', KEYS[2], client, text)
	redis.call('PEXPIRE', KEYS[2], DONE_TTL_MS)
end
return {0, text}
