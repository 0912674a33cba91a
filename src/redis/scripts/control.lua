-- SPDX-License-Identifier: ISC
--
-- Publishes a control message, numbered like every message of this shard.
--
-- KEYS  1 shard sequence
-- ARGV  1 pub/sub name   2 body
-- Reply the number of connections that received it

local sequence = string.format('%.0f', redis.call('INCR', KEYS[1]))
return redis.call('PUBLISH', ARGV[1], 'c ' .. sequence .. ' 0 - ' .. ARGV[2])
