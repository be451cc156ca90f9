-- Rates that hold for all nodes together, on Redis' own clock, so that the nodes' clocks need not agree. What is spent of
-- one is a text: a number with the generic cell rate algorithm, the instant up to which it is spoken for; after an 'M' the
-- items of the last minute, of which see read_minute. Whichever there is, the other goes on from it: a change of the
-- rate gives nothing back.
local SLOT, SLOTS, SLOT_BYTES = 250000, 240, 12

-- How many items the last minute has, and as text the number of each quarter of a second and how many it has, the oldest
-- first.
local function read_minute(raw, now, interval, most)
    if not raw then return 0, '' end
    local first = math.floor(now / SLOT) - SLOTS
    if sub(raw, 1, 1) ~= 'M' then
        local spent = math.min(most, math.max(0, math.ceil((tonumber(raw) - now) / interval)))
        return spent, spent > 0 and pack('>I8I4', first + SLOTS, spent) or ''
    end
    local sum, from = (struct.unpack('>I8', raw, 2)), 10
    while from < #raw do
        local number, count = struct.unpack('>I8I4', raw, from)
        if number >= first then break end
        sum, from = sum - count, from + SLOT_BYTES
    end
    return sum, sub(raw, from)
end

local function write_minute(key, sum, slots, now)
    if #slots == 0 then return call('DEL', key) end
    local last = struct.unpack('>I8', slots, #slots - SLOT_BYTES + 1)
    local left = math.ceil(((last + SLOTS + 1) * SLOT - now) / 1000)
    call('SET', key, 'M' .. pack('>I8', sum) .. slots, 'PX', math.max(1, left))
end

-- How long until slots of so many items have passed; more than there are, and all have.
local function pass_time(slots, items, now)
    local at, number = 1, math.floor(now / SLOT) - SLOTS - 1
    while items > 0 and at < #slots do
        local count
        number, count = struct.unpack('>I8I4', slots, at)
        items, at = items - count, at + SLOT_BYTES
    end
    return math.max(0, (number + SLOTS + 1) * SLOT - now)
end

local function take_minute(key, now, interval, most, wanted)
    local sum, slots = read_minute(call('GET', key), now, interval, most)
    local granted, number = math.max(0, math.min(wanted, most - sum)), math.floor(now / SLOT)
    if granted > 0 then
        local before_last, count = #slots - SLOT_BYTES, 0
        local last = #slots > 0 and struct.unpack('>I8', slots, before_last + 1)
        -- A clock that was set back goes on where it was.
        if last and last >= number then
            number, count = struct.unpack('>I8I4', slots, before_last + 1)
            slots = sub(slots, 1, before_last)
        end
        sum, slots = sum + granted, slots .. pack('>I8I4', number, count + granted)
        write_minute(key, sum, slots, now)
    end
    local wait = granted < wanted and math.max(1, pass_time(slots, sum - most + 1, now)) or 0
    return {granted, math.max(0, most - sum), wait, pass_time(slots, sum, now), number}
end

-- Gives back what was taken in a slot, as far as it still counts.
local function give_minute(key, now, interval, most, count, number)
    local sum, slots = read_minute(call('GET', key), now, interval, most)
    for at = 1, #slots, SLOT_BYTES do
        local this, has = struct.unpack('>I8I4', slots, at)
        if this == number then
            local back = math.min(count, has)
            slots = sub(slots, 1, at - 1) .. (has > back and pack('>I8I4', this, has - back) or '')
                .. sub(slots, at + SLOT_BYTES)
            return write_minute(key, sum - back, slots, now)
        end
    end
end

-- The instant up to which a burst is spoken for; what is above it is what is left.
local function read_burst(raw, now, interval, burst)
    local spoken = now
    if raw and sub(raw, 1, 1) == 'M' then
        spoken = now + read_minute(raw, now, interval, burst) * interval
    elseif raw then
        spoken = tonumber(raw)
    end
    -- A rate that was lowered leaves an instant beyond what it allows.
    return math.min(math.max(spoken, now), now + burst * interval)
end

local function write_burst(key, spoken, now)
    if spoken <= now then return call('DEL', key) end
    call('SET', key, string.format('%.3f', spoken), 'PX', math.ceil((spoken - now) / 1000))
end

local function take_burst(key, now, interval, burst, wanted)
    local latest = now + burst * interval
    local spoken = read_burst(call('GET', key), now, interval, burst)
    -- What is missing of a microsecond must not cost an item.
    local room = math.floor((latest - spoken) / interval + 0.000001)
    local granted = math.min(wanted, room)
    spoken = spoken + granted * interval
    if spoken > now then write_burst(key, spoken, now) end
    local wait = granted < wanted and math.max(1, math.ceil(spoken + interval - latest)) or 0
    return {granted, room - granted, wait, math.ceil(spoken - now), 0}
end

local function give_burst(key, now, interval, burst, count)
    local spoken = read_burst(call('GET', key), now, interval, burst)
    write_burst(key, math.max(now, spoken - count * interval), now)
end

-- 'take' or 'give' back; 'burst' or 'minute'; the microseconds that an item takes to come back; how many items may come
-- at once; how many are wanted or given back, and then the slot they were taken in. A take replies how many are granted,
-- how many are left, until when to wait for the next one when fewer are, until when all are there again, both in
-- microseconds from now, and the slot.
local function take_rate(keys, args)
    local interval, most, count, slot = tonumber(args[3]), tonumber(args[4]), tonumber(args[5]), tonumber(args[6])
    local now = redis_us()
    if args[1] == 'give' then
        local give = args[2] == 'minute' and give_minute or give_burst
        give(keys[1], now, interval, most, count, slot)
        return {}
    end
    local take = args[2] == 'minute' and take_minute or take_burst
    return take(keys[1], now, interval, most, count)
end
