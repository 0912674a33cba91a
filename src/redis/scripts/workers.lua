-- SPDX-License-Identifier: ISC
--
-- The registered workers.
--
-- KEYS  1 workers
-- Reply {worker, ms since its heartbeat, highest sequence it had seen, ...}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local workers, reply = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #workers, 2 do
	local at, seen = string.match(workers[i + 1], '^(%d+) (%d+)$')
	reply[#reply + 1] = workers[i]
	reply[#reply + 1] = string.format('%.0f', math.max(now - (at or 0), 0))
	reply[#reply + 1] = seen or '0'
end
return reply
