-- SPDX-License-Identifier: ISC
--
-- A worker says that it lives, hears who does not, and sees to the delivery
-- probe. Who has been silent for longer than the timeout is for purge.lua, but
-- silence counts only while somebody was heard: after a time without any
-- heartbeat, Redis was away and not the workers, and a grace begins.
--
-- KEYS  1 run   2 shard sequence   3 workers   4 workers being purged
--       5.. keys of this worker that live on as long as it does
-- ARGV  1 run id   2 worker   3 the highest sequence it has seen
--       4 timeout ms, 0: nobody is silent   5 interval of the probe ms, 0: no probe
--       6 a fresh generation   7 how long its keys outlive it, ms
--       8 pub/sub name of the probe   9 body of the probe
-- Reply {sequence, generation, registered, probed, {silent workers}}. {-2}: the server
--       is not what the connection was told.

--include run.lua

local run, worker, seen, timeout, fresh = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local SILENT_MAX = 64

--include settle.lua
--include actual_run.lua

if actual_run() ~= run then
	return {-2}
end

local hash = redis.call('HMGET', KEYS[1], 'chain', 'beat', 'grace', 'probe')
local chain, beat, grace, probe = hash[1], tonumber(hash[2] or now), tonumber(hash[3]), tonumber(hash[4] or 0)

-- Within one run the counter cannot fall behind its messages, unless somebody
-- removed it or the worker listens to another server than it talks to.
local sequence = raise_sequence(KEYS[2], seen)
generation = string.sub(generation, 2)
if tonumber(seen) > sequence and not string.match(chain, '^%S+ %S+ 1') then
	renew(chain, string.format('%s has seen message %s, the counter stood at %.0f', worker, seen, sequence))
	generation, grace = fresh, now
end

-- A clock that was set back makes nobody older either.
if now - beat > timeout / 2 or now < beat or now < grace then
	grace = now
end
redis.call('HSET', KEYS[1], 'beat', now, 'grace', grace)
local registered = 1 - redis.call('HSET', KEYS[3], worker, string.format('%.0f', now) .. ' ' .. seen)

local silent = {}
local workers = redis.call('HGETALL', KEYS[3])
for i = 1, #workers, 2 do
	local at, rest = string.match(workers[i + 1], '^(%d+)( %d+)$')
	at = tonumber(at or 0)
	if at > now then
		redis.call('HSET', KEYS[3], workers[i], string.format('%.0f', now) .. rest)
	elseif timeout > 0 and now - math.max(at, grace) > timeout and #silent < SILENT_MAX then
		silent[#silent + 1] = workers[i]
	end
end
-- Begun by somebody who may not be there any more to end it.
for _, name in ipairs(redis.call('SRANDMEMBER', KEYS[4], SILENT_MAX)) do
	silent[#silent + 1] = name
end

local probed = 0
local interval = tonumber(ARGV[5])
if interval > 0 and (now - probe >= interval / 2 or now < probe) then
	local number = string.format('%.0f', redis.call('INCR', KEYS[2]))
	redis.call('PUBLISH', ARGV[8], 'c ' .. number .. ' 0 - ' .. ARGV[9])
	redis.call('HSET', KEYS[1], 'probe', now)
	probed = 1
end
for i = 5, #KEYS do
	redis.call('PEXPIRE', KEYS[i], ARGV[7])
end
return {redis.call('GET', KEYS[2]) or '0', generation, registered, probed, silent}
