-- Members come and go. An entry is "<1: join_leave, or 0> <len user> <user><info>".

-- Tells a channel's subscribers of joins ('j') or leaves ('l'), of those entries that want that.
local function announce(kind, sequence_key, name, entries)
	local infos = {}
	for _, entry in ipairs(entries) do
		local wanted, len, start = string.match(entry, '^([01]) (%d+) ()')
		if wanted == '1' then
			infos[#infos + 1] = string.sub(entry, start + len)
		end
	end
	if #infos == 0 then
		return
	end
	local before = redis.call('INCRBY', sequence_key, #infos) - #infos
	for i, info in ipairs(infos) do
		redis.call('PUBLISH', name, kind .. ' ' .. string.format('%.0f', before + i) .. ' 0 - 0 ' ..
			#info .. ' 0\n' .. info)
	end
end

-- Adds or prolongs; true when it was no member. With an index (of one worker)
-- that decides; without, an entry whose time is over does not count.
local function add_member(presence, expire, index, channel, client, entry, ttl, now)
	local joined
	if index then
		joined = redis.call('SADD', index, client .. ' ' .. channel) == 1
	else
		local before = redis.call('ZSCORE', expire, client)
		joined = not before or tonumber(before) <= now
	end
	redis.call('HSET', presence, client, entry)
	redis.call('ZADD', expire, string.format('%.0f', now + tonumber(ttl)), client)
	redis.call('PEXPIRE', presence, ttl)
	redis.call('PEXPIRE', expire, ttl)
	return joined
end

-- Removes members of one channel, at most a few thousand; returns how many of them were there.
local function remove_members(presence, expire, clients, sequence_key, name)
	local entries = {}
	for _, entry in ipairs(redis.call('HMGET', presence, unpack(clients))) do
		if entry then
			entries[#entries + 1] = entry
		end
	end
	if #entries > 0 then
		redis.call('HDEL', presence, unpack(clients))
		redis.call('ZREM', expire, unpack(clients))
		announce('l', sequence_key, name, entries)
	end
	return #entries
end
