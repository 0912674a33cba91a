-- SPDX-License-Identifier: ISC
--
-- Drops a channel's publications; its epoch and offset stay.
--
-- KEYS  1 run   2 stream
-- ARGV  1 run id   2 role epoch (fence.lua)
-- Reply 1 when there were any, else 0

--include fence.lua

return redis.call('DEL', KEYS[2])
