-- A channel's epoch as clients see it, and its top offset. A channel without
-- an epoch gets the fresh one: what its stream may hold is of an unknown one.
local function read_meta(meta, stream, fresh, ttl)
	local read = redis.call('HMGET', meta, 'e', 's')
	local epoch, top = read[1], read[2] or '0'
	if not epoch then
		epoch, top = fresh, '0'
		redis.call('DEL', meta, stream)
		redis.call('HSET', meta, 'e', epoch)
	end
	if ttl == '0' then
		redis.call('PERSIST', meta)
	else
		redis.call('PEXPIRE', meta, ttl)
	end
	return epoch .. generation, top
end
