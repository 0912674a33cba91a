-- SPDX-License-Identifier: ISC
--
-- Renews a lease, and makes it again where Redis has lost it or is back at an older
-- one: that is the holder's right, as long as no other has had it meanwhile, which
-- a higher epoch would tell.
--
-- KEYS  1 lease   2 epoch
-- ARGV  1 the lease   2 ttl ms
-- Reply {1 renewed or 0, lease or '', ms left of it, epoch}

--include lease_state.lua

local own = lease_epoch(ARGV[1])
local holder = redis.call('GET', KEYS[1])

if known_epoch() > own or (holder and holder ~= ARGV[1] and lease_epoch(holder) >= own) then
	return state(0)
end
redis.call('SET', KEYS[2], string.format('%.0f', own))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return state(1)
