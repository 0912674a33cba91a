-- Purges the members whose time is over.
local function remove_expired(presence, expire, now)
	local expired = redis.call('ZRANGEBYSCORE', expire, '-inf', now)
	for i = 1, #expired, 1000 do
		local last = math.min(i + 999, #expired)
		redis.call('HDEL', presence, unpack(expired, i, last))
		redis.call('ZREM', expire, unpack(expired, i, last))
	end
end
