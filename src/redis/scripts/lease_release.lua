-- SPDX-License-Identifier: ISC
--
-- Gives a lease back, if it is still that one.
--
-- KEYS  1 lease   2 epoch
-- ARGV  1 the lease
-- Reply {1 given back or 0, lease or '', ms left of it, epoch}

--include lease_state.lua

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
	return state(0)
end
redis.call('DEL', KEYS[1])
return state(1)
