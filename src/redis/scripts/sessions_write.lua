-- SPDX-License-Identifier: ISC
--
-- Writes and forgets sessions of a worker.
--
-- KEYS  1 the worker's sessions
-- ARGV  1 TTL ms   2, 3 client and session of the first, empty: forget it; 4, 5 of the second, ...
-- Reply the number of sessions the worker has

for i = 2, #ARGV, 2 do
	if ARGV[i + 1] == '' then
		redis.call('HDEL', KEYS[1], ARGV[i])
	else
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
	end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('HLEN', KEYS[1])
