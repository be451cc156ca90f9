-- Items come in and go out.
local operations = {}

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

-- max, lease_ms or -1 for each item's own.
function operations.take(T, a)
    local max, lease_ms = tonumber(a[1]), tonumber(a[2])
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
    local found, items, taken = entries(T, ids), fields(T.base .. 'i', ids), {}
    for at, id in ipairs(ids) do
        local e = found[at]
        leave(T, id, e)
        local lapsed = e.lease_end >= 0 and e.leased >= 0 and math.max(0, math.min(e.lease_end, T.now) - e.leased)
        e.generation, e.attempt = e.generation + 1, e.attempt + 1
        e.lease_end = T.now + (lease_ms >= 0 and lease_ms or e.lease_ms)
        e.leased, e.place, e.deadline = T.now, LEASED, e.lease_end
        enter(T, id, e)
        taken[#taken + 1] = id
        taken[#taken + 1] = write(e)
        taken[#taken + 1] = items[at]
        taken[#taken + 1] = may_be_stored(e) and 1 or 0
        taken[#taken + 1] = lapsed or -1
    end
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

-- ids.
function operations.untake(T, a)
    for _, id in ipairs(a) do
        local e = entry(T, id)
        if e and e.place == LEASED then
            leave(T, id, e)
            e.attempt, e.lease_end = math.max(0, e.attempt - 1), -1
            e.leased = -1
            -- A flush in between may have stored the lease, and no record says that it was taken back.
            if may_be_stored(e) then mark(T, id, e, 1) end
            settle_place(T, e)
            enter(T, id, e)
        end
    end
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
