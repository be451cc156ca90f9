-- Rates that hold for all nodes together: one instant for each namespace, until which its items are spoken for.
-- The generic cell rate algorithm, on Redis' own clock, so that the nodes' clocks need not agree.

-- The microseconds that an item takes to come back, how many items may come at once, how many are wanted. Replies how
-- many are granted, how many are left, until when to wait for the next one when fewer are, and until when the whole
-- burst is there again, both in microseconds from now.
local function take_rate(keys, args)
    local interval, burst, wanted = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
    local time = call('TIME')
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local latest = now + burst * interval
    -- A rate that was lowered leaves an instant beyond what it allows.
    local spoken = math.min(math.max(tonumber(call('GET', keys[1]) or 0), now), latest)
    -- What is missing of a microsecond must not cost an item.
    local room = math.floor((latest - spoken) / interval + 0.000001)
    local granted = math.min(wanted, room)
    spoken = spoken + granted * interval
    if spoken > now then
        call('SET', keys[1], string.format('%.3f', spoken), 'PX', math.ceil((spoken - now) / 1000))
    end
    local wait = granted < wanted and math.max(1, math.ceil(spoken + interval - latest)) or 0
    return {granted, room - granted, wait, math.ceil(spoken - now)}
end
