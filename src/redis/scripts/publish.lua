-- SPDX-License-Identifier: ISC
--
-- Publishes one message on 1..n channels: shard sequence, offset, stream,
-- pub/sub and the memory of the client's command, all in one step, so that the
-- order on pub/sub is the order of sequences and of offsets.
--
-- KEYS  1 run   2 shard sequence
--       3 the worker's done hash; any other when ARGV[3] is empty
--       4, 5 meta and stream of the first channel, 6, 7 of the second, ...
--       then, with an idempotency key, each channel's result key
-- ARGV  1 run id   2 role epoch (fence.lua)
--       3 client, empty: do not remember the command
--       4 number of the command, decimal without leading zeros
--       5 kind letter   6 epoch for channels that have none   7 body
--       8.. for each channel: pub/sub name, history size (0: no history),
--           history TTL ms, meta TTL ms (0: never expires)
--       the last three, or nothing: TTL ms of the result keys (0: no idempotency
--           key), version (0: none), version epoch (empty: any)
-- Reply {0, result} done now, {1, result} done before, {2} number too low.
--       result = "<number>" and for each channel " <sequence> <offset> <epoch or ->",
--       sequence 0 where idempotency key or version suppressed it. It is also
--       what the done hash keeps of the client's last command.

--include fence.lua

local DONE_TTL_MS = 86400000

local call = redis.call
local client, number, body = ARGV[3], ARGV[4], ARGV[7]
local n = math.floor((#ARGV - 7) / 4)
local result_ttl, version = ARGV[4 * n + 8] or '0', ARGV[4 * n + 9] or '0'

-- Decimals are compared as text: a Lua number is exact only up to 2^53.
local function is_lower(a, b)
	if #a ~= #b then
		return #a < #b
	end
	return a < b
end

-- What is in the way of publishing on channel i, "<offset> <epoch or ->"; nil: nothing.
local function suppressed(i, meta, history)
	local stored = result_ttl ~= '0' and call('GET', KEYS[3 + 2 * n + i])
	if stored then
		return stored
	end
	if version == '0' or not history then
		return nil
	end
	local read = call('HMGET', meta, 'e', 's', 'v', 've')
	local epoch = ARGV[4 * n + 10]
	if read[1] and read[3] and (epoch == '' or epoch == read[4]) and not is_lower(read[3], version) then
		return (read[2] or '0') .. ' ' .. read[1] .. generation
	end
	return nil
end

-- The first write: Redis refuses it when full, read-only or short of replicas,
-- and then nothing has happened yet. Repeated commands write too, so that
-- WAIT after one covers what the first attempt wrote.
local sequence = call('INCRBY', KEYS[2], n) - n

if client ~= '' then
	local stored = call('HGET', KEYS[3], client)
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

local result = {number}
for i = 1, n do
	local a = 4 + 4 * i
	local meta, history, position = KEYS[2 + 2 * i], ARGV[a + 1] ~= '0', '0 -'
	local before = (result_ttl ~= '0' or version ~= '0') and suppressed(i, meta, history)
	if before then
		position = '0 ' .. before
	else
		-- Written out here: a function would cost every publish its creation.
		if history then
			local stream, epoch = KEYS[3 + 2 * i], call('HGET', meta, 'e')
			if not epoch then
				-- Without its meta key a stream left over is of an older, unknown epoch.
				epoch = ARGV[6]
				call('DEL', meta, stream)
				call('HSET', meta, 'e', epoch)
			end
			local offset = string.format('%.0f', call('HINCRBY', meta, 's', 1))
			call('XADD', stream, 'MAXLEN', ARGV[a + 1], offset .. '-0', 'd', body)
			call('PEXPIRE', stream, ARGV[a + 2])
			if ARGV[a + 3] == '0' then
				call('PERSIST', meta)
			else
				call('PEXPIRE', meta, ARGV[a + 3])
			end
			if version ~= '0' then
				call('HSET', meta, 'v', version, 've', ARGV[4 * n + 10])
			end
			position = offset .. ' ' .. epoch .. generation
		end
		if result_ttl ~= '0' then
			call('SET', KEYS[3 + 2 * n + i], position, 'PX', result_ttl)
		end
		position = string.format('%.0f', sequence + i) .. ' ' .. position
		call('PUBLISH', ARGV[a], ARGV[5] .. ' ' .. position .. ' ' .. body)
	end
	result[i + 1] = position
end

local text = table.concat(result, ' ')
if client ~= '' then
	call('HSET', KEYS[3], client, text)
	call('PEXPIRE', KEYS[3], DONE_TTL_MS)
end
return {0, text}
