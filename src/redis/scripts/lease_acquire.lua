-- SPDX-License-Identifier: ISC
--
-- Takes the lease if nobody has it, with an epoch above every one that Redis or the
-- caller knows: a Redis that lost its data gives no epoch twice.
--
-- KEYS  1 lease   2 epoch
-- ARGV  1 node   2 random   3 ttl ms   4 the highest epoch the caller knows
-- Reply {1 taken or 0, lease or '', ms left of it, epoch}

--include lease_state.lua

if redis.call('EXISTS', KEYS[1]) == 1 then
	return state(0)
end
local epoch = string.format('%.0f', math.max(known_epoch(), tonumber(ARGV[4])) + 1)
redis.call('SET', KEYS[2], epoch)
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1] .. ' ' .. ARGV[2], 'NX', 'PX', ARGV[3])
return state(1)
