-- SPDX-License-Identifier: ISC
--
-- Removes what a dead worker left: its registration, sessions and remembered
-- commands at once, its members step by step, with the leaves they owe. Any
-- number of workers may purge one: each member leaves once. A worker that was
-- not dead finds itself unregistered, and what it adds again stays.
--
-- KEYS  1 run   2 shard sequence   3 workers   4 workers being purged
--       5 the worker's members   6 those of them still to be removed
--       7, 8 its sessions and done hash   9 its lost sessions   10 who has such
-- ARGV  1 run id   2 worker   3 "1": dead says the caller; "0": look how long it is silent
--       4 timeout ms   5 members to remove at most
--       6, 7, 8 prefixes: presence, presence expiry, pub/sub name
--       9 ms for which it is remembered who its clients were
-- Reply {begun, removed, left}: begun 1 when this call pronounced it dead

--include run.lua
--include members.lua

local worker = ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_dead()
	local entry = redis.call('HGET', KEYS[3], worker)
	if ARGV[3] == '1' then
		return entry or redis.call('EXISTS', KEYS[5], KEYS[7], KEYS[8]) > 0
	end
	if not entry then
		return false
	end
	local grace = tonumber(redis.call('HGET', KEYS[1], 'grace') or now)
	return now - math.max(tonumber(string.match(entry, '^%d+') or 0), grace) > tonumber(ARGV[4])
end

-- For whoever takes over from its host (lost_peers.lua).
local function remember_sessions()
	if redis.call('EXISTS', KEYS[7]) == 0 then
		return
	end
	redis.call('RENAME', KEYS[7], KEYS[9])
	redis.call('PEXPIRE', KEYS[9], ARGV[9])
	local lost = redis.call('HGETALL', KEYS[10])
	for i = 1, #lost, 2 do
		if now - lost[i + 1] > tonumber(ARGV[9]) then
			redis.call('HDEL', KEYS[10], lost[i])
		end
	end
	redis.call('HSET', KEYS[10], worker, string.format('%.0f', now))
	redis.call('PEXPIRE', KEYS[10], ARGV[9])
end

local begun, removed = 0, 0
if is_dead() then
	begun = 1
	redis.call('HDEL', KEYS[3], worker)
	redis.call('UNLINK', KEYS[8])
	remember_sessions()
	if redis.call('EXISTS', KEYS[5]) == 1 then
		if redis.call('EXISTS', KEYS[6]) == 0 then
			redis.call('RENAME', KEYS[5], KEYS[6])
			redis.call('PERSIST', KEYS[6])
		else
			-- It had come back while it was being purged, and died again.
			redis.call('SUNIONSTORE', KEYS[6], KEYS[6], KEYS[5])
			redis.call('DEL', KEYS[5])
		end
	end
	redis.call('SADD', KEYS[4], worker)
end

local members = redis.call('SPOP', KEYS[6], ARGV[5])
local clients_of, channels = {}, {}
if #members > 0 then
	local back = redis.call('SMISMEMBER', KEYS[5], unpack(members))
	for i, member in ipairs(members) do
		local client, channel = string.match(member, '^(%S*) (.*)$')
		if client and back[i] == 0 then
			local clients = clients_of[channel]
			if not clients then
				clients = {}
				clients_of[channel], channels[#channels + 1] = clients, channel
			end
			clients[#clients + 1] = client
		end
	end
end
for _, channel in ipairs(channels) do
	removed = removed + remove_members(ARGV[6] .. channel, ARGV[7] .. channel, clients_of[channel],
		KEYS[2], ARGV[8] .. channel)
end
local left = redis.call('SCARD', KEYS[6])
if left == 0 then
	redis.call('SREM', KEYS[4], worker)
end
return {begun, removed, left}
