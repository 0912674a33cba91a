-- SPDX-License-Identifier: ISC
--
-- All subscriptions kept for a user who connects. They live on from now.
--
-- KEYS  1 the user's subscriptions
-- ARGV  1 their time to live in ms
-- Reply {channel, subscription, ...}

local subscriptions = redis.call('HGETALL', KEYS[1])
if #subscriptions > 0 then
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return subscriptions
