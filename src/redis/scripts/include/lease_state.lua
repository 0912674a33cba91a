-- A lease is "<epoch> <node> <random>"; the epoch of an unreadable one counts as 0.
local function lease_epoch(lease)
	return tonumber(string.match(lease or '', '^(%d+) ') or '0')
end

local function known_epoch()
	return tonumber(redis.call('GET', KEYS[2]) or '0') or 0
end

local function state(granted)
	return {granted, redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]), string.format('%.0f', known_epoch())}
end
