-- SPDX-License-Identifier: ISC
--
-- The members of a channel, after the expired ones were purged.
--
-- KEYS  1 presence   2 presence expiry
-- ARGV  1 wall clock ms
-- Reply {client, entry, client, entry, ...}

local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
for i = 1, #expired, 1000 do
	local last = math.min(i + 999, #expired)
	redis.call('HDEL', KEYS[1], unpack(expired, i, last))
	redis.call('ZREM', KEYS[2], unpack(expired, i, last))
end
return redis.call('HGETALL', KEYS[1])
