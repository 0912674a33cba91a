-- SPDX-License-Identifier: ISC
--
-- How many clients and different users a channel has, after the expired ones
-- were purged. An entry is "<len user> <user><info>".
--
-- KEYS  1 presence   2 presence expiry
-- ARGV  1 wall clock ms
-- Reply {clients, users}

local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
for i = 1, #expired, 1000 do
	local last = math.min(i + 999, #expired)
	redis.call('HDEL', KEYS[1], unpack(expired, i, last))
	redis.call('ZREM', KEYS[2], unpack(expired, i, last))
end

local clients, users, seen = 0, 0, {}
for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
	local len, start = string.match(entry, '^(%d+) ()')
	local user = string.sub(entry, start, start + len - 1)
	clients = clients + 1
	if not seen[user] then
		seen[user] = true
		users = users + 1
	end
end
return {clients, users}
