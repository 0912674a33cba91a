-- SPDX-License-Identifier: ISC
--
-- A client's connection went from one worker to another: its members go from
-- the one's index to the other's, and stay members. What is in the first index no
-- more, because somebody purged it, does not come back by this.
--
-- KEYS  1 run   2 the first worker's members   3 the other's
-- ARGV  1 run id   2 client   3.. channels
-- Reply the number of members that moved

--include run.lua

local moved = 0
for i = 3, #ARGV do
	moved = moved + redis.call('SMOVE', KEYS[2], KEYS[3], ARGV[2] .. ' ' .. ARGV[i])
end
return moved
