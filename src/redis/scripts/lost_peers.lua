-- SPDX-License-Identifier: ISC
--
-- Where some of a worker's clients came from, whether it has been purged by now or
-- not: the hash is the same one, so a walk goes on with its cursor. One may come
-- twice (SCAN). Entries of other versions, without addresses, are left out.
--
-- KEYS  1 the worker's lost sessions   2 its sessions
-- ARGV  1 cursor   2 about how many
-- Reply {next cursor, {"<address>:<port> <port it came to>", ...}}

local key = redis.call('EXISTS', KEYS[1]) == 1 and KEYS[1] or KEYS[2]
local page = redis.call('HSCAN', key, ARGV[1], 'COUNT', ARGV[2])
local peers = {}
for i = 2, #page[2], 2 do
	-- Quotes inside of a JSON string are escaped: only a member's name matches.
	local peer, port = string.match(page[2][i], '"peer":"([^"]*)","local_port":(%d+)')
	if peer then
		peers[#peers + 1] = peer .. ' ' .. port
	end
end
return {page[1], peers}
