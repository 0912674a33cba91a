-- Members come and go. An entry is "<1: join_leave, or 0> <len user> <user><info>".

-- Tells a channel's subscribers of a join ('j') or a leave ('l'), if the entry wants that.
local function announce(kind, sequence_key, name, entry)
	local wanted, len, start = string.match(entry, '^([01]) (%d+) ()')
	if wanted ~= '1' then
		return
	end
	local info = string.sub(entry, start + len)
	local sequence = string.format('%.0f', redis.call('INCR', sequence_key))
	redis.call('PUBLISH', name, kind .. ' ' .. sequence .. ' 0 - 0 ' .. #info .. ' 0\n' .. info)
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

-- 1 when it was a member, else 0.
local function remove_member(presence, expire, client, sequence_key, name)
	local entry = redis.call('HGET', presence, client)
	if not entry then
		return 0
	end
	redis.call('HDEL', presence, client)
	redis.call('ZREM', expire, client)
	announce('l', sequence_key, name, entry)
	return 1
end
