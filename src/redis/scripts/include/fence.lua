-- The gate (run.lua) of what only the primary may do, or a node that has no role.
-- ARGV[2] is the role epoch of the caller's node, 0: it has none. The highest epoch
-- that came this way is kept in the run hash; a node with an older one has been
-- replaced, whether it knows it or not.
local generation, role = unpack(redis.call('HMGET', KEYS[1], ARGV[1], 'role'))
if not generation then
	return {-1}
end
generation = '-' .. generation
if ARGV[2] ~= '0' and ARGV[2] ~= role then
	if role and tonumber(role) > tonumber(ARGV[2]) then
		return {-3}
	end
	redis.call('HSET', KEYS[1], 'role', ARGV[2])
end
