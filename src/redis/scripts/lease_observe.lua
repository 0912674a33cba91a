-- SPDX-License-Identifier: ISC
--
-- Who has the lease of the primary, for the supervisors.
--
-- KEYS  1 lease   2 epoch
-- Reply {0, lease or '', ms left of it, epoch}

--include lease_state.lua

return state(0)
