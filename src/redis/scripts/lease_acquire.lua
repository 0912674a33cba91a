-- SPDX-License-Identifier: ISC
--
-- Takes the lease if nobody has it, with an epoch above every one that Redis or the
-- caller knows: a Redis that lost its data gives no epoch twice. Or if the caller has
-- seen by its own clock that nobody renews it, and it would last longer than any that
-- was renewed since Redis's clock was set back.
--
-- KEYS  1 lease   2 epoch
-- ARGV  1 node   2 random   3 ttl ms   4 the highest epoch the caller knows
--       5 a lease that is overdue, or ''   6 ms that such a one has left at least
-- Reply {1 taken or 0, lease or '', ms left of it, epoch}

--include lease_state.lua

local holder = redis.call('GET', KEYS[1])

if holder and (holder ~= ARGV[5] or redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[6])) then
	return state(0)
end
local epoch = string.format('%.0f', math.max(known_epoch(), tonumber(ARGV[4])) + 1)
redis.call('SET', KEYS[2], epoch)
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return state(1)
