-- SPDX-License-Identifier: ISC
--
-- Some of a worker's sessions. Over a whole walk one may come twice, and one
-- that was there all the time comes at least once (SCAN).
--
-- KEYS  1 the worker's sessions
-- ARGV  1 cursor   2 about how many
-- Reply {next cursor, {client, session, ...}}

return redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
