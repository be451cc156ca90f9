-- How items leave a topic's care or come back to it: held for a settlement, finished, purged.

-- How many settled leases a topic remembers, so that a repeated ack is told apart from a lost lease.
local SETTLED_MAX = 16384

local function was_settled(T, id, generation)
    return call('ZSCORE', T.base .. 'st', lease_of(id, generation))
end

local function remember_settled(T, leases)
    if #leases == 0 then return end
    local pairs_ = {}
    for _, lease in ipairs(leases) do
        count(T, 'sq', 1)
        pairs_[#pairs_ + 1] = number(T, 'sq')
        pairs_[#pairs_ + 1] = lease
    end
    variadic('ZADD', T.base .. 'st', pairs_)
    call('ZREMRANGEBYRANK', T.base .. 'st', 0, -(SETTLED_MAX + 1))
end

local function hold(T, id, e, generation)
    if not e then
        return (generation >= 0 and was_settled(T, id, generation)) and 'D' or 'U'
    end
    local deadline = -1
    if generation >= 0 then
        local current = generation == e.generation
        if current and e.place == LEASED and e.deadline > T.now then
            deadline = e.deadline
        elseif current and e.place == HELD and e.deadline >= 0 then
            return 'B'
        else
            return was_settled(T, id, generation) and 'D' or 'L'
        end
    elseif e.place == LEASED or e.place == HELD then
        return 'L'
    end
    move(T, id, e, HELD, deadline)
    return 'Y'
end

-- ticket or '', how many tickets follow whose replies came, these, then id and generation, or -1, of each; replies a
-- letter, state and, of what is held by no lease, item of each, or nothing when holds after this one were given up: it
-- may be one of them.
function operations.hold(T, a)
    local ticket, from, ids, generations = a[1], 3 + tonumber(a[2]), {}, {}
    if from > 3 then call('HDEL', tickets(T), unpack(a, 3, from - 1)) end
    if ticket ~= '' and is_void(T, ticket) then return {{}} end
    for at = from, #a, 2 do
        ids[#ids + 1] = a[at]
        generations[#ids] = tonumber(a[at + 1])
    end
    local found, reply, held, kept = entries(T, ids), {}, {}, {'H'}
    for at, id in ipairs(ids) do
        -- Named twice, it is held by the first naming.
        local answer = hold(T, id, held[id] or found[at], generations[at])
        reply[#reply + 1] = answer
        if answer == 'Y' then
            local e = found[at]
            held[id] = e
            kept[#kept + 1] = id .. pack('>i8', hold_end(T, e))
            reply[#reply + 1] = write(e)
            reply[#reply + 1] = generations[at] < 0 and call('HGET', T.base .. 'i', id) or ''
        else
            reply[#reply + 1] = ''
            reply[#reply + 1] = ''
        end
    end
    if ticket ~= '' and #kept > 1 then call('HSET', tickets(T), ticket, table.concat(kept)) end
    return {reply}
end

-- ids.
function operations.unhold(T, a)
    local found, seen = entries(T, a), {}
    for at, id in ipairs(a) do
        local e = found[at]
        if e and e.place == HELD and not seen[id] then
            seen[id] = true
            let_go(T, id, e)
        end
    end
    wake(T)
    return {}
end

-- A checkpoint that is under way, of whichever node, may store the entry yet: its end waits for the checkpoint's.
local function delete_later(T, id, e, lsn)
    if call('HSETNX', T.base .. 'dl', id, T.node) == 1 then add(T, 'dn:' .. T.node, lsn, id) end
    if e.flushing == 1 then
        call('HSET', T.base .. 'dw', id, e.need_node)
        call('SADD', T.base .. 'dw:' .. e.need_node, id)
    end
end

-- Whether what a standing says still goes for the entry: a later lease overrules it.
local function is_current(e, generation, again)
    return generation == e.generation and (not again or e.place == HELD)
end

local function finish(T, id, e, lsn, to, again, settled)
    local lease = (e.place == HELD and e.deadline >= 0) or e.place == LEASED
    if to == '' then
        if lease then settled[#settled + 1] = lease_of(id, e.generation) end
        remove(T, id, e)
        if may_be_stored(e) then delete_later(T, id, e, lsn) end
        return false
    end
    local due, generation, attempt, lease_end, leased, dead, rest = struct.unpack('>i8I4I4i8i8I1', to)
    if not is_current(e, generation, again) then return false end
    if lease and lease_end <= T.now then settled[#settled + 1] = lease_of(id, e.generation) end
    leave(T, id, e)
    e.due, e.attempt, e.lease_end, e.leased, e.dead, e.tail = due, attempt, lease_end, leased, dead, sub(to, rest)
    mark(T, id, e, lsn)
    settle_place(T, e)
    enter(T, id, e)
    return true
end

-- lsn, again, then id and standing of each, an empty one for what is gone. `again` when a log is read back:
-- then only what was left half done is done.
function operations.finish(T, a)
    local lsn, again, ids = tonumber(a[1]), a[2] == '1', {}
    for at = 3, #a, 2 do ids[#ids + 1] = a[at] end
    local found, settled, back, seen = entries(T, ids), {}, false, {}
    for at, id in ipairs(ids) do
        local e = found[at]
        if seen[id] then
            flush(T)
            e = entry(T, id)
        end
        seen[id] = true
        if e then back = finish(T, id, e, lsn, a[2 + 2 * at], again, settled) or back end
    end
    remember_settled(T, settled)
    flush(T)
    if back then wake(T) end
    return {}
end

-- cursor, lsn, dead, up_to: as much as one step takes. Replies the next cursor, '0' at the end, and how many
-- went.
function operations.purge(T, a)
    local cursor, lsn, dead, up_to = a[1], tonumber(a[2]), tonumber(a[3]), a[4]
    local removed = 0
    if cursor == '' then cursor = '0' end
    if a[1] == '' and not is_applied(T, 'p' .. dead, a[2]) then
        if dead == 0 then
            local last = call('HMGET', T.base .. 'm', 'lp:' .. T.node, 'li:' .. T.node)
            local lasts = math.max(lsn, tonumber(last[1] or 0))
            local ids = last[2] and before(up_to, last[2]) and last[2] or up_to
            call('HSET', T.base .. 'm', 'lp:' .. T.node, lasts, 'li:' .. T.node, ids)
        end
        call('ZADD', T.base .. 'pu:' .. T.node, lsn, pack('>I1I8', dead, lsn) .. up_to)
        removed = purge_cold(T, dead == 1, up_to)
    end
    local page = call('HSCAN', T.base .. 's', cursor, 'COUNT', STEP)
    local seen = {}
    for at = 1, #page[2], 2 do
        local id, e = page[2][at], read(page[2][at + 1])
        if e.dead == dead and not before(up_to, id) and not seen[id] then
            seen[id] = true
            removed = removed + 1
            remove(T, id, e)
            -- What the shard holds as it stands goes with its part of the purge; of the rest it may hold
            -- another state, which the purge passes over.
            if may_be_stored(e) and not is_clean(e) then delete_later(T, id, e, lsn) end
        end
    end
    flush(T)
    return {page[1], removed}
end
