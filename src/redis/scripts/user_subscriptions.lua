-- SPDX-License-Identifier: ISC
--
-- All subscriptions kept for a user.
--
-- KEYS  1 the user's subscriptions
-- Reply {channel, subscription, ...}

return redis.call('HGETALL', KEYS[1])
