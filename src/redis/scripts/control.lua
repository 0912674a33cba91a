-- SPDX-License-Identifier: ISC
--
-- Publishes a control message, numbered like every message of this shard.
--
-- KEYS  1 run   2 shard sequence
-- ARGV  1 run id   2 pub/sub name   3 body
-- Reply the number of connections that received it

--include run.lua

local sequence = string.format('%.0f', redis.call('INCR', KEYS[2]))
return redis.call('PUBLISH', ARGV[2], 'c ' .. sequence .. ' 0 - ' .. ARGV[3])
