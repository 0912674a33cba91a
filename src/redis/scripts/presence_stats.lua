-- SPDX-License-Identifier: ISC
--
-- How many clients and different users a channel has, after the expired ones
-- were purged. An entry is "<1: join_leave, or 0> <len user> <user><info>".
--
-- KEYS  1 run   2 presence   3 presence expiry
-- ARGV  1 run id   2 wall clock ms
-- Reply {clients, users}

--include run.lua
--include expired.lua

remove_expired(KEYS[2], KEYS[3], ARGV[2])
local clients, users, seen = 0, 0, {}
for _, entry in ipairs(redis.call('HVALS', KEYS[2])) do
	local len, start = string.match(entry, '^[01] (%d+) ()')
	local user = string.sub(entry, start, start + len - 1)
	clients = clients + 1
	if not seen[user] then
		seen[user] = true
		users = users + 1
	end
end
return {clients, users}
