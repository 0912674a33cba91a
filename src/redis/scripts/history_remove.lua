-- SPDX-License-Identifier: ISC
--
-- Drops a channel's publications; its epoch and offset stay.
--
-- KEYS  1 run   2 stream
-- ARGV  1 run id
-- Reply 1 when there were any, else 0

--include run.lua

return redis.call('DEL', KEYS[2])
