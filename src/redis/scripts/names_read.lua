-- SPDX-License-Identifier: ISC
--
-- Some of the names in a worker's set or hash: its members, or the clients whose
-- sessions or commands Redis keeps. Over a whole walk one may come twice, and
-- one that was there all the time comes at least once (SCAN).
--
-- KEYS  1 the set or hash
-- ARGV  1 cursor   2 about how many
-- Reply {next cursor, {name, ...}}

if redis.call('TYPE', KEYS[1]).ok == 'hash' then
	local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
	local names = {}
	for i = 1, #page[2], 2 do
		names[#names + 1] = page[2][i]
	end
	return {page[1], names}
end
return redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
