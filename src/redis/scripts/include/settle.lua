-- Ends the doubt about a run; `run`, `now` and `fresh` are the including script's.

-- Opens the gate (run.lua) under a generation. From now on silence counts (heartbeat.lua).
local function settle(generation)
	redis.call('HSET', KEYS[1], 'state', 'settled', 'generation', generation, run, generation,
		'grace', now)
end

-- A generation nobody can know anything under. The
-- newest run of the chain is marked: whatever a worker saw before this moment
-- it saw under another generation.
local function renew(chain, why)
	chain = string.gsub(chain, '^(%S+ %S+) 0', '%1 1')
	redis.call('HSET', KEYS[1], 'chain', chain, 'why', why)
	settle(fresh)
	return chain
end

-- Sequences never fall, so what a worker has seen is never taken for what comes.
local function raise_sequence(key, seen)
	local sequence = tonumber(redis.call('GET', key) or '0')
	if tonumber(seen) > sequence then
		redis.call('SET', key, seen)
	end
	return sequence
end
