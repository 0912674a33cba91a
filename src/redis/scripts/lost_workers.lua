-- SPDX-License-Identifier: ISC
--
-- The workers of a node that may have sessions, registered or purged a moment ago:
-- whose clients a supervisor calls back after that node's host was lost.
--
-- KEYS  1 workers   2 who has lost sessions
-- ARGV  1 node
-- Reply {worker, ...}

local found, reply = {}, {}
for _, key in ipairs(KEYS) do
	for _, worker in ipairs(redis.call('HKEYS', key)) do
		-- "<node>.<slot>.<incarnation>"; a node's name may hold dots.
		local node = string.match(worker, '^(.*)%.%d+%.[^.]*$')
		if node == ARGV[1] and not found[worker] then
			found[worker] = true
			reply[#reply + 1] = worker
		end
	end
end
return reply
