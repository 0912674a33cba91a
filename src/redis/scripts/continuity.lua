-- SPDX-License-Identifier: ISC
--
-- Is this Redis's data the continuation of what the workers have seen?
--
-- A run is one life of a server as master: it ends when the server is restarted
-- or another one takes over. What follows may have lost the end of its data, or
-- all of it. Replication and the append-only file keep a prefix, so nothing is
-- lost that anybody saw iff the shard sequence at the start of the new run is
-- not below what any worker of the old one has seen. All registered workers are
-- asked; one that does not answer in time counts as no. Then the generation is
-- renewed: it is part of every epoch, so all positions in clients' hands become
-- void, and no offset can be mistaken for its namesake.
--
--	        first call on a new run           the last one expected said yes
--	 any ----------------------------> pending ------------------------------> settled: kept
--	                                     |  a no, or the time is over
--	                                     +-----------------------------------> settled: renewed
--	        a no that comes late, from a worker nobody knew of                       ^
--	                              settled: kept -------------------------------------+
--
-- Only on a settled run anything is read, published or numbered (run.lua), so
-- between the start of a run and its judgement its sequence does not move.
--
-- What a worker saw must be in the data or the worker in the registry: workers
-- register before they hear anything, and leave the registry after. Two things
-- escape that. A worker that was registered and died within the very data that is
-- lost is not missed. And data from a time when no worker was registered looks
-- like that of an orderly stop.
--
-- KEYS  1 run   2 shard sequence   3 workers   4 workers expected to report
-- ARGV  1 run id, that of the caller's connection   2 worker
--       3 the last settled run the worker was on, empty: none
--       4 the highest sequence it has seen   5 the generation it knows, empty: none
--       6 a fresh generation   7 how long to wait for the others, ms
--       8 role epoch of the worker's node, 0: none
-- Reply {state, start, run, generation, registered, why}: state 0 pending, 1 settled and
--       the generation is the one the caller knows, 2 it is another; why: the
--       last reason to renew it. {-2}: the server is not what the connection was told.
--
-- The hash  id, state, generation   of the current run
--           <id>       generation, only while it is settled
--           chain      "<id> <start> <1: renewed in it, or 0>" of the last runs, newest first
--           deadline   Redis ms, while pending
--           why        see above
--           grace, beat, probe   see heartbeat.lua
--           role       see include/fence.lua

local CHAIN_RUNS = 8

local run, worker, own_run, seen, own_generation, fresh = unpack(ARGV, 1, 6)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

--include settle.lua

--include actual_run.lua

local actual, replication = actual_run()
if actual ~= run then
	return {-2}
end

-- The chain with the new run in front; generation nil: this data never had one.
local function start_run(id, state, chain, generation)
	local start = redis.call('GET', KEYS[2]) or '0'
	if state == 'pending' then
		-- Nobody was ever on that run.
		chain = string.match(chain, '^%S+ %S+ %S+ ?(.*)$')
	end
	chain = run .. ' ' .. start .. ' 0 ' .. chain
	local words, last = 0, nil
	for at in string.gmatch(chain, '() ') do
		words = words + 1
		if words == 3 * CHAIN_RUNS then
			last = at - 1
			break
		end
	end
	chain = string.sub(chain, 1, last)
	if id then
		redis.call('HDEL', KEYS[1], id)
	end
	redis.call('HSET', KEYS[1], 'id', run, 'state', 'pending', 'chain', chain,
		'deadline', now + ARGV[7])
	redis.call('DEL', KEYS[4])
	if generation then
		for _, name in ipairs(redis.call('HKEYS', KEYS[3])) do
			redis.call('SADD', KEYS[4], name)
		end
	end
	return chain
end

-- Whether what the caller saw is missing in this data: why; nil: it may well be all there.
local function contradiction(chain)
	local lowest, first, void = tonumber(redis.call('GET', KEYS[2]) or '0'), true, false
	if own_run == '' then
		return nil
	end
	for id, start, renewed in string.gmatch(chain, '(%S+) (%S+) (%S+)') do
		if first and renewed == '1' then
			-- Its generation is older than the current one.
			return nil
		end
		if id == own_run then
			if not void and tonumber(seen) > lowest then
				return string.format('%s has seen message %s, the data ended at %.0f', worker, seen, lowest)
			end
			return nil
		end
		-- Renewed after a run still to be found: then the same is true.
		first, void, lowest = false, void or renewed == '1', math.min(lowest, tonumber(start))
	end
	return worker .. ' was on a run this data knows nothing of'
end

-- The process that the last run was of was a replica meanwhile, with other data
-- since, but nobody was on the run in between. Connections from before may have
-- published already: the sequence proves nothing. (A replication id also
-- changes when a master has long had no replicas; then there is no second one.)
local function is_back_in_office(id)
	local second = string.match(replication, '\nmaster_replid2:(%w+)') or ''
	return string.sub(id, 1, 20) == string.sub(run, 1, 20) and string.find(second, '[^0]') ~= nil
end

local function missing()
	local names = redis.call('SRANDMEMBER', KEYS[4], 3)
	return redis.call('SCARD', KEYS[4]) .. ' workers did not report in time: ' .. table.concat(names, ' ')
end

-- Data that went back in time may know of an older primary only.
if tonumber(ARGV[8]) > tonumber(redis.call('HGET', KEYS[1], 'role') or '0') then
	redis.call('HSET', KEYS[1], 'role', ARGV[8])
end

local hash = redis.call('HMGET', KEYS[1], 'id', 'state', 'chain', 'generation', 'deadline')
local id, state, chain, generation, deadline = hash[1], hash[2], hash[3] or '', hash[4], hash[5]
if id ~= run then
	chain = start_run(id, state, chain, generation)
	state, deadline = 'pending', now + ARGV[7]
	if not generation then
		chain = renew(chain, 'the data was empty')
		state = 'settled'
	elseif is_back_in_office(id) then
		chain = renew(chain, 'the server was demoted and promoted again')
		state = 'settled'
	end
end

local why = contradiction(chain)
redis.call('SREM', KEYS[4], worker)
if why then
	chain = renew(chain, why)
elseif state == 'pending' then
	if redis.call('EXISTS', KEYS[4]) == 0 then
		settle(generation)
	elseif now >= tonumber(deadline) then
		chain = renew(chain, missing())
	else
		return {0, string.match(chain, '^%S+ (%S+)'), '', '', 0, ''}
	end
end

redis.call('DEL', KEYS[4])
raise_sequence(KEYS[2], seen)
local registered = 1 - redis.call('HSET', KEYS[3], worker, string.format('%.0f', now) .. ' ' .. seen)
generation = redis.call('HGET', KEYS[1], run)
state = (own_generation == '' or own_generation == generation) and 1 or 2
return {state, string.match(chain, '^%S+ (%S+)'), run, generation, registered,
	redis.call('HGET', KEYS[1], 'why') or ''}
