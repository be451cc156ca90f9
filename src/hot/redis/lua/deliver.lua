-- Items come in and go out.
local operations = {}

local function lease_of(id, generation) return id .. pack('>I4', generation) end

-- lsn, whole, kept, then id, state, item of each. A frame that was admitted before changes nothing, so that
-- whoever does not know may ask again; `whole` is a position up to which every frame of this node's log was
-- applied, -1 when that is not known. `kept` is 1 when the shard may hold the items.
function operations.admit(T, a)
    local lsn, whole, kept = tonumber(a[1]), tonumber(a[2]), tonumber(a[3])
    if is_applied(T, 'e', a[1]) then return {0} end
    if whole > 0 then
        call('HSET', T.base .. 'm', 'w:' .. T.node, whole)
        call('ZREMRANGEBYSCORE', T.base .. 'a:' .. T.node, '-inf', whole)
    end
    local purge = call('HMGET', T.base .. 'm', 'lp:' .. T.node, 'li:' .. T.node)
    local purged, up_to = tonumber(purge[1] or 0), purge[2]
    local items = {}
    for at = 4, #a, 3 do
        local id = a[at]
        -- Those a purge behind them in the log took away come too late: their caller was overtaken.
        if lsn > purged or before(up_to, id) then
            local e = read(a[at + 1])
            e.need, e.need_node, e.flushing, e.stored = lsn, tonumber(T.node), 0, kept
            add(T, 'n:' .. T.node, lsn, id)
            items[#items + 1] = id
            items[#items + 1] = a[at + 2]
            count(T, 'by', e.bytes)
            settle_place(T, e)
            enter(T, id, e)
        end
    end
    if #items > 0 then variadic('HSET', T.base .. 'i', items) end
    flush(T)
    wake(T)
    return {#items / 2}
end

-- What a taker may not hear of is put under its ticket, until it says that it did.
local function tickets(T) return T.base .. 'tk:' .. T.node end

-- Whether this take comes after one of the same process that was given back: it may be that one, or older.
local function is_void(T, ticket)
    local void = call('HGET', T.base .. 'm', 'tv:' .. T.node)
    return void and sub(void, 1, 8) == sub(ticket, 1, 8) and not before(void, ticket)
end

-- Returns how long the lease before lasted, -1 when it did not run out or nobody knows.
local function hand_out(T, id, e, lease_ms, by)
    local has_lapsed = e.lease_end >= 0 and e.leased >= 0
    local lapsed = has_lapsed and math.max(0, math.min(e.lease_end, T.now) - e.leased) or -1
    leave(T, id, e)
    e.generation, e.attempt, e.leased, e.by = e.generation + 1, e.attempt + 1, T.now, by
    if lease_ms == UNDECIDED then
        e.lease_end, e.place, e.deadline = T.now + HOLD_MS, HELD, UNDECIDED
    else
        e.lease_end = T.now + (lease_ms >= 0 and lease_ms or e.lease_ms)
        e.place, e.deadline = LEASED, e.lease_end
    end
    enter(T, id, e)
    return lapsed
end

-- max; how many bytes are enough; lease_ms, -1 for each item's own, -2 for what is only looked at; who takes; a ticket,
-- then tickets whose replies came.
function operations.take(T, a)
    local max, enough, lease_ms, by, ticket = tonumber(a[1]), tonumber(a[2]), tonumber(a[3]), a[4], a[5]
    if #a > 5 then call('HDEL', tickets(T), unpack(rest(a, 6))) end
    if is_void(T, ticket) then return {{}, {}, 'V', -1} end
    local overdue, moved, unfinished = advance(T)
    if moved > 1 then wake(T) end
    if unfinished then return {told(T, overdue), {}, 'A', -1} end
    if T.m.pa then return {told(T, overdue), {}, 'N', -1} end
    local heads, ids, more = {}, {}, nil
    if not cold_comes_first(T, FIRST_KEY) then heads = call('ZRANGE', T.base .. 'r', 0, max) end
    for at, key in ipairs(heads) do
        if cold_comes_first(T, key) then more = 'C'; break end
        if at > max then more = 'R'; break end
        ids[at] = sub(key, 13)
    end
    local found, taken, leases = entries_within(T, ids, enough), {}, {}
    if #found < #ids then ids, more = rest(ids, 1, #found), 'R' end
    local items = fields(T.base .. 'i', ids)
    for at, id in ipairs(ids) do
        local e = found[at]
        local lapsed = hand_out(T, id, e, lease_ms, by)
        leases[at] = lease_of(id, e.generation)
        taken[#taken + 1] = id
        taken[#taken + 1] = write(e)
        taken[#taken + 1] = items[at]
        taken[#taken + 1] = may_be_stored(e) and 1 or 0
        taken[#taken + 1] = lapsed
    end
    if #ids > 0 then call('HSET', tickets(T), ticket, table.concat(leases)) end
    flush(T)
    if not more then more = cold_comes_first(T, nil) and 'C' or 'N' end
    return {told(T, overdue), taken, more, more == 'N' and next_event(T) or -1}
end

-- lsn, then ids.
function operations.delivered(T, a)
    local lsn = tonumber(a[1])
    for at = 2, #a do
        local e = entry(T, a[at])
        if e then
            withdraw(T, a[at], e)
            mark(T, a[at], e, lsn)
            save(T, a[at], e)
        end
    end
    return {}
end

-- id, due time, and the hook that sent it back until then, of each.
function operations.deferred(T, a)
    for at = 1, #a, 3 do
        local e = entry(T, a[at])
        if e and e.place == SCHEDULED and e.due == tonumber(a[at + 1]) then
            e.by = a[at + 2]
            save(T, a[at], e)
        end
    end
    return {}
end

-- Puts an entry back that was taken under this generation and is still its taker's.
local function take_back(T, id, generation)
    local e = entry(T, id)
    local is_theirs = e and e.generation == generation and (e.place == LEASED or e.deadline == UNDECIDED)
    if is_theirs then put_back(T, id, e) end
end

-- id and generation of each.
function operations.untake(T, a)
    for at = 1, #a, 2 do take_back(T, a[at], tonumber(a[at + 1])) end
    wake(T)
    return {}
end

-- Lets go of what was held for a reply that did not come; not of what is held by somebody else since.
local function give_up(T, held)
    for at = 2, #held, 16 do
        local id = sub(held, at, at + 7)
        local ends = call('ZSCORE', T.base .. 'h', id)
        if ends and tonumber(ends) == struct.unpack('>i8', held, at + 8) then let_go(T, id, entry(T, id)) end
    end
end

-- tickets of takes and holds whose replies did not come. Those that arrive yet are refused.
function operations.give_back(T, a)
    for _, ticket in ipairs(a) do
        local leases = call('HGET', tickets(T), ticket) or ''
        -- No number of leases is as long as some holds are.
        if #leases % 4 == 1 then
            give_up(T, leases)
        else
            for at = 1, #leases, 12 do
                take_back(T, sub(leases, at, at + 7), (struct.unpack('>I4', leases, at + 8)))
            end
        end
        if not is_void(T, ticket) then call('HSET', T.base .. 'm', 'tv:' .. T.node, ticket) end
    end
    call('HDEL', tickets(T), unpack(a))
    wake(T)
    return {}
end

function operations.advance(T)
    local overdue, moved = advance(T)
    if moved > 0 then wake(T) end
    return {told(T, overdue)}
end

-- 1 or 0.
function operations.pause(T, a)
    put(T, 'pa', a[1] == '1' and 1 or false)
    wake(T)
    return {}
end
