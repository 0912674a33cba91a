-- The gate of every script that reads or changes channels: KEYS[1] is the run
-- hash, ARGV[1] the run the caller's connection is on. A run has a field of its
-- name, the generation, only while it is the current one and its continuity is
-- settled; see continuity.lua.
local generation = redis.call('HGET', KEYS[1], ARGV[1])
if not generation then
	return {-1}
end
generation = '-' .. generation
