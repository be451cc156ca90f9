-- What time does to a topic: due items become ready, leases and holds end, times to live pass.

-- The entries of `set` whose score is reached at `now`, at most STEP.
local function reached(T, set, now)
    local ids = call('ZRANGEBYSCORE', T.base .. set, '-inf', now, 'LIMIT', 0, STEP)
    return ids, #ids > 0 and entries(T, ids)
end

local function fall_due(T)
    local ids, found = reached(T, 'd', T.wall)
    for at, id in ipairs(ids) do move(T, id, found[at], READY) end
    flush(T)
    return #ids
end

-- What can go out no more is told as far as one reply goes.
local function is_full(overdue) return overdue.bytes >= REPLY_BYTES end

local function put_overdue(T, overdue, id, e, why)
    move(T, id, e, HELD)
    overdue.bytes = overdue.bytes + e.bytes
    overdue[#overdue + 1] = {id, e, why}
end

local function end_leases(T, overdue)
    local ids, found = reached(T, 'l', T.now)
    local ended = 0
    for at, id in ipairs(ids) do
        local e = found[at]
        if is_full(overdue) then break end
        ended = ended + 1
        if e.attempt >= e.max_attempts then put_overdue(T, overdue, id, e, 'a')
        else move(T, id, e, e.due > T.wall and SCHEDULED or READY) end
    end
    count(T, 'le', ended)
    flush(T)
    return ended
end

-- Puts a taken entry back, as if it had not been taken.
local function put_back(T, id, e)
    leave(T, id, e)
    e.attempt, e.lease_end, e.leased = math.max(0, e.attempt - 1), -1, -1
    -- A flush in between may have stored the lease, and no record says that it was taken back.
    if may_be_stored(e) then mark(T, id, e, 1) end
    settle_place(T, e)
    enter(T, id, e)
end

-- Lets a held entry stand as it stood.
local function let_go(T, id, e)
    if e.deadline == UNDECIDED then return put_back(T, id, e) end
    leave(T, id, e)
    if e.deadline >= 0 then e.place = LEASED else settle_place(T, e) end
    enter(T, id, e)
end

local function end_holds(T)
    local ids, found = reached(T, 'h', T.now)
    for at, id in ipairs(ids) do let_go(T, id, found[at]) end
    flush(T)
    return #ids
end

-- A leased item keeps its consumer: it is looked at again when it comes back.
local function expire(T, overdue)
    local ids, found = reached(T, 'x', T.wall)
    local expired = 0
    for at, id in ipairs(ids) do
        if is_full(overdue) then break end
        expired = expired + 1
        put_overdue(T, overdue, id, found[at], 'e')
    end
    flush(T)
    return expired
end

-- Moves what time moves; returns what can go out no more, how much moved, and whether there is more.
local function advance(T)
    local overdue, moved = {bytes = 0}, 0
    for _ = 1, STEPS_MAX do
        local some = end_holds(T) + fall_due(T) + end_leases(T, overdue) + expire(T, overdue)
        moved = moved + some
        if is_full(overdue) then break end
        if some == 0 then return overdue, moved, false end
    end
    return overdue, moved, true
end

-- When the first of `set`, which goes by Redis' clock, is reached by the caller's.
local function first_end(T, set)
    local at = first_score(T, set)
    return at and at - T.now + T.wall
end

local function next_event(T)
    local cold = T.m.nd and number(T, 'nd')
    return least(least(first_score(T, 'd'), first_end(T, 'l')), cold)
end

-- Overdue entries as a reply: id, state, item, why.
local function told(T, overdue)
    local ids = {}
    for at, one in ipairs(overdue) do ids[at] = one[1] end
    local items, reply = fields(T.base .. 'i', ids), {}
    for at, one in ipairs(overdue) do
        reply[#reply + 1] = one[1]
        reply[#reply + 1] = write(one[2])
        reply[#reply + 1] = items[at]
        reply[#reply + 1] = one[3]
    end
    return reply
end
