-- SPDX-License-Identifier: ISC
--
-- The members of a channel, after the expired ones were purged.
--
-- KEYS  1 run   2 presence   3 presence expiry
-- ARGV  1 run id   2 wall clock ms
-- Reply {client, entry, client, entry, ...}

--include run.lua
--include expired.lua

remove_expired(KEYS[2], KEYS[3], ARGV[2])
return redis.call('HGETALL', KEYS[2])
