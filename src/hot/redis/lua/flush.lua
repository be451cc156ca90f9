-- What of a topic the shard lacks, by the log that says it, and what may leave memory.

-- of whose log. The first position that it still has to keep.
function operations.first_need(T, a)
    local of = a[1]
    local first = nil
    for _, set in ipairs({'n:', 'dn:', 'pu:', 'kn:'}) do first = least(first, first_score(T, set .. of)) end
    -- Others wait for this log's next plan.
    if call('SCARD', T.base .. 'dw:' .. of) > 0 then first = 1 end
    return {first or -1, call('ZCARD', T.base .. 'dn:' .. of)}
end

-- The checkpoint of `of` that was under way is over, however it ended: who waited for that waits no more.
local function end_waits(T, of)
    local ids = call('SMEMBERS', T.base .. 'dw:' .. of)
    if #ids == 0 then return end
    variadic('HDEL', T.base .. 'dw', ids)
    call('DEL', T.base .. 'dw:' .. of)
end

-- The deletes, with positions, before the first one that waits, and that one's position, or -1.
local function until_waiting(T, deletes)
    if call('HLEN', T.base .. 'dw') == 0 then return deletes, -1 end
    local some = {}
    for at = 1, #deletes, 2 do
        if call('HEXISTS', T.base .. 'dw', deletes[at]) == 1 then return some, deletes[at + 1] end
        some[at], some[at + 1] = deletes[at], deletes[at + 1]
    end
    return some, -1
end

-- Ids needed up to `up_to` behind the entry `last` at the position `from`, -1 or so many, and their positions.
local function needed(T, of, from, last, up_to, limit)
    local set, ids, positions = T.base .. 'n:' .. of, {}, {}
    local needs = call('ZRANGEBYSCORE', set, from, up_to, 'WITHSCORES', 'LIMIT', 0, limit)
    for at = 1, #needs, 2 do
        if needs[at + 1] ~= from or before(last, needs[at]) then
            ids[#ids + 1] = needs[at]
            positions[#positions + 1] = needs[at + 1]
        end
    end
    return ids, positions
end

-- A node that stands in for another and dies gives that up after so long.
local STAND_IN_MS = 120000

-- of, up_to, how many deletes, how many needs. Replies 0 when another node plans for this log; else 1, deletes with
-- positions, purges, and the positions of needs with how many bytes each is, all in the order of the log; and the
-- position of the first delete that has to wait, or -1.
function operations.plan(T, a)
    local of, up_to = a[1], a[2]
    local by = call('GET', T.base .. 'so:' .. of)
    if by and by ~= T.instance then return {0} end
    if of ~= T.node then call('SET', T.base .. 'so:' .. of, T.instance, 'PX', STAND_IN_MS) end
    end_waits(T, of)
    local all = call('ZRANGE', T.base .. 'dn:' .. of, 0, tonumber(a[3]) - 1, 'WITHSCORES')
    local deletes, waiting = until_waiting(T, all)
    local purges = call('ZRANGE', T.base .. 'pu:' .. of, 0, -1)
    local ids, positions = needed(T, of, '-inf', '', up_to, a[4])
    local states, needs = fields(T.base .. 's', ids), {}
    for at, position in ipairs(positions) do
        needs[#needs + 1] = position
        needs[#needs + 1] = states[at] and bytes_of(states[at]) or 0
    end
    return {1, deletes, purges, needs, waiting}
end

local function needed_keys(T, of, up_to)
    local hashes, keys = call('ZRANGEBYSCORE', T.base .. 'kn:' .. of, '-inf', up_to), {}
    local rows = fields(T.base .. 'k', hashes)
    for at, hash in ipairs(hashes) do
        if rows[at] then
            keys[#keys + 1] = hash
            keys[#keys + 1] = rows[at]
        end
    end
    return keys
end

-- of, up_to; where the part before this one ended, '-inf' and '' for the first. Marks entries needed up to there as
-- being stored; replies id, state, item of each, and where the part ends: position and id. After the last part they are
-- '', and the keys needed up to there follow.
function operations.begin_flush(T, a)
    local of, up_to = a[1], a[2]
    local ids, positions = needed(T, of, a[3], a[4], up_to, -1)
    local found = entries_within(T, ids, REPLY_BYTES)
    local items, reply = fields(T.base .. 'i', rest(ids, 1, #found)), {}
    for at, e in ipairs(found) do
        if e then
            -- A flush that was never ended may have stored it: what changed since is in this one, too.
            if e.flushing == 1 then e.stored = 1 end
            e.flushing, e.after, e.after_node = 1, 0, 0
            save(T, ids[at], e)
            reply[#reply + 1] = ids[at]
            reply[#reply + 1] = write(e)
            reply[#reply + 1] = items[at]
        end
    end
    if #found < #ids then return {reply, positions[#found], ids[#found]} end
    return {reply, '', '', needed_keys(T, of, up_to)}
end

local function end_flush(T, id, e, stored)
    local after, after_node = e.after, e.after_node
    e.flushing, e.after, e.after_node, e.stored = 0, 0, 0, 1
    if stored then
        rem(T, 'n:' .. e.need_node, id)
        e.need, e.need_node = after, after_node
        if after > 0 then add(T, 'n:' .. after_node, after, id) end
    end
    if is_clean(e) and e.place == DEAD and not is_unsettled(T) then
        -- Not offered yet: what `remove` takes back was never there.
        remove(T, id, e)
        count(T, 'cx', 1)
    else
        offer(T, id, e)
        save(T, id, e)
    end
end

-- of, stored, then ids.
function operations.end_flush(T, a)
    local ids = rest(a, 3)
    local found = entries(T, ids)
    end_waits(T, a[1])
    for at, id in ipairs(ids) do
        local e = found[at]
        if e and e.flushing == 1 then end_flush(T, id, e, a[2] == '1') end
    end
    return {}
end

-- of, then ids that the shard has deleted.
function operations.end_deletes(T, a)
    local ids = rest(a, 2)
    variadic('ZREM', T.base .. 'dn:' .. a[1], ids)
    variadic('HDEL', T.base .. 'dl', ids)
    if is_refilling(T) then variadic('SADD', T.base .. 'tb', ids) end
    return {}
end

-- of, then purges that the shard heard of.
function operations.end_purges(T, a)
    for at = 2, #a do
        if call('ZREM', T.base .. 'pu:' .. a[1], a[at]) == 1 then
            count(T, byte(a[at]) == 1 and 'pxn' or 'pln', -1)
        end
    end
    settle_purges(T)
    return {}
end

-- of. This node stands in for it no more.
function operations.stand_down(T, a)
    if call('GET', T.base .. 'so:' .. a[1]) == T.instance then call('DEL', T.base .. 'so:' .. a[1]) end
    return {}
end

local function evict_one(T, id)
    local e = entry(T, id)
    if not e or not waits(e) or not is_clean(e) then return 0 end
    remove(T, id, e)
    went_cold(T, id, e)
    flush(T)
    return e.bytes
end

-- bytes. Drops what the shard holds as it stands: dead letters, then those due last, then the ready ones that
-- go out last. Replies how many bytes, and whether there may be more.
function operations.evict(T, a)
    if is_unsettled(T) then return {0, 0} end
    local wanted, freed, steps = tonumber(a[1]), evict_dead(T), 0
    for _, set in ipairs({'ed', 'er'}) do
        while freed < wanted and steps < STEP do
            local last = call('ZREVRANGE', T.base .. set, 0, 0)[1]
            if not last then break end
            steps = steps + 1
            freed = freed + evict_one(T, set == 'ed' and last or sub(last, 13))
        end
    end
    return {freed, steps >= STEP and 1 or 0}
end
